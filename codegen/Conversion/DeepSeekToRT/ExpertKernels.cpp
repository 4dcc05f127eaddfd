// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of the router and the experts.

#include "codegen/Conversion/DeepSeekToRT/BlockProduct.h"
#include "codegen/Conversion/DeepSeekToRT/ItemProduct.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;
using deepseek::RoutingAttr;

/// Below every score that takes part.
constexpr double notChosen = -3.0e38;

/// The index of the largest of \p count values; the first of equal ones.
static Value argmax(KernelBuilder &b, Value memref, int64_t count) {
  return b.loop(
      b.index(1), b.index(count), 1, {b.load(memref, b.index(0)), b.index(0)},
      [&](Value i, ValueRange best) {
        Value value = b.load(memref, i);
        Value isBetter = b.called("is_larger", b.lessf(best[0], value));
        return Values{b.called("largest", b.select(isBetter, value, best[0])),
                      b.called("largest_at", b.select(isBetter, i, best[1]))};
      })[1];
}

/// Fills \p scores with those of all experts, of a row of \p logits.
static void computeScores(KernelBuilder &b, RoutingAttr routing, Value logits,
                          Value row, Value scores) {
  KernelBuilder::Named named(b, "compute_scores");
  int64_t experts = routing.getExperts();
  int64_t lanes = KernelBuilder::lanesFor(experts);
  auto logit = [&](Value e) { return b.loadVector(logits, {row, e}, lanes); };
  auto forExperts = [&](function_ref<void(Value)> body) {
    b.loop(b.index(0), b.index(experts), lanes, body);
  };
  if (routing.getScoring() == deepseek::Scoring::Sigmoid)
    return forExperts(
        [&](Value e) { b.storeVector(b.sigmoid(logit(e)), scores, e); });
  if (routing.getScoring() == deepseek::Scoring::SqrtSoftplus)
    return forExperts([&](Value e) {
      b.storeVector(b.sqrt(b.softplus(logit(e))), scores, e);
    });
  VectorType vector = b.vectorType(lanes);
  Value maximum = b.maxLane(
      b.loop("expert", b.index(0), b.index(experts), lanes,
             b.f32(notChosen, vector), [&](Value e, ValueRange carried) {
               return Values{b.maxf(carried[0], logit(e))};
             })[0]);
  Value maxima = b.broadcast(maximum, lanes);
  Value sum =
      b.sumLanes(b.loop("expert", b.index(0), b.index(experts), lanes,
                        b.f32(0, vector), [&](Value e, ValueRange carried) {
                          Value x = b.exp(b.subf(logit(e), maxima));
                          b.storeVector(x, scores, e);
                          return Values{b.addf(carried[0], x)};
                        })[0]);
  Value sums = b.broadcast(sum, lanes);
  forExperts([&](Value e) {
    Value x = b.loadVector(scores, e, lanes);
    b.storeVector(b.divf(x, sums), scores, e);
  });
}

/// Makes weights of the scores, whose sum is \p sum, of the experts of a row.
static void scaleWeights(KernelBuilder &b, RoutingAttr routing, Value weights,
                         Value row, Value sum, Value scale) {
  KernelBuilder::Named named(b, "scale_weights");
  b.loop("slot", b.index(0), b.index(routing.getTopK()), 1, [&](Value slot) {
    Value weight = b.load(weights, {row, slot});
    if (routing.getNormalize())
      weight = b.divf(weight, b.addf(sum, b.f32(1e-20)));
    b.store(b.mulf(weight, scale), weights, {row, slot});
  });
}

