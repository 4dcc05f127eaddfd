// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes that make files of a module instead of changing it.

#ifndef HADAL_COMPILER_PASSES
#define HADAL_COMPILER_PASSES

include "mlir/Pass/PassBase.td"

def Split : Pass<"split", "::mlir::ModuleOp"> {
  let summary = "Cuts a model into a test of each of its ops";
  let description = [{
    Runs the model in the reference interpreter, and writes for each op of each
    distinct layer a small model of that op alone: `NUMBER-NAME.mlir`, whose
    tokens look up the rows that the op has read, and `NUMBER-NAME.bin`, with
    those rows and the tensors of its weights. Each is a model as any other:

        hadal-opt model.mlir --split="tokens=3,1,4 folder=model output=ops" -o /dev/null
        hadalc ops/001-layers.0.self_attn.q_proj.linear.mlir -o q_proj
        hadal-diff ops/001-layers.0.self_attn.q_proj.linear.mlir q_proj --tokens 0,1,2

    The rows of token 0 are those of the first token that the model was run on,
    and so on; the model has as many tokens as the op has columns, and what is
    beyond those that were run begins again. Recorded rows are rounded to f32.
    An op that reads which experts or keys were chosen is cut out with the op
    that chooses them; of several results, the test is of the first one in f32.
    Leaves the module as it is. Ops that read token ids themselves, that only
    move rows, or that share a compressed cache with others have no test.

    Fails where the interpreter does, and if a file cannot be written.
  }];
  let options = [
    ListOption<"tokens", "tokens", "int32_t", "Token ids to run">,
    Option<"folder", "folder", "std::string", /*default=*/"\"\"",
        "Folder that the files of sources are in">,
    Option<"output", "output", "std::string", /*default=*/"\"\"",
        "Folder for the tests, made if it is not there">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

#endif // HADAL_COMPILER_PASSES
