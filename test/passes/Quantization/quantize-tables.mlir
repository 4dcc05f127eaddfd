// Tables whose rows are looked up, and matrices of heads: only what names them rounds them, but for a table that is the
// head, too.

// RUN: hadal-opt %s -split-input-file -deepseek-quantize="scheme=int4-g32" | FileCheck %s --check-prefixes=ALL,PRESET
// RUN: hadal-opt %s -split-input-file -deepseek-quantize="scheme=int4-g32,heads=int5-g32,embedding=int6-g64" | FileCheck %s --check-prefixes=ALL,NAMED

// PRESET: deepseek.weight @table : tensor<40x64xbf16>
// NAMED: deepseek.weight @table : tensor<40x64xi6>
// NAMED: deepseek.weight @table.scales : tensor<40x1xf16>
deepseek.weight @table : tensor<40x64xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<40x64xbf16>
  deepseek.yield %0 : tensor<40x64xbf16>
}
// PRESET: deepseek.weight @key : tensor<2x64x32xbf16>
// NAMED: deepseek.weight @key : tensor<2x64x32xi5>
// NAMED: deepseek.quantize %{{.+}} group 32
// NAMED: deepseek.weight @key.scales : tensor<2x64x1xf16>
deepseek.weight @key : tensor<2x64x32xbf16> {
  %0 = deepseek.source "key" in [] at [] : tensor<2x64x32xbf16>
  deepseek.yield %0 : tensor<2x64x32xbf16>
}
func.func @untied(%ids: tensor<?xi32>) -> tensor<?x128xf32> {
  %w = deepseek.use_weight @table : tensor<40x64xbf16>
  %k = deepseek.use_weight @key : tensor<2x64x32xbf16>
  // PRESET: deepseek.embed %{{.+}}, %{{.+}} : tensor<?xi32>, tensor<40x64xbf16> -> tensor<?x64xf32>
  // NAMED: deepseek.embed %{{.+}}, %{{.+}} scales %{{.+}} : tensor<40x1xf16> : tensor<?xi32>, tensor<40x64xi6> -> tensor<?x64xf32>
  %x = deepseek.embed %ids, %w : tensor<?xi32>, tensor<40x64xbf16> -> tensor<?x64xf32>
  // PRESET: deepseek.head_linear %{{.+}}, %{{.+}} : tensor<?x64xf32>, tensor<2x64x32xbf16> -> tensor<?x128xf32>
  // NAMED: deepseek.head_linear %{{.+}}, %{{.+}} scales %{{.+}} : tensor<2x64x1xf16> : tensor<?x64xf32>, tensor<2x64x32xi5> -> tensor<?x128xf32>
  %y = deepseek.head_linear %x, %k : tensor<?x64xf32>, tensor<2x64x32xbf16> -> tensor<?x128xf32>
  return %y : tensor<?x128xf32>
}

// -----

// ALL: deepseek.weight @table : tensor<40x64xi8>
// ALL: deepseek.weight @table.scales : tensor<40x1xf16>
deepseek.weight @table : tensor<40x64xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<40x64xbf16>
  deepseek.yield %0 : tensor<40x64xbf16>
}
func.func @tied(%ids: tensor<?xi32>) -> tensor<?x40xf32> {
  %w = deepseek.use_weight @table : tensor<40x64xbf16>
  // ALL: %[[SCALES:.+]] = deepseek.use_weight @table.scales
  // ALL: deepseek.embed %{{.+}}, %{{.+}} scales %[[SCALES]] : tensor<40x1xf16> : tensor<?xi32>, tensor<40x64xi8> -> tensor<?x64xf32>
  %x = deepseek.embed %ids, %w : tensor<?xi32>, tensor<40x64xbf16> -> tensor<?x64xf32>
  // ALL: deepseek.lm_head %{{.+}}, %{{.+}} scales %[[SCALES]] : tensor<40x1xf16> activation_group 64 :
  %y = deepseek.lm_head %x, %w : tensor<?x64xf32>, tensor<40x64xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
