// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What passes that take parts of a model away have in common: finding the
// weights behind a value, cutting them in their recipes, and retyping all that
// passes them on.

#ifndef HADAL_PASSES_PRUNING_PRUNER_H
#define HADAL_PASSES_PRUNING_PRUNER_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"

namespace hadal {

/// How much is to go: "25%" or "3".
struct PruneAmount {
  double percent = 0; ///< Above 0 and below 100, or 0.
  int64_t count = 0;  ///< Above 0, or 0 with a percentage.
};

/// Reads \p text, the amount of \p what. On an error returns nothing and says
/// in \p error what is wrong.
std::optional<PruneAmount> parsePruneAmount(llvm::StringRef what,
                                            llvm::StringRef text,
                                            std::string &error);

/// The weights that one value stands for: one, or, for an argument of a
/// function, one for each call. Each is read there and nowhere else.
struct PrunedWeight {
  mlir::Value value;
  llvm::SmallVector<deepseek::WeightOp> weights;
};

/// Of the model: by how much each layer changes what it reads.
inline constexpr llvm::StringLiteral influenceName = "deepseek.block_influence";

/// The calls of \p entry that are layers, in order. A call with a cache that is
/// not from activations to activations, with the number of its layer, gets an
/// error.
mlir::FailureOr<llvm::SmallVector<mlir::func::CallOp>>
findLayers(mlir::func::FuncOp entry);

/// The operand of \p call that is the number of its layer; -1 if none is.
int64_t findLayerOperand(mlir::func::CallOp call);

class Pruner {
public:
  explicit Pruner(mlir::ModuleOp module);

  /// The weights behind \p value; nothing if there are none that can be cut.
  std::optional<PrunedWeight> lookup(mlir::Value value);
  /// The weights behind \p value. \p op, which reads them, gets an error if
  /// there are none that can be cut.
  mlir::FailureOr<PrunedWeight> find(mlir::Operation *op, mlir::Value value);

  /// A recipe of the importance of \p weight's input channels, \p group of them
  /// at a time, with the mean squares of the inputs where the module has them.
  /// Not part of the module; destroyed with the pruner.
  deepseek::WeightOp makeChannelImportance(deepseek::WeightOp weight,
                                           int64_t group);

  /// The statistic \p name of \p weight: `@statistics.WEIGHT.NAME`; null if the
  /// module has none.
  deepseek::WeightOp findStatistic(deepseek::WeightOp weight,
                                   llvm::StringRef name);
  /// The same, or one that no file has.
  deepseek::WeightOp findOrAssumeStatistic(deepseek::WeightOp weight,
                                           llvm::StringRef name, int64_t count);
  /// How often each expert is chosen by \p router, whose gate is \p gate; an
  /// assumed one if \p assume, else an error if the module has none.
  mlir::FailureOr<deepseek::WeightOp>
  findMass(deepseek::RouterOp router, deepseek::WeightOp gate, bool assume);

  /// Declares beside \p gate, that of a router, the weight of its map of
  /// \p experts numbers; the recipe is an empty block.
  deepseek::WeightOp declareMap(deepseek::WeightOp gate, int64_t experts);

  /// Cuts dimension \p dimension of \p pruned. Of the weight in the shape
  /// \p view, \p keep indices of \p axis stay, in \p groups ranges, by
  /// \p importance: a recipe for each of its weights. If \p sorted, they are in
  /// the order of falling importance.
  void select(PrunedWeight pruned, llvm::ArrayRef<int64_t> view, size_t axis,
              size_t dimension, int64_t keep, int64_t groups,
              llvm::ArrayRef<deepseek::WeightOp> importance,
              bool sorted = false);
  /// Cuts a dimension of a weight as it is.
  void select(PrunedWeight pruned, size_t axis, int64_t keep, int64_t groups,
              llvm::ArrayRef<deepseek::WeightOp> importance,
              bool sorted = false) {
    select(
        pruned,
        llvm::cast<mlir::RankedTensorType>(pruned.value.getType()).getShape(),
        axis, axis, keep, groups, importance, sorted);
  }

  /// Keeps the \p keep largest of \p statistic, `[n]`, in \p groups ranges.
  void keepLargest(deepseek::WeightOp statistic, int64_t keep, int64_t groups);

  /// Gives the value of \p pruned, and what is passed for it, the type that its
  /// weights have now.
  void setType(const PrunedWeight &pruned, mlir::RankedTensorType type);

  /// The value in \p op's function that stands for \p weights, one for each
  /// weight of \p beside, next to which they are passed.
  mlir::Value pass(mlir::Operation *op, const PrunedWeight &beside,
                   llvm::ArrayRef<deepseek::WeightOp> weights);
  /// Passes \p pruned, which nothing reads any more, to no function.
  void drop(const PrunedWeight &pruned);

  /// Repeats the recipe of \p of where \p builder is; returns what it yields.
  static mlir::Value inlineRecipe(mlir::OpBuilder &builder,
                                  deepseek::WeightOp of);

  /// Gives \p value, of activations, \p columns columns.
  static void setColumns(mlir::Value value, int64_t columns);

  /// Makes functions and calls of the module fit the new types, and erases
  /// weights, but for statistics, that nothing reads any more.
  void finish();

  /// Statistics that were wanted and are not there.
  int64_t numMissing = 0;

  mlir::ModuleOp module;
  mlir::SymbolTable symbols;

private:
  void cutStatistics(deepseek::WeightOp weight, llvm::ArrayRef<int64_t> view,
                     size_t axis, size_t dimension, int64_t keep,
                     int64_t groups, deepseek::WeightOp importance,
                     bool sorted);
  void cut(deepseek::WeightOp weight, llvm::ArrayRef<int64_t> view, size_t axis,
           llvm::ArrayRef<int64_t> shape, int64_t keep, int64_t groups,
           deepseek::WeightOp importance, bool sorted);

  llvm::MapVector<mlir::Operation *, llvm::SmallVector<mlir::func::CallOp>>
      callsOf;
  /// Holds recipes that are no part of the module yet.
  mlir::OwningOpRef<mlir::ModuleOp> scratch;
};

/// Erases weights that nothing reads, but for statistics, and reads of weights
/// that nothing uses.
void eraseUnusedWeights(mlir::ModuleOp module);

} // namespace hadal

#endif // HADAL_PASSES_PRUNING_PRUNER_H
