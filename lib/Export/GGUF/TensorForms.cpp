// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a GGUF file, as recipes. What a converter does to each is in
// llama.cpp's `convert_hf_to_gguf.py`.

#include "lib/Export/GGUF/TensorForms.h"

#include "lib/Import/GGUF/GGUFStore.h"
#include "lib/Import/JSON.h"

#include "mlir/Support/DebugStringHelper.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::gguf;

constexpr StringRef expansionSuffix = ".self_attn.kv_b_proj";

int64_t TensorForm::getSizeBytes() const {
  return ShapedType::getNumElements(shape) / type->blockElements *
         type->blockBytes;
}

/// The name in a Hugging Face checkpoint of the weight \p symbol.
static std::string toCheckpointName(StringRef symbol) {
  std::string name = symbol.str();
  // Names of DeepSeek-V4 begin with nothing, but are told by the rest.
  if (symbol != "lm_head" && !symbol.starts_with("hc_head"))
    name = "model." + name;
  for (StringRef experts : {".mlp.experts.", ".ffn.experts."})
    if (size_t at = name.find(experts.str()); at != std::string::npos)
      name.insert(at + experts.size(), "{}.");
  bool isVector =
      symbol.ends_with(".bias") || symbol.ends_with(".e_score_correction_bias");
  return isVector ? name : name + ".weight";
}

bool gguf::hasWholeExpansion(ModuleOp module) {
  return llvm::any_of(
      module.getOps<deepseek::WeightOp>(), [](deepseek::WeightOp weight) {
        return weight.getSymName().ends_with(expansionSuffix) &&
               weight.getResult().getDefiningOp<deepseek::DequantizeGGUFOp>();
      });
}

namespace {
class FormMaker {
public:
  FormMaker(const ModelFacts &facts, ModuleOp recipes)
      : facts(facts), recipes(recipes), builder(recipes.getContext()) {}

  absl::Status add(deepseek::WeightOp weight);
  std::vector<TensorForm> take() { return std::move(forms); }

private:
  /// Adds the tensor \p name that \p change makes of the value that \p weight
  /// has; it may build ops.
  absl::Status addForm(deepseek::WeightOp weight, const std::string &name,
                       llvm::function_ref<Value(Value)> change);
  Value reshape(Value value, ArrayRef<int64_t> shape) {
    auto type = cast<RankedTensorType>(value.getType());
    return deepseek::ReshapeOp::create(builder, value.getLoc(),
                                       type.clone(shape), value);
  }
  Value transpose(Value value, ArrayRef<int64_t> permutation);
  Value permute(Value value, int64_t heads);
  Value joinGroups(Value value);
  Value takeHalf(Value value, bool isKey);

  const ModelFacts &facts;
  ModuleOp recipes;
  OpBuilder builder;
  std::vector<TensorForm> forms;
};
} // namespace

Value FormMaker::transpose(Value value, ArrayRef<int64_t> permutation) {
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<int64_t> shape;
  for (int64_t dimension : permutation)
    shape.push_back(type.getDimSize(dimension));
  return deepseek::TransposeOp::create(builder, value.getLoc(),
                                       type.clone(shape), value, permutation);
}

/// Puts the rows of \p heads heads into the order of rotation by neighbors: row
/// (head, j, i) becomes row (head, i, j).
Value FormMaker::permute(Value value, int64_t heads) {
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(value.getType()).getShape());
  SmallVector<int64_t> split = {heads, 2, shape[0] / heads / 2};
  SmallVector<int64_t> permutation = {0, 2, 1};
  for (int64_t size : ArrayRef(shape).drop_front()) {
    permutation.push_back(int64_t(split.size()));
    split.push_back(size);
  }
  return reshape(transpose(reshape(value, split), permutation), shape);
}

/// The matrices of all groups as one.
Value FormMaker::joinGroups(Value value) {
  if (auto groups = value.getDefiningOp<deepseek::ReshapeOp>();
      groups && groups.getInput().getType().getRank() == 2)
    return groups.getInput();
  ArrayRef<int64_t> shape = cast<RankedTensorType>(value.getType()).getShape();
  return reshape(value, {shape[0] * shape[1], shape[2]});
}

