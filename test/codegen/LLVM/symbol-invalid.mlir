// RUN: not hadal-opt %s -convert-rt-to-llvm=symbol=2nd 2>&1 | FileCheck %s
// RUN: not hadal-opt %s -convert-rt-to-llvm=symbol=a.b 2>&1 | FileCheck %s --check-prefix=DOT
// RUN: not hadal-opt %s -convert-rt-to-llvm=lesser=a.b 2>&1 | FileCheck %s --check-prefix=DOT

// CHECK: error: expects a symbol that is an identifier of C, but got '2nd'
// DOT: error: expects a symbol that is an identifier of C, but got 'a.b'
module {}
