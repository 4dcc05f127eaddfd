// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Declares trained gates as weights.

#include "lib/Compiler/Gates.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "lib/Import/Safetensors/Safetensors.h"

#include "absl/strings/str_cat.h"
#include "mlir/IR/Builders.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using safetensors::DType;

absl::Status hadal::attachGates(ModuleOp module, const std::string &path) {
  absl::StatusOr<safetensors::Checkpoint> file =
      safetensors::Checkpoint::openFile(path);
  if (!file.ok())
    return file.status();
  auto models = module.getOps<deepseek::ModelOp>();
  if (models.empty())
    return absl::InvalidArgumentError("the module has no deepseek.model");
  deepseek::ModelOp model = *models.begin();
  int64_t layers = model.getLayers(), hidden = model.getHidden(), count = 0;
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  Location loc = module.getLoc();
  for (StringRef name : file->names()) {
    const safetensors::Tensor &tensor = *file->find(name);
    auto refuse = [&](const Twine &why) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", path, "': tensor '", name.str(), "' ", why.str()));
    };
    StringRef rest = name;
    rest.consume_front("model.");
    int64_t layer;
    bool isLayer = rest.consume_front("layers.") &&
                   !rest.consumeInteger(10, layer) && layer >= 0;
    StringRef kind = rest.consume_front(".skip_gate") ? ".skip_gate" : "";
    if (kind.empty() && rest.consume_front(".exit_gate"))
      kind = ".exit_gate";
    bool isWeight = rest == ".weight";
    if (!isLayer || kind.empty() || (!isWeight && rest != ".bias"))
      return refuse("is no gate: expected layers.N.skip_gate.weight or .bias, "
                    "or the same of exit_gate");
    if (layer >= layers)
      return refuse(llvm::formatv("is of a layer that the model does not have, "
                                  "expected 0 to {0}",
                                  layers - 1));
    int64_t columns = isWeight ? hidden : 1;
    ArrayRef<int64_t> shape = tensor.shape;
    if (shape != ArrayRef({columns}) &&
        shape != ArrayRef<int64_t>({1, columns}))
      return refuse(llvm::formatv("has shape [{0}], expected [{1}]",
                                  llvm::make_range(shape.begin(), shape.end()),
                                  columns));
    Type element;
    if (tensor.dtype == DType::F32)
      element = builder.getF32Type();
    else if (tensor.dtype == DType::F16)
      element = builder.getF16Type();
    else if (tensor.dtype == DType::BF16)
      element = builder.getBF16Type();
    else
      return refuse("is not of F32, F16 or BF16");

    std::string symbol = ("layers." + Twine(layer) + kind).str();
    SmallVector<int64_t> wanted = {1, columns};
    if (!isWeight) {
      symbol += ".bias";
      wanted = {1};
    }
    if (module.lookupSymbol(symbol))
      return refuse("is there twice");
    auto type = RankedTensorType::get(wanted, builder.getF32Type());
    auto weight = deepseek::WeightOp::create(builder, loc, symbol, type);
    OpBuilder recipe(builder.getContext());
    recipe.setInsertionPointToStart(&weight.getRecipe().emplaceBlock());
    Value value = deepseek::SourceOp::create(
        recipe, loc, RankedTensorType::get(shape, element), name,
        builder.getStrArrayAttr({gatesFileName}),
        builder.getDenseI64ArrayAttr(tensor.offsetBytes));
    if (shape != ArrayRef(wanted))
      value = deepseek::ReshapeOp::create(
          recipe, loc, RankedTensorType::get(wanted, element), value);
    if (!element.isF32())
      value = deepseek::ConvertOp::create(recipe, loc, type, value);
    deepseek::YieldOp::create(recipe, loc, value);
    count += isWeight;
  }
  for (auto weight : module.getOps<deepseek::WeightOp>()) {
    StringRef name = weight.getSymName();
    if (name.consume_back(".bias") &&
        (name.ends_with(".skip_gate") || name.ends_with(".exit_gate")) &&
        !module.lookupSymbol(name))
      return absl::InvalidArgumentError(
          absl::StrCat("'", path, "': the gate '", name.str(),
                       "' has a bias and no weight"));
  }
  if (!count)
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "' has no gate of a layer"));
  return absl::OkStatus();
}
