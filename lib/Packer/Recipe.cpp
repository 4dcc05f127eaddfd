// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A node per op of a recipe. Every node asks its inputs for ranges no longer
// than what it was asked for, or than a fixed block.

#include "lib/Packer/Recipe.h"

#include "dialects/DeepSeek/IR/GGUFBlocks.h"
#include "dialects/DeepSeek/IR/RotaryTable.h"
#include "dialects/DeepSeek/IR/Rounding.h"
#include "lib/Packer/ChannelScaling.h"
#include "lib/Packer/Merging.h"
#include "lib/Packer/Quantization.h"
#include "lib/Packer/Selection.h"
#include "lib/Support/CheckedMath.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Elements that a conversion holds at a time; they stay in the cache.
static constexpr int64_t blockElements = 32 * 1024;

/// Bytes that all transposed blocks of one recipe may hold.
static constexpr int64_t transposeBytes = int64_t(128) << 20;

/// Bytes of one transposed block.
static constexpr int64_t transposeBlockBytes = int64_t(16) << 20;

/// Bytes that interleaving reads at a time.
static constexpr int64_t interleaveBytes = int64_t(4) << 20;

/// Bytes of the wide matrix of a product that is added, of which one is held.
static constexpr int64_t productBytes = int64_t(256) << 20;

/// A recipe nests no deeper, so that no input overflows the stack.
static constexpr int64_t maxDepth = 256;

static constexpr size_t maxOpenFiles = 128;

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

absl::StatusOr<InputFile *> SourceFiles::open(StringRef file) {
  auto found = files.find(file);
  if (found != files.end())
    return found->second.get();

  auto refuse = [&](StringRef why) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", file.str(), "' ", why.str()));
  };
  if (auto known = paths.find(file); known != paths.end()) {
    auto input = std::make_unique<InputFile>();
    std::string error;
    if (!input->open(known->second, error))
      return absl::InvalidArgumentError(error);
    return (files[file] = std::move(input)).get();
  }
  namespace path = llvm::sys::path;
  StringRef key = file, root = folder;
  if (!adapterFolder.empty() && file.consume_front(adapterFolderPrefix))
    root = adapterFolder;
  if (file.empty() || path::is_absolute(file) ||
      file.contains(StringRef("\0", 1)) ||
      llvm::is_contained(llvm::make_range(path::begin(file), path::end(file)),
                         StringRef("..")))
    return refuse("is not a file of the model's folder");
  SmallString<256> full(root.empty() ? "." : root), realFolder, realFile;
  if (std::error_code code = llvm::sys::fs::real_path(full, realFolder))
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot open folder '", full.str().str(), "': ", code.message()));
  path::append(full, file);
  if (std::error_code code = llvm::sys::fs::real_path(full, realFile))
    return absl::InvalidArgumentError(
        absl::StrCat("cannot open '", full.str().str(), "': ", code.message()));
  StringRef rest = realFile;
  if (!rest.consume_front(realFolder) ||
      !(rest.starts_with("/") || realFolder.str().ends_with("/")))
    return refuse("is a link that leaves the model's folder");

  // Few are read at a time; a later read opens one again.
  if (files.size() >= maxOpenFiles)
    files.clear();
  auto input = std::make_unique<InputFile>();
  std::string error;
  if (!input->open(full, error))
    return absl::InvalidArgumentError(error);
  return (files[key] = std::move(input)).get();
}

absl::Status SourceFiles::read(StringRef file, uint64_t offset, void *data,
                               uint64_t bytes) {
  absl::StatusOr<InputFile *> input = open(file);
  if (!input.ok())
    return input.status();
  std::string error;
  if (!(*input)->read(offset, data, bytes, error))
    return absl::InvalidArgumentError(error);
  return absl::OkStatus();
}

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

/// "[1, 2]", the index of element \p flat of a tensor of shape \p shape.
static std::string formatIndex(int64_t flat, ArrayRef<int64_t> shape) {
  SmallVector<int64_t> index(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  std::string text = "[";
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(index, os);
  return text + "]";
}

static int64_t productOf(ArrayRef<int64_t> sizes) {
  int64_t product = 1;
  for (int64_t size : sizes)
    product *= size;
  return product;
}

static char *advance(void *data, int64_t elements, int64_t elementBytes) {
  return static_cast<char *>(data) + elements * elementBytes;
}

absl::Status PiecewiseNode::read(RecipeNode &node, int64_t first, int64_t count,
                                 std::vector<float> &to) {
  readElements.resize(size_t(count * node.getElementBytes()));
  to.resize(size_t(count));
  absl::Status status = node.evaluate(first, count, readElements.data());
  if (status.ok())
    widen(node.getKind(), readElements.data(), count, to.data());
  return status;
}

absl::Status PiecewiseNode::evaluate(int64_t first, int64_t count, void *out) {
  while (count > 0) {
    absl::StatusOr<int64_t> now = evaluatePiece(first, count, out);
    if (!now.ok())
      return now.status();
    out = advance(out, *now, getElementBytes());
    first += *now;
    count -= *now;
  }
  return absl::OkStatus();
}

/// Rounds \p count numbers into elements [first, first + count) of a tensor of
/// shape \p shape that comes from \p name. Reports those that do not fit.
static absl::Status narrowChecked(ElementKind kind, const float *from,
                                  int64_t first, int64_t count, void *to,
                                  ArrayRef<int64_t> shape, StringRef name) {
  narrow(kind, from, count, to);
  int64_t bad = findNonFinite(kind, to, count);
  if (bad < 0)
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "tensor '", name.str(), "': ", from[bad], " at ",
      formatIndex(first + bad, shape), " does not fit ", getName(kind)));
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

namespace {

class SourceNode : public PiecewiseNode {
public:
  SourceNode(SourceOp op, ElementKind kind, int64_t count, SourceFiles &files)
      : PiecewiseNode(kind, count), files(files), name(op.getName()),
        isStack(op.isStack()), offsets(op.getOffsets()),
        shape(op.getType().getShape()) {
    if (isStack)
      shape = shape.drop_front();
    tensorElements = productOf(shape);
    for (auto file : op.getFiles().getAsRange<StringAttr>())
      fileNames.push_back(file.getValue());
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    int64_t tensor = first / tensorElements;
    int64_t begin = first % tensorElements;
    int64_t now = std::min(count, tensorElements - begin);
    absl::Status status = readTensor(tensor, begin, now, out);
    if (!status.ok())
      return status;
    return now;
  }

private:
  /// The tensor's own name, without the `{}` of a stack.
  std::string getTensorName(int64_t tensor) const {
    if (!isStack)
      return name.str();
    auto [before, after] = name.split("{}");
    return absl::StrCat(before.str(), tensor, after.str());
  }

  absl::Status readTensor(int64_t tensor, int64_t begin, int64_t count,
                          void *out) {
    std::optional<int64_t> offset =
        checkedSum(offsets[size_t(tensor)], begin * getElementBytes());
    StringRef file = fileNames[fileNames.size() == 1 ? 0 : size_t(tensor)];
    absl::Status status =
        offset ? files.read(file, uint64_t(*offset), out,
                            uint64_t(count * getElementBytes()))
               : absl::InvalidArgumentError("its offset is too large");
    if (!status.ok())
      return absl::Status(status.code(),
                          absl::StrCat("tensor '", getTensorName(tensor),
                                       "': ", status.message()));
    int64_t bad = findNonFinite(kind, out, count);
    if (bad < 0)
      return absl::OkStatus();
    float value;
    widen(kind, advance(out, bad, getElementBytes()), 1, &value);
    return absl::InvalidArgumentError(
        absl::StrCat("'", file.str(), "': tensor '", getTensorName(tensor),
                     "' has ", std::isnan(value) ? "NaN" : "an infinity",
                     " at ", formatIndex(begin + bad, shape)));
  }

  SourceFiles &files;
  StringRef name;
  bool isStack;
  ArrayRef<int64_t> offsets;
  ArrayRef<int64_t> shape; ///< Of one tensor.
  int64_t tensorElements;
  SmallVector<StringRef> fileNames;
};

class ReshapeNode : public RecipeNode {
public:
  explicit ReshapeNode(RecipeNode *input)
      : RecipeNode(input->getKind(), input->getCount()), input(input) {}

