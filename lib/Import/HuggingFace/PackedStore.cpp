// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a Hugging Face folder whose matrices were quantized. The
// layouts are those of AutoGPTQ's `qlinear_cuda.py`, AutoAWQ's modules and
// compressed-tensors' `compressors/quantized_compressors`.

#include "lib/Import/HuggingFace/PackedStore.h"

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/JSON.h"
#include "lib/Support/CheckedMath.h"
#include "lib/Support/FileIO.h"

#include "llvm/Support/Endian.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::huggingface;
using safetensors::DType;
using safetensors::Tensor;

/// A list of indices, one for each column, is no longer.
constexpr int64_t maxIndices = maxDimension;

/// What is known of one matrix, or of a stack of them, as its parts are taken.
struct PackedStore::Parts {
  std::string module; ///< With `{}` for a stack.
  /// The dimension of a stack, or nothing.
  SmallVector<int64_t, 1> lead;
  int64_t rows, columns;
  int64_t bits;
  /// Elements of a block, and blocks in a row and in a column.
  int64_t blockRows = 1, blockColumns = 0;
  int64_t groupRows = 0, groupColumns = 0;
  Build codes, scales, zeros, order;
  Build whole; ///< In place of codes: what is rounded by the scales.

  SmallVector<int64_t> shape(std::initializer_list<int64_t> sizes) const {
    SmallVector<int64_t> result(lead.begin(), lead.end());
    result.append(sizes);
    return result;
  }
};

//===----------------------------------------------------------------------===//
// Steps of recipes
//===----------------------------------------------------------------------===//

static Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

static Value reshape(OpBuilder &recipe, Value value, ArrayRef<int64_t> shape) {
  auto type = RankedTensorType::get(shape, elementOf(value));
  if (value.getType() == type)
    return value;
  return deepseek::ReshapeOp::create(recipe, recipe.getUnknownLoc(), type,
                                     value);
}

/// Permutes the dimensions after the first \p lead.
static Value transpose(OpBuilder &recipe, Value value, size_t lead,
                       ArrayRef<int64_t> permutation) {
  auto from = cast<RankedTensorType>(value.getType()).getShape();
  SmallVector<int64_t> all;
  for (size_t i = 0; i < lead; ++i)
    all.push_back(int64_t(i));
  for (int64_t dim : permutation)
    all.push_back(dim + int64_t(lead));
  SmallVector<int64_t> shape;
  for (int64_t dim : all)
    shape.push_back(from[size_t(dim)]);
  return deepseek::TransposeOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(shape, elementOf(value)), value, all);
}

/// Integers of \p bits in rows of bytes; of four bits or fewer as i4 if
/// \p isNarrow.
static Value unpack(OpBuilder &recipe, Value value, int64_t bits, int64_t plus,
                    bool isNarrow) {
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(value.getType()).getShape());
  shape.back() = shape.back() * 8 / bits;
  Type element = recipe.getIntegerType(isNarrow && bits <= 4 ? 4 : 8);
  return deepseek::UnpackOp::create(recipe, recipe.getUnknownLoc(),
                                    RankedTensorType::get(shape, element),
                                    value, bits, plus);
}

/// The first \p size of dimension \p axis.
static Value takeFirst(OpBuilder &recipe, Value value, int64_t axis,
                       int64_t size) {
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(value.getType()).getShape());
  if (shape[size_t(axis)] == size)
    return value;
  shape[size_t(axis)] = size;
  return deepseek::SliceOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(shape, elementOf(value)), value, axis, 0, size);
}

/// Gives every column the element of its group.
static Value gather(OpBuilder &recipe, Value value, Value order,
                    int64_t columns) {
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(value.getType()).getShape());
  shape.back() = columns;
  return deepseek::GatherOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(shape, elementOf(value)), value, order);
}

