// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef HADAL_CODEGEN_DOTPRODUCTKIND_H
#define HADAL_CODEGEN_DOTPRODUCTKIND_H

namespace hadal {

/// Instructions that multiply bytes and add four products to a lane of 32 bits.
enum class DotProductKind {
  Generic,     ///< None: products and sums of 32-bit integers.
  GenericI8MM, ///< None, and `smmla` for two rows and more where there is one.
  AVX2,        ///< `vpmaddubsw`, `vpmaddwd`
  AVX512VNNI,  ///< `vpdpbusd`
  AMXInt8,     ///< `tdpbssd` for many rows, `vpdpbusd` for few
  Neon,        ///< `sdot` of FEAT_DotProd
  NeonI8MM,    ///< `smmla` of FEAT_I8MM for two rows and more, `sdot` for one
  CUDA,        ///< `mma` of 16 x 8 x 32 bytes for many rows, `dp4a` for few
};

} // namespace hadal

#endif // HADAL_CODEGEN_DOTPRODUCTKIND_H