  absl::Status evaluate(int64_t first, int64_t count, void *out) override {
    return input->evaluate(first, count, out);
  }

private:
  RecipeNode *input;
};

class ConcatNode : public PiecewiseNode {
public:
  ConcatNode(ConcatOp op, ElementKind kind, int64_t count,
             SmallVector<RecipeNode *> inputs)
      : PiecewiseNode(kind, count), inputs(std::move(inputs)) {
    int64_t row = 0;
    for (Value input : op.getInputs()) {
      auto shape = cast<RankedTensorType>(input.getType()).getShape();
      row += productOf(shape.drop_front(op.getAxis()));
      ends.push_back(row);
    }
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    // Row o of the result is row o of each input, one after another.
    int64_t row = first / ends.back(), column = first % ends.back();
    size_t i = size_t(llvm::upper_bound(ends, column) - ends.begin());
    int64_t begin = i ? ends[i - 1] : 0;
    int64_t now = std::min(count, ends[i] - column);
    absl::Status status =
        inputs[i]->evaluate(row * (ends[i] - begin) + column - begin, now, out);
    if (!status.ok())
      return status;
    return now;
  }

private:
  SmallVector<RecipeNode *> inputs;
  SmallVector<int64_t> ends; ///< Where each input ends in a row.
};

class SliceNode : public PiecewiseNode {
public:
  SliceNode(SliceOp op, int64_t count, RecipeNode *input)
      : PiecewiseNode(input->getKind(), count), input(input) {
    auto shape = cast<RankedTensorType>(op.getInput().getType()).getShape();
    int64_t inner = productOf(shape.drop_front(op.getAxis() + 1));
    inputRow = shape[op.getAxis()] * inner;
    begin = int64_t(op.getBegin()) * inner;
    row = int64_t(op.getEnd() - op.getBegin()) * inner;
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    int64_t column = first % row;
    int64_t now = std::min(count, row - column);
    absl::Status status =
        input->evaluate(first / row * inputRow + begin + column, now, out);
    if (!status.ok())
      return status;
    return now;
  }

private:
  RecipeNode *input;
  int64_t inputRow, row, begin;
};

/// Keeps one block of the result, a range that a box of the input fills.
class TransposeNode : public RecipeNode {
public:
  TransposeNode(TransposeOp op, RecipeNode *input)
      : RecipeNode(input->getKind(), input->getCount()), input(input),
        inputShape(cast<RankedTensorType>(op.getInput().getType()).getShape()),
        shape(cast<RankedTensorType>(op.getResult().getType()).getShape()),
        permutation(op.getPermutation()) {}

  /// Sets the bytes that a block may have, and so the blocks.
  void setBlockBytes(int64_t bytes) {
    int64_t budget = std::max<int64_t>(bytes / getElementBytes(), 1);
    // Full inner dimensions, then part of one; all further out have size 1.
    inner = 1;
    splitDim = int64_t(shape.size());
    while (splitDim > 0 && inner <= budget / shape[size_t(splitDim) - 1])
      inner *= shape[size_t(--splitDim)];
    --splitDim;
    splitSize = splitDim < 0 ? 1 : budget / inner;
    splitTotal = splitDim < 0 ? 1 : shape[size_t(splitDim)];
  }

  absl::Status evaluate(int64_t first, int64_t count, void *out) override {
    while (count > 0) {
      if (first < blockBegin || first >= blockEnd) {
        absl::Status status = fill(first);
        if (!status.ok())
          return status;
      }
      int64_t now = std::min(count, blockEnd - first);
      std::memcpy(out, block.data() + (first - blockBegin) * getElementBytes(),
                  size_t(now * getElementBytes()));
      out = advance(out, now, getElementBytes());
      first += now;
      count -= now;
      if (first == blockEnd) // Most read each element once, in order.
        release();
    }
    return absl::OkStatus();
  }

private:
  void release() {
    std::vector<char>().swap(block);
    blockBegin = blockEnd = 0;
  }

  /// Computes the block that has element \p first.
  absl::Status fill(int64_t first) {
    release();
    size_t rank = shape.size();
    int64_t outer = first / inner / splitTotal;
    int64_t splitBegin = first / inner % splitTotal / splitSize * splitSize;
    int64_t splitEnd = std::min(splitBegin + splitSize, splitTotal);

    // The block as a box of the result, and of the input.
    SmallVector<int64_t> begins(rank, 0), sizes(shape);
    for (int64_t dim = splitDim, rest = outer; dim-- > 0;) {
      begins[size_t(dim)] = rest % shape[size_t(dim)];
      sizes[size_t(dim)] = 1;
      rest /= shape[size_t(dim)];
    }
    if (splitDim >= 0) {
      begins[size_t(splitDim)] = splitBegin;
      sizes[size_t(splitDim)] = splitEnd - splitBegin;
    }
    SmallVector<int64_t> inputBegins(rank), inputSizes(rank);
    for (size_t i = 0; i < rank; ++i) {
      inputBegins[size_t(permutation[i])] = begins[i];
      inputSizes[size_t(permutation[i])] = sizes[i];
    }

    int64_t elements = productOf(sizes);
    std::vector<char> box(size_t(elements * getElementBytes()));
    absl::Status status = readBox(inputBegins, inputSizes, box.data());
    if (!status.ok())
      return status;
    block.resize(box.size());
    switch (getElementBytes()) {
    case 1:
      permute<uint8_t>(box.data(), inputSizes, sizes);
      break;
    case 2:
      permute<uint16_t>(box.data(), inputSizes, sizes);
      break;
    case 8:
      permute<uint64_t>(box.data(), inputSizes, sizes);
      break;
    default:
      permute<uint32_t>(box.data(), inputSizes, sizes);
      break;
    }
    blockBegin = (outer * splitTotal + splitBegin) * inner;
    blockEnd = blockBegin + elements;
    return absl::OkStatus();
  }

  /// Reads a box of the input, by runs that are as long as possible.
  absl::Status readBox(ArrayRef<int64_t> begins, ArrayRef<int64_t> sizes,
                       char *out) {
    size_t outerRank = sizes.size();
    int64_t run = 1;
    while (outerRank > 0) {
      --outerRank;
      run *= sizes[outerRank];
      if (sizes[outerRank] != inputShape[outerRank])
        break;
    }
    SmallVector<int64_t> index(outerRank, 0);
    while (true) {
      int64_t start = 0;
      for (size_t i = 0; i < sizes.size(); ++i)
        start =
            start * inputShape[i] + begins[i] + (i < outerRank ? index[i] : 0);
      absl::Status status = input->evaluate(start, run, out);
      if (!status.ok())
        return status;
      out += run * getElementBytes();
      if (!increment(index, sizes))
        return absl::OkStatus();
    }
  }

  /// Steps \p index through \p sizes; false after the last.
  static bool increment(MutableArrayRef<int64_t> index,
                        ArrayRef<int64_t> sizes) {
    for (size_t i = index.size(); i-- > 0;) {
      if (++index[i] < sizes[i])
        return true;
      index[i] = 0;
    }
    return false;
  }

  static SmallVector<int64_t> stridesOf(ArrayRef<int64_t> sizes) {
    SmallVector<int64_t> strides(sizes.size(), 1);
    for (size_t i = sizes.size(); i-- > 1;)
      strides[i - 1] = strides[i] * sizes[i];
    return strides;
  }

  /// Moves the elements of \p box to their places in the block.
  template <typename T>
  void permute(const void *box, ArrayRef<int64_t> inputSizes,
               ArrayRef<int64_t> sizes) {
    size_t rank = sizes.size();
    auto *from = static_cast<const T *>(box);
    auto *to = reinterpret_cast<T *>(block.data());
    SmallVector<int64_t> strides = stridesOf(sizes);
    SmallVector<int64_t> inputStrides = stridesOf(inputSizes);
    if (rank == 0) {
      *to = *from;
      return;
    }
    // `last` is the input's last dimension in the result. With the result's
    // own last one it spans a matrix that is transposed tile by tile.
    size_t last = size_t(llvm::find(permutation, int64_t(rank) - 1) -
                         permutation.begin());
    int64_t columns = sizes[rank - 1];
    int64_t columnStride = inputStrides[size_t(permutation[rank - 1])];
    int64_t rows = last == rank - 1 ? 1 : sizes[last];
    int64_t rowStride = strides[last];

    SmallVector<int64_t> outerSizes(sizes);
    outerSizes[rank - 1] = outerSizes[last] = 1;
    SmallVector<int64_t> index(rank, 0);
    do {
      int64_t fromStart = 0, toStart = 0;
      for (size_t i = 0; i < rank; ++i) {
        fromStart += index[i] * inputStrides[size_t(permutation[i])];
        toStart += index[i] * strides[i];
      }
      if (last == rank - 1) {
        std::memcpy(to + toStart, from + fromStart,
                    size_t(columns) * sizeof(T));
        continue;
      }
      constexpr int64_t tile = 32;
      for (int64_t r0 = 0; r0 < rows; r0 += tile)
        for (int64_t c0 = 0; c0 < columns; c0 += tile)
          for (int64_t r = r0; r < std::min(r0 + tile, rows); ++r)
            for (int64_t c = c0; c < std::min(c0 + tile, columns); ++c)
              to[toStart + r * rowStride + c] =
                  from[fromStart + c * columnStride + r];
    } while (increment(index, outerSizes));
  }

