// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each op of a model computes, in a program or in the reference
// interpreter, and where two of them part.

#ifndef HADAL_COMPILER_OPVALUES_H
#define HADAL_COMPILER_OPVALUES_H

#include "lib/Compiler/Outputs.h"

#include "absl/status/statusor.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace hadal {

/// One result of one op, for all tokens.
struct OpValues {
  std::string name;   ///< "layers.3.self_attn.q_proj", "layers.3.swiglu".
  std::string op;     ///< Of the deepseek dialect: "linear".
  std::string kernel; ///< Of a program; empty in the interpreter.
  std::string layer;  ///< "layers.3", if it is in the function of one.
  int64_t rows = 0, columns = 0;
  std::vector<double> values; ///< [rows, columns]
  /// The same for what is the same in another build: the name of a weight, or
  /// the how-manieth op of its kind it is in its layer.
  std::string key;
};

/// Runs \p path, a program of hadalc or a model as importModel() and hadalc
/// take it, on \p tokens, which are one sequence, and returns results of f32 in
/// the order of the model, those that are made of others' columns left out.
///
/// - kNotFound, kInvalidArgument: it cannot be run.
/// - kUnimplemented: as importModel().
absl::StatusOr<std::vector<OpValues>>
recordValues(const std::string &path, const std::vector<int32_t> &tokens,
             Outputs &outputs);

/// How far a result is from another one.
struct OpDifference {
  const OpValues *first, *second;
  double error = 0; ///< Largest, as a share of the largest |value| of `first`.
  int64_t row = 0, column = 0; ///< Where it is.
};

/// The results that both have, in the order of \p first, compared. A NaN that
/// one side alone has is an infinite error; a result of another shape is as if
/// it were not there.
std::vector<OpDifference> compareValues(const std::vector<OpValues> &first,
                                        const std::vector<OpValues> &second);

/// The weight that \p value is, in a function that \p calls lead to; empty if
/// it is none.
llvm::StringRef findWeight(mlir::Value value,
                           llvm::ArrayRef<mlir::func::CallOp> calls);

/// The name of \p op, in a function that \p calls lead to: that of the first
/// weight that it reads, or, if it reads none, its own after its layer's.
std::string nameOp(mlir::Operation *op,
                   llvm::ArrayRef<mlir::func::CallOp> calls);

} // namespace hadal

#endif // HADAL_COMPILER_OPVALUES_H
