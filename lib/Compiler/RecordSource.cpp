// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Copies what a source reads.

#include "lib/Compiler/RecordSource.h"

#include "dialects/DeepSeek/Reference/Recipe.h"
#include "lib/Packer/FloatConversion.h"

#include "absl/strings/str_cat.h"
#include "mlir/IR/BuiltinOps.h"

#include <cmath>

using namespace mlir;
using namespace hadal;

size_t hadal::alignTensor(std::string &bytes) {
  bytes.append((64 - bytes.size() % 64) % 64, '\0');
  return bytes.size();
}

absl::Status hadal::recordSource(deepseek::SourceOp source,
                                 const std::string &folder,
                                 const std::string &file, std::string &bytes) {
  RankedTensorType type = source.getType();
  std::optional<ElementKind> kind = getElementKind(type.getElementType());
  if (!kind || bitsOf(*kind) < 8)
    return absl::UnimplementedError(
        absl::StrCat("the source '", source.getName().str(),
                     "' is of a type that is not stored in files"));
  // A weight of its own, so that the interpreter evaluates it alone.
  Location loc = source.getLoc();
  OwningOpRef<ModuleOp> scratch = ModuleOp::create(loc);
  OpBuilder builder = OpBuilder::atBlockEnd(scratch->getBody());
  auto weight = deepseek::WeightOp::create(builder, loc, "made_up", type);
  builder.setInsertionPointToStart(&weight.getRecipe().emplaceBlock());
  auto copy = cast<deepseek::SourceOp>(builder.clone(*source));
  deepseek::YieldOp::create(builder, loc, copy.getResult());
  FailureOr<deepseek::Tensor> tensor =
      deepseek::RecipeEvaluator(folder, int64_t(1) << 28).evaluate(weight);
  if (failed(tensor))
    return absl::InvalidArgumentError(absl::StrCat(
        "the source '", source.getName().str(), "' cannot be read"));

  size_t begin = alignTensor(bytes);
  size_t count = tensor->values.size(), width = size_t(sizeBytes(*kind));
  bytes.resize(begin + count * width);
  char *to = bytes.data() + begin;
  for (size_t i = 0; i < count; ++i, to += width) {
    double value = tensor->values[i];
    auto number = float(value);
    if (*kind == ElementKind::F8E8M0FNU)
      *to = char(127 + std::ilogb(value)); // A power of two, by its exponent.
    else if (isInteger(*kind))
      for (size_t j = 0; j < width; ++j)
        to[j] = char(uint64_t(int64_t(value)) >> (8 * j));
    else
      narrow(*kind, &number, 1, to);
  }
  SmallVector<int64_t> offsets;
  int64_t tensors = source.getTensorCount();
  for (int64_t i = 0; i < tensors; ++i)
    offsets.push_back(
        int64_t(begin + count * width / size_t(tensors) * size_t(i)));
  Builder attributes(source.getContext());
  source.setFilesAttr(attributes.getStrArrayAttr({file}));
  source.setOffsets(offsets);
  return absl::OkStatus();
}
