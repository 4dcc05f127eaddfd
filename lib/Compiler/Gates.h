// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Trained gates of layers: a file, and where -deepseek-gate-layers looks.

#ifndef HADAL_COMPILER_GATES_H
#define HADAL_COMPILER_GATES_H

#include "absl/status/status.h"
#include "mlir/IR/BuiltinOps.h"

namespace hadal {

/// Name by which recipes read the file of gates.
inline constexpr char gatesFileName[] = "@gates.safetensors";

/// Declares the gates in the file \p path as weights of \p module,
/// `@layers.N.skip_gate` and `@layers.N.skip_gate.bias` in f32, whose recipes
/// read them from the file `gatesFileName`. The file has, for each layer N that
/// tokens may skip, `layers.N.skip_gate.weight`, `[hidden]` or `[1, hidden]`,
/// and maybe `layers.N.skip_gate.bias`, `[1]`, in F32, F16 or BF16, with or
/// without `model.` in front; for each that they may leave before for good,
/// `exit_gate` in place of `skip_gate`.
///
/// kInvalidArgument: it has other tensors, other shapes, a layer that the model
/// does not have, or no gate.
absl::Status attachGates(mlir::ModuleOp module, const std::string &path);

} // namespace hadal

#endif // HADAL_COMPILER_GATES_H