  RecipeNode *input;
  ArrayRef<int64_t> inputShape, shape, permutation;
  int64_t inner = 1, splitDim = -1, splitSize = 1, splitTotal = 1;
  std::vector<char> block;
  int64_t blockBegin = 0, blockEnd = 0;
};

class ConvertNode : public PiecewiseNode {
public:
  ConvertNode(ConvertOp op, ElementKind kind, RecipeNode *input, StringRef name)
      : PiecewiseNode(kind, input->getCount()), input(input), name(name),
        shape(cast<RankedTensorType>(op.getInput().getType()).getShape()) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    if (kind == input->getKind()) {
      absl::Status status = input->evaluate(first, count, out);
      if (!status.ok())
        return status;
      return count;
    }
    elements.resize(size_t(blockElements * input->getElementBytes()));
    numbers.resize(size_t(blockElements));
    int64_t now = std::min(count, blockElements);
    absl::Status status = input->evaluate(first, now, elements.data());
    if (!status.ok())
      return status;
    if (kind == ElementKind::F32) {
      widen(input->getKind(), elements.data(), now, static_cast<float *>(out));
    } else {
      widen(input->getKind(), elements.data(), now, numbers.data());
      status =
          narrowChecked(kind, numbers.data(), first, now, out, shape, name);
      if (!status.ok())
        return status;
    }
    return now;
  }

private:
  RecipeNode *input;
  StringRef name;
  ArrayRef<int64_t> shape;
  std::vector<char> elements;
  std::vector<float> numbers;
};

class DequantizeNode : public PiecewiseNode {
public:
  /// \p inputs are the matrix, its scales and, if any, its zero points.
  DequantizeNode(DequantizeOp op, ElementKind kind,
                 ArrayRef<RecipeNode *> inputs, StringRef name)
      : PiecewiseNode(kind, inputs[0]->getCount()), input(inputs[0]),
        scales(inputs[1]), zeros(inputs.size() > 2 ? inputs[2] : nullptr),
        name(name),
        shape(cast<RankedTensorType>(op.getInput().getType()).getShape()),
        blockRows(op.getRows()), blockColumns(op.getColumns()) {
    matrixRows = shape[shape.size() - 2];
    columns = shape.back();
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    elements.resize(size_t(blockElements));
    numbers.resize(size_t(blockElements));
    int64_t now = std::min(count, blockElements);
    absl::Status status = input->evaluate(first, now, elements.data());
    if (!status.ok())
      return status;
    widen(input->getKind(), elements.data(), now, numbers.data());
    for (int64_t done = 0; done < now;) {
      int64_t column = (first + done) % columns;
      int64_t here = std::min(now - done, columns - column);
      status = multiply((first + done) / columns, column, here,
                        numbers.data() + done);
      if (!status.ok())
        return status;
      done += here;
    }
    status = narrowChecked(kind, numbers.data(), first, now, out, shape, name);
    if (!status.ok())
      return status;
    return now;
  }

private:
  /// Multiplies part of a row by its scales.
  absl::Status multiply(int64_t row, int64_t column, int64_t count,
                        float *data) {
    int64_t scaleColumns = ceilDiv(columns, blockColumns);
    int64_t scaleRow = row / matrixRows * ceilDiv(matrixRows, blockRows) +
                       row % matrixRows / blockRows;
    while (count > 0) {
      int64_t scaleColumn = column / blockColumns;
      if (scaleRow != cachedRow || scaleColumn < cachedColumn ||
          scaleColumn >= cachedColumn + cachedCount) {
        // A row of scales is short, but nothing says so.
        cachedRow = -1;
        int64_t now = std::min<int64_t>(scaleColumns - scaleColumn, 4096);
        int64_t begin = scaleRow * scaleColumns + scaleColumn;
        absl::Status status = read(*scales, begin, now, cachedScales);
        if (status.ok() && zeros)
          status = read(*zeros, begin, now, cachedZeros);
        if (!status.ok())
          return status;
        cachedRow = scaleRow;
        cachedColumn = scaleColumn;
        cachedCount = now;
      }
      float scale = cachedScales[size_t(scaleColumn - cachedColumn)];
      int64_t now = std::min(count, blockColumns - column % blockColumns);
      float zero = zeros ? cachedZeros[size_t(scaleColumn - cachedColumn)] : 0;
      for (int64_t i = 0; i < now; ++i)
        data[i] = (data[i] - zero) * scale;
      data += now;
      column += now;
      count -= now;
    }
    return absl::OkStatus();
  }

  RecipeNode *input, *scales, *zeros;
  StringRef name;
  ArrayRef<int64_t> shape;
  int64_t blockRows, blockColumns, matrixRows, columns;
  std::vector<char> elements;
  std::vector<float> numbers, cachedScales, cachedZeros;
  int64_t cachedRow = -1, cachedColumn = 0, cachedCount = 0;
};

/// Holds the right matrix of one product at a time.
class AddProductNode : public PiecewiseNode {
public:
  AddProductNode(AddProductOp op, ElementKind kind, int64_t count,
                 ArrayRef<RecipeNode *> inputs, StringRef name)
      : PiecewiseNode(kind, count), input(inputs[0]), left(inputs[1]),
        right(inputs[2]), name(name),
        shape(cast<RankedTensorType>(op.getInput().getType()).getShape()),
        matrixRows(shape[shape.size() - 2]), columns(shape.back()),
        rank(cast<RankedTensorType>(op.getLeft().getType()).getShape().back()),
        scale(op.getScale().convertToDouble()) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    product.resize(size_t(blockElements));
    int64_t row = first / columns, column = first % columns;
    int64_t now = std::min({count, columns - column, blockElements});
    absl::Status status = read(*input, first, now, numbers);
    if (status.ok())
      status = readRow(row);
    if (!status.ok())
      return status;
    std::fill_n(product.data(), now, 0.0f);
    for (int64_t m = 0; m < rank; ++m) {
      const float factor = leftRow[size_t(m)];
      const float *from = matrix.data() + m * columns + column;
      for (int64_t i = 0; i < now; ++i)
        product[size_t(i)] += factor * from[i];
    }
    for (int64_t i = 0; i < now; ++i)
      numbers[size_t(i)] += float(scale) * product[size_t(i)];
    status = narrowChecked(kind, numbers.data(), first, now, out, shape, name);
    if (!status.ok())
      return status;
    return now;
  }

private:
  /// Reads row \p row of the left matrices, and the right one that it is
  /// multiplied with.
  absl::Status readRow(int64_t row) {
    if (row == heldRow)
      return absl::OkStatus();
    heldRow = -1;
    if (int64_t index = row / matrixRows; index != heldMatrix) {
      heldMatrix = -1;
      std::optional<int64_t> bytes = checkedProduct({rank, columns, 4});
      if (!bytes || *bytes > productBytes)
        return absl::UnimplementedError(absl::StrCat(
            "tensor '", name.str(), "': a product of rank ", rank, " and ",
            columns, " columns is added to it, expected at most ",
            productBytes / 4, " elements of the two"));
      absl::Status status =
          read(*right, index * rank * columns, rank * columns, matrix);
      if (!status.ok())
        return status;
      heldMatrix = index;
    }
    absl::Status status = read(*left, row * rank, rank, leftRow);
    if (status.ok())
      heldRow = row;
    return status;
  }

  RecipeNode *input, *left, *right;
  StringRef name;
  ArrayRef<int64_t> shape;
  int64_t matrixRows, columns, rank;
  double scale;
  std::vector<char> elements;
  std::vector<float> numbers, product, leftRow, matrix;
  int64_t heldRow = -1, heldMatrix = -1;
};