KernelOp KernelSet::router(TypeRange types, RoutingAttr routing, int64_t massOf,
                           bool hasMap) {
  int64_t experts = routing.getExperts(), topK = routing.getTopK();
  int64_t groups = routing.getGroups(), perGroup = experts / groups;
  bool hasBias = routing.getMethod() == deepseek::TopKMethod::NoAuxTC;
  auto name = llvm::formatv("router_{0}_{1}_{2}_of_{3}_{4}_of_{5}{6}_{7:e8}",
                            stringifyScoring(routing.getScoring()),
                            stringifyTopKMethod(routing.getMethod()), topK,
                            experts, routing.getTopGroups(), groups,
                            routing.getNormalize() ? "_normalized" : "",
                            routing.getScale().getValueAsDouble())
                  .str();
  if (massOf != topK)
    name += llvm::formatv("_mass_of_{0}", massOf).str();
  if (hasMap)
    name += "_mapped";
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value logits = b.called("router_logits", arguments[0]);
    size_t next = 1;
    Value bias = hasBias ? arguments[next++] : Value();
    Value map = hasMap ? arguments[next++] : Value();
    Value ids = b.called("expert_ids", arguments[next++]);
    Value weights = b.called("expert_weights", arguments[next]);
    Value scores = b.stack(experts, b.getF32Type(), "scores");
    Value ranking = b.stack(experts, b.getF32Type(), "ranking");
    Value groupRanking = b.stack(groups, b.getF32Type(), "group_ranking");
    int64_t lanes = KernelBuilder::lanesFor(experts);
    auto forExperts = [&](function_ref<void(Value)> body) {
      b.loop(b.index(0), b.index(experts), lanes, body);
    };
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      computeScores(b, routing, logits, row, scores);
      forExperts([&](Value e) {
        Value x = b.loadVector(scores, e, lanes);
        if (bias)
          x = b.addf(x, b.loadVector(bias, e, lanes));
        b.storeVector(x, ranking, e);
      });

      if (groups > 1) {
        b.loop("group", b.index(0), b.index(groups), 1, [&](Value group) {
          Value begin = b.called("begin", b.mul(group, perGroup));
          Values best = b.loop(
              "expert", begin, b.add(begin, perGroup), 1,
              {b.f32(notChosen), b.f32(notChosen)},
              [&](Value e, ValueRange two) {
                Value x = b.load(ranking, e);
                Value isFirst = b.called("is_larger", b.lessf(two[0], x));
                Value second = b.select(isFirst, two[0], b.maxf(two[1], x));
                return Values{b.select(isFirst, x, two[0]), second};
              });
          b.store(hasBias ? b.addf(best[0], best[1]) : best[0], groupRanking,
                  group);
        });
        // Chosen groups are taken out of the ranking; what is left in it is
        // then taken out of the experts' ranking.
        b.loop(b.index(0), b.index(routing.getTopGroups()), 1, [&](Value) {
          b.store(b.f32(notChosen), groupRanking,
                  argmax(b, groupRanking, groups));
        });
        b.loop("group", b.index(0), b.index(groups), 1, [&](Value group) {
          Value isLeft = b.lessf(b.f32(notChosen), b.load(groupRanking, group));
          b.when(isLeft, [&] {
            Value begin = b.called("begin", b.mul(group, perGroup));
            b.loop("expert", begin, b.add(begin, perGroup), 1,
                   [&](Value e) { b.store(b.f32(notChosen), ranking, e); });
          });
        });
      }

      Value sum =
          b.loop("slot", b.index(0), b.index(topK), 1, b.f32(0),
                 [&](Value slot, ValueRange carried) {
                   Value e = argmax(b, ranking, experts);
                   Value score = b.load(scores, e);
                   b.store(b.f32(notChosen), ranking, e);
                   b.store(map ? b.load(map, e) : b.toI32(e), ids, {row, slot});
                   b.store(score, weights, {row, slot});
                   return Values{b.addf(carried[0], score)};
                 })[0];
      Value scale = b.f32(routing.getScale().getValueAsDouble());
      if (massOf != topK) {
        Value mass =
            b.loop(b.index(topK), b.index(massOf), 1, sum,
                   [&](Value, ValueRange carried) {
                     Value e = argmax(b, ranking, experts);
                     b.store(b.f32(notChosen), ranking, e);
                     return Values{b.addf(carried[0], b.load(scores, e))};
                   })[0];
        scale = b.mulf(scale, b.divf(mass, b.addf(sum, b.f32(1e-20))));
      }
      scaleWeights(b, routing, weights, row, sum, scale);
    });
  });
}