/// Integers packed along the first of two dimensions, four bytes to a word:
/// words `[.., r, c, 4]` become `[.., c, r * 32 / bits]`.
static Value unpackColumns(OpBuilder &recipe, Value words, size_t lead,
                           int64_t bits, int64_t plus, bool isNarrow) {
  Value turned = transpose(recipe, words, lead, {1, 0, 2});
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(turned.getType()).getShape());
  int64_t bytes = shape.pop_back_val();
  shape.back() *= bytes;
  return unpack(recipe, reshape(recipe, turned, shape), bits, plus, isNarrow);
}

/// AWQ: rows `[.., r, n]` of which each eight are 0, 2, 4, 6, 1, 3, 5, 7 become
/// `[.., n, r]` in order.
static Value orderAWQ(OpBuilder &recipe, Value value, size_t lead) {
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(value.getType()).getShape());
  int64_t n = shape.pop_back_val(), r = shape.pop_back_val();
  SmallVector<int64_t> split(shape), merged(shape);
  split.append({r, n / 8, 2, 4});
  merged.append({n, r});
  Value cut = reshape(recipe, value, split);
  return reshape(recipe, transpose(recipe, cut, lead, {1, 3, 2, 0}), merged);
}

//===----------------------------------------------------------------------===//
// Parts
//===----------------------------------------------------------------------===//

/// The numbers of a tensor of I32 or I64.
absl::StatusOr<std::vector<int64_t>> PackedStore::readIntegers(StringRef name) {
  const Tensor *tensor = checkpoint.find(name);
  std::string place = checkpoint.pathOf(*tensor) + ": tensor " + quote(name);
  int64_t width = tensor->dtype == DType::I64   ? 8
                  : tensor->dtype == DType::I32 ? 4
                                                : 0;
  if (!width)
    return invalid(place + " is " + safetensors::stringify(tensor->dtype) +
                   ", expected I32 or I64");
  if (tensor->sizeBytes / width > maxIndices)
    return invalid(place + " has shape " + toText(tensor->shape) +
                   ", expected at most " + Twine(maxIndices) + " integers");
  InputFile file;
  std::string error;
  std::vector<char> bytes(size_t(tensor->sizeBytes));
  if (!file.open(checkpoint.pathOf(*tensor), error) ||
      !file.read(uint64_t(tensor->offsetBytes), bytes.data(), bytes.size(),
                 error))
    return invalid(error);
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < bytes.size(); i += size_t(width))
    numbers.push_back(
        width == 8 ? int64_t(llvm::support::endian::read64le(bytes.data() + i))
                   : int64_t(int32_t(
                         llvm::support::endian::read32le(bytes.data() + i))));
  return numbers;
}

/// Takes the list of the columns' groups, if there is one. True if columns are
/// in no order, so that it is needed.
absl::StatusOr<bool> PackedStore::takeOrder(Parts &parts, StringRef suffix) {
  int64_t count = parts.lead.empty() ? 1 : parts.lead.front();
  auto [before, after] = StringRef(parts.module).split("{}");
  bool isOrdered = true;
  for (int64_t e = 0; e < count; ++e) {
    std::string name = parts.module + suffix.str();
    if (!parts.lead.empty())
      name = (before + Twine(e) + after + suffix).str();
    const Tensor *tensor = checkpoint.find(name);
    if (!tensor) {
      if (e == 0)
        return false;
      return invalid(checkpoint.sourcePath() + ": has no tensor " +
                     quote(name) + ", but one for expert 0");
    }
    // Its shape and dtype, and that it is used.
    absl::StatusOr<StoredTensor> bytes =
        base.takeBytes(name, {parts.columns}, DType::I32);
    if (!bytes.ok())
      return bytes.status();
    absl::StatusOr<std::vector<int64_t>> groups = readIntegers(name);
    if (!groups.ok())
      return groups.status();
    for (auto [i, group] : llvm::enumerate(*groups)) {
      if (group < 0 || group >= parts.groupColumns)
        return invalid(bytes->place + " has " + Twine(group) + " at [" +
                       Twine(i) + "], expected 0 to " +
                       Twine(parts.groupColumns - 1));
      isOrdered &= group == int64_t(i) / parts.blockColumns;
    }
    if (isOrdered)
      continue;
    if (!parts.lead.empty())
      return unimplemented(bytes->place +
                           " gives the columns of an expert groups in no "
                           "order, expected column i in group i / " +
                           Twine(parts.blockColumns));
    parts.order = [build = std::move(bytes->build),
                   columns = parts.columns](OpBuilder &recipe) {
      return reshape(recipe, build(recipe), {columns, 4});
    };
  }
  return !isOrdered;
}