/// Half of kv_b: the rows of each head that make keys, transposed, or those
/// that make values.
Value FormMaker::takeHalf(Value value, bool isKey) {
  const ModelFacts::Expansion &expansion = *facts.expansion;
  auto type = cast<RankedTensorType>(value.getType());
  int64_t rows = expansion.keyDim + expansion.valueDim;
  // A file that has the halves is read as such: they stay what they are.
  if (auto joined = value.getDefiningOp<deepseek::ReshapeOp>())
    if (auto concat = joined.getInput().getDefiningOp<deepseek::ConcatOp>();
        concat && concat.getInputs().size() == 2 && concat.getAxis() == 1) {
      if (!isKey)
        return concat.getInputs().back();
      auto keys = concat.getInputs().front();
      if (auto swapped = keys.getDefiningOp<deepseek::TransposeOp>();
          swapped && swapped.getPermutation() == ArrayRef<int64_t>({0, 2, 1}))
        return swapped.getInput();
    }
  Value heads = reshape(value, {expansion.heads, rows, type.getDimSize(1)});
  int64_t begin = isKey ? 0 : expansion.keyDim;
  int64_t end = isKey ? expansion.keyDim : rows;
  Value half = deepseek::SliceOp::create(
      builder, value.getLoc(),
      type.clone({expansion.heads, end - begin, type.getDimSize(1)}), heads,
      /*axis=*/1, begin, end);
  return isKey ? transpose(half, {0, 2, 1}) : half;
}

absl::Status FormMaker::addForm(deepseek::WeightOp weight,
                                const std::string &name,
                                llvm::function_ref<Value(Value)> change) {
  builder.setInsertionPointToEnd(recipes.getBody());
  auto recipe = cast<deepseek::WeightOp>(builder.clone(*weight));
  recipe.setSymName(name);
  auto yield =
      cast<deepseek::YieldOp>(recipe.getRecipe().front().getTerminator());
  builder.setInsertionPoint(yield);
  // Blocks stay bytes: whole rows are moved, or none.
  Value value = yield.getValue();
  auto numbers = value.getDefiningOp<deepseek::DequantizeGGUFOp>();
  value = change(numbers ? numbers.getInput() : value);
  if (!numbers) {
    numbers = value.getDefiningOp<deepseek::DequantizeGGUFOp>();
    value = numbers ? numbers.getInput() : value;
  }
  auto type = cast<RankedTensorType>(value.getType());
  TensorForm form{name, nullptr, SmallVector<int64_t, 4>(type.getShape()),
                  recipe};
  if (numbers) {
    form.type = findBlockType(
        deepseek::stringifyGGUFFormat(numbers.getFormat()).upper());
    form.shape.back() =
        form.shape.back() / form.type->blockBytes * form.type->blockElements;
  } else if (type.getElementType().isF32()) {
    form.type = findBlockType("F32");
  } else if (type.getElementType().isF16()) {
    form.type = findBlockType("F16");
  } else if (type.getElementType().isBF16()) {
    form.type = findBlockType("BF16");
  } else if (type.getElementType().isInteger(32)) {
    form.type = findBlockType("I32");
  } else {
    return unimplemented("weight '" + weight.getSymName() + "' is " +
                         debugString(type) +
                         ", expected f32, f16 or bf16, or the blocks of a "
                         "GGUF file");
  }
  yield.getValueMutable().assign(value);
  recipe.setType(type);
  forms.push_back(std::move(form));
  return absl::OkStatus();
}

absl::Status FormMaker::add(deepseek::WeightOp weight) {
  StringRef symbol = weight.getSymName();
  std::optional<std::string> name = toGGUFName(toCheckpointName(symbol));
  if (!name)
    return unimplemented("weight '" + symbol +
                         "' has no name in GGUF files, expected the weights of "
                         "a module that no pass has changed");
  if (facts.expansion && symbol.ends_with(expansionSuffix)) {
    std::string prefix =
        StringRef(*name).drop_back(StringRef("kv_b.weight").size()).str();
    for (bool isKey : {true, false})
      if (absl::Status status =
              addForm(weight, prefix + (isKey ? "k_b.weight" : "v_b.weight"),
                      [&](Value value) { return takeHalf(value, isKey); });
          !status.ok())
        return status;
    return absl::OkStatus();
  }
  int64_t heads = symbol.contains(".self_attn.q_proj")   ? facts.permutedHeads
                  : symbol.contains(".self_attn.k_proj") ? facts.permutedKVHeads
                                                         : 0;
  bool hasGroups = symbol.ends_with(".attn.wo_a");
  return addForm(weight, *name, [&](Value value) {
    return heads       ? permute(value, heads)
           : hasGroups ? joinGroups(value)
                       : value;
  });
}

absl::StatusOr<std::vector<TensorForm>>
gguf::makeTensorForms(ModuleOp module, const ModelFacts &facts,
                      ModuleOp recipes) {
  FormMaker maker(facts, recipes);
  for (auto weight : module.getOps<deepseek::WeightOp>())
    if (absl::Status status = maker.add(weight); !status.ok())
      return status;
  return maker.take();
}