class StackRowsNode : public PiecewiseNode {
public:
  StackRowsNode(StackRowsOp op, ElementKind kind, int64_t count,
                ArrayRef<RecipeNode *> inputs, StringRef name)
      : PiecewiseNode(kind, count), op(op), inputs(inputs), name(name),
        shape(cast<RankedTensorType>(op.getResult().getType()).getShape()) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    int64_t matrix = shape[1] * shape[2];
    int64_t begin = first % matrix;
    int64_t now = std::min({count, matrix - begin, blockElements});
    numbers.assign(size_t(now), 0.0f);
    auto place = llvm::find(op.getIndices(), first / matrix);
    if (place != op.getIndices().end()) {
      absl::Status status =
          readRows(size_t(place - op.getIndices().begin()), begin, now);
      if (!status.ok())
        return status;
    }
    absl::Status status =
        narrowChecked(kind, numbers.data(), first, now, out, shape, name);
    if (!status.ok())
      return status;
    return now;
  }

private:
  /// Reads elements [begin, begin + count) of input \p i, as far as it goes.
  absl::Status readRows(size_t i, int64_t begin, int64_t count) {
    RecipeNode &input = *inputs[i];
    count = std::min(count, input.getCount() - begin);
    if (count <= 0)
      return absl::OkStatus();
    elements.resize(size_t(count * input.getElementBytes()));
    absl::Status status = input.evaluate(begin, count, elements.data());
    if (!status.ok())
      return status;
    widen(input.getKind(), elements.data(), count, numbers.data());
    for (int64_t j = 0; j < count; ++j)
      numbers[size_t(j)] *= float(op.getScales()[i]);
    return status;
  }

  StackRowsOp op;
  SmallVector<RecipeNode *> inputs;
  StringRef name;
  ArrayRef<int64_t> shape;
  std::vector<char> elements;
  std::vector<float> numbers;
};

class UnpackNode : public PiecewiseNode {
public:
  UnpackNode(UnpackOp op, ElementKind kind, int64_t count, RecipeNode *input)
      : PiecewiseNode(kind, count), input(input), bits(op.getBits()),
        plus(unsigned(op.getPlus())) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    const unsigned mask = (1u << bits) - 1, half = 1u << (bits - 1);
    int64_t now = std::min(count, blockElements);
    int64_t begin = first * bits / 8, end = ceilDiv((first + now) * bits, 8);
    // One byte more, so that two can be read at each.
    bytes.resize(size_t(end - begin + 1));
    absl::Status status = input->evaluate(begin, end - begin, bytes.data());
    if (!status.ok())
      return status;
    for (int64_t i = 0; i < now; ++i) {
      int64_t bit = (first + i) * bits - begin * 8;
      unsigned two =
          bytes[size_t(bit / 8)] | unsigned(bytes[size_t(bit / 8 + 1)]) << 8;
      unsigned code = two >> (bit % 8) & mask;
      static_cast<int8_t *>(out)[i] =
          int8_t(int(code + plus & mask) - int(half));
    }
    return now;
  }

private:
  RecipeNode *input;
  int64_t bits;
  unsigned plus;
  std::vector<uint8_t> bytes;
};

class GatherNode : public PiecewiseNode {
public:
  GatherNode(GatherOp op, int64_t count, RecipeNode *input, RecipeNode *indices,
             StringRef name)
      : PiecewiseNode(input->getKind(), count), input(input), indices(indices),
        name(name),
        inputColumns(
            cast<RankedTensorType>(op.getInput().getType()).getShape().back()),
        columns(cast<RankedTensorType>(op.getResult().getType())
                    .getShape()
                    .back()) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    if (absl::Status status = readIndices(); !status.ok())
      return status;
    int64_t bytes = getElementBytes();
    row.resize(size_t(inputColumns * bytes));
    int64_t index = first / columns, column = first % columns;
    int64_t now = std::min(count, columns - column);
    absl::Status status =
        input->evaluate(index * inputColumns, inputColumns, row.data());
    if (!status.ok())
      return status;
    for (int64_t i = 0; i < now; ++i)
      std::memcpy(advance(out, i, bytes),
                  row.data() + places[size_t(column + i)] * bytes,
                  size_t(bytes));
    return now;
  }

private:
  /// Reads all indices, which are as many as a row of the result is long.
  absl::Status readIndices() {
    if (!places.empty())
      return absl::OkStatus();
    std::vector<uint32_t> read(static_cast<size_t>(columns));
    absl::Status status = indices->evaluate(0, columns * 4, read.data());
    if (!status.ok())
      return status;
    for (auto [i, place] : llvm::enumerate(read))
      if (place >= uint64_t(inputColumns))
        return absl::InvalidArgumentError(absl::StrCat(
            "the indices by which '", name.str(), "' is gathered have ",
            int32_t(place), " at ", i, ", expected 0 to ", inputColumns - 1));
    places = std::move(read);
    return absl::OkStatus();
  }

  RecipeNode *input, *indices;
  StringRef name;
  int64_t inputColumns, columns;
  std::vector<uint32_t> places;
  std::vector<char> row;
};

/// What rounding groups and computing their scales have in common.
class GroupNode : public PiecewiseNode {
protected:
  /// \param moment May be null.
  GroupNode(ElementKind kind, int64_t count, RecipeNode *input,
            RecipeNode *moment, int64_t group, unsigned bits,
            ArrayRef<int64_t> shape, StringRef name)
      : PiecewiseNode(kind, count), input(input), moment(moment), group(group),
        bits(bits), shape(shape), name(name) {}

  /// The most groups that are held at a time; none if one is too large.
  int64_t getMaxGroups() const { return blockElements / group; }

  /// Reads a range of the input, of one block at most, into `numbers`.
  absl::Status read(int64_t first, int64_t count) {
    elements.resize(size_t(blockElements * input->getElementBytes()));
    numbers.resize(size_t(blockElements));
    absl::Status status = input->evaluate(first, count, elements.data());
    if (status.ok())
      widen(input->getKind(), elements.data(), count, numbers.data());
    return status;
  }

  /// Computes the f16 scales of \p count groups: of one, or of as many as are
  /// held at a time, which are left in `numbers`.
  absl::Status computeScales(int64_t first, int64_t count, uint16_t *to) {
    scales.resize(size_t(count));
    if (group <= blockElements) {
      absl::Status status = read(first * group, count * group);
      for (int64_t i = 0; status.ok() && i < count; ++i) {
        const float *of = numbers.data() + i * group;
        float &scale = scales[size_t(i)];
        scale = getScaleOf(findLargest(0, of, group), bits);
        if (moment)
          status = adaptScale((first + i) * group, of, scale);
      }
      if (!status.ok())
        return status;
    } else {
      float largest = 0;
      for (int64_t begin = 0; begin < group; begin += blockElements) {
        int64_t now = std::min(blockElements, group - begin);
        absl::Status status = read(first * group + begin, now);
        if (!status.ok())
          return status;
        largest = findLargest(largest, numbers.data(), now);
      }
      scales[0] = getScaleOf(largest, bits);
    }
    narrow(ElementKind::F16, scales.data(), count, to);
    int64_t bad = findNonFinite(ElementKind::F16, to, count);
    if (bad < 0)
      return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor '", name.str(), "': the scale ", scales[size_t(bad)],
        " of the ", group, " elements at ",
        formatIndex((first + bad) * group, shape), " does not fit f16"));
  }

  RecipeNode *input, *moment;
  int64_t group;
  unsigned bits;
  ArrayRef<int64_t> shape; ///< Of the input.
  StringRef name;
  std::vector<char> elements;
  std::vector<float> numbers, scales;

private:
  static_assert(maxWeightedGroup <= blockElements);

  /// Makes \p scale, of the group \p weights at \p first, one for its moments.
  absl::Status adaptScale(int64_t first, const float *weights, float &scale) {
    int64_t columns = shape.back();
    int64_t row = moment->getCount() == columns
                      ? 0
                      : first / (columns * shape[shape.size() - 2]);
    if (row != momentRow) {
      momentRow = -1;
      factors.resize(size_t(columns));
      absl::Status status =
          moment->evaluate(row * columns, columns, factors.data());
      if (!status.ok())
        return status;
      momentRow = row;
    }
    scale = findScale(weights, factors.data() + first % columns, group, bits,
                      scale);
    return absl::OkStatus();
  }

  std::vector<float> factors; ///< Row `momentRow` of the moments.
  int64_t momentRow = -1;
};

