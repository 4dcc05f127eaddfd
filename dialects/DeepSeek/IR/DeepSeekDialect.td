// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The deepseek dialect: what a model of the family computes, in its own words.

#ifndef HADAL_DEEPSEEK_DIALECT
#define HADAL_DEEPSEEK_DIALECT

include "mlir/IR/DialectBase.td"

def DeepSeek_Dialect : Dialect {
  let name = "deepseek";
  let cppNamespace = "::hadal::deepseek";
  let summary = "Language models of the DeepSeek family";
  let description = [{
    One op a model concept. Activations are `tensor<?xNxf32>`: a flat batch of
    tokens, each with its sequence and its position in it, so that prefill,
    decode and continuous batching are one program. Weights are symbols
    (`deepseek.weight`) with a recipe of where their bytes are and what is done
    to them; no weight data lives in the IR.

    Every choice on which generations differ (rotary layout, scaling formula,
    routing rule) is an explicit attribute. A combination that no generation
    uses is refused, unless the op carries `unchecked`.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let hasConstantMaterializer = 0;
}

#endif // HADAL_DEEPSEEK_DIALECT
