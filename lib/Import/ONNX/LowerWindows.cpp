// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Convolutions, and what else looks at windows of an image. Definitions are
// those of https://onnx.ai/onnx/operators.

#include "lib/Import/ONNX/GraphLowering.h"

#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <limits>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// Larger sizes of windows and steps are mistakes.
constexpr int64_t maxExtent = int64_t(1) << 31;

namespace {
/// How a window moves over an image.
struct Windows {
  SmallVector<int64_t> kernel, strides, dilations, before, after;
  /// Beyond `after`, for windows that reach over the end.
  SmallVector<int64_t> extra;
  SmallVector<int64_t> output;
};
} // namespace

/// Reads the attributes of a node over an image of \p sizes; \p kernel is that
/// of the weights, or empty.
static FailureOr<Windows> readWindows(GraphLowering &g, ArrayRef<int64_t> sizes,
                                      ArrayRef<int64_t> kernel) {
  size_t rank = sizes.size();
  Windows w;
  auto read = [&](StringRef name, SmallVector<int64_t> &to, size_t count,
                  int64_t fallback, int64_t least) {
    to.assign(count, fallback);
    if (auto given = g.getInts(name))
      to = *given;
    return to.size() == count && llvm::all_of(to, [&](int64_t value) {
             return value >= least && value < maxExtent;
           });
  };
  w.kernel.assign(kernel.begin(), kernel.end());
  if (kernel.empty() && !read("kernel_shape", w.kernel, rank, 0, 1))
    return g.fail("expects a kernel_shape");
  SmallVector<int64_t> given;
  if (!kernel.empty() && g.getInts("kernel_shape") &&
      (!read("kernel_shape", given, rank, 0, 1) ||
       ArrayRef<int64_t>(given) != kernel))
    return g.fail("has a kernel_shape that is not that of its weights");
  SmallVector<int64_t> pads;
  if (!read("strides", w.strides, rank, 1, 1) ||
      !read("dilations", w.dilations, rank, 1, 1) ||
      !read("pads", pads, 2 * rank, 0, 0) || w.kernel.size() != rank)
    return g.fail("has strides, dilations or pads that do not fit its image");
  StringRef mode = g.getString("auto_pad", "NOTSET");
  bool isSame = mode.starts_with("SAME_"), isCeil = g.getInt("ceil_mode", 0);
  if (mode == "VALID")
    pads.assign(2 * rank, 0);
  else if (!isSame && mode != "NOTSET")
    return g.fail("pads by '" + mode + "', which is not supported");
  for (size_t i = 0; i < rank; ++i) {
    if (w.kernel[i] < 1 || sizes[i] < 1 ||
        double(w.kernel[i]) * double(w.dilations[i]) > double(maxExtent))
      return g.fail("has a window or an image without elements");
    int64_t extent = w.dilations[i] * (w.kernel[i] - 1) + 1;
    int64_t stride = w.strides[i], low = pads[i], high = pads[rank + i];
    if (isSame) {
      int64_t steps = ceilDiv(sizes[i], stride) - 1;
      int64_t all = std::max<int64_t>(steps * stride + extent - sizes[i], 0);
      low = mode == "SAME_UPPER" ? all / 2 : all - all / 2;
      high = all - low;
    }
    int64_t room = sizes[i] + low + high - extent;
    if (room < 0)
      return g.fail("has a window of " + Twine(extent) +
                    " that is larger than its image of " +
                    Twine(sizes[i] + low + high));
    int64_t count = (isCeil ? ceilDiv(room, stride) : room / stride) + 1;
    // The last window starts in the image, or before it.
    if (isCeil && (count - 1) * stride >= sizes[i] + low)
      --count;
    w.before.push_back(low);
    w.after.push_back(high);
    w.extra.push_back(std::max<int64_t>(
        (count - 1) * stride + extent - sizes[i] - low - high, 0));
    w.output.push_back(count);
  }
  return w;
}

/// \p x with \p value around its last dimensions.
static FailureOr<Lowered> pad(GraphLowering &g, Lowered x,
                              ArrayRef<int64_t> low, ArrayRef<int64_t> high,
                              double value) {
  SmallVector<int64_t> shape(x.getShape()), offsets(shape.size(), 0);
  size_t first = shape.size() - low.size();
  for (size_t i = 0; i < low.size(); ++i) {
    offsets[first + i] = low[i];
    shape[first + i] += low[i] + high[i];
  }
  if (failed(g.checkShape(shape)))
    return failure();
  if (ArrayRef<int64_t>(shape) == x.getShape())
    return x;
  return g.insert(x, g.splat(value, x.element, shape), offsets);
}

