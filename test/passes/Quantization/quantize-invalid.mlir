// Only a scheme that cannot be read is an error.

// RUN: not hadal-opt %s -deepseek-quantize="scheme=int5" 2>&1 | FileCheck %s --check-prefix=PRESET
// RUN: not hadal-opt %s -deepseek-quantize="scheme=" 2>&1 | FileCheck %s --check-prefix=EMPTY
// RUN: not hadal-opt %s -deepseek-quantize="scheme=mixed,norms=int8" 2>&1 | FileCheck %s --check-prefix=CLASS
// RUN: not hadal-opt %s -deepseek-quantize="scheme=experts=int4" 2>&1 | FileCheck %s --check-prefix=TYPE

// PRESET: error: expects a scheme like int8, int4-g32, mixed or experts=int4-g32,attention=int8-g128, but got 'int5'
// EMPTY: error: expects a scheme like {{.*}}, but got ''
// CLASS: error: expects a class of weights, experts, attention, ffn, shared, head, heads, embedding, but got 'norms'
// TYPE: error: expects int8, int8-g32, {{.*}} or none for experts, but got 'int4'

// RUN: not hadal-opt %s -deepseek-quantize="method=best" 2>&1 | FileCheck %s --check-prefix=METHOD
// METHOD: error: expects a method of rtn, imatrix, awq, smoothquant or gptq, but got 'best'
