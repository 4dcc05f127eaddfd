// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes that run a module instead of changing it.

#ifndef HADAL_DEEPSEEK_REFERENCE_PASSES
#define HADAL_DEEPSEEK_REFERENCE_PASSES

include "mlir/Pass/PassBase.td"

def DeepSeekRun : Pass<"deepseek-run", "::mlir::ModuleOp"> {
  let summary = "Runs the model's entry in the reference interpreter";
  let description = [{
    Shows what a module computes, and holds passes to it. Activations are f64,
    weights have the values of their stored type. Prints the logits, one line a
    row, and leaves the module as it is.

        hadal-opt tiny.mlir -deepseek-run="tokens=1,2,3 folder=model"

    Sources without offsets have made-up values, the same in every run, so that
    a test of a pass needs no files. With `check`, the first run prints nothing
    and stores its logits on the module, as `deepseek.reference_logits`, and
    any later one fails where it differs by more than `check` times the
    largest magnitude of the logits:

        hadal-opt tiny.mlir -deepseek-run="tokens=1,2,3 check=1e-12"
            -deepseek-absorb-latent-attention
            -deepseek-run="tokens=1,2,3 check=1e-12"

    Fails if the module has no `deepseek.model`, if an op is not one that the
    reference knows, or if a token, position or file is out of bounds.
  }];
  let options = [
    ListOption<"tokens", "tokens", "int32_t", "Token ids">,
    ListOption<"positions", "positions", "int32_t",
        "Position of each token; by default, tokens of a sequence are "
        "consecutive and the first is at 0">,
    ListOption<"sequences", "sequences", "int32_t",
        "Sequence of each token; by default, all are of sequence 0">,
    ListOption<"adapters", "adapters", "int32_t",
        "Adapter of each sequence, -1 for none; by default, none have one">,
    Option<"chunk", "chunk", "unsigned", /*default=*/"0",
        "Tokens in one step; 0 is all of them">,
    Option<"folder", "folder", "std::string", /*default=*/"\"\"",
        "Folder that the files of sources are in">,
    Option<"npy", "npy", "std::string", /*default=*/"\"\"",
        "File to write the logits to, in NumPy's format and f64, in place of "
        "printing them">,
    Option<"check", "check", "double", /*default=*/"-1",
        "Tolerance of the comparison with the first run; negative is none">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

#endif // HADAL_DEEPSEEK_REFERENCE_PASSES