KernelOp KernelSet::hashRouter(TypeRange types, RoutingAttr routing) {
  int64_t experts = routing.getExperts(), topK = routing.getTopK();
  auto name =
      llvm::formatv("hash_router_{0}_{1}_of_{2}{3}_{4:e8}",
                    stringifyScoring(routing.getScoring()), topK, experts,
                    routing.getNormalize() ? "_normalized" : "",
                    routing.getScale().getValueAsDouble())
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value tokens = arguments[1], table = arguments[2];
    Value ids = b.called("expert_ids", arguments[3]);
    Value weights = b.called("expert_weights", arguments[4]);
    Value scores = b.stack(experts, b.getF32Type(), "scores");
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      computeScores(b, routing, arguments[0], row, scores);
      Value token = b.toIndex(b.load(tokens, row));
      Value sum = b.loop("slot", b.index(0), b.index(topK), 1, b.f32(0),
                         [&](Value slot, ValueRange carried) {
                           Value e = b.load(table, {token, slot});
                           Value score = b.load(scores, b.toIndex(e));
                           b.store(e, ids, {row, slot});
                           b.store(score, weights, {row, slot});
                           return Values{b.addf(carried[0], score)};
                         })[0];
      scaleWeights(b, routing, weights, row, sum,
                   b.f32(routing.getScale().getValueAsDouble()));
    });
  });
}

namespace {

/// How slots are grouped by expert: see `KernelSet::groupSlots`.
struct SlotGroups {
  SlotGroups(KernelBuilder &b, ValueRange arguments, int64_t experts)
      : offsets(b.called("slot_begins", arguments[0])),
        list(b.called("slots", arguments[1])),
        active(b.called("active_experts", arguments[2])), experts(experts) {}

  Value offsets, list, active;
  int64_t experts;
};

} // namespace

KernelOp KernelSet::groupSlots(TypeRange types, int64_t experts, int64_t topK) {
  auto name = llvm::formatv("group_slots_{0}_of_{1}", topK, experts).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value ids = b.called("expert_ids", arguments[0]);
    SlotGroups groups(b, arguments.drop_front(1), experts);
    Value offsets = groups.offsets, list = groups.list, active = groups.active,
          rowCount = arguments[4];
    Value cursors = b.stack(experts, b.getI32Type(), "cursors");
    auto addOne = [&](Value memref, Value at) {
      b.store(b.add(b.load(memref, at), b.i32(1)), memref, at);
    };
    auto forSlots = [&](function_ref<void(Value, Value)> body) {
      b.loop("row", b.index(0), rowCount, 1, [&](Value row) {
        b.loop("slot", b.index(0), b.index(topK), 1, [&](Value s) {
          body(b.called("slot", b.add(b.mul(row, topK), s)),
               b.toIndex(b.load(ids, {row, s})));
        });
      });
    };
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value) {
      b.loop("expert", b.index(0), b.index(experts), 1,
             [&](Value e) { b.store(b.i32(0), cursors, e); });
      forSlots([&](Value, Value e) { addOne(cursors, e); });
      // Counts become the places where each expert's slots begin.
      Values ends = b.loop(
          "expert", b.index(0), b.index(experts), 1, {b.i32(0), b.index(0)},
          [&](Value e, ValueRange carried) {
            Value count = b.load(cursors, e);
            b.store(carried[0], offsets, e);
            b.store(carried[0], cursors, e);
            // Written at every expert; only the next active one is kept.
            b.store(b.toI32(e), active, carried[1]);
            Value isActive = b.less(b.i32(0), count);
            return Values{b.add(carried[0], count),
                          b.select(isActive, b.add(carried[1], 1), carried[1])};
          });
      b.store(ends[0], offsets, b.index(experts));
      b.store(b.toI32(ends[1]), active, b.index(experts));
      forSlots([&](Value slot, Value e) {
        b.store(b.toI32(slot), list, b.toIndex(b.load(cursors, e)));
        addOne(cursors, e);
      });
    });
  });
}

namespace {

/// Work of an item: an expert, its range [begin, end) of the list, and a group
/// of its tiles. Groups before `groupsEnd` are of the same call.
struct ExpertItem {
  Value expert, begin, end, group, groupsEnd;
};

} // namespace

/// In how many rows' products an expert's weights come from memory.
constexpr int64_t rowsOfWeights = 6;

/// How items share out the groups of tiles of active experts: an item is an
/// equal part of the work, since one expert may have most of the rows, and all
/// rows' experts may be few. There are as many items as groups if all experts
/// that can have slots had some.
struct ExpertShares {
  ExpertShares(KernelBuilder &b, const SlotGroups &slots, int64_t perExpert)
      : b(b), slots(slots), perExpert(perExpert),
        active(
            b.called("active_count",
                     b.toIndex(b.load(slots.active, b.index(slots.experts))))) {
  }

  Value expertOf(Value nth) const {
    return b.called("expert", b.toIndex(b.load(slots.active, nth)));
  }
  Value slotsBefore(Value expert) const {
    return b.toIndex(b.load(slots.offsets, expert));
  }