/// Takes scales of any floating-point type.
absl::StatusOr<PackedStore::Build>
PackedStore::takeScales(Parts &parts, StringRef suffix,
                        ArrayRef<int64_t> shape) {
  std::string name = parts.module + suffix.str();
  absl::StatusOr<StoredTensor> scales =
      parts.lead.empty() ? base.take(name, shape) : base.takeStack(name, shape);
  if (!scales.ok())
    return scales.status();
  if (!scales->element || isa<Float8E4M3FNType>(scales->element))
    return invalid(scales->place + " is " + scales->typeName +
                   ", expected BF16, F16 or F32");
  return scales->build;
}

/// Finds the width whose shapes the tensors have, among those that the
/// configuration has for some matrix. Where none is, that of all stays, so that
/// an error is about it.
absl::Status PackedStore::chooseWidth(Parts &parts) {
  auto [before, after] = StringRef(parts.module).split("{}");
  auto rowsOf = [&](StringRef suffix) -> int64_t {
    std::string name = parts.lead.empty()
                           ? (parts.module + suffix).str()
                           : (before + "0" + after + suffix).str();
    const Tensor *tensor = checkpoint.find(name);
    return tensor && tensor->shape.size() == 2 ? tensor->shape[0] : -1;
  };
  int64_t words = rowsOf(".qweight"), groups = rowsOf(".scales");
  SmallVector<PackedConfig::Width> widths = {{config.bits, config.group}};
  llvm::append_range(widths, config.otherWidths);
  std::optional<int64_t> found;
  for (PackedConfig::Width width : widths) {
    int64_t group = width.group == -1 ? parts.columns
                                      : std::min(width.group, parts.columns);
    if (parts.columns * width.bits != 32 * words ||
        ceilDiv(parts.columns, group) != groups || found == group)
      continue;
    if (found)
      return unimplemented(checkpoint.sourcePath() + ": matrix " +
                           quote(parts.module) + " has " + Twine(groups) +
                           " groups, of " + Twine(*found) + " or of " +
                           Twine(group) + " columns: 'dynamic' has both");
    found = group;
    parts.bits = width.bits;
    parts.blockColumns = group;
    parts.groupColumns = groups;
  }
  return absl::OkStatus();
}

absl::Status PackedStore::takeGPTQ(Parts &parts) {
  if (absl::Status status = chooseWidth(parts); !status.ok())
    return status;
  int64_t bits = parts.bits, n = parts.rows, k = parts.columns;
  if (k * bits % 32 != 0 || n * bits % 32 != 0)
    return invalid(checkpoint.sourcePath() + ": matrix " + quote(parts.module) +
                   " of shape " + toText(ArrayRef<int64_t>({n, k})) +
                   " does not fill 32-bit words with " + Twine(bits) +
                   "-bit integers");
  absl::StatusOr<StoredTensor> codes = base.takeBytes(
      parts.module + ".qweight", parts.shape({k * bits / 32, n}), DType::I32);
  if (!codes.ok())
    return codes.status();
  absl::StatusOr<StoredTensor> zeros = base.takeBytes(
      parts.module + ".qzeros",
      parts.shape({parts.groupColumns, n * bits / 32}), DType::I32);
  if (!zeros.ok())
    return zeros.status();
  absl::StatusOr<Build> scales =
      takeScales(parts, ".scales", parts.shape({parts.groupColumns, n}));
  if (!scales.ok())
    return scales.status();
  size_t lead = parts.lead.size();
  SmallVector<int64_t> words = parts.shape({k * bits / 32, n, 4});
  parts.codes = [=, build = std::move(codes->build)](OpBuilder &recipe) {
    return unpackColumns(recipe, reshape(recipe, build(recipe), words), lead,
                         bits, 0, /*isNarrow=*/true);
  };
  int64_t plus = config.storesZerosLessOne;
  parts.zeros = [=, build = std::move(zeros->build)](OpBuilder &recipe) {
    return transpose(recipe, unpack(recipe, build(recipe), bits, plus, false),
                     lead, {1, 0});
  };
  parts.scales = [lead, build = std::move(*scales)](OpBuilder &recipe) {
    return transpose(recipe, build(recipe), lead, {1, 0});
  };
  return takeOrder(parts, ".g_idx").status();
}

