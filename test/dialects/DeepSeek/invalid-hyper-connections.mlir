// A case per constraint of hyper-connections.

// RUN: hadal-opt %s -split-input-file -verify-diagnostics

func.func @hyper_expand_c1(%x: tensor<?x16xf32>) {
  // expected-error @below {{'deepseek.hyper_expand' op expects a result of 3 > 0 times the columns of 'tensor<?x16xf32>', but got 'tensor<?x64xf32>'}}
  %0 = deepseek.hyper_expand %x streams 3 : tensor<?x16xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @hyper_mix_c1(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects from 1 to 8 streams, but got 16}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 16 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c1_divide(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects streams that divide 64 columns, but got 3}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 3 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c2(%x: tensor<?x64xf32>, %fn: tensor<20x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects weight of shape 24x64, but got 'tensor<20x64xf32>'}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<20x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c2_base(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<16xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects base of shape 24, but got 'tensor<16xf32>'}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<16xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c2_scale(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<1xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects scale of shape 3, but got 'tensor<1xf32>'}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<1xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c3(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects sublayer of shape ?x16, but got 'tensor<?x32xf32>'}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x32xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c3_post(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects post of shape ?x4, but got 'tensor<?x2xf32>'}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x2xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c3_comb(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects comb of shape ?x16, but got 'tensor<?x8xf32>'}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @hyper_mix_c4(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects iterations > 0, but got 0}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 0 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c4_norm(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects norm_epsilon > 0, but got 0.000000e+00 : f32}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 0.0 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_mix_c4_epsilon(%x: tensor<?x64xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_mix' op expects epsilon > 0, but got 0.000000e+00 : f32}}
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 0.0 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_update_c1(%x: tensor<?x64xf32>, %y: tensor<?x8xf32>, %post: tensor<?x4xf32>, %comb: tensor<?x16xf32>) {
  // expected-error @below {{'deepseek.hyper_update' op expects input of 4 times the columns of 'tensor<?x8xf32>', but got 'tensor<?x64xf32>'}}
  %0 = deepseek.hyper_update %x, %y, %post, %comb : tensor<?x64xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @hyper_update_c1_comb(%x: tensor<?x64xf32>, %y: tensor<?x16xf32>, %post: tensor<?x4xf32>, %comb: tensor<?x4xf32>) {
  // expected-error @below {{'deepseek.hyper_update' op expects comb of shape ?x16, but got 'tensor<?x4xf32>'}}
  %0 = deepseek.hyper_update %x, %y, %post, %comb : tensor<?x64xf32>, tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @hyper_head_c1(%x: tensor<?x64xf32>, %fn: tensor<4x64xf32>, %base: tensor<4xf32>, %scale: tensor<1xf32>) {
  // expected-error @below {{'deepseek.hyper_head' op expects from 1 to 8 streams, but got 0}}
  %0 = deepseek.hyper_head %x, %fn, %base, %scale streams 0 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<4x64xf32>, tensor<4xf32>, tensor<1xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @hyper_head_c1_result(%x: tensor<?x64xf32>, %fn: tensor<4x64xf32>, %base: tensor<4xf32>, %scale: tensor<1xf32>) {
  // expected-error @below {{'deepseek.hyper_head' op expects a result of shape ?x16, but got 'tensor<?x64xf32>'}}
  %0 = deepseek.hyper_head %x, %fn, %base, %scale streams 4 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<4x64xf32>, tensor<4xf32>, tensor<1xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @hyper_head_c2(%x: tensor<?x64xf32>, %fn: tensor<4x16xf32>, %base: tensor<4xf32>, %scale: tensor<1xf32>) {
  // expected-error @below {{'deepseek.hyper_head' op expects weight of shape 4x64, but got 'tensor<4x16xf32>'}}
  %0 = deepseek.hyper_head %x, %fn, %base, %scale streams 4 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<4x16xf32>, tensor<4xf32>, tensor<1xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @hyper_head_c2_base(%x: tensor<?x64xf32>, %fn: tensor<4x64xf32>, %base: tensor<1xf32>, %scale: tensor<1xf32>) {
  // expected-error @below {{'deepseek.hyper_head' op expects base of shape 4, but got 'tensor<1xf32>'}}
  %0 = deepseek.hyper_head %x, %fn, %base, %scale streams 4 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<4x64xf32>, tensor<1xf32>, tensor<1xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @hyper_head_c2_scale(%x: tensor<?x64xf32>, %fn: tensor<4x64xf32>, %base: tensor<4xf32>, %scale: tensor<3xf32>) {
  // expected-error @below {{'deepseek.hyper_head' op expects scale of shape 1, but got 'tensor<3xf32>'}}
  %0 = deepseek.hyper_head %x, %fn, %base, %scale streams 4 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<4x64xf32>, tensor<4xf32>, tensor<3xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @hyper_head_c3(%x: tensor<?x64xf32>, %fn: tensor<4x64xf32>, %base: tensor<4xf32>, %scale: tensor<1xf32>) {
  // expected-error @below {{'deepseek.hyper_head' op expects epsilon > 0, but got 0.000000e+00 : f32}}
  %0 = deepseek.hyper_head %x, %fn, %base, %scale streams 4 norm_epsilon 1.0e-6 epsilon 0.0 : tensor<?x64xf32>, tensor<4x64xf32>, tensor<4xf32>, tensor<1xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @hyper_head_c3_norm(%x: tensor<?x64xf32>, %fn: tensor<4x64xf32>, %base: tensor<4xf32>, %scale: tensor<1xf32>) {
  // expected-error @below {{'deepseek.hyper_head' op expects norm_epsilon > 0, but got 0.000000e+00 : f32}}
  %0 = deepseek.hyper_head %x, %fn, %base, %scale streams 4 norm_epsilon 0.0 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<4x64xf32>, tensor<4xf32>, tensor<1xf32> -> tensor<?x16xf32>
  return
}
