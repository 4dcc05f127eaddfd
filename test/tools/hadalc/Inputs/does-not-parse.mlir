deepseek.weight @w : tensor<8xbf16> {
  deepseek.yield %0 : tensor<8xbf16>
}