absl::Status PackedStore::takeAWQ(Parts &parts) {
  int64_t n = parts.rows, k = parts.columns;
  if (n % 8 != 0)
    return invalid(checkpoint.sourcePath() + ": matrix " + quote(parts.module) +
                   " of shape " + toText(ArrayRef<int64_t>({n, k})) +
                   " does not fill 32-bit words with eight of its rows");
  absl::StatusOr<StoredTensor> codes = base.takeBytes(
      parts.module + ".qweight", parts.shape({k, n / 8}), DType::I32);
  if (!codes.ok())
    return codes.status();
  absl::StatusOr<StoredTensor> zeros =
      base.takeBytes(parts.module + ".qzeros",
                     parts.shape({parts.groupColumns, n / 8}), DType::I32);
  if (!zeros.ok())
    return zeros.status();
  absl::StatusOr<Build> scales =
      takeScales(parts, ".scales", parts.shape({parts.groupColumns, n}));
  if (!scales.ok())
    return scales.status();
  size_t lead = parts.lead.size();
  parts.codes = [lead, build = std::move(codes->build)](OpBuilder &recipe) {
    return orderAWQ(recipe, unpack(recipe, build(recipe), 4, 0, true), lead);
  };
  parts.zeros = [lead, build = std::move(zeros->build)](OpBuilder &recipe) {
    return orderAWQ(recipe, unpack(recipe, build(recipe), 4, 0, false), lead);
  };
  parts.scales = [lead, build = std::move(*scales)](OpBuilder &recipe) {
    return transpose(recipe, build(recipe), lead, {1, 0});
  };
  return absl::OkStatus();
}

/// The layout of AutoAWQ's `gemv.py`: integers in the order of their columns,
/// and groups of a row filled up to what `calculate_zeros_width` makes them.
absl::Status PackedStore::takeAWQRows(Parts &parts) {
  constexpr int64_t perWord = 8;
  int64_t n = parts.rows, k = parts.columns, group = parts.blockColumns;
  if (k % perWord != 0 || (group != 32 && group != 64 && group < 128))
    return invalid(checkpoint.sourcePath() + ": matrix " + quote(parts.module) +
                   " of shape " + toText(ArrayRef<int64_t>({n, k})) +
                   " has groups of " + Twine(group) +
                   ", expected 32, 64, or 128 and more, and rows of whole "
                   "32-bit words");
  int64_t multiple = group >= 128 ? 1 : 128 / group;
  int64_t words = llvm::alignTo(ceilDiv(parts.groupColumns, perWord), multiple);
  absl::StatusOr<StoredTensor> codes = base.takeBytes(
      parts.module + ".qweight", parts.shape({n, k / perWord}), DType::I32);
  if (!codes.ok())
    return codes.status();
  absl::StatusOr<StoredTensor> zeros = base.takeBytes(
      parts.module + ".qzeros", parts.shape({n, words}), DType::I32);
  if (!zeros.ok())
    return zeros.status();
  absl::StatusOr<Build> scales =
      takeScales(parts, ".scales", parts.shape({n, words * perWord}));
  if (!scales.ok())
    return scales.status();
  int64_t axis = int64_t(parts.lead.size()) + 1, count = parts.groupColumns;
  parts.codes = [build = std::move(codes->build)](OpBuilder &recipe) {
    return unpack(recipe, build(recipe), 4, 0, true);
  };
  parts.zeros = [=, build = std::move(zeros->build)](OpBuilder &recipe) {
    return takeFirst(recipe, unpack(recipe, build(recipe), 4, 0, false), axis,
                     count);
  };
  parts.scales = [=, build = std::move(*scales)](OpBuilder &recipe) {
    return takeFirst(recipe, build(recipe), axis, count);
  };
  return absl::OkStatus();
}

