// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rt dialect: the host program of a compiled model, and its kernels.

#ifndef HADAL_RT_DIALECT
#define HADAL_RT_DIALECT

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/DialectBase.td"
include "mlir/IR/EnumAttr.td"

def RT_Dialect : Dialect {
  let name = "rt";
  let cppNamespace = "::hadal::rt";
  let summary = "The host program of a model: dispatches over one arena";
  let description = [{
    A host function takes `!rt.step` and walks a fixed list of dispatches. Each
    runs a kernel over work items on the runtime's threads and returns when all
    are done. Buffers are slices of the arena, of the weights or of the KV
    pages; kernels see them as memrefs whose rows may be wider than they say
    (strided), so that every row starts on a 64-byte boundary.

    The dialect lowers to the structures of `runtime/include/hadal_rt/abi.h`.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
}

def RT_StepType : TypeDef<RT_Dialect, "Step"> {
  let mnemonic = "step";
  let summary = "One forward step: what `hadal_rt_step_t` is in C";
}

#endif // HADAL_RT_DIALECT