/// Windows' elements along dimension `first + i`: o * stride + k * dilation.
static void addWindow(SmallVectorImpl<AffineExpr> &access, const Windows &w,
                      unsigned firstKernel, unsigned firstOutput,
                      MLIRContext *context) {
  for (size_t i = 0; i < w.kernel.size(); ++i)
    access.push_back(
        getAffineDimExpr(firstOutput + unsigned(i), context) * w.strides[i] +
        getAffineDimExpr(firstKernel + unsigned(i), context) * w.dilations[i]);
}

static LogicalResult lowerConv(GraphLowering &g) {
  Lowered x = g.input(0), weight = g.input(1), bias = g.input(2);
  if (!x || !weight || !x.isFloat() || weight.element != x.element ||
      x.getRank() < 3 || weight.getRank() != x.getRank() ||
      (bias && (bias.element != x.element || bias.getRank() != 1 ||
                bias.dim(0) != weight.dim(0))))
    return g.fail("expects an image, weights, and a bias of one type");
  int64_t groups = g.getInt("group", 1), batch = x.dim(0);
  int64_t channels = x.dim(1), outputs = weight.dim(0);
  if (groups < 1 || channels % groups || outputs % groups ||
      weight.dim(1) != channels / groups)
    return g.fail("has " + Twine(channels) + " channels, " + Twine(outputs) +
                  " outputs and " + Twine(groups) + " groups");
  FailureOr<Windows> windows = readWindows(g, x.getShape().drop_front(2),
                                           weight.getShape().drop_front(2));
  if (failed(windows))
    return failure();
  const Windows &w = *windows;
  int64_t terms =
      weight.getType().getNumElements() / std::max<int64_t>(outputs, 1);
  auto factors = readFactors(g, 0, 1, 0, terms);
  if (failed(factors))
    return failure();
  Type element = x.element, sum = g.computeType(element);
  if (*factors) {
    x = (*factors)->first.integers;
    weight = (*factors)->second.integers;
    sum = x.element;
  }
  FailureOr<Lowered> padded = pad(g, x, w.before, w.after, 0);
  if (failed(padded))
    return failure();
  size_t spatial = w.kernel.size();
  // [batch, groups, channels of one, ..] and [groups, outputs of one, ..].
  SmallVector<int64_t> image = {batch, groups, channels / groups};
  llvm::append_range(image, padded->getShape().drop_front(2));
  SmallVector<int64_t> filter = {groups, outputs / groups, channels / groups};
  llvm::append_range(filter, w.kernel);
  SmallVector<int64_t> shape = {batch, groups, outputs / groups};
  llvm::append_range(shape, w.output);
  if (failed(g.checkShape(shape)))
    return failure();
  Lowered from = g.reshape(*padded, image), by = g.reshape(weight, filter);
  // Loops: batch, group, output, channel, kernel.., place..
  MLIRContext *context = g.builder.getContext();
  auto loops = unsigned(4 + 2 * spatial);
  auto dim = [&](unsigned i) { return getAffineDimExpr(i, context); };
  SmallVector<AffineExpr> read = {dim(0), dim(1), dim(3)};
  addWindow(read, w, 4, unsigned(4 + spatial), context);
  SmallVector<AffineExpr> weights = {dim(1), dim(2), dim(3)};
  SmallVector<AffineExpr> written = {dim(0), dim(1), dim(2)};
  for (unsigned i = 0; i < spatial; ++i) {
    weights.push_back(dim(4 + i));
    written.push_back(dim(unsigned(4 + spatial) + i));
  }
  SmallVector<utils::IteratorType> iterators(loops,
                                             utils::IteratorType::parallel);
  for (unsigned i = 3; i < 4 + spatial; ++i)
    iterators[i] = utils::IteratorType::reduction;
  Type factor = x.element;
  Scalars s = g.scalars();
  Value product =
      g.generic({from.value, by.value},
                {AffineMap::get(loops, 0, read, context),
                 AffineMap::get(loops, 0, weights, context),
                 AffineMap::get(loops, 0, written, context)},
                iterators, g.filled(shape, sum, s.zero(sum)),
                [&](Scalars &s, ValueRange v) {
                  return s.add(v[2], s.mul(s.cast(v[0], factor, sum),
                                           s.cast(v[1], factor, sum)));
                });
  SmallVector<int64_t> result = {batch, outputs};
  llvm::append_range(result, w.output);
  Lowered joined = g.reshape({product, sum}, result);
  if (*factors)
    joined = scaleSums(g, joined, **factors, 1);
  sum = joined.element;
  if (!bias)
    return g.set(g.convert(joined, element));
  SmallVector<int64_t> along(result.size(), 1);
  along[1] = outputs;
  return g.set(g.map({joined, g.reshape(bias, along)}, result, element,
                     [&](Scalars &s, ValueRange v) {
                       return s.add(v[0], s.cast(v[1], v[1].getType(), sum));
                     }));
}