  /// The group where item \p item begins, of those of the first active expert,
  /// then of the second, ..: a quotient of integers, with which items leave no
  /// group out and have none twice. The end of the last is that of all groups.
  Value groupOf(Value item) const {
    Value count = b.called("slot_count", slotsBefore(b.index(slots.experts)));
    Value work = b.called("work", b.add(count, b.mul(active, rowsOfWeights)));
    Value experts =
        b.called("item_count", b.min(count, b.index(slots.experts)));
    Value wanted = b.called("wanted", b.div(b.mul(item, work), experts));
    Values found =
        b.loop("nth", b.index(0), active, 1, {b.index(0), b.index(0)},
               [&](Value nth, ValueRange last) {
                 Value before = b.add(slotsBefore(expertOf(nth)),
                                      b.mul(nth, rowsOfWeights));
                 Value begin = b.called("begin", b.mul(before, perExpert));
                 Value isPast = b.called("is_past", b.less(wanted, begin));
                 return Values{
                     b.called("nth_found", b.select(isPast, last[0], nth)),
                     b.called("begin_found", b.select(isPast, last[1], begin))};
               });
    Value expert = b.called("expert_found", expertOf(found[0]));
    Value rows = b.sub(slotsBefore(b.add(expert, 1)), slotsBefore(expert));
    return b.called("group_found", b.add(b.mul(found[0], perExpert),
                                         b.div(b.sub(wanted, found[1]),
                                               b.add(rows, rowsOfWeights))));
  }

  KernelBuilder &b;
  const SlotGroups &slots;
  int64_t perExpert;
  Value active; ///< How many experts have slots.
};

/// Calls \p body for every \p atOnce groups of an expert, of which each has \p
/// perExpert. On a GPU, where an item is a block of threads, it is one group,
/// and those past the last active expert have none.
static void forExpertItems(KernelBuilder &b, const KernelOptions &options,
                           KernelOp kernel, const SlotGroups &slots,
                           int64_t perExpert, int64_t atOnce,
                           function_ref<void(const ExpertItem &)> body) {
  ExpertShares shares(b, slots, perExpert);
  Value first = kernel.getFirst(), last = kernel.getLast();
  if (options.dotProduct == DotProductKind::CUDA) {
    last = b.min(last, b.mul(shares.active, perExpert));
  } else {
    first = shares.groupOf(first);
    last = shares.groupOf(last);
  }
  Value nthEnd = b.called("nth_end", b.ceilDiv(last, b.index(perExpert)));
  b.loop("nth", b.div(first, perExpert), nthEnd, 1, [&](Value nth) {
    Value expert = shares.expertOf(nth);
    Value begin = b.called("begin", shares.slotsBefore(expert));
    Value end = b.called("end", shares.slotsBefore(b.add(expert, 1)));
    // Groups of this expert that are of this call.
    Value before = b.called("groups_before", b.mul(nth, perExpert));
    Value isWithin = b.called("is_within", b.less(before, first));
    Value groupsBegin = b.called(
        "groups_begin", b.select(isWithin, b.sub(first, before), b.index(0)));
    Value groupsEnd =
        b.called("groups_end", b.min(b.sub(last, before), b.index(perExpert)));
    b.loop("group", groupsBegin, groupsEnd, atOnce,
           [&](Value group) { body({expert, begin, end, group, groupsEnd}); });
  });
}

static Value slotOf(KernelBuilder &b, Value list, Value entry) {
  return b.called("slot", b.toIndex(b.load(list, entry)));
}

static Values slotsOf(KernelBuilder &b, Value list, ValueList entries) {
  Values slots;
  for (Value entry : entries)
    slots.push_back(slotOf(b, list, entry));
  return slots;
}

/// Calls \p body with blocks of the slots of the list's range [begin, end).
static void forSlotBlocks(KernelBuilder &b, Value list, Value begin, Value end,
                          ArrayRef<int64_t> sizes,
                          function_ref<void(ValueList slots)> body) {
  forRowBlocks(b, begin, end, sizes,
               [&](ValueList entries) { body(slotsOf(b, list, entries)); });
}

int64_t KernelSet::expertItems(Type weight, int64_t count,
                               int64_t columns) const {
  if (BlockProduct::isFor(options, weight))
    return BlockProduct(count, ceilDiv(columns, tileRows)).itemsOfList();
  return linearItems(columns);
}

