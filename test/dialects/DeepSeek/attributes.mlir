// Every attribute and type prints as it was written.

// RUN: hadal-opt %s | hadal-opt | FileCheck %s
// RUN: hadal-opt %s --emit-bytecode | hadal-opt | FileCheck %s

// CHECK: func.func private @rotary() attributes {rotary = #deepseek.rotary<dim = 64, theta = 1.000000e+04 : f64, layout = half_split>}
func.func private @rotary() attributes {rotary = #deepseek.rotary<dim = 64, theta = 1.0e4 : f64, layout = half_split>}

// CHECK: func.func private @linear() attributes {rotary = #deepseek.rotary<dim = 64, theta = 1.000000e+04 : f64, layout = half_split, scaling = #deepseek.linear_scaling<factor = 4.000000e+00 : f64>>}
func.func private @linear() attributes {rotary = #deepseek.rotary<dim = 64, theta = 1.0e4 : f64, layout = half_split, scaling = #deepseek.linear_scaling<factor = 4.0 : f64>>}

// CHECK: func.func private @llama3() attributes {scaling = #deepseek.llama3_scaling<factor = 8.000000e+00 : f64, low_freq_factor = 1.000000e+00 : f64, high_freq_factor = 4.000000e+00 : f64, original = 8192>}
func.func private @llama3() attributes {scaling = #deepseek.llama3_scaling<factor = 8.0 : f64, low_freq_factor = 1.0 : f64, high_freq_factor = 4.0 : f64, original = 8192>}

// CHECK: func.func private @yarn() attributes {rotary = #deepseek.rotary<dim = 64, theta = 1.000000e+04 : f64, layout = interleaved, scaling = #deepseek.yarn_scaling<factor = 4.000000e+01 : f64, original = 4096, beta_fast = 3.200000e+01 : f64, beta_slow = 1.000000e+00 : f64, attention_factor = 1.000000e+00 : f64, truncate = true>>}
func.func private @yarn() attributes {rotary = #deepseek.rotary<dim = 64, theta = 1.0e4 : f64, layout = interleaved, scaling = #deepseek.yarn_scaling<factor = 40.0 : f64, original = 4096, beta_fast = 32.0 : f64, beta_slow = 1.0 : f64, attention_factor = 1.0 : f64, truncate = true>>}

// CHECK: func.func private @greedy() attributes {routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 64, top_k = 6, groups = 1, top_groups = 1, normalize = false, scale = 1.000000e+00 : f64>}
func.func private @greedy() attributes {routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 64, top_k = 6, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64>}

// CHECK: func.func private @group_limited() attributes {routing = #deepseek.routing<scoring = softmax, method = group_limited_greedy, experts = 160, top_k = 6, groups = 8, top_groups = 3, normalize = false, scale = 1.600000e+01 : f64>}
func.func private @group_limited() attributes {routing = #deepseek.routing<scoring = softmax, method = group_limited_greedy, experts = 160, top_k = 6, groups = 8, top_groups = 3, normalize = false, scale = 16.0 : f64>}

// CHECK: func.func private @noaux_tc() attributes {routing = #deepseek.routing<scoring = sigmoid, method = noaux_tc, experts = 256, top_k = 8, groups = 8, top_groups = 4, normalize = true, scale = 2.500000e+00 : f64>}
func.func private @noaux_tc() attributes {routing = #deepseek.routing<scoring = sigmoid, method = noaux_tc, experts = 256, top_k = 8, groups = 8, top_groups = 4, normalize = true, scale = 2.5 : f64>}

// CHECK: func.func private @tiled(tensor<64x32xbf16, #deepseek.tiled<rows = 16>>)
func.func private @tiled(tensor<64x32xbf16, #deepseek.tiled<rows = 16>>)
// CHECK: func.func private @records(tensor<64x128xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576, tiles = 2>>>)
func.func private @records(tensor<64x128xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576, tiles = 2>>>)

// CHECK: func.func private @caches(!deepseek.kv_cache<kind = heads, layers = 30, heads = 32, key_dim = 128, value_dim = 128, element = f32>, !deepseek.kv_cache<kind = latent, layers = 61, heads = 1, key_dim = 576, value_dim = 512, element = f32>)
func.func private @caches(!deepseek.kv_cache<kind = heads, layers = 30, heads = 32, key_dim = 128, value_dim = 128, element = f32>, !deepseek.kv_cache<kind = latent, layers = 61, heads = 1, key_dim = 576, value_dim = 512, element = f32>)

// CHECK: func.func private @small_caches(!deepseek.kv_cache<kind = heads, layers = 30, heads = 32, key_dim = 128, value_dim = 128, element = bf16>, !deepseek.kv_cache<kind = latent, layers = 61, heads = 1, key_dim = 576, value_dim = 512, element = f16>, !deepseek.kv_cache<kind = latent, layers = 61, heads = 1, key_dim = 576, value_dim = 512, element = i8, group = 64>)
func.func private @small_caches(!deepseek.kv_cache<kind = heads, layers = 30, heads = 32, key_dim = 128, value_dim = 128, element = bf16>, !deepseek.kv_cache<kind = latent, layers = 61, heads = 1, key_dim = 576, value_dim = 512, element = f16>, !deepseek.kv_cache<kind = latent, layers = 61, heads = 1, key_dim = 576, value_dim = 512, element = i8, group = 64>)