/// Combines the elements of each window of \p images, [batch, channels, ..], by
/// \p body, which takes what it has so far, an element of each image, and that
/// of each of \p results, which have one for each window.
static Lowered reduceWindows(GraphLowering &g, ArrayRef<Lowered> images,
                             ArrayRef<Lowered> results, const Windows &w,
                             Type type, double init, ScalarBody body) {
  MLIRContext *context = g.builder.getContext();
  size_t spatial = w.kernel.size();
  auto loops = unsigned(2 + 2 * spatial);
  auto dim = [&](unsigned i) { return getAffineDimExpr(i, context); };
  // Loops: batch, channel, kernel.., place.. The kernel's sizes are those of a
  // tensor that nothing reads.
  SmallVector<AffineExpr> read = {dim(0), dim(1)}, kernel;
  addWindow(read, w, 2, unsigned(2 + spatial), context);
  SmallVector<AffineExpr> written = {dim(0), dim(1)};
  SmallVector<int64_t> shape = {images[0].dim(0), images[0].dim(1)};
  SmallVector<utils::IteratorType> iterators(loops,
                                             utils::IteratorType::parallel);
  for (unsigned i = 0; i < spatial; ++i) {
    kernel.push_back(dim(2 + i));
    iterators[2 + i] = utils::IteratorType::reduction;
    written.push_back(dim(unsigned(2 + spatial) + i));
    shape.push_back(w.output[i]);
  }
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  auto add = [&](Value input, ArrayRef<AffineExpr> access) {
    inputs.push_back(input);
    maps.push_back(AffineMap::get(loops, 0, access, context));
  };
  for (Lowered image : images)
    add(image.value, read);
  for (Lowered result : results)
    add(result.value, written);
  add(g.empty(w.kernel, g.builder.getI8Type()), kernel);
  maps.push_back(AffineMap::get(loops, 0, written, context));
  Value result =
      g.generic(inputs, maps, iterators, g.splat(init, type, shape).value,
                [&](Scalars &s, ValueRange v) {
                  SmallVector<Value> values = {v.back()};
                  llvm::append_range(
                      values, v.take_front(images.size() + results.size()));
                  return body(s, values);
                });
  return {result, type};
}

/// For each window of \p padded the place in \p x, \p end elements of which
/// were added behind, of the first element that is the \p largest. Places
/// count all elements before, by rows, or, of a channel, \p byColumns.
static FailureOr<Lowered> findLargest(GraphLowering &g, Lowered x,
                                      Lowered padded, Lowered largest,
                                      const Windows &w, ArrayRef<int64_t> end,
                                      bool byColumns) {
  Type type = g.builder.getI64Type();
  ArrayRef<int64_t> shape = x.getShape();
  int64_t count = x.getType().getNumElements();
  auto number = [&](bool isTurned) {
    SmallVector<int64_t> strides(shape.size(), 1);
    for (size_t i = shape.size() - 1; i > 0; --i)
      strides[i - 1] = strides[i] * shape[i];
    if (isTurned)
      for (size_t i = 2, stride = 1; i < shape.size(); ++i) {
        strides[i] = int64_t(stride);
        stride *= size_t(shape[i]);
      }
    return g.generate(shape, type, [&](Scalars &s, ValueRange at) {
      Value place = s.integer(0, type);
      for (auto [index, stride] : llvm::zip(at, strides))
        place =
            s.add(place, s.mul(s.make<arith::IndexCastOp>(type, Value(index)),
                               s.integer(stride, type)));
      return place;
    });
  };
  FailureOr<Lowered> places =
      pad(g, number(/*isTurned=*/false), w.before, end, double(count - 1));
  if (failed(places))
    return failure();
  Lowered first = reduceWindows(
      g, {padded, *places}, largest, w, type, double(count - 1),
      [](Scalars &s, ValueRange v) {
        Value x = s.cast(v[1], v[1].getType(), v[3].getType());
        return s.select(s.compare("lt", x, v[3]), v[0], s.min(v[0], v[2]));
      });
  if (!byColumns)
    return first;
  return g.gather(g.reshape(number(/*isTurned=*/true), {count}), first, 0);
}