class QuantizeScalesNode : public GroupNode {
public:
  QuantizeScalesNode(QuantizeScalesOp op, int64_t count, RecipeNode *input,
                     RecipeNode *moment, StringRef name)
      : GroupNode(ElementKind::F16, count, input, moment,
                  op.getInput().getType().getShape().back() /
                      op.getResult().getType().getShape().back(),
                  unsigned(op.getBits()), op.getInput().getType().getShape(),
                  name) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    int64_t now = std::min(count, std::max<int64_t>(getMaxGroups(), 1));
    absl::Status status =
        computeScales(first, now, static_cast<uint16_t *>(out));
    if (!status.ok())
      return status;
    return now;
  }
};

class RoundByNode : public PiecewiseNode {
public:
  RoundByNode(RoundByOp op, ElementKind kind, RecipeNode *input,
              RecipeNode *scales, StringRef name)
      : PiecewiseNode(kind, input->getCount()), input(input), scales(scales),
        name(name), least(kind == ElementKind::I8 ? -128 : -8) {
    auto shape = cast<RankedTensorType>(op.getInput().getType()).getShape();
    auto blocks = cast<RankedTensorType>(op.getScales().getType()).getShape();
    columns = shape.back();
    blockRows = shape[shape.size() - 2] / blocks[blocks.size() - 2];
    groups = blocks.back();
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    // Of one row at most.
    int64_t now = std::min({count, columns - first % columns, blockElements});
    absl::Status status;
    if (int64_t block = first / columns / blockRows; block != held) {
      held = -1;
      status = read(*scales, block * groups, groups, factors);
      if (status.ok())
        held = block;
    }
    if (status.ok())
      status = read(*input, first, now, numbers);
    if (!status.ok())
      return status;
    auto *to = static_cast<int8_t *>(out);
    for (int64_t i = 0; i < now; ++i) {
      float scale = factors[size_t((first + i) % columns / (columns / groups))];
      float value = scale == 0 ? 0 : numbers[size_t(i)] / scale;
      if (std::isnan(value))
        return absl::InvalidArgumentError(absl::StrCat(
            "tensor '", name.str(), "': element ", first + i, ", ",
            numbers[size_t(i)], ", is no integer by its scale, ", scale));
      value = std::clamp(std::nearbyint(value), least, -least - 1);
      to[i] = int8_t(value);
    }
    return now;
  }

private:
  RecipeNode *input, *scales;
  StringRef name;
  float least; ///< Integer.
  int64_t columns, blockRows, groups;
  int64_t held = -1; ///< The rows that `factors` are of.
  std::vector<float> numbers, factors;
};

class QuantizeNode : public GroupNode {
public:
  QuantizeNode(QuantizeOp op, ElementKind kind, RecipeNode *input,
               RecipeNode *moment, RecipeNode *gram, StringRef name)
      : GroupNode(kind, input->getCount(), input, moment,
                  int64_t(op.getGroup()), unsigned(bitsOf(kind)),
                  op.getInput().getType().getShape(), name),
        gram(gram) {
    if (gram)
      damping = op.getDamping()->convertToDouble();
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    auto *to = static_cast<int8_t *>(out);
    if (gram)
      return copyRows(first, count, to);
    // Groups whose scales are known, and what of their elements is held.
    int64_t end = first + count, index = first / group, groups = 1;
    int64_t heldBegin = index * group, heldEnd;
    if (getMaxGroups() > 0) {
      groups = std::min(getMaxGroups(), ceilDiv(end, group) - index);
      heldEnd = heldBegin + groups * group;
      absl::Status status = updateScales(index, groups);
      if (!status.ok())
        return status;
    } else {
      if (index != knownGroup) {
        absl::Status status = updateScales(index, 1);
        if (!status.ok())
          return status;
      }
      heldBegin = first;
      heldEnd = std::min({end, first + blockElements, (index + 1) * group});
      absl::Status status = read(heldBegin, heldEnd - heldBegin);
      if (!status.ok())
        return status;
    }
    int64_t at = first;
    for (int64_t i = 0; i < groups; ++i) {
      int64_t now = std::min({end, heldEnd, (index + i + 1) * group}) - at;
      quantize(numbers.data() + (at - heldBegin), now, scales[size_t(i)], bits,
               to);
      to += now;
      at += now;
    }
    return at - first;
  }

private:
  /// Leaves the rounded scales of groups in `scales`.
  absl::Status updateScales(int64_t first, int64_t count) {
    knownGroup = -1;
    rounded.resize(size_t(count));
    absl::Status status = computeScales(first, count, rounded.data());
    if (!status.ok())
      return status;
    widen(ElementKind::F16, rounded.data(), count, scales.data());
    knownGroup = first;
    return absl::OkStatus();
  }

  /// Copies what is held of rows that are rounded whole, by the gram.
  absl::StatusOr<int64_t> copyRows(int64_t first, int64_t count, int8_t *to) {
    int64_t columns = shape.back(), row = first / columns;
    if (heldRow < 0 || row < heldRow ||
        row >= heldRow + int64_t(held.size()) / columns) {
      absl::Status status = roundRows(row);
      if (!status.ok())
        return status;
    }
    int64_t skip = first - heldRow * columns;
    int64_t now = std::min(count, int64_t(held.size()) - skip);
    std::copy_n(held.data() + skip, now, to);
    return now;
  }

  /// Leaves \p row, and those that are rounded with it, in `held`.
  absl::Status roundRows(int64_t row) {
    int64_t columns = shape.back(), rows = shape[shape.size() - 2];
    int64_t matrix = row / rows, within = row % rows;
    int64_t firstRow = matrix * rows;
    heldRow = -1;
    if (gram->getCount() == columns * columns)
      matrix = 0;
    if (matrix != factorMatrix)
      if (absl::Status status = factorize(matrix); !status.ok())
        return status;
    int64_t begin = within - within % ErrorFeedback::blockRows;
    int64_t now = std::min(ErrorFeedback::blockRows, rows - begin);
    begin += firstRow;
    int64_t groups = columns / group;
    std::vector<float> weights(static_cast<size_t>(now * columns));
    std::vector<float> rowScales(static_cast<size_t>(now * groups));
    for (int64_t at = 0; at < now * groups;) {
      int64_t some =
          std::min(std::max<int64_t>(getMaxGroups(), 1), now * groups - at);
      if (absl::Status status = updateScales(begin * groups + at, some);
          !status.ok())
        return status;
      std::copy_n(scales.data(), some, rowScales.data() + at);
      if (group <= blockElements)
        std::copy_n(numbers.data(), some * group, weights.data() + at * group);
      at += some;
    }
    for (int64_t at = 0; group > blockElements && at < now * columns;
         at += blockElements) {
      int64_t some = std::min(blockElements, now * columns - at);
      if (absl::Status status = read(begin * columns + at, some); !status.ok())
        return status;
      std::copy_n(numbers.data(), some, weights.data() + at);
    }
    held.resize(weights.size());
    feedback->round(weights.data(), rowScales.data(), now, group, bits,
                    held.data());
    heldRow = begin;
    return absl::OkStatus();
  }

  /// Leaves the factor of \p matrix of the gram in `feedback`.
  absl::Status factorize(int64_t matrix) {
    int64_t columns = shape.back(), size = columns * columns;
    factorMatrix = -1;
    feedback.reset();
    std::vector<float> products(static_cast<size_t>(size));
    absl::Status status = gram->evaluate(matrix * size, size, products.data());
    if (!status.ok())
      return status;
    feedback =
        std::make_unique<ErrorFeedback>(products.data(), columns, damping);
    factorMatrix = matrix;
    return absl::OkStatus();
  }

  std::vector<uint16_t> rounded;
  int64_t knownGroup = -1; ///< The group of `scales[0]`.
  RecipeNode *gram;        ///< Null: each element is rounded by itself.
  double damping = 0;
  std::unique_ptr<ErrorFeedback> feedback; ///< Of matrix `factorMatrix`.
  int64_t factorMatrix = -1;
  std::vector<int8_t> held; ///< Whole rows from `heldRow` on.
  int64_t heldRow = -1;
};

/// "'FILE': " for messages, of the tensor whose bytes \p value has, which may
/// have been moved around since they were read; empty if it is not one file.
static std::string fileBehind(Value value) {
  Operation *source = value.getDefiningOp();
  while (source && !isa<SourceOp>(source) && source->getNumOperands() == 1)
    source = source->getOperand(0).getDefiningOp();
  auto read = dyn_cast_if_present<SourceOp>(source);
  if (!read || read.getFiles().size() != 1)
    return "";
  return absl::StrCat("'", cast<StringAttr>(read.getFiles()[0]).str(), "': ");
}

