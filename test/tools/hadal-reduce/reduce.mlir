// The dialects and passes are known; a function that does not matter goes.

// REQUIRES: hadal-reduce
// RUN: hadal-reduce %s -reduction-tree='traversal-mode=0 test=%S/Inputs/has-swiglu.sh' | FileCheck %s

// CHECK-NOT: @other
// CHECK: deepseek.swiglu
func.func @other(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = deepseek.add %x, %x : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

func.func @gate(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = deepseek.swiglu %x, %x : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
