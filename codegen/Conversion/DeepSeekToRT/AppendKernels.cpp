// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel that puts keys and values of a step into the cache.

#include "codegen/Conversion/DeepSeekToRT/CacheElements.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

namespace {

/// Puts one row of a step into the cache.
class Append {
public:
  Append(KernelBuilder &b, PageLayout page, Value row)
      : b(b), page(page), row(row) {}

  /// Rounds columns [fromColumn, fromColumn + dim) of \p from. A column goes to
  /// `to[prefix.., column + toColumn, suffix..]`, a scale to
  /// `scales[scalePrefix.., number of its group]`; without groups of columns,
  /// to `scales[scalePrefix..]`.
  void copy(Value from, Value fromColumn, int64_t dim, Value to, Values prefix,
            int64_t toColumn, Value suffix, Value scales, Values scalePrefix,
            bool hasGroups) {
    int64_t group = page.isInteger() ? page.group : dim;
    int64_t lanes = KernelBuilder::lanesFor(group);
    b.loop("begin", b.index(0), b.index(dim), group, [&](Value begin) {
      Value first = b.add(fromColumn, begin), inverse;
      if (page.isInteger()) {
        Value scale = scaleOf(from, first, group, lanes, inverse);
        Values at = scalePrefix;
        if (hasGroups)
          at.push_back(b.add(b.div(begin, group), toColumn / group));
        b.store(scale, scales, at);
      }
      // Where columns are not next to each other, they go one by one.
      int64_t width = suffix ? 1 : lanes;
      Value inverses =
          inverse && width > 1 ? b.broadcast(inverse, width) : inverse;
      b.loop(b.index(0), b.index(group), width, [&](Value i) {
        Values source = {row, b.add(first, i)};
        Value x = width > 1 ? b.loadVector(from, source, width)
                            : b.load(from, source);
        x = narrow(b, x, page.element, inverses);
        Values target = prefix;
        target.push_back(b.add(b.add(begin, i), toColumn));
        if (suffix)
          target.push_back(suffix);
        if (width > 1)
          b.storeVector(x, to, target);
        else
          b.store(x, to, target);
      });
    });
  }

private:
  /// The scale of \p group columns, and its inverse.
  Value scaleOf(Value from, Value first, int64_t group, int64_t lanes,
                Value &inverse) {
    Value largest = b.maxLane(
        b.loop(b.index(0), b.index(group), lanes, b.f32(0, b.vectorType(lanes)),
               [&](Value i, ValueRange most) {
                 Value x = b.loadVector(from, {row, b.add(first, i)}, lanes);
                 return Values{b.maxf(most[0], math::AbsFOp::create(b, x))};
               })[0]);
    // A subnormal scale has no finite inverse; its group counts as zeros.
    Value quotient = b.divf(largest, b.f32(127));
    Value isZero = b.lessf(quotient, b.f32(0x1p-126));
    Value scale = b.select(isZero, b.f32(0), quotient);
    inverse = b.select(isZero, b.f32(0), b.divf(b.f32(1), scale));
    return scale;
  }

  KernelBuilder &b;
  PageLayout page;
  Value row;
};

} // namespace

/// Rows that an item of keys has: neighbors share the lines of a page.
constexpr int64_t appendRows = 32;

Value KernelSet::appendItems(KernelBuilder &b, PageLayout page, Value rows) {
  if (page.isLatent)
    return rows;
  Value blocks = b.div(b.add(rows, appendRows - 1), appendRows);
  return b.mul(blocks, page.heads);
}

KernelOp KernelSet::appendCache(TypeRange types, PageLayout page) {
  return get(
      "append_cache_" + Twine(pageName(page)), types,
      [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        Value positions = arguments[2], sequences = arguments[3],
              layer = arguments[4], rowCount = arguments[5];
        Value pageIndex, token;
        auto place = [&](Value row, ArrayRef<PageLayout::Part> parts) {
          Value position = b.toIndex(b.load(positions, row));
          Value sequence = b.toIndex(b.load(sequences, row));
          pageIndex = b.called("page_index", b.div(position, page.pageTokens));
          token = b.called("token", b.rem(position, page.pageTokens));
          Values memrefs;
          for (PageLayout::Part part : parts) {
            bool isScale = part == PageLayout::KeyScales ||
                           part == PageLayout::ValueScales;
            memrefs.push_back(isScale && !page.isInteger()
                                  ? Value()
                                  : pagePart(b, kernel.getStep(), sequence,
                                             pageIndex, layer, page, part));
          }
          return memrefs;
        };
        if (page.isLatent)
          b.call(arguments, {"latents", "rope_keys"});
        else
          b.call(arguments, {"keys", "values"});
        if (page.isLatent)
          return b.loop(
              "row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
                Values part =
                    place(row, {PageLayout::Keys, PageLayout::KeyScales});
                Append append(b, page, row);
                append.copy(arguments[0], b.index(0), page.valueDim, part[0],
                            {token}, 0, Value(), part[1], {token},
                            /*hasGroups=*/true);
                append.copy(arguments[1], b.index(0),
                            page.keyDim - page.valueDim, part[0], {token},
                            page.valueDim, Value(), part[1], {token},
                            /*hasGroups=*/true);
              });
        b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
          Value head = b.called("head", b.rem(item, page.heads));
          Value begin =
              b.called("row_begin", b.mul(b.div(item, page.heads), appendRows));
          Value end =
              b.called("row_end", b.min(b.add(begin, appendRows), rowCount));
          b.loop("row", begin, end, 1, [&](Value row) {
            Values part =
                place(row, {PageLayout::Keys, PageLayout::KeyScales,
                            PageLayout::Values, PageLayout::ValueScales});
            Append append(b, page, row);
            append.copy(arguments[0], b.mul(head, page.keyDim), page.keyDim,
                        part[0], {head}, 0, token, part[1], {head, token},
                        /*hasGroups=*/false);
            append.copy(arguments[1], b.mul(head, page.valueDim), page.valueDim,
                        part[2], {head, token}, 0, Value(), part[3],
                        {head, token}, /*hasGroups=*/false);
          });
        });
      });
}
