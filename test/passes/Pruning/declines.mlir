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
// RUN: hadal-translate --import-hf --weights=none %source/test/lib/Import/Inputs/DeepSeek-V4-Pro | hadal-opt -deepseek-merge-experts="count=192" -o %t 2>&1 | FileCheck %s --check-prefix=MERGE-TABLE
// MERGE-TABLE: remark: keeps its experts, which its table chooses

// A gated network whose gate and up are one product, and layers of which nothing would be left.
// RUN: not hadal-opt %{moe} -deepseek-prune-channels="amount=50%" 2>&1 | FileCheck %s --check-prefix=SPLIT
// RUN: not hadal-opt %{model} -deepseek-prune-layers="amount=99%" 2>&1 | FileCheck %s --check-prefix=ALL-LAYERS
// SPLIT: error: 'deepseek.swiglu' op expects products of its own around it, without scales and biases, to take channels away
// ALL-LAYERS: error: 'deepseek.model' op expects to keep a layer, but 99.00% of the parameters are in all 2 of them

// What is known of another number of layers, or of tokens.
// RUN: sed -e 's/f64: 1.0e-1, /f64: /' %{gated} | not hadal-opt -deepseek-gate-layers="count=1" 2>&1 | FileCheck %s --check-prefix=INFLUENCE
// RUN: sed -e 's/f64: 1.0e-1, /f64: /' %{gated} | not hadal-opt -deepseek-prune-layers="amount=1" 2>&1 | FileCheck %s --check-prefix=INFLUENCE
// RUN: sed -e 's/tensor<101xf32>/tensor<100xf32>/' %{gated} | not hadal-opt -deepseek-gate-layers="count=1" 2>&1 | FileCheck %s --check-prefix=PERCENTILES
// INFLUENCE: error: 'deepseek.model' op expects the influence of 3 layers, but got that of 2
// PERCENTILES: error: 'deepseek.weight' op expects percentiles of 'tensor<101xf32>'

// Layers that are none: without a number, an attention or a body to copy; and too many that tokens leave behind.
// RUN: sed -e 's/arith.constant 1 : index/arith.addi %c0, %c0 : index/' %{gated} | not hadal-opt -deepseek-gate-layers="count=1" 2>&1 | FileCheck %s --check-prefix=NUMBER
// RUN: sed -e '/%a = deepseek.attention/d; s/linear %a,/linear %r,/' %{gated} | not hadal-opt -deepseek-gate-layers="count=1" 2>&1 | FileCheck %s --check-prefix=ATTENTION
// RUN: sed -e 's/func.func private @layer/func.func @layer/' %{gated} | not hadal-opt -deepseek-gate-layers="count=1" 2>&1 | FileCheck %s --check-prefix=PUBLIC
// RUN: hadal-translate --import-hf --weights=none %source/models/abyss-tiny | not hadal-opt -deepseek-gate-layers="count=2 exit-before=2 exit-percent=30 assume=true" 2>&1 | FileCheck %s --check-prefix=BEFORE
// RUN: not hadal-opt %{narrow} -deepseek-gate-layers="count=1" 2>&1 | FileCheck %s --check-prefix=NO-MODEL
// RUN: not hadal-opt %{narrow} -deepseek-insert-probes 2>&1 | FileCheck %s --check-prefix=OBSERVE
// NUMBER: error: 'func.call' op expects a layer from activations to activations, with its number, to go without it
// ATTENTION: error: 'func.func' op expects attention in a layer that tokens are to skip
// PUBLIC: error: 'func.call' op expects a private function of one result to skip
// BEFORE: error: 'deepseek.model' op expects fewer layers to skip where tokens leave by what the layer before has changed, but got 2
// NO-MODEL: error: expects a deepseek.model, whose layers tokens skip
// OBSERVE: error: expects a deepseek.model to observe