/// `weight_shape` says the shape once more.
absl::Status PackedStore::checkShapeTensor(Parts &parts) {
  int64_t count = parts.lead.empty() ? 1 : parts.lead.front();
  auto [before, after] = StringRef(parts.module).split("{}");
  for (int64_t e = 0; e < count; ++e) {
    std::string name = parts.module + ".weight_shape";
    if (!parts.lead.empty())
      name = (before + Twine(e) + after + ".weight_shape").str();
    const Tensor *tensor = checkpoint.find(name);
    if (!tensor)
      continue;
    if (absl::StatusOr<StoredTensor> taken =
            base.takeBytes(name, {2}, tensor->dtype);
        !taken.ok())
      return taken.status();
    absl::StatusOr<std::vector<int64_t>> sizes = readIntegers(name);
    if (!sizes.ok())
      return sizes.status();
    int64_t expected[] = {parts.rows, parts.columns};
    if (ArrayRef<int64_t>(*sizes) != ArrayRef<int64_t>(expected))
      return invalid(checkpoint.pathOf(*tensor) + ": tensor " + quote(name) +
                     " is " + toText(ArrayRef<int64_t>(*sizes)) +
                     ", but config.json makes it " +
                     toText(ArrayRef<int64_t>(expected)));
  }
  return absl::OkStatus();
}

