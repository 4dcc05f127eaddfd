// Experts that cannot be ordered, merged or taken away, each with its reason.

// RUN: not hadal-opt %s -split-input-file -deepseek-order-experts="assume=true" -o %t 2>&1 | FileCheck %s --check-prefix=ORDER
// RUN: not hadal-opt %s -split-input-file -deepseek-merge-experts="count=2" -o %t 2>&1 | FileCheck %s --check-prefix=MERGE
// RUN: not hadal-opt %s -split-input-file -deepseek-prune-experts="amount=2 assume=true" -o %t 2>&1 | FileCheck %s --check-prefix=PRUNE
// RUN: not hadal-opt %s -split-input-file -deepseek-prune-experts="amount=1 assume=true" -o %t 2>&1 | FileCheck %s --check-prefix=GROUPS
// RUN: not hadal-opt %s -split-input-file -deepseek-prune-experts="amount=5% assume=true" -o %t 2>&1 | FileCheck %s --check-prefix=SHARE

// Logits that are no product.

// ORDER: remark: keeps its experts in their order: something else reads what it chooses by, or chooses
// MERGE: error: 'deepseek.router' op expects logits that a product with a weight makes, to merge experts
// PRUNE: error: 'deepseek.router' op expects logits that a product with a weight makes, to take experts away
#routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 4, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>
deepseek.weight @gate : tensor<4x8x8xf32> {
  %0 = deepseek.source "gate" in [] at [] : tensor<4x8x8xf32>
  deepseek.yield %0 : tensor<4x8x8xf32>
}
deepseek.weight @up : tensor<4x8x8xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<4x8x8xf32>
  deepseek.yield %0 : tensor<4x8x8xf32>
}
deepseek.weight @down : tensor<4x8x8xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<4x8x8xf32>
  deepseek.yield %0 : tensor<4x8x8xf32>
}
func.func @no_product(%x: tensor<?x8xf32>, %logits: tensor<?x4xf32>) -> tensor<?x8xf32> {
  %gate = deepseek.use_weight @gate : tensor<4x8x8xf32>
  %up = deepseek.use_weight @up : tensor<4x8x8xf32>
  %down = deepseek.use_weight @down : tensor<4x8x8xf32>
  %e, %w = deepseek.router %logits by #routing : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %y = deepseek.experts %x, %e, %w gate %gate up %up down %down : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x8x8xf32>, tensor<4x8x8xf32>, tensor<4x8x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// A choice that something else reads.

// ORDER: remark: keeps its experts in their order: something else reads what it chooses by, or chooses
// MERGE: error: 'deepseek.router' op expects one 'deepseek.experts' to read what it chooses, to merge experts
// PRUNE: error: 'func.return' op reads experts in a way that does not allow to take some away
#routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 4, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>
deepseek.weight @router : tensor<4x8xf32> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x8xf32>
  deepseek.yield %0 : tensor<4x8xf32>
}
func.func @other_reader(%x: tensor<?x8xf32>) -> tensor<?x2xi32> {
  %router = deepseek.use_weight @router : tensor<4x8xf32>
  %logits = deepseek.linear %x, %router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %e, %w = deepseek.router %logits by #routing : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %e : tensor<?x2xi32>
}

// -----

// A weight that is read twice.

// ORDER: remark: keeps its experts in their order: their weights are read elsewhere, too
// MERGE: error: 'deepseek.experts' op expects a weight that is read there alone, to take a part of it away
// PRUNE: error: 'deepseek.router' op expects a weight that is read there alone, to take a part of it away
#routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 4, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>
deepseek.weight @router : tensor<4x8xf32> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x8xf32>
  deepseek.yield %0 : tensor<4x8xf32>
}
deepseek.weight @all : tensor<4x8x8xf32> {
  %0 = deepseek.source "all" in [] at [] : tensor<4x8x8xf32>
  deepseek.yield %0 : tensor<4x8x8xf32>
}
func.func @read_twice(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %router = deepseek.use_weight @router : tensor<4x8xf32>
  %all = deepseek.use_weight @all : tensor<4x8x8xf32>
  %logits = deepseek.linear %x, %router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %e, %w = deepseek.router %logits by #routing : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %y = deepseek.experts %x, %e, %w gate %all up %all down %all : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x8x8xf32>, tensor<4x8x8xf32>, tensor<4x8x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Statistics of another number of experts, and a rule with groups, of each of which as many go.

// ORDER: error: 'deepseek.router' op expects statistics of 4 experts, but those of 'router' are 'tensor<3xf32>'
// PRUNE: error: 'deepseek.router' op cannot do without experts: expects groups of two or more experts, whose two best are summed, but got 1
// GROUPS: error: 'deepseek.router' op expects to take out a multiple of 2 experts, as many of each group, but got 1
// SHARE: error: 'deepseek.router' op expects to take out an expert, but 5.00% of 2 is less than half of one
#routing = #deepseek.routing<scoring = sigmoid, method = noaux_tc, experts = 4, top_k = 1, groups = 2, top_groups = 1, normalize = true, scale = 1.0e0 : f64>
deepseek.weight @router : tensor<4x8xf32> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x8xf32>
  deepseek.yield %0 : tensor<4x8xf32>
}
deepseek.weight @bias : tensor<4xf32> {
  %0 = deepseek.source "bias" in [] at [] : tensor<4xf32>
  deepseek.yield %0 : tensor<4xf32>
}
deepseek.weight @statistics.router.mass : tensor<3xf32> {
  %0 = deepseek.source "mass" in [] at [] : tensor<3xf32>
  deepseek.yield %0 : tensor<3xf32>
}
deepseek.weight @gate : tensor<4x8x8xf32> {
  %0 = deepseek.source "gate" in [] at [] : tensor<4x8x8xf32>
  deepseek.yield %0 : tensor<4x8x8xf32>
}
deepseek.weight @up : tensor<4x8x8xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<4x8x8xf32>
  deepseek.yield %0 : tensor<4x8x8xf32>
}
deepseek.weight @down : tensor<4x8x8xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<4x8x8xf32>
  deepseek.yield %0 : tensor<4x8x8xf32>
}
func.func @groups(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %router = deepseek.use_weight @router : tensor<4x8xf32>
  %bias = deepseek.use_weight @bias : tensor<4xf32>
  %gate = deepseek.use_weight @gate : tensor<4x8x8xf32>
  %up = deepseek.use_weight @up : tensor<4x8x8xf32>
  %down = deepseek.use_weight @down : tensor<4x8x8xf32>
  %logits = deepseek.linear %x, %router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %e, %w = deepseek.router %logits bias %bias : tensor<4xf32> by #routing : tensor<?x4xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %y = deepseek.experts %x, %e, %w gate %gate up %up down %down : tensor<?x8xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<4x8x8xf32>, tensor<4x8x8xf32>, tensor<4x8x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