/// The numbers of blocks of a GGUF file, or one part of what they consist of.
class GGUFNode : public PiecewiseNode {
public:
  GGUFNode(DequantizeGGUFOp op, ElementKind kind, int64_t count,
           RecipeNode *input, StringRef name)
      : GGUFNode(op, op.getFormat(), std::nullopt, kind, count, input, name) {}
  GGUFNode(GGUFPartOp op, ElementKind kind, int64_t count, RecipeNode *input,
           StringRef name)
      : GGUFNode(op, op.getFormat(), op.getPart(), kind, count, input, name) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    // Rows are whole blocks, so that blocks follow each other without a gap.
    const int64_t maxBlocks = blockElements / block.elements;
    int64_t index = first / each, skip = first % each;
    int64_t blocks = std::min(ceilDiv(skip + count, each), maxBlocks);
    int64_t now = std::min(count, blocks * each - skip);
    bytes.resize(size_t(blocks * block.bytes));
    absl::Status status = input->evaluate(index * block.bytes,
                                          blocks * block.bytes, bytes.data());
    if (!status.ok())
      return status;
    read(blocks);
    if (isInteger(kind))
      std::memcpy(out, integers.data() + skip, size_t(now));
    else
      narrow(kind, numbers.data() + skip, now, out);
    // Bytes of two levels are as finite as the number of their block.
    int64_t bad = hasLevels()
                      ? findNonFinite(ElementKind::F32, numbers.data(), blocks)
                      : findNonFinite(kind, out, now);
    if (bad >= 0)
      return absl::InvalidArgumentError(absl::StrCat(
          file, "tensor '", name.str(), "' has ",
          std::isnan(numbers[size_t(hasLevels() ? bad : skip + bad)])
              ? "NaN"
              : "an infinity",
          " at ",
          formatIndex(hasLevels() ? (index + bad) * each + groups : first + bad,
                      shape),
          part
              ? absl::StrCat(" of its ", stringifyGGUFPart(*part).str(), " in ")
              : std::string(" once dequantized from "),
          stringifyGGUFFormat(format).str()));
    return now;
  }

private:
  GGUFNode(Operation *op, GGUFFormat format, std::optional<GGUFPart> part,
           ElementKind kind, int64_t count, RecipeNode *input, StringRef name)
      : PiecewiseNode(kind, count), input(input), name(name),
        shape(cast<RankedTensorType>(op->getResult(0).getType()).getShape()),
        format(format), part(part), block(getGGUFBlock(format)),
        groups(block.elements / getGGUFParts(format).group),
        each(part.value_or(GGUFPart::Codes) == GGUFPart::Codes ? block.elements
             : isInteger(kind) ? groups + scaleBlockBytes
                               : groups),
        file(fileBehind(op->getOperand(0))) {}

  /// Whether this is scales or offsets of two levels.
  bool hasLevels() const {
    return part && part != GGUFPart::Codes && isInteger(kind);
  }

  /// Leaves what the first \p blocks blocks of `bytes` have of this part in
  /// `integers` or in `numbers`; of two levels, the second in both.
  void read(int64_t blocks) {
    numbers.resize(size_t(blocks * each));
    if (!part)
      return dequantizeGGUF(format, bytes.data(), blocks, numbers.data());
    integers.resize(size_t(blocks * each));
    int8_t codes[256];
    GGUFScales scales, offsets;
    for (int64_t i = 0; i < blocks; ++i) {
      bool isCodes = part == GGUFPart::Codes;
      int8_t *to = integers.data() + i * each;
      splitGGUF(format, bytes.data() + i * block.bytes, isCodes ? to : codes,
                scales, offsets);
      if (isCodes)
        continue;
      const GGUFScales &found = part == GGUFPart::Scales ? scales : offsets;
      numbers[size_t(i)] = found.unit;
      if (!hasLevels())
        continue;
      std::copy_n(found.factors, groups, to);
      narrow(ElementKind::F16, &found.unit, 1, to + groups);
    }
  }

  RecipeNode *input;
  StringRef name;
  ArrayRef<int64_t> shape;
  GGUFFormat format;
  std::optional<GGUFPart> part; ///< None: the numbers.
  GGUFBlock block;
  int64_t groups;   ///< Of a block.
  int64_t each;     ///< Elements of the result that a block has.
  std::string file; ///< For messages: where the blocks come from.
  std::vector<uint8_t> bytes;
  std::vector<int8_t> integers;
  std::vector<float> numbers;
};

class DequantizeMXFP4Node : public PiecewiseNode {
public:
  DequantizeMXFP4Node(DequantizeMXFP4Op op, ElementKind kind, int64_t count,
                      RecipeNode *input, RecipeNode *scales, StringRef name)
      : PiecewiseNode(kind, count), input(input), scales(scales), name(name),
        shape(cast<RankedTensorType>(op.getResult().getType()).getShape()) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    static constexpr float values[] = {0,   0.5,  1,  1.5,  2,  3,  4,  6,
                                       -0., -0.5, -1, -1.5, -2, -3, -4, -6};
    codes.resize(size_t(blockElements / 2));
    scaleBytes.resize(size_t(blockElements / group));
    factors.resize(scaleBytes.size());
    numbers.resize(size_t(blockElements));
    // Rows are whole groups, so that groups follow each other.
    int64_t begin = first / group * group, skip = first - begin;
    int64_t held =
        std::min(ceilDiv(skip + count, group) * group, blockElements);
    int64_t now = std::min(count, held - skip);
    absl::Status status = input->evaluate(begin / 2, held / 2, codes.data());
    if (status.ok())
      status = scales->evaluate(begin / group, held / group, scaleBytes.data());
    if (!status.ok())
      return status;
    widen(scales->getKind(), scaleBytes.data(), held / group, factors.data());
    for (int64_t i = 0; i < held; ++i)
      numbers[size_t(i)] = values[codes[size_t(i / 2)] >> (i % 2 * 4) & 15] *
                           factors[size_t(i / group)];
    status = narrowChecked(kind, numbers.data() + skip, first, now, out, shape,
                           name);
    if (!status.ok())
      return status;
    return now;
  }

private:
  static constexpr int64_t group = 32;
  RecipeNode *input, *scales;
  StringRef name;
  ArrayRef<int64_t> shape;
  std::vector<uint8_t> codes, scaleBytes;
  std::vector<float> factors, numbers;
};

/// Narrows numbers of experts, and refuses those that are none.
class ExpertIdsNode : public PiecewiseNode {
public:
  ExpertIdsNode(ExpertIdsOp op, RecipeNode *input, StringRef name)
      : PiecewiseNode(ElementKind::I32, input->getCount()), input(input),
        name(name),
        shape(cast<RankedTensorType>(op.getResult().getType()).getShape()),
        experts(int64_t(op.getExperts())) {}

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    elements.resize(size_t(blockElements * input->getElementBytes()));
    int64_t now = std::min(count, blockElements);
    absl::Status status = input->evaluate(first, now, elements.data());
    if (!status.ok())
      return status;
    for (int64_t i = 0; i < now; ++i) {
      int64_t id = read(i);
      if (id < 0 || id >= experts)
        return absl::InvalidArgumentError(
            absl::StrCat("tensor '", name.str(), "' has ", id, " at ",
                         formatIndex(first + i, shape),
                         ", expected an expert from 0 to ", experts - 1));
      static_cast<int32_t *>(out)[i] = int32_t(id);
    }
    return now;
  }

private:
  int64_t read(int64_t i) const {
    if (input->getKind() == ElementKind::I32) {
      int32_t id;
      std::memcpy(&id, elements.data() + i * 4, 4);
      return id;
    }
    int64_t id;
    std::memcpy(&id, elements.data() + i * 8, 8);
    return id;
  }

  RecipeNode *input;
  StringRef name;
  ArrayRef<int64_t> shape;
  int64_t experts;
  std::vector<char> elements;
};

class RotaryTableNode : public RecipeNode {
public:
  RotaryTableNode(RotaryTableOp op, int64_t count)
      : RecipeNode(ElementKind::F32, count),
        frequencies(getRotaryFrequencies(op.getRotary())),
        factor(getRotaryAttentionFactor(op.getRotary())) {}

  absl::Status evaluate(int64_t first, int64_t count, void *out) override {
    auto pairs = int64_t(frequencies.size());
    for (int64_t i = 0; i < count; ++i) {
      int64_t position = (first + i) / (2 * pairs);
      int64_t column = (first + i) % (2 * pairs);
      double angle = double(position) * frequencies[size_t(column % pairs)];
      static_cast<float *>(out)[i] =
          float((column < pairs ? std::cos(angle) : std::sin(angle)) * factor);
    }
    return absl::OkStatus();
  }

private:
  SmallVector<double> frequencies;
  double factor;
};

