// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gives every weight that a matrix product reads the layout that the kernels
// read, in its type and at the end of its recipe. Integers share records with
// their scales and offsets.

#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/TypeSwitch.h"

#include <array>

using namespace mlir;
using namespace hadal::deepseek;

namespace hadal {
#define GEN_PASS_DEF_PACKWEIGHTS
#include "codegen/Passes.h.inc"
} // namespace hadal

namespace {

/// True if \p weight is integers: their scales and offsets are read with them,
/// tile by tile.
bool isInteger(Value weight) {
  return getElementTypeOrSelf(weight).isInteger();
}

/// How an operand is read: not in tiles, or as a matrix, or as scales or
/// offsets of one of integers.
enum class Role { None, Matrix, Scales };

Role roleOf(OpOperand &operand) {
  Operation *op = operand.getOwner();
  Value value = operand.get();
  auto role = [](bool isMatrix, bool isScales) {
    return isMatrix ? Role::Matrix : isScales ? Role::Scales : Role::None;
  };
  if (auto linear = dyn_cast<LinearOp>(op))
    return role(
        linear.getWeight() == value,
        linear.getOffsets() == value ||
            (linear.getScales() == value && isInteger(linear.getWeight())));
  if (auto embed = dyn_cast<EmbedOp>(op))
    return role(embed.getTable() == value && isInteger(value),
                embed.getScales() == value || embed.getOffsets() == value);
  if (auto linear = dyn_cast<HeadLinearOp>(op)) {
    // Scales of groups of rows are read along the columns.
    bool areInTiles = linear.getScales() &&
                      getScaleAxis(linear.getWeight(), linear.getScales()) == 2;
    return role(linear.getWeight() == value,
                areInTiles && (linear.getScales() == value ||
                               linear.getOffsets() == value));
  }
  if (auto head = dyn_cast<LMHeadOp>(op))
    return role(head.getWeight() == value,
                head.getScales() == value || head.getOffsets() == value);
  if (auto experts = dyn_cast<ExpertsOp>(op))
    return role(experts.getGate() == value || experts.getUp() == value ||
                    experts.getDown() == value,
                llvm::is_contained(experts.getOffsets(), value) ||
                    (llvm::is_contained(experts.getScales(), value) &&
                     isInteger(experts.getGate())));
  return Role::None;
}

/// What a product reads, in the order of a record, which is that in which it is
/// read: scales, offsets or null, and integers.
using Parts = std::array<Value, 3>;

/// Products that \p op makes: those whose parts share records together. The
/// gate and the up of a SwiGLU are those of one.
SmallVector<SmallVector<Parts, 2>> partsOf(Operation *op) {
  using Products = SmallVector<SmallVector<Parts, 2>>;
  auto one = [](auto product, Value weight) -> Parts {
    return {product.getScales(), product.getOffsets(), weight};
  };
  auto gated =
      [](LinearOp linear) -> std::optional<std::pair<LinearOp, LinearOp>> {
    auto swiglu = linear->hasOneUse()
                      ? dyn_cast<SwiGLUOp>(*linear->user_begin())
                      : SwiGLUOp();
    if (!swiglu)
      return std::nullopt;
    auto gate = swiglu.getGate().getDefiningOp<LinearOp>();
    auto up = swiglu.getUp().getDefiningOp<LinearOp>();
    if (!gate || !up || gate == up || gate.getInput() != up.getInput())
      return std::nullopt;
    return std::pair(gate, up);
  };
  Products products =
      llvm::TypeSwitch<Operation *, Products>(op)
          .Case([&](LinearOp linear) -> Products {
            std::optional<std::pair<LinearOp, LinearOp>> pair = gated(linear);
            if (!pair)
              return {{one(linear, linear.getWeight())}};
            if (linear != pair->first)
              return {};
            return {{one(pair->first, pair->first.getWeight()),
                     one(pair->second, pair->second.getWeight())}};
          })
          .Case([&](LMHeadOp head) -> Products {
            return {{one(head, head.getWeight())}};
          })
          .Case([&](EmbedOp embed) -> Products {
            return {{one(embed, embed.getTable())}};
          })
          .Case([&](ExpertsOp experts) -> Products {
            if (experts.getScales().empty())
              return {};
            auto part = [&](size_t i, Value weight) -> Parts {
              return {experts.getScales()[i], experts.getOffsetsOf(i), weight};
            };
            return {{part(0, experts.getGate()), part(1, experts.getUp())},
                    {part(2, experts.getDown())}};
          })
          .Default([](Operation *) { return Products(); });
  llvm::erase_if(products, [](ArrayRef<Parts> parts) {
    return !parts[0][0] || !isInteger(parts[0][2]);
  });
  return products;
}

/// Weights that share records: of each product, its parts that are there.
struct Bundle {
  SmallVector<SmallVector<WeightOp, 3>, 2> products;
  int64_t bytes = 0;   ///< Of a record of a product; 0 if they share none.
  int64_t records = 0; ///< Of a tile.
};

/// Elements of a row of \p weight that are in one of \p records parts of it,
/// in whole units and lines of 64 bytes; 0 if they cannot.
int64_t columnsOfRecord(RankedTensorType type, int64_t columns,
                        int64_t records) {
  int64_t count = type.getShape().back();
  if (count % records != 0 || count / records % columns != 0)
    return 0;
  int64_t bits = type.getElementTypeBitWidth();
  return count / records * 16 * bits % (64 * 8) == 0 ? count / records : 0;
}

struct PackWeights : public hadal::impl::PackWeightsBase<PackWeights> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);

    // A weight is packed if a matrix product reads it, here or in a callee.
    llvm::MapVector<Operation *, Role> roles;
    for (auto function : module.getOps<func::FuncOp>())
      function.walk([&](UseWeightOp use) {
        auto weight = symbols.lookup<WeightOp>(use.getName());
        for (OpOperand &operand : use.getResult().getUses()) {
          Role role = roleOf(operand);
          if (role == Role::None)
            role = argumentRole(symbols, operand);
          if (role != Role::None)
            roles[weight] = role;
        }
      });

    llvm::DenseMap<Operation *, RecordAttr> records = shareRecords(symbols);
    for (auto [op, role] : roles) {
      auto weight = cast<WeightOp>(op);
      RankedTensorType type = weight.getWeightType();
      if (isa_and_nonnull<TiledAttr>(type.getEncoding()))
        continue;
      auto encoding = TiledAttr::get(&getContext(), /*rows=*/16,
                                     columnsOf(type, role == Role::Matrix),
                                     getCodebook(type), records.lookup(weight));
      auto packedType = RankedTensorType::get(type.getShape(),
                                              type.getElementType(), encoding);
      auto yield = cast<YieldOp>(weight.getRecipe().front().back());
      OpBuilder builder(yield);
      yield.getValueMutable().assign(PackOp::create(
          builder, weight.getLoc(), packedType, yield.getValue()));
      weight.setType(packedType);
      ++numWeightsPacked;
    }

    for (auto function : module.getOps<func::FuncOp>()) {
      function.walk([&](UseWeightOp use) {
        auto weight = symbols.lookup<WeightOp>(use.getName());
        use.getResult().setType(weight.getWeightType());
      });
    }
    // Callees take what their callers now pass.
    module.walk([&](func::CallOp call) {
      auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
      if (!callee || callee.isExternal())
        return;
      for (auto [argument, operand] :
           llvm::zip(callee.getArguments(), call.getOperands()))
        argument.setType(operand.getType());
      callee.setFunctionType(
          FunctionType::get(&getContext(), callee.getBody().getArgumentTypes(),
                            callee.getFunctionType().getResults()));
    });
  }

  /// Columns that a tile of a weight stores together.
  static int64_t columnsOf(RankedTensorType type, bool isMatrix) {
    Type element = type.getElementType();
    return isMatrix && element.isInteger()
               ? getTileColumns(element.getIntOrFloatBitWidth())
               : 1;
  }

  /// Calls \p body with the weights that \p values of \p function are, for each
  /// way in which it is called; null for what is none.
  void forWeights(SymbolTable &symbols, func::FuncOp function,
                  ArrayRef<Value> values,
                  llvm::function_ref<void(ArrayRef<WeightOp>)> body) {
    if (llvm::none_of(values, [](Value value) {
          return isa_and_nonnull<BlockArgument>(value);
        })) {
      SmallVector<WeightOp> weights;
      for (Value value : values) {
        auto use = value ? value.getDefiningOp<UseWeightOp>() : UseWeightOp();
        weights.push_back(use ? symbols.lookup<WeightOp>(use.getName())
                              : WeightOp());
      }
      return body(weights);
    }
    for (func::CallOp call : callsOf[function]) {
      SmallVector<Value> passed;
      for (Value value : values) {
        auto argument = dyn_cast_if_present<BlockArgument>(value);
        passed.push_back(argument ? call.getOperand(argument.getArgNumber())
                                  : value);
      }
      forWeights(symbols, call->getParentOfType<func::FuncOp>(), passed, body);
    }
  }

  /// Finds weights that share records, places them beside each other, and
  /// returns the records of each.
  llvm::DenseMap<Operation *, RecordAttr> shareRecords(SymbolTable &symbols) {
    ModuleOp module = getOperation();
    callsOf.clear();
    module.walk([&](func::CallOp call) {
      callsOf[symbols.lookup<func::FuncOp>(call.getCallee())].push_back(call);
    });

    // All bundles of a product share records, or none, since its types are
    // those of all. A weight that is in two which differ is in none.
    struct Product {
      SmallVector<Bundle> bundles;
      bool isGood = true;
    };
    std::vector<Product> products;
    llvm::DenseMap<Operation *, SmallVector<WeightOp>> membersOf;
    llvm::DenseSet<Operation *> isBad;
    for (auto function : module.getOps<func::FuncOp>())
      function.walk([&](Operation *op) {
        // What has no records of its own.
        if (isa<HeadLinearOp>(op))
          forWeights(symbols, function, SmallVector<Value>(op->getOperands()),
                     [&](ArrayRef<WeightOp> weights) {
                       isBad.insert(weights.begin(), weights.end());
                     });
        for (ArrayRef<Parts> parts : partsOf(op)) {
          Product &product = products.emplace_back();
          SmallVector<Value> values;
          for (const Parts &some : parts)
            values.append(some.begin(), some.end());
          forWeights(symbols, function, values, [&](ArrayRef<WeightOp> list) {
            Bundle bundle = bundleOf(values, list);
            product.isGood &= bundle.bytes != 0;
            SmallVector<WeightOp> members;
            for (ArrayRef<WeightOp> some : bundle.products)
              members.append(some.begin(), some.end());
            for (WeightOp weight : members) {
              auto &known = membersOf[weight];
              product.isGood &= known.empty() || known == members;
              known = members;
            }
            product.bundles.push_back(std::move(bundle));
          });
        }
      });
    bool isChanged = true;
    while (isChanged) {
      isChanged = false;
      for (Product &product : products) {
        auto members = [&](auto body) {
          for (Bundle &bundle : product.bundles)
            for (ArrayRef<WeightOp> some : bundle.products)
              for (WeightOp weight : some)
                body(weight);
        };
        members([&](WeightOp weight) {
          product.isGood &= !isBad.contains(weight);
        });
        if (!product.isGood)
          members([&](WeightOp weight) {
            isChanged |= isBad.insert(weight).second;
          });
      }
    }

    llvm::DenseMap<Operation *, RecordAttr> records;
    for (Product &product : products)
      for (Bundle &bundle : product.bundles)
        if (product.isGood)
          place(bundle, records);
    return records;
  }

  /// The bundle of weights \p list, in threes as \p values are.
  static Bundle bundleOf(ArrayRef<Value> values, ArrayRef<WeightOp> list) {
    Bundle bundle;
    bool isGood = true;
    for (size_t i = 0; i < list.size(); i += 3) {
      auto &product = bundle.products.emplace_back();
      for (size_t part = i; part < i + 3; ++part)
        if (values[part] && list[part])
          product.push_back(list[part]);
        else
          isGood &= !values[part];
    }
    auto typesOf = [](ArrayRef<WeightOp> weights) {
      return llvm::map_to_vector(
          weights, [](WeightOp weight) { return weight.getType(); });
    };
    for (ArrayRef<WeightOp> product : bundle.products)
      isGood &= typesOf(product) == typesOf(bundle.products.front());
    if (!isGood)
      return bundle;
    // As many records as each part can have: none that is a whole tile, whose
    // parts are few streams already.
    MutableArrayRef<WeightOp> parts = bundle.products.front();
    int64_t inner = parts.back().getWeightType().getShape().back();
    auto bytesOf = [&](int64_t records) -> int64_t {
      int64_t bytes = 0;
      for (WeightOp part : parts) {
        RankedTensorType type = part.getWeightType();
        bool isMatrix = part == parts.back();
        int64_t columns =
            columnsOfRecord(type, columnsOf(type, isMatrix), records);
        // Numbers of two levels have those of a block together.
        bool isOfBlocks = !isMatrix && type.getElementType().isInteger();
        if (columns == 0 || type.getEncoding() != getCodebook(type) ||
            (isOfBlocks && inner / records % scaleBlock != 0))
          return 0;
        bytes += columns * 16 * type.getElementTypeBitWidth() / 8;
      }
      return bytes;
    };
    int64_t records = parts.front().getWeightType().getShape().back();
    while (records > 1 && bytesOf(records) == 0)
      --records;
    if (records > 1) {
      bundle.bytes = bytesOf(records);
      bundle.records = records;
    }
    return bundle;
  }

  /// Gives the weights of \p bundle their records and places.
  static void place(Bundle &bundle,
                    llvm::DenseMap<Operation *, RecordAttr> &records) {
    WeightOp base = bundle.products.front().front();
    if (records.contains(base))
      return;
    Builder builder(base.getContext());
    for (auto [tile, product] : llvm::enumerate(bundle.products)) {
      int64_t at = int64_t(tile) * bundle.records * bundle.bytes;
      for (WeightOp weight : product) {
        RankedTensorType type = weight.getWeightType();
        int64_t columns = type.getShape().back() / bundle.records;
        records[weight] =
            RecordAttr::get(base.getContext(), columns, bundle.bytes,
                            int64_t(bundle.products.size()));
        if (weight != base) {
          weight.setBesideAttr(FlatSymbolRefAttr::get(base));
          weight.setAtAttr(builder.getI64IntegerAttr(at));
        }
        at += columns * 16 * int64_t(type.getElementTypeBitWidth()) / 8;
      }
    }
  }

  llvm::DenseMap<Operation *, SmallVector<func::CallOp>> callsOf;

  /// How a function reads \p operand, if it is passed to one.
  static Role argumentRole(SymbolTable &symbols, OpOperand &operand) {
    auto call = dyn_cast<func::CallOp>(operand.getOwner());
    if (!call)
      return Role::None;
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    if (!callee || callee.isExternal())
      return Role::None;
    for (OpOperand &use :
         callee.getArgument(operand.getOperandNumber()).getUses())
      if (Role role = roleOf(use); role != Role::None)
        return role;
    return Role::None;
  }
};

} // namespace
