// A case for each parameter of an attribute or type that is checked.

// RUN: hadal-opt %s -split-input-file -verify-diagnostics

// expected-error @below {{expects dim to be even and positive, but got 7}}
func.func private @rotary_dim() attributes {a = #deepseek.rotary<dim = 7, theta = 1.0e4 : f64, layout = half_split>}

// -----

// expected-error @below {{expects dim to be even and positive, but got 0}}
func.func private @rotary_dim_zero() attributes {a = #deepseek.rotary<dim = 0, theta = 1.0e4 : f64, layout = half_split>}

// -----

// expected-error @below {{expects theta > 1.000000e+00, but got 1.000000e+00}}
func.func private @rotary_theta() attributes {a = #deepseek.rotary<dim = 8, theta = 1.0 : f64, layout = half_split>}

// -----

// expected-error @below {{expects theta to be f64, but got 1.000000e+04 : f32}}
func.func private @rotary_theta_type() attributes {a = #deepseek.rotary<dim = 8, theta = 1.0e4 : f32, layout = half_split>}

// -----

// expected-error @below {{expects theta > 1.000000e+00, but got nan}}
func.func private @rotary_theta_nan() attributes {a = #deepseek.rotary<dim = 8, theta = 0x7FF8000000000000 : f64, layout = half_split>}

// -----

// expected-error @below {{expects a linear, llama3 or yarn scaling, but got 1 : i64}}
func.func private @rotary_scaling() attributes {a = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = half_split, scaling = 1 : i64>}

// -----

// expected-error @below {{expects factor >= 1.000000e+00, but got 5.000000e-01}}
func.func private @linear_factor() attributes {a = #deepseek.linear_scaling<factor = 0.5 : f64>}

// -----

// expected-error @below {{expects factor >= 1.000000e+00, but got 0.000000e+00}}
func.func private @llama3_factor() attributes {a = #deepseek.llama3_scaling<factor = 0.0 : f64, low_freq_factor = 1.0 : f64, high_freq_factor = 4.0 : f64, original = 8192>}

// -----

// expected-error @below {{expects low_freq_factor > 0.000000e+00, but got 0.000000e+00}}
func.func private @llama3_low() attributes {a = #deepseek.llama3_scaling<factor = 8.0 : f64, low_freq_factor = 0.0 : f64, high_freq_factor = 4.0 : f64, original = 8192>}

// -----

// expected-error @below {{expects high_freq_factor > 0.000000e+00, but got -1.000000e+00}}
func.func private @llama3_high() attributes {a = #deepseek.llama3_scaling<factor = 8.0 : f64, low_freq_factor = 1.0 : f64, high_freq_factor = -1.0 : f64, original = 8192>}

// -----

// expected-error @below {{expects high_freq_factor > low_freq_factor, but got 1.000000e+00 and 4.000000e+00}}
func.func private @llama3_order() attributes {a = #deepseek.llama3_scaling<factor = 8.0 : f64, low_freq_factor = 4.0 : f64, high_freq_factor = 1.0 : f64, original = 8192>}

// -----

// expected-error @below {{expects original > 0, but got 0}}
func.func private @llama3_original() attributes {a = #deepseek.llama3_scaling<factor = 8.0 : f64, low_freq_factor = 1.0 : f64, high_freq_factor = 4.0 : f64, original = 0>}

// -----

// expected-error @below {{expects factor >= 1.000000e+00, but got 0.000000e+00}}
func.func private @yarn_factor() attributes {a = #deepseek.yarn_scaling<factor = 0.0 : f64, original = 4096, beta_fast = 32.0 : f64, beta_slow = 1.0 : f64, attention_factor = 1.0 : f64, truncate = true>}

// -----

// expected-error @below {{expects original > 0, but got -1}}
func.func private @yarn_original() attributes {a = #deepseek.yarn_scaling<factor = 40.0 : f64, original = -1, beta_fast = 32.0 : f64, beta_slow = 1.0 : f64, attention_factor = 1.0 : f64, truncate = true>}

// -----

// expected-error @below {{expects beta_slow > 0.000000e+00, but got 0.000000e+00}}
func.func private @yarn_slow() attributes {a = #deepseek.yarn_scaling<factor = 40.0 : f64, original = 4096, beta_fast = 32.0 : f64, beta_slow = 0.0 : f64, attention_factor = 1.0 : f64, truncate = true>}

// -----

// expected-error @below {{expects beta_fast > 0.000000e+00, but got 0.000000e+00}}
func.func private @yarn_fast() attributes {a = #deepseek.yarn_scaling<factor = 40.0 : f64, original = 4096, beta_fast = 0.0 : f64, beta_slow = 1.0 : f64, attention_factor = 1.0 : f64, truncate = true>}

// -----

// expected-error @below {{expects beta_fast > beta_slow, but got 1.000000e+00 and 3.200000e+01}}
func.func private @yarn_order() attributes {a = #deepseek.yarn_scaling<factor = 40.0 : f64, original = 4096, beta_fast = 1.0 : f64, beta_slow = 32.0 : f64, attention_factor = 1.0 : f64, truncate = true>}

// -----

// expected-error @below {{expects attention_factor > 0.000000e+00, but got 0.000000e+00}}
func.func private @yarn_attention_factor() attributes {a = #deepseek.yarn_scaling<factor = 40.0 : f64, original = 4096, beta_fast = 32.0 : f64, beta_slow = 1.0 : f64, attention_factor = 0.0 : f64, truncate = true>}

// -----

// expected-error @below {{expects experts > 0, but got 0}}
func.func private @routing_experts() attributes {a = #deepseek.routing<scoring = softmax, method = greedy, experts = 0, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects top_k > 0, but got 0}}
func.func private @routing_top_k() attributes {a = #deepseek.routing<scoring = softmax, method = greedy, experts = 8, top_k = 0, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects groups > 0, but got 0}}
func.func private @routing_groups() attributes {a = #deepseek.routing<scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 0, top_groups = 1, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects top_groups > 0, but got 0}}
func.func private @routing_top_groups() attributes {a = #deepseek.routing<scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 0, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects scale > 0.000000e+00, but got 0.000000e+00}}
func.func private @routing_scale() attributes {a = #deepseek.routing<scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 0.0 : f64>}

// -----

// expected-error @below {{expects experts to be a multiple of groups, but got 8 and 3}}
func.func private @routing_multiple() attributes {a = #deepseek.routing<scoring = softmax, method = group_limited_greedy, experts = 8, top_k = 2, groups = 3, top_groups = 1, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects top_groups <= groups, but got 3 and 2}}
func.func private @routing_best_groups() attributes {a = #deepseek.routing<scoring = softmax, method = group_limited_greedy, experts = 8, top_k = 2, groups = 2, top_groups = 3, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects one group for greedy, but got 2}}
func.func private @routing_greedy_groups() attributes {a = #deepseek.routing<scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 2, top_groups = 1, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects top_k <= experts of the chosen groups, but got 3 and 2}}
func.func private @routing_too_many() attributes {a = #deepseek.routing<scoring = softmax, method = group_limited_greedy, experts = 8, top_k = 3, groups = 4, top_groups = 1, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects groups of two or more experts, whose two best are summed, but got 1}}
func.func private @routing_small_groups() attributes {a = #deepseek.routing<scoring = sigmoid, method = noaux_tc, experts = 8, top_k = 2, groups = 8, top_groups = 2, normalize = false, scale = 1.0 : f64>}

// -----

// expected-error @below {{expects tiles of 16 rows, but got 8}}
func.func private @tiled_rows(tensor<64x32xbf16, #deepseek.tiled<rows = 8>>)

// -----

// expected-error @below {{expects a tiled weight to have 2 or 3 dimensions, but got 1}}
func.func private @tiled_rank(tensor<64xbf16, #deepseek.tiled<rows = 16>>)

// -----

// expected-error @below {{expects layers > 0, but got 0}}
func.func private @kv_cache_layers(!deepseek.kv_cache<kind = heads, layers = 0, heads = 2, key_dim = 8, value_dim = 8, element = f32>)

// -----

// expected-error @below {{expects heads > 0, but got 0}}
func.func private @kv_cache_heads(!deepseek.kv_cache<kind = heads, layers = 2, heads = 0, key_dim = 8, value_dim = 8, element = f32>)

// -----

// expected-error @below {{expects key_dim > 0, but got 0}}
func.func private @kv_cache_key_dim(!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 0, value_dim = 8, element = f32>)

// -----

// expected-error @below {{expects value_dim > 0, but got -1}}
func.func private @kv_cache_value_dim(!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = -1, element = f32>)

// -----

// expected-error @below {{expects a latent cache to have one head and key_dim > value_dim, but got 2, 12 and 8}}
func.func private @kv_cache_latent_heads(!deepseek.kv_cache<kind = latent, layers = 2, heads = 2, key_dim = 12, value_dim = 8, element = f32>)

// -----

// expected-error @below {{expects a latent cache to have one head and key_dim > value_dim, but got 1, 8 and 8}}
func.func private @kv_cache_latent_dims(!deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 8, value_dim = 8, element = f32>)

// -----

// expected-error @below {{expects elements of f32, bf16, f16 or i8, but got 'f64'}}
func.func private @kv_cache_element(!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = f64>)

// -----

// expected-error @below {{expects a group for elements of i8 only, but got 8 for 'bf16'}}
func.func private @kv_cache_no_group(!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = bf16, group = 8>)

// -----

// expected-error @below {{expects group > 0, but got 0}}
func.func private @kv_cache_group(!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = i8>)

// -----

// expected-error @below {{expects a group that divides key_dim and value_dim, but got 8, 12 and 8}}
func.func private @kv_cache_group_divides(!deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = i8, group = 8>)

// -----

// expected-error @below {{expects 1, 4, 8, 16 or 32 columns, but got 2}}
func.func private @tiled_columns(tensor<64x32xbf16, #deepseek.tiled<rows = 16, columns = 2>>)

// -----

// expected-error @below {{expects tiles of 8 columns for 'i4', but got 1}}
func.func private @tiled_columns_of_type(tensor<64x32xi4, #deepseek.tiled<rows = 16>>)

// -----

// expected-error @below {{expects 16 numbers, but got 2}}
func.func private @codebook_count(tensor<4x32xui4, #deepseek.codebook<[1, 2]>>)

// -----

// expected-error @below {{expects numbers of 8 bits, but got 200}}
func.func private @codebook_bits(tensor<4x32xui4, #deepseek.codebook<[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200]>>)

// -----

// expected-error @below {{expects a table for ui4, but got 'i4'}}
func.func private @codebook_element(tensor<4x32xi4, #deepseek.codebook<[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]>>)

// -----

// expected-error @below {{expects tiles of 16 columns for 'i6', but got 8}}
func.func private @tiled_columns_of_i6(tensor<64x32xi6, #deepseek.tiled<rows = 16, columns = 8>>)

// -----

// expected-error @below {{expects rows of a multiple of 4 elements, but got 30}}
func.func private @tiled_columns_divide(tensor<64x30xi8, #deepseek.tiled<rows = 16, columns = 4>>)

// -----

// expected-error @below {{expects tokens > 0, but got 0}}
func.func private @window_tokens() attributes {a = #deepseek.window<tokens = 0, sink = 4>}

// -----

// expected-error @below {{expects sink from 0 to 2147483647, but got -1}}
func.func private @window_sink() attributes {a = #deepseek.window<tokens = 8, sink = -1>}

// -----

// expected-error @below {{expects tokens from 0 to 2147483647, but got 2147483648}}
func.func private @window_tokens_large() attributes {a = #deepseek.window<tokens = 2147483648, sink = 0>}

// -----

// expected-error @below {{expects index_dim >= 0, and 0 for kind heads, but got 4}}
func.func private @cache_index(!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32, index_dim = 4>)

// -----

// expected-error @below {{expects records of a multiple of 64 bytes, but got 96}}
func.func private @record_bytes() attributes {a = #deepseek.record<columns = 2, bytes = 96>}

// -----

// expected-error @below {{expects tiles of 1 or 2 weights, but got 3}}
func.func private @record_tiles() attributes {a = #deepseek.record<columns = 2, bytes = 64, tiles = 3>}

// -----

// expected-error @below {{expects records of a multiple of 8 columns that divides 64, but got 24}}
func.func private @record_columns(tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 24, bytes = 576>>>)

// -----

// expected-error @below {{expects records of 64 columns to fit into 448 bytes}}
func.func private @record_room(tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 448>>>)