KernelOp KernelSet::expertsUp(TypeRange types, int64_t experts, int64_t topK,
                              int64_t inner, int64_t columns, bool hasScales,
                              std::optional<double> limit, bool bf16Inputs) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name = llvm::formatv("experts_up_{0}_{1}x{2}x{3}_{4}{5}{6}",
                            weightName(types[4]), experts, columns, inner, topK,
                            inputName(bf16Inputs), limitName(limit))
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value out = arguments[hasScales ? 8 : 6];
    Value gateScales = hasScales ? arguments[6] : Value();
    Value upScales = hasScales ? arguments[7] : Value();
    Rows input = Rows::get(options, arguments[0], bf16Inputs);
    SlotGroups groups(b, arguments.drop_front(1), experts);
    forExpertItems(
        b, options, kernel, groups, expertItems(types[4], 2, columns),
        /*atOnce=*/1, [&](const ExpertItem &item) {
          TiledWeight weights[] = {
              {arguments[4], item.expert, gateScales, inner},
              {arguments[5], item.expert, upScales, inner}};
          if (BlockProduct::isFor(options, types[4]))
            return BlockProduct::multiply(
                b, weights, input,
                BlockProduct(2, tiles).itemOfList(
                    b, item.group, {groups.list, topK}, item.begin, item.end),
                [&](Value tile, Value entry, ValueList sums) {
                  storeGated(b, sums, tile, slotOf(b, groups.list, entry), out,
                             columns, /*isPadded=*/true, limit);
                });
          forTilesOfItem(b, item.group, tiles, perItem, [&](ValueList tile) {
            forSlotBlocks(
                b, groups.list, item.begin, item.end,
                rowBlocks(options.registers, int64_t(tile.size())),
                [&](ValueList slots) {
                  Values rows;
                  for (Value slot : slots)
                    rows.push_back(b.called("row", b.div(slot, topK)));
                  Values sums = multiplyGateAndUp<TiledWeight>(
                      weights, rows.size() == 1 && !options.followsStreams,
                      [&](ArrayRef<TiledWeight> some) {
                        return multiplyTiles(b, options, some, tile, input,
                                             rows);
                      });
                  storeGated(b, sums, tile, slots, out, columns,
                             /*isPadded=*/true, limit);
                });
          });
        });
  });
}

KernelOp KernelSet::expertsDown(TypeRange types, int64_t experts, int64_t inner,
                                int64_t columns, bool hasScales,
                                bool bf16Inputs) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name =
      llvm::formatv("experts_down_{0}_{1}x{2}x{3}{4}", weightName(types[4]),
                    experts, columns, inner, inputName(bf16Inputs))
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value out = arguments[hasScales ? 6 : 5];
    Value scales = hasScales ? arguments[5] : Value();
    Rows input = Rows::get(options, arguments[0], bf16Inputs);
    SlotGroups groups(b, arguments.drop_front(1), experts);
    forExpertItems(
        b, options, kernel, groups, expertItems(types[4], 1, columns),
        /*atOnce=*/1, [&](const ExpertItem &item) {
          TiledWeight weight = {arguments[4], item.expert, scales, inner};
          if (BlockProduct::isFor(options, types[4]))
            return BlockProduct::multiply(
                b, weight, input,
                BlockProduct(1, tiles).itemOfList(b, item.group, {groups.list},
                                                  item.begin, item.end),
                [&](Value tile, Value entry, ValueList sums) {
                  storeTile(b, sums.front(), out, slotOf(b, groups.list, entry),
                            Value(), tile, columns, /*isPadded=*/true);
                });
          forTilesOfItem(b, item.group, tiles, perItem, [&](ValueList tile) {
            auto sizes = rowBlocks(options.registers, int64_t(tile.size()));
            forSlotBlocks(b, groups.list, item.begin, item.end, sizes,
                          [&](ValueList slots) {
                            storeTiles(b,
                                       multiplyTiles(b, options, weight, tile,
                                                     input, slots),
                                       tile, slots, out, Value(), columns,
                                       /*isPadded=*/true);
                          });
          });
        });
  });
}

static std::string integerName(const IntegerShape &shape, int64_t experts) {
  return shape.getName(shape.getDims(experts));
}