absl::Status PackedStore::takeCompressed(Parts &parts) {
  int64_t n = parts.rows, k = parts.columns, bits = parts.bits;
  bool isPacked = config.layout == PackedLayout::Packed;
  int64_t perWord = 32 / bits;
  size_t lead = parts.lead.size();
  std::string name = parts.module + (isPacked ? ".weight_packed" : ".weight");
  if (isPacked) {
    absl::StatusOr<StoredTensor> codes =
        base.takeBytes(name, parts.shape({n, ceilDiv(k, perWord)}), DType::I32);
    if (!codes.ok())
      return codes.status();
    parts.codes = [=, build = std::move(codes->build)](OpBuilder &recipe) {
      return takeFirst(recipe, unpack(recipe, build(recipe), bits, 0, true),
                       int64_t(lead) + 1, k);
    };
    if (absl::Status status = checkShapeTensor(parts); !status.ok())
      return status;
  } else if (config.layout == PackedLayout::Integers) {
    absl::StatusOr<StoredTensor> codes =
        base.takeBytes(name, parts.shape({n, k}), DType::I8);
    if (!codes.ok())
      return codes.status();
    parts.codes = std::move(codes->build);
  } else {
    bool isDense = config.layout == PackedLayout::Dense;
    absl::StatusOr<StoredTensor> stored =
        lead ? base.takeStack(name, parts.shape({n, k}))
             : base.take(name, parts.shape({n, k}));
    if (!stored.ok())
      return stored.status();
    if (!stored->element || isa<Float8E4M3FNType>(stored->element) == isDense)
      return invalid(stored->place + " is " + stored->typeName + ", expected " +
                     (isDense ? "BF16, F16 or F32" : "F8_E4M3"));
    if (isDense && (n % parts.blockRows != 0 || k % parts.blockColumns != 0))
      return unimplemented(
          stored->place + " has shape " + toText(ArrayRef<int64_t>({n, k})) +
          ", which scales of " + Twine(parts.blockRows) + " x " +
          Twine(parts.blockColumns) + " do not divide");
    (isDense ? parts.whole : parts.codes) = std::move(stored->build);
  }

  // A scale of all of a tensor may have one dimension.
  SmallVector<int64_t> grid =
      parts.shape({parts.groupRows, parts.groupColumns});
  auto shapeOf = [&](StringRef suffix) {
    auto [before, after] = StringRef(parts.module).split("{}");
    std::string first = lead ? (before + "0" + after + suffix).str()
                             : parts.module + suffix.str();
    const Tensor *tensor = checkpoint.find(first);
    if (tensor && parts.groupRows * parts.groupColumns == 1 &&
        tensor->shape.size() == 1)
      return parts.shape({1});
    return grid;
  };
  absl::StatusOr<Build> scales =
      takeScales(parts, ".weight_scale", shapeOf(".weight_scale"));
  if (!scales.ok())
    return scales.status();
  parts.scales = [grid, build = std::move(*scales)](OpBuilder &recipe) {
    return reshape(recipe, build(recipe), grid);
  };
  if (config.hasZeros && isPacked) {
    int64_t words = ceilDiv(parts.groupRows, perWord);
    absl::StatusOr<StoredTensor> zeros =
        base.takeBytes(parts.module + ".weight_zero_point",
                       parts.shape({words, parts.groupColumns}), DType::I32);
    if (!zeros.ok())
      return zeros.status();
    SmallVector<int64_t> wordShape =
        parts.shape({words, parts.groupColumns, 4});
    parts.zeros = [=, rows = parts.groupRows,
                   build = std::move(zeros->build)](OpBuilder &recipe) {
      Value columns = unpackColumns(
          recipe, reshape(recipe, build(recipe), wordShape), lead, bits, 0,
          /*isNarrow=*/false);
      return transpose(recipe,
                       takeFirst(recipe, columns, int64_t(lead) + 1, rows),
                       lead, {1, 0});
    };
  } else if (config.hasZeros) {
    absl::StatusOr<StoredTensor> zeros =
        base.takeBytes(parts.module + ".weight_zero_point",
                       shapeOf(".weight_zero_point"), DType::I8);
    if (!zeros.ok())
      return zeros.status();
    parts.zeros = [grid, build = std::move(zeros->build)](OpBuilder &recipe) {
      return reshape(recipe, build(recipe), grid);
    };
  }
  // Scales of activations, which are not rounded.
  for (StringRef suffix :
       {".input_scale", ".input_zero_point", ".output_scale"})
    base.ignore(parts.module + suffix.str(),
                parts.lead.empty() ? 0 : parts.lead.front());
  absl::StatusOr<bool> isOrdered = takeOrder(parts, ".weight_g_idx");
  if (isOrdered.ok() && *isOrdered && parts.whole)
    return unimplemented(checkpoint.sourcePath() + ": matrix " +
                         quote(parts.module) +
                         " has columns in no order, and is not rounded yet");
  return isOrdered.status();
}

//===----------------------------------------------------------------------===//
// Matrices
//===----------------------------------------------------------------------===//

/// The tensor that is there if and only if \p module is quantized.
std::string PackedStore::partName(StringRef module) const {
  switch (config.layout) {
  case PackedLayout::GPTQ:
  case PackedLayout::AWQ:
  case PackedLayout::AWQRows:
    return (module + ".qweight").str();
  case PackedLayout::Packed:
    return (module + ".weight_packed").str();
  case PackedLayout::Integers:
  case PackedLayout::Dense:
  case PackedLayout::FP8:
    return (module + ".weight_scale").str();
  }
  llvm_unreachable("unknown layout");
}

