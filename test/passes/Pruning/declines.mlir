// What the passes that take parts of a model away leave alone, or refuse, and what they say about it.

// DEFINE: %{model} = %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir
// DEFINE: %{moe} = %source/test/passes/Quantization/Inputs/moe.mlir
// DEFINE: %{narrow} = %source/test/passes/Pruning/prune-channels.mlir
// DEFINE: %{gated} = %source/test/passes/Pruning/gate-layers.mlir

// Without statistics.
// RUN: hadal-opt %{model} -deepseek-prune-layers="amount=1" -deepseek-prune-heads="amount=50%" -o %t 2>&1 | FileCheck %s --check-prefix=ALONE
// RUN: sed -e 's/@statistics.down.moment/@statistics.other.moment/' %{narrow} | hadal-opt -deepseek-prune-channels="amount=40%" -o %t 2>&1 | FileCheck %s --check-prefix=CHANNELS-ALONE
// RUN: sed -e 's/{deepseek.block_influence = .*}$//' %{gated} | not hadal-opt -deepseek-gate-layers="count=1 percent=30" 2>&1 | FileCheck %s --check-prefix=GATE-ALONE
// ALONE: remark: takes out the deepest layers but the last: nothing says what each changes
// ALONE: remark: judges heads by their weights alone: nothing says what they carry
// CHANNELS-ALONE: remark: judges channels by their weights alone: nothing says what they carry
// GATE-ALONE: error: 'deepseek.model' op expects to know what each layer changes, but has no deepseek.block_influence; calibrate

// What would lose nothing, or everything.
// RUN: hadal-opt %{narrow} -deepseek-prune-channels="amount=1" -o %t 2>&1 | FileCheck %s --check-prefix=FEW
// RUN: grep 'tensor<96x8xf32>' %t
// RUN: not hadal-opt %{narrow} -deepseek-prune-channels="amount=96" 2>&1 | FileCheck %s --check-prefix=MANY
// FEW: remark: keeps its 96 channels: what is left is a multiple of 32
// MANY: error: 'deepseek.swiglu' op expects to keep channels, but of 96, 96 are to go

// Integers.
// DEFINE: %{int8} = hadal-opt %{moe} -deepseek-quantize="scheme=int8"
// RUN: not %{int8} -deepseek-prune-channels="amount=40%" 2>&1 | FileCheck %s --check-prefix=CHANNELS
// RUN: not %{int8} -deepseek-merge-experts="count=2" 2>&1 | FileCheck %s --check-prefix=MERGE
// RUN: not hadal-opt %source/test/passes/Pruning/prune-heads-grouped.mlir -deepseek-quantize="scheme=int8-g32" -deepseek-prune-heads="amount=50%" 2>&1 | FileCheck %s --check-prefix=HEADS
// CHANNELS: error: 'deepseek.experts' op expects weights without scales, to take channels away
// MERGE: error: 'deepseek.experts' op expects weights that are not integers, to merge experts
// HEADS: error: 'deepseek.attention' op expects products of its own around it, of weights without scales, to take heads away

// Layers that cannot be skipped, weights that two layers cannot be told apart by, and experts that a table chooses.
// RUN: not hadal-opt %{model} -deepseek-gate-layers="count=1 assume=true" 2>&1 | FileCheck %s --check-prefix=GATE
// RUN: hadal-opt %{gated} -deepseek-insert-probes -o %t 2>&1 | FileCheck %s --check-prefix=PROBES
// RUN: hadal-translate --import-hf --weights=none %source/test/lib/Import/Inputs/DeepSeek-V4-Pro | hadal-opt -deepseek-order-experts="assume=true" -deepseek-reduce-active-experts="top-k=2" -o %t 2>&1 | FileCheck %s --check-prefix=TABLE
// GATE: error: 'deepseek.latent_attention' op is in a layer that tokens are to skip, which is not supported
// PROBES: remark: has a weight that no name of a layer's stands for, and gets no statistics
// TABLE-DAG: remark: keeps its experts in their order: its table chooses
// TABLE-DAG: remark: keeps the experts that its table has of each token
