// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rt dialect and its operations.

#ifndef HADAL_DIALECTS_RT_RTOPS_H
#define HADAL_DIALECTS_RT_RTOPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

#include "dialects/RT/IR/RTDialect.h.inc"
#include "dialects/RT/IR/RTEnums.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/RT/IR/RTTypes.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/RT/IR/RTAttrs.h.inc"

#define GET_OP_CLASSES
#include "dialects/RT/IR/RTOps.h.inc"

namespace hadal::rt {

/// Attribute of a program: the names of the adapters that a sequence may
/// choose.
inline constexpr char adaptersAttrName[] = "rt.adapters";

/// Those of \p program as hadal_rt_model_t has them, but for the NUL after the
/// last.
std::string joinAdapterNames(ProgramOp program);

/// Every row of a buffer and every weight starts at a multiple of this.
constexpr int64_t alignmentBytes = 64;

/// Attributes of a function that is a graph of tensors, no step of a language
/// model: names of inputs and outputs, and their types, with signs; the weight
/// that an argument is; and what planning and the compiler add.
inline constexpr char graphInputsAttrName[] = "rt.inputs";
inline constexpr char graphInputTypesAttrName[] = "rt.input_types";
inline constexpr char graphOutputsAttrName[] = "rt.outputs";
inline constexpr char graphOutputTypesAttrName[] = "rt.output_types";
inline constexpr char graphWeightAttrName[] = "rt.weight";
inline constexpr char graphWeightsBytesAttrName[] = "rt.weights_bytes";
inline constexpr char graphArenaBytesAttrName[] = "rt.arena_bytes";
inline constexpr char graphNameAttrName[] = "rt.name";
inline constexpr char graphHashAttrName[] = "rt.layout_hash";
inline constexpr char graphCpuFeaturesAttrName[] = "rt.cpu_features";

} // namespace hadal::rt

#endif // HADAL_DIALECTS_RT_RTOPS_H