absl::StatusOr<StoredTensor> PackedStore::takePacked(StringRef module,
                                                     ArrayRef<int64_t> shape) {
  Parts parts;
  parts.module = module.str();
  parts.lead.assign(shape.begin(), shape.end() - 2);
  parts.rows = shape[shape.size() - 2];
  parts.columns = shape.back();
  parts.bits = config.bits;
  parts.blockColumns = parts.columns;
  switch (config.strategy) {
  case PackedStrategy::Tensor:
    parts.blockRows = parts.rows;
    break;
  case PackedStrategy::Channel:
    break;
  case PackedStrategy::Group:
    parts.blockColumns = std::min(config.group, parts.columns);
    break;
  case PackedStrategy::Block:
    parts.blockRows = std::min(config.blockRows, parts.rows);
    parts.blockColumns = std::min(config.blockColumns, parts.columns);
    break;
  }
  parts.groupRows = ceilDiv(parts.rows, parts.blockRows);
  parts.groupColumns = ceilDiv(parts.columns, parts.blockColumns);

  absl::Status status;
  switch (config.layout) {
  case PackedLayout::GPTQ:
    status = takeGPTQ(parts);
    break;
  case PackedLayout::AWQ:
    status = takeAWQ(parts);
    break;
  case PackedLayout::AWQRows:
    status = takeAWQRows(parts);
    break;
  case PackedLayout::Packed:
  case PackedLayout::Integers:
  case PackedLayout::Dense:
  case PackedLayout::FP8:
    status = takeCompressed(parts);
    break;
  }
  if (!status.ok())
    return status;
  ++packed;

  StoredTensor stored;
  stored.element = Float32Type::get(&context);
  stored.place =
      checkpoint.sourcePath() + ": tensor " + quote(partName(module));
  stored.typeName = "quantized";
  auto type = RankedTensorType::get(shape, stored.element);
  stored.build = [type, parts = std::move(parts)](OpBuilder &recipe) -> Value {
    Value scales, codes;
    if (parts.whole) {
      scales = parts.scales(recipe);
      Value whole = parts.whole(recipe);
      codes = deepseek::RoundByOp::create(
          recipe, recipe.getUnknownLoc(),
          RankedTensorType::get(type.getShape(),
                                recipe.getIntegerType(unsigned(parts.bits))),
          whole, scales);
    } else {
      codes = parts.codes(recipe);
      scales = parts.scales(recipe);
    }
    Value zeros = parts.zeros ? parts.zeros(recipe) : Value();
    int64_t blockColumns = parts.blockColumns;
    if (parts.order) {
      Value order = parts.order(recipe);
      scales = gather(recipe, scales, order, parts.columns);
      if (zeros)
        zeros = gather(recipe, zeros, order, parts.columns);
      blockColumns = 1;
    }
    return deepseek::DequantizeOp::create(recipe, recipe.getUnknownLoc(), type,
                                          codes, scales, zeros, parts.blockRows,
                                          blockColumns, /*unchecked=*/true);
  };
  return stored;
}

absl::StatusOr<StoredTensor> PackedStore::take(StringRef name,
                                               ArrayRef<int64_t> shape) {
  StringRef module = name;
  if (shape.size() == 2 && module.consume_back(".weight") &&
      checkpoint.find(partName(module))) {
    // Neither may be left unread.
    if (const Tensor *whole = checkpoint.find(name);
        whole && partName(module) != (module + ".weight_scale").str())
      return invalid(checkpoint.pathOf(*whole) + ": tensor " + quote(name) +
                     " is beside " + quote(partName(module)) +
                     ", expected one of them");
    return takePacked(module, shape);
  }
  return base.take(name, shape);
}

absl::StatusOr<StoredTensor> PackedStore::takeStack(StringRef name,
                                                    ArrayRef<int64_t> shape) {
  StringRef module = name;
  auto [before, after] = name.split("{}");
  std::string first = (before + "0" + after).str();
  StringRef firstModule = first;
  if (shape.size() == 3 && module.consume_back(".weight") &&
      firstModule.consume_back(".weight") &&
      checkpoint.find(partName(firstModule)))
    return takePacked(module, shape);
  return base.takeStack(name, shape);
}

absl::Status PackedStore::checkUnused(const Config &config,
                                      std::vector<std::string> &notes) {
  notes.push_back(("quantization_config: " + Twine(packed) +
                   " matrices, or stacks of them, are stored as integers or "
                   "FP8 with scales")
                      .str());
  return base.checkUnused(config, notes);
}
