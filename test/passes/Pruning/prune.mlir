// Layers, experts, channels and heads that go: what is cut, by what, and what is left.

// DEFINE: %{model} = %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir
// RUN: hadal-opt %{model} -deepseek-prune-layers="amount=1" | FileCheck %s --check-prefix=LAYERS
// RUN: hadal-opt %{model} -deepseek-prune-heads="amount=50%" | FileCheck %s --check-prefix=HEADS
// RUN: hadal-opt %source/test/passes/Quantization/Inputs/moe.mlir -deepseek-prune-experts="amount=2 assume=true" | FileCheck %s --check-prefix=EXPERTS
// RUN: not hadal-opt %source/test/passes/Quantization/Inputs/moe.mlir -deepseek-prune-experts="amount=2" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not hadal-opt %{model} -deepseek-prune-experts="amount=25% assume=true" 2>&1 | FileCheck %s --check-prefix=TOO-FEW
// RUN: not hadal-opt %{model} -deepseek-prune-layers="amount=2" 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: not hadal-opt %{model} -deepseek-prune-layers="amount=140%" 2>&1 | FileCheck %s --check-prefix=AMOUNT
// RUN: not hadal-opt %{model} -deepseek-prune-heads="amount=2" 2>&1 | FileCheck %s --check-prefix=NO-HEAD

// The deepest but the last goes; the cache and the numbers of layers follow.
// LAYERS: deepseek.model @tiny vocab 24 hidden 16 layers 1
// LAYERS-NOT: deepseek.weight @layers.0.q_a :
// LAYERS: deepseek.weight @layers.1.q_a :
// LAYERS: func.func @forward({{.+}}layers = 1,
// LAYERS: %[[ZERO:.+]] = arith.constant 0 : index
// LAYERS: call @attention(%{{[^)]+}}, %[[ZERO]],
// LAYERS-NOT: call @attention

// HEADS: deepseek.weight @layers.0.q_b : tensor<10x12xbf16>
// HEADS: %[[Q:.+]] = deepseek.source
// HEADS-NEXT: %[[VIEW:.+]] = deepseek.reshape %[[Q]] : tensor<20x12xbf16> -> tensor<2x10x12xbf16>
// HEADS-NEXT: %[[O:.+]] = deepseek.source {{.+}} : tensor<16x10xbf16>
// HEADS-NEXT: %[[I:.+]] = deepseek.importance %[[O]] group 5 : tensor<16x10xbf16> -> tensor<2xf32>
// HEADS-NEXT: %[[KEPT:.+]] = deepseek.select %[[VIEW]] by %[[I]] axis 0 keep 1 groups 1 : tensor<2x10x12xbf16>, tensor<2xf32> -> tensor<1x10x12xbf16>
// HEADS-NEXT: deepseek.reshape %[[KEPT]] : tensor<1x10x12xbf16> -> tensor<10x12xbf16>
// HEADS: deepseek.weight @layers.0.kv_b : tensor<11x8xbf16>
// HEADS: deepseek.weight @layers.0.o : tensor<16x5xbf16>
// HEADS: deepseek.latent_attention {{.+}} heads 1 scale

// EXPERTS: deepseek.weight @router : tensor<2x64xbf16>
// EXPERTS: deepseek.source "router.mass" in [] at [] : tensor<4xf32>
// EXPERTS-NEXT: deepseek.select %{{.+}} by %{{.+}} axis 0 keep 2 groups 1 : tensor<4x64xbf16>, tensor<4xf32> -> tensor<2x64xbf16>
// EXPERTS: deepseek.weight @experts.down : tensor<2x64x32xbf16>
// EXPERTS: deepseek.router {{.+}} experts = 2, top_k = 2,

// UNKNOWN: expects to know how often each expert is chosen, but there is no '@statistics.router.mass'; calibrate
// TOO-FEW: expects to keep 3 experts that a token can choose, but of 8 without 4, it can choose 2
// ALL: expects to take out fewer layers than the 2 that there are, but got 2
// AMOUNT: expects a percentage of layers above 0% and below 100%, or a number of 1 or more, but got '140%'
// NO-HEAD: expects to take out 1 to 1 of 2 heads, but got 2
