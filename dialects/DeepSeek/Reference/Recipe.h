// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Evaluates the recipes of weights, one op at a time, for the interpreter.

#ifndef HADAL_DIALECTS_DEEPSEEK_REFERENCE_RECIPE_H
#define HADAL_DIALECTS_DEEPSEEK_REFERENCE_RECIPE_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/Reference/Tensor.h"
#include "lib/Support/FileIO.h"

#include "llvm/ADT/StringMap.h"

namespace hadal::deepseek {

/// input + scale * left * right, matrix by matrix of a stack, rounded once to
/// \p type: what `deepseek.add_product` and `deepseek.lora` say.
Tensor addProduct(Tensor input, const Tensor &left, const Tensor &right,
                  double scale, mlir::FloatType type);

/// Turns a `deepseek.weight` into the values that its stored form has: each op
/// of the recipe rounds to its own type. Keeps files open, but no values.
class RecipeEvaluator {
public:
  /// Source files are relative to \p folder, and never outside of it. No
  /// tensor of a recipe may have more than \p maxElements.
  RecipeEvaluator(std::string folder, int64_t maxElements)
      : folder(std::move(folder)), maxElements(maxElements) {}

  /// Evaluates the recipe. On failure a diagnostic has been emitted.
  ///
  /// A source without offsets has made-up values, so that passes can be tested
  /// without files. They depend on the name of the tensor (of each tensor of a
  /// stack, with its index in place of `{}`), on the index of the element in
  /// it and on its last dimension, and on nothing else: uniform in [-1, 1) for
  /// a vector, and in [-sqrt(3 / n), sqrt(3 / n)) for more dimensions, the
  /// last of size n, which keeps the variance of what it is multiplied with.
  mlir::FailureOr<Tensor> evaluate(WeightOp weight);

private:
  mlir::FailureOr<Tensor> readSource(SourceOp source);
  InputFile *openFile(mlir::Operation *op, llvm::StringRef name);

  std::string folder;
  int64_t maxElements;
  llvm::StringMap<std::unique_ptr<InputFile>> files;
};

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_REFERENCE_RECIPE_H