static LogicalResult lowerPool(GraphLowering &g) {
  Lowered x = g.input(0);
  StringRef type = g.node.getOpType();
  bool isMax = type.contains("Max");
  if (!x || x.getRank() < 3 ||
      !(x.isFloat() || (isMax && x.element.isInteger(8))))
    return g.fail("expects an image of floats");
  Type element = x.element;
  if (!x.isFloat()) // The largest of bytes, as numbers that have an infinity.
    x = g.convert(x, g.builder.getF32Type());
  ArrayRef<int64_t> sizes = x.getShape().drop_front(2);
  Type wide = g.computeType(x.element);
  double lowest = -std::numeric_limits<double>::infinity();
  auto add = [&](Scalars &s, ValueRange v) {
    return s.add(v[0], s.cast(v[1], v[1].getType(), wide));
  };
  auto most = [&](Scalars &s, ValueRange v) {
    return s.max(v[0], s.cast(v[1], v[1].getType(), wide));
  };
  if (type.starts_with("Global")) {
    SmallVector<int64_t> axes;
    for (int64_t i = 2; i < x.getRank(); ++i)
      axes.push_back(i);
    Lowered result = isMax ? g.reduce(x, axes, lowest, most) : g.mean(x, axes);
    return g.set(g.convert(result, element));
  }
  FailureOr<Windows> windows = readWindows(g, sizes, {});
  if (failed(windows))
    return failure();
  const Windows &w = *windows;
  SmallVector<int64_t> end;
  for (size_t i = 0; i < w.after.size(); ++i)
    end.push_back(w.after[i] + w.extra[i]);
  FailureOr<Lowered> padded = pad(g, x, w.before, end, isMax ? lowest : 0);
  if (failed(padded))
    return failure();
  if (isMax) {
    bool byColumns = g.getInt("storage_order", 0);
    Lowered largest = reduceWindows(g, *padded, {}, w, wide, lowest, most);
    if (g.node.getOutputs().size() > 1 && !g.node.getOutputs()[1].use_empty()) {
      FailureOr<Lowered> places =
          findLargest(g, x, *padded, largest, w, end, byColumns);
      if (failed(places) || failed(g.set(1, *places)))
        return failure();
    }
    return g.set(g.convert(largest, element));
  }
  // How many elements of the image, or of it and its pads, a window has.
  bool countsPads = g.getInt("count_include_pad", 0);
  SmallVector<int64_t> ones = {1, 1}, low = w.before, high = end;
  llvm::append_range(ones, sizes);
  if (countsPads)
    for (size_t i = 0; i < w.before.size(); ++i) {
      ones[2 + i] += w.before[i] + w.after[i];
      low[i] = 0;
      high[i] = w.extra[i];
    }
  FailureOr<Lowered> counted =
      pad(g, g.splat(1, wide, ones), low, high, /*value=*/0);
  if (failed(counted))
    return failure();
  Lowered count = reduceWindows(g, *counted, {}, w, wide, 0, add);
  Lowered sum = reduceWindows(g, *padded, {}, w, wide, 0, add);
  return g.set(
      g.map({sum, count}, sum.getShape(), x.element,
            [](Scalars &s, ValueRange v) { return s.div(v[0], v[1]); }));
}

LowerRule onnx::findWindowRule(StringRef type) {
  return llvm::StringSwitch<LowerRule>(type)
      .Case("Conv", lowerConv)
      .Cases({"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"},
             lowerPool)
      .Default(nullptr);
}