class NumbersNode : public RecipeNode {
public:
  NumbersNode(NumbersOp op, int64_t count)
      : RecipeNode(ElementKind::F32, count), values(op.getValues()) {}

  absl::Status evaluate(int64_t first, int64_t count, void *out) override {
    llvm::copy(values.slice(size_t(first), size_t(count)),
               static_cast<float *>(out));
    return absl::OkStatus();
  }

private:
  ArrayRef<float> values;
};

} // namespace

//===----------------------------------------------------------------------===//
// Interleaving
//===----------------------------------------------------------------------===//

/// Transposes 16 x 16 elements. Four times, the first half of the rows is
/// interleaved with the second: an element's row number moves bit by bit into
/// its column number.
template <typename T>
static void transpose16(const T *from, int64_t fromStride, T *to) {
  typedef T Row __attribute__((vector_size(16 * sizeof(T)), aligned(1)));
  Row rows[16], next[16];
  for (int i = 0; i < 16; ++i)
    std::memcpy(&rows[i], from + i * fromStride, sizeof(Row));
  for (int step = 0; step < 4; ++step) {
    for (int i = 0; i < 8; ++i) {
      next[2 * i] =
          __builtin_shufflevector(rows[i], rows[i + 8], 0, 16, 1, 17, 2, 18, 3,
                                  19, 4, 20, 5, 21, 6, 22, 7, 23);
      next[2 * i + 1] =
          __builtin_shufflevector(rows[i], rows[i + 8], 8, 24, 9, 25, 10, 26,
                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    std::memcpy(rows, next, sizeof(rows));
  }
  for (int i = 0; i < 16; ++i)
    std::memcpy(to + i * 16, &rows[i], sizeof(Row));
}

/// Interleaves \p rows rows of \p columns words, \p tileRows to a tile; rows
/// that are missing have the words \p missing, over and over.
template <typename T>
static void interleave(const T *from, int64_t rows, int64_t columns,
                       int64_t tileRows, ArrayRef<uint32_t> missing, T *to) {
  int64_t column = 0;
  if (rows == 16 && tileRows == 16)
    for (; column + 16 <= columns; column += 16)
      transpose16(from + column, columns, to + column * 16);
  for (; column < columns; ++column)
    for (int64_t row = 0; row < tileRows; ++row)
      to[column * tileRows + row] =
          row < rows ? from[row * columns + column]
                     : T(missing[size_t(column) % missing.size()]);
}

namespace {

/// Moves words: elements, or 4 bytes of integers. An element of this node is
/// one as stored, which for integers is a byte. Elements of a row whose words
/// are made together are a unit.
class PackNode : public PiecewiseNode {
public:
  PackNode(PackOp op, RecipeNode *input)
      : PiecewiseNode(isInteger(input->getKind()) ? ElementKind::I8
                                                  : input->getKind(),
                      0),
        input(input) {
    auto type = cast<RankedTensorType>(op.getResult().getType());
    auto tiled = cast<TiledAttr>(type.getEncoding());
    tileRows = tiled.getRows();
    matrixRows = type.getDimSize(type.getRank() - 2);
    unitElements = tiled.getColumns();
    units = type.getDimSize(type.getRank() - 1) / unitElements;
    bits = bitsOf(input->getKind());
    if (unitElements > 1) {
      wordSize = 4;
      unitWords = unitElements * bits / 32;
    }
    wordBytes = wordSize * getElementBytes();
    missing.assign(size_t(unitWords), 0);
    if (bits < 8) // Zeros, which signed integers do not hold as zeros.
      pack(std::vector<int8_t>(size_t(unitElements)).data(), 1, missing.data());
    if (input->getCount() > 0)
      count = input->getCount() / (matrixRows * units * unitElements) *
              ceilDiv(matrixRows, tileRows) * getGranule();
  }

  int64_t getGranule() const override {
    return tileRows * units * unitWords * wordSize;
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    int64_t tile = getGranule(), columnSize = tileRows * wordSize * unitWords;
    int64_t readMax =
        std::max<int64_t>(interleaveBytes / getElementBytes(), columnSize);
    int64_t index = first / tile, begin = first % tile, now;
    absl::Status status;
    if (begin == 0 && count >= tile && tile <= readMax) {
      // Whole tiles, as far as they are of one matrix.
      int64_t tiles = ceilDiv(matrixRows, tileRows);
      now = std::min({count / tile, readMax / tile, tiles - index % tiles}) *
            tile;
      status = packTiles(index, now / tile, out);
    } else if (begin % columnSize == 0 && count >= columnSize) {
      // Some units of one tile.
      int64_t here = std::min({count, tile - begin, readMax}) / columnSize;
      now = here * columnSize;
      status = packUnits(index, begin / columnSize, here, out);
    } else {
      // Part of a unit.
      unit.resize(size_t(columnSize * getElementBytes()));
      status = packUnits(index, begin / columnSize, 1, unit.data());
      int64_t skip = begin % columnSize;
      now = std::min(count, columnSize - skip);
      std::memcpy(out, unit.data() + skip * getElementBytes(),
                  size_t(now * getElementBytes()));
    }
    if (!status.ok())
      return status;
    return now;
  }

private:
  /// The first row of tile \p index, and how many rows of it there are.
  std::pair<int64_t, int64_t> getRows(int64_t index) const {
    int64_t tiles = ceilDiv(matrixRows, tileRows);
    int64_t row = index % tiles * tileRows;
    return {index / tiles * matrixRows + row,
            std::min(tileRows, matrixRows - row)};
  }

  void pack(const int8_t *from, int64_t count, void *out) const {
    packCodes(from, count, bits, !isUnsigned(input->getKind()),
              static_cast<uint8_t *>(out));
  }

  /// Computes units [first, first + count) of the input.
  absl::Status readUnits(int64_t first, int64_t count, void *out) {
    if (bits >= 8)
      return input->evaluate(first * unitElements, count * unitElements, out);
    integers.resize(size_t(blockElements));
    while (count > 0) {
      int64_t now = std::min(count, blockElements / unitElements);
      absl::Status status = input->evaluate(
          first * unitElements, now * unitElements, integers.data());
      if (!status.ok())
        return status;
      pack(integers.data(), now, out);
      out = advance(out, now * unitWords, wordBytes);
      first += now;
      count -= now;
    }
    return absl::OkStatus();
  }

  absl::Status packTiles(int64_t index, int64_t count, void *out) {
    int64_t row = getRows(index).first;
    auto [lastRow, lastRows] = getRows(index + count - 1);
    int64_t unitCount = (lastRow + lastRows - row) * units;
    rows.resize(size_t(unitCount * unitWords * wordBytes));
    absl::Status status = readUnits(row * units, unitCount, rows.data());
    if (!status.ok())
      return status;
    int64_t words = units * unitWords, tile = tileRows * words;
    for (int64_t i = 0; i < count; ++i)
      interleaveWords(rows.data() + i * tile * wordBytes,
                      getRows(index + i).second, words,
                      advance(out, i * tile, wordBytes));
    return absl::OkStatus();
  }

  absl::Status packUnits(int64_t index, int64_t begin, int64_t count,
                         void *out) {
    auto [row, rowCount] = getRows(index);
    int64_t words = count * unitWords;
    rows.resize(size_t(rowCount * words * wordBytes));
    for (int64_t i = 0; i < rowCount; ++i) {
      absl::Status status =
          readUnits((row + i) * units + begin, count,
                    advance(rows.data(), i * words, wordBytes));
      if (!status.ok())
        return status;
    }
    interleaveWords(rows.data(), rowCount, words, out);
    return absl::OkStatus();
  }

  void interleaveWords(const void *from, int64_t rowCount, int64_t columnCount,
                       void *to) {
    auto run = [&](auto word) {
      using Word = decltype(word);
      interleave(static_cast<const Word *>(from), rowCount, columnCount,
                 tileRows, missing, static_cast<Word *>(to));
    };
    switch (wordBytes) {
    case 1:
      return run(uint8_t());
    case 2:
      return run(uint16_t());
    default:
      return run(uint32_t());
    }
  }

  RecipeNode *input;
  int64_t tileRows, matrixRows;
  int64_t units;         ///< Of a row.
  int64_t unitElements;  ///< Elements of the input in a unit.
  int64_t unitWords = 1; ///< Words of a unit.
  int64_t wordSize = 1;  ///< Elements as stored in a word.
  int64_t wordBytes;
  int64_t bits;                  ///< Of an element of the input.
  std::vector<uint32_t> missing; ///< A unit of a row past the last.
  std::vector<char> rows, unit;
  std::vector<int8_t> integers;
};

//===----------------------------------------------------------------------===//
// From ops to nodes
//===----------------------------------------------------------------------===//

class RecipeBuilder {
public:
  explicit RecipeBuilder(SourceFiles &files) : files(files) {}

  absl::StatusOr<Recipe> build(WeightOp weight) {
    absl::StatusOr<RecipeNode *> result = getNode(weight.getResult(), 0);
    if (!result.ok())
      return result.status();
    recipe.result = *result;
    if (!transposes.empty())
      for (TransposeNode *node : transposes)
        node->setBlockBytes(
            std::min(transposeBlockBytes,
                     transposeBytes / 2 / int64_t(transposes.size())));
    return std::move(recipe);
  }

private:
  absl::StatusOr<RecipeNode *> getNode(Value value, int64_t depth) {
    if (RecipeNode *known = nodes.lookup(value))
      return known;
    if (depth > maxDepth)
      return absl::InvalidArgumentError(absl::StrCat(
          "the recipe nests deeper than ", maxDepth, " operations"));
    auto type = cast<RankedTensorType>(value.getType());
    std::optional<ElementKind> kind = getElementKind(type.getElementType());
    std::optional<int64_t> count = checkedProduct(type.getShape());
    if (!kind || !type.hasStaticShape() || !count ||
        *count > INT64_MAX / 4 / 1024) {
      std::string text;
      llvm::raw_string_ostream(text) << type;
      return absl::InvalidArgumentError(
          absl::StrCat("the packer cannot make a ", text));
    }
    Operation *op = value.getDefiningOp();
    if (!op)
      return absl::InvalidArgumentError("the recipe has a block argument");
    SmallVector<RecipeNode *> inputs;
    for (Value operand : op->getOperands()) {
      absl::StatusOr<RecipeNode *> input = getNode(operand, depth + 1);
      if (!input.ok())
        return input.status();
      inputs.push_back(*input);
      if (names.lookup(value).empty())
        names[value] = names.lookup(operand);
    }
    absl::StatusOr<std::unique_ptr<RecipeNode>> node =
        makeNode(op, *kind, *count, inputs, names.lookup(value));
    if (!node.ok())
      return node.status();
    recipe.nodes.push_back(std::move(*node));
    if (auto source = dyn_cast<SourceOp>(op))
      names[value] = source.getName();
    return nodes[value] = recipe.nodes.back().get();
  }

  absl::StatusOr<std::unique_ptr<RecipeNode>>
  makeNode(Operation *op, ElementKind kind, int64_t count,
           ArrayRef<RecipeNode *> inputs, StringRef name) {
    using Result = absl::StatusOr<std::unique_ptr<RecipeNode>>;
    auto isIntegerNode = [](RecipeNode *node) {
      return isInteger(node->getKind());
    };
    if (isa<SourceOp>(op)
            ? bitsOf(kind) < 8
            : isa<ConvertOp>(op) &&
                  (isInteger(kind) || llvm::any_of(inputs, isIntegerNode)))
      return absl::UnimplementedError(
          absl::StrCat("the packer does not know '",
                       op->getName().getStringRef().str(), "' of integers"));
    return llvm::TypeSwitch<Operation *, Result>(op)
        .Case([&](SourceOp op) -> Result {
          if (op.getOffsets().empty() && count > 0)
            return absl::InvalidArgumentError(
                absl::StrCat("tensor '", op.getName().str(),
                             "' has no file to read it from"));
          return std::make_unique<SourceNode>(op, kind, count, files);
        })
        .Case([&](ReshapeOp) -> Result {
          return std::make_unique<ReshapeNode>(inputs[0]);
        })
        .Case([&](ConcatOp op) -> Result {
          return std::make_unique<ConcatNode>(
              op, kind, count, SmallVector<RecipeNode *>(inputs));
        })
        .Case([&](SliceOp op) -> Result {
          return std::make_unique<SliceNode>(op, count, inputs[0]);
        })
        .Case([&](TransposeOp op) -> Result {
          auto node = std::make_unique<TransposeNode>(op, inputs[0]);
          transposes.push_back(node.get());
          return node;
        })
        .Case([&](ConvertOp op) -> Result {
          return std::make_unique<ConvertNode>(op, kind, inputs[0], name);
        })
        .Case([&](DequantizeOp op) -> Result {
          return std::make_unique<DequantizeNode>(op, kind, inputs, name);
        })
        .Case([&](AddProductOp op) -> Result {
          return std::make_unique<AddProductNode>(op, kind, count, inputs,
                                                  name);
        })
        .Case([&](StackRowsOp op) -> Result {
          return std::make_unique<StackRowsNode>(op, kind, count, inputs, name);
        })
        .Case([&](UnpackOp op) -> Result {
          return std::make_unique<UnpackNode>(op, kind, count, inputs[0]);
        })
        .Case([&](GatherOp op) -> Result {
          return std::make_unique<GatherNode>(op, count, inputs[0], inputs[1],
                                              name);
        })
        .Case<DequantizeGGUFOp, GGUFPartOp>([&](auto op) -> Result {
          return std::make_unique<GGUFNode>(op, kind, count, inputs[0], name);
        })
        .Case([&](DequantizeMXFP4Op op) -> Result {
          return std::make_unique<DequantizeMXFP4Node>(
              op, kind, count, inputs[0], inputs[1], name);
        })
        .Case([&](ExpertIdsOp op) -> Result {
          return std::make_unique<ExpertIdsNode>(op, inputs[0], name);
        })
        .Case([&](RotaryTableOp op) -> Result {
          return std::make_unique<RotaryTableNode>(op, count);
        })
        .Case([&](NumbersOp op) -> Result {
          return std::make_unique<NumbersNode>(op, count);
        })
        .Case([&](ImportanceOp op) -> Result {
          return makeImportanceNode(op, count, inputs[0],
                                    op.getMoment() ? inputs[1] : nullptr, name);
        })
        .Case([&](SelectOp op) -> Result {
          return makeSelectNode(op, count, inputs[0], inputs[1]);
        })
        .Case([&](RankOp) -> Result { return makeRankNode(count, inputs[0]); })
        .Case([&](MergeExpertsOp op) -> Result {
          return makeMergeExpertsNode(op, kind, count, inputs, name, files);
        })
        .Case([&](ChannelScalesOp op) -> Result {
          return makeChannelScalesNode(op, count, inputs[0],
                                       inputs.drop_front());
        })
        .Case([&](ScaleChannelsOp op) -> Result {
          return makeScaleChannelsNode(op, kind, count, inputs[0], inputs[1],
                                       name);
        })
        .Case([&](QuantizeOp op) -> Result {
          RecipeNode *moment = op.getMoment() ? inputs[1] : nullptr;
          RecipeNode *gram = op.getGram() ? inputs.back() : nullptr;
          return std::make_unique<QuantizeNode>(op, kind, inputs[0], moment,
                                                gram, name);
        })
        .Case([&](RoundByOp op) -> Result {
          return std::make_unique<RoundByNode>(op, kind, inputs[0], inputs[1],
                                               name);
        })
        .Case([&](QuantizeScalesOp op) -> Result {
          if (count > 0 && inputs[0]->getCount() == 0)
            return absl::InvalidArgumentError("a group has no elements");
          return std::make_unique<QuantizeScalesNode>(
              op, count, inputs[0], op.getMoment() ? inputs[1] : nullptr, name);
        })
        .Case([&](PackOp op) -> Result {
          return std::make_unique<PackNode>(op, inputs[0]);
        })
        .Default([](Operation *op) -> Result {
          return absl::UnimplementedError(
              absl::StrCat("the packer does not know '",
                           op->getName().getStringRef().str(), "'"));
        });
  }

  SourceFiles &files;
  Recipe recipe;
  llvm::DenseMap<Value, RecipeNode *> nodes;
  llvm::DenseMap<Value, StringRef> names; ///< A tensor behind each value.
  SmallVector<TransposeNode *> transposes;
};

} // namespace

absl::StatusOr<Recipe> hadal::makeRecipe(WeightOp weight, SourceFiles &files) {
  return RecipeBuilder(files).build(weight);
}
