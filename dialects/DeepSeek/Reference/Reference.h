// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every op of the deepseek dialect again, plain and slow: what passes and
// kernels are checked against.

#ifndef HADAL_DIALECTS_DEEPSEEK_REFERENCE_REFERENCE_H
#define HADAL_DIALECTS_DEEPSEEK_REFERENCE_REFERENCE_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/Reference/CompressedCache.h"
#include "dialects/DeepSeek/Reference/Recipe.h"
#include "dialects/DeepSeek/Reference/Tensor.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <functional>
#include <map>
#include <memory>

namespace hadal::deepseek {

/// Runs a module of the deepseek dialect. Activations are f64 throughout and
/// never rounded, unless an `activation_group` says so; weights have the values
/// of their stored type. Only func.func, func.call, func.return and
/// arith.constant may stand beside ops of the dialect.
///
/// Sums are taken in the order of their index, so that a result does not
/// depend on what else is in the batch.
class Interpreter {
public:
  /// An op that has been run.
  struct Step {
    mlir::Operation *op;
    /// The calls that lead to it from the entry, outermost first.
    llvm::ArrayRef<mlir::func::CallOp> calls;
    /// The value of an operand or a result, null for a cache.
    llvm::function_ref<const Tensor *(mlir::Value)> get;
  };

  struct Options {
    /// Where the files of `deepseek.source` are. May be empty if no source has
    /// offsets; see RecipeEvaluator for the values of those.
    std::string modelFolder;
    /// The largest tensor of a recipe. The default takes 2 GiB.
    int64_t maxWeightElements = int64_t(1) << 28;
    /// The adapter of each sequence, -1: none, as it is for those after the
    /// last.
    llvm::SmallVector<int32_t> adapters = {};
    /// If set, is shown each op but calls and returns, when it has been run; a
    /// failure ends the run.
    std::function<mlir::LogicalResult(const Step &)> observe = nullptr;
  };

  /// \p module must outlive the interpreter and must not change under it.
  Interpreter(mlir::ModuleOp module, Options options);
  ~Interpreter();

  /// Runs one step of \p entry, a function with the signature of a model's
  /// entry, and returns logits `[outputs, vocab]`. \p tokens, \p positions and
  /// \p sequences have one entry per token; \p outputs are rows of the step.
  /// The KV cache is kept from one call to the next; a token at a position
  /// that its sequence has already replaces that entry.
  ///
  /// Fails with a diagnostic, at the op that is at fault, on anything that is
  /// out of bounds or not supported. The cache then holds a part of the step.
  mlir::FailureOr<Tensor> run(llvm::StringRef entry,
                              llvm::ArrayRef<int32_t> tokens,
                              llvm::ArrayRef<int32_t> positions,
                              llvm::ArrayRef<int32_t> sequences,
                              llvm::ArrayRef<int32_t> outputs);

  /// Calls any function of the module. \p arguments has one tensor for each
  /// argument, of rank 0 for an index; that of a cache is not read.
  mlir::FailureOr<llvm::SmallVector<Tensor>>
  call(llvm::StringRef function, llvm::ArrayRef<Tensor> arguments);

  /// The values of the weight \p name, in the order of its logical shape. They
  /// are computed once and kept; the pointer is valid as long as this is.
  mlir::FailureOr<const Tensor *> getWeight(llvm::StringRef name);

  /// Forgets every token of every sequence.
  void clearCache() {
    cache.clear();
    compressedCache.clear();
  }

private:
  using TensorPtr = std::shared_ptr<const Tensor>;
  class Frame;

  /// What one token leaves in one layer of the cache. MLA keeps its latent as
  /// `value` and the rotary key as `key`; `index` is the key of an indexer.
  struct CacheEntry {
    std::vector<double> key, value, index;
  };
  /// The tokens of one sequence in one layer, by position.
  using CacheEntries = std::map<int64_t, CacheEntry>;

  mlir::FailureOr<llvm::SmallVector<TensorPtr>>
  callFunction(mlir::Operation *caller, mlir::func::FuncOp function,
               llvm::ArrayRef<TensorPtr> arguments);
  mlir::FailureOr<TensorPtr> lookupWeight(mlir::Location loc,
                                          llvm::StringRef name);

  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  llvm::SmallVector<int32_t> adapters;
  Tensor sequences; ///< Of the rows of the step.
  std::function<mlir::LogicalResult(const Step &)> observe;
  llvm::SmallVector<mlir::func::CallOp> calls;
  RecipeEvaluator recipes;
  llvm::StringMap<TensorPtr> weights;
  /// By the weight that adapters change.
  llvm::DenseMap<const Tensor *, AdaptersOp> changes;
  std::map<std::pair<int64_t, int64_t>, CacheEntries> cache;
  CompressedCache compressedCache;
  unsigned depth = 0;
};

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_REFERENCE_REFERENCE_H