static IntegerWeight integerWeight(const IntegerShape &shape, Value memref,
                                   Value scales, Value offsets, Value expert,
                                   Value tilesEnd) {
  return {memref,     scales,           expert,         shape.inner,
          shape.bits, shape.isUnsigned, shape.group,    shape.activationGroup,
          tilesEnd,   offsets,          shape.codebook, shape.record};
}

KernelOp KernelSet::integerExpertsUp(TypeRange types, const IntegerShape &shape,
                                     int64_t experts, int64_t topK,
                                     std::optional<double> limit) {
  int64_t tiles = ceilDiv(shape.columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  std::string name = "experts_up_" + integerName(shape, experts) + "_" +
                     std::to_string(topK) + limitName(limit);
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    IntegerRows input =
        integerRows(b, arguments, shape.digits, inputScale(shape));
    SlotGroups groups(b, arguments.drop_front(3), experts);
    Value gateOffsets = shape.hasOffsets ? arguments[10] : Value();
    Value upOffsets = shape.hasOffsets ? arguments[11] : Value();
    ItemProduct product(b, options, shape, /*weights=*/2, perItem);
    forExpertItems(
        b, options, kernel, groups, ceilDiv(tiles, perItem),
        product.groupsAtOnce(), [&](const ExpertItem &item) {
          Value tilesEnd =
              b.min(b.mul(item.groupsEnd, perItem), b.index(tiles));
          IntegerWeight weights[] = {
              integerWeight(shape, arguments[6], arguments[7], gateOffsets,
                            item.expert, tilesEnd),
              integerWeight(shape, arguments[8], arguments[9], upOffsets,
                            item.expert, tilesEnd)};
          auto rowAt = [&](Value entry) {
            return b.called("row", b.div(slotOf(b, groups.list, entry), topK));
          };
          auto store = [&](Value tile, Value entry, ValueList sums) {
            storeGated(b, sums, tile, slotOf(b, groups.list, entry),
                       arguments.back(), shape.columns,
                       /*isPadded=*/true, limit);
          };
          product.multiply(b,
                           {weights, product.tiles(b, item.group, weights[0]),
                            input, item.begin, item.end, rowAt, store});
        });
  });
}

KernelOp KernelSet::integerExpertsDown(TypeRange types,
                                       const IntegerShape &shape,
                                       int64_t experts) {
  int64_t tiles = ceilDiv(shape.columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  std::string name = "experts_down_" + integerName(shape, experts);
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    IntegerRows input =
        integerRows(b, arguments, shape.digits, inputScale(shape));
    SlotGroups groups(b, arguments.drop_front(3), experts);
    ItemProduct product(b, options, shape, /*weights=*/1, perItem);
    forExpertItems(
        b, options, kernel, groups, ceilDiv(tiles, perItem),
        product.groupsAtOnce(), [&](const ExpertItem &item) {
          Value tilesEnd =
              b.min(b.mul(item.groupsEnd, perItem), b.index(tiles));
          IntegerWeight weight = integerWeight(
              shape, arguments[6], arguments[7],
              shape.hasOffsets ? arguments[8] : Value(), item.expert, tilesEnd);
          auto slotAt = [&](Value entry) {
            return slotOf(b, groups.list, entry);
          };
          auto store = [&](Value tile, Value entry, ValueList sums) {
            storeTile(b, sums.front(), arguments.back(), slotAt(entry), Value(),
                      tile, shape.columns, /*isPadded=*/true);
          };
          product.multiply(b, {weight, product.tiles(b, item.group, weight),
                               input, item.begin, item.end, slotAt, store});
        });
  });
}

KernelOp KernelSet::combine(TypeRange types, int64_t topK, int64_t columns) {
  auto name = llvm::formatv("combine_{0}_{1}", topK, columns).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    b.call(arguments, {"expert_outputs", "expert_weights"});
    int64_t lanes = KernelBuilder::lanesFor(columns);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value slot = b.called("slot", b.mul(row, topK));
      b.loop("column", b.index(0), b.index(columns), lanes, [&](Value c) {
        Value sum = b.f32(0, b.vectorType(lanes));
        for (int64_t s = 0; s < topK; ++s) {
          Value weight =
              b.broadcast(b.load(arguments[1], {row, b.index(s)}), lanes);
          Value y = b.loadVector(arguments[0], {b.add(slot, s), c}, lanes);
          sum = b.fma(weight, y, sum);
        }
        b.storeVector(sum, arguments[2], {row, c});
      });
    });
  });
}
