// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dot products of four bytes, as each kind of target has them, and those of
// bf16 numbers of ARM.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DOTPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DOTPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/KernelBuilder.h"
#include "codegen/DotProductKind.h"

namespace hadal {

/// What has to be added to 8-bit weights for \p kind to multiply them: 128
/// where it takes weights as unsigned, else 0.
int64_t weightOffset(DotProductKind kind);

/// \p sums (`vector<16xi32>`) + the products of \p weights with \p inputs, both
/// `vector<64xi8>`, four to a lane: exact, in any order. \p inputs are signed
/// and at least -127. \p isSigned: weights are of all 8 bits, stored signed;
/// with a `weightOffset`, what is multiplied is weight + offset. Else they are
/// 0 .. 63, or of 8 bits where there is such an offset.
mlir::Value addDotProducts(KernelBuilder &b, DotProductKind kind, bool isSigned,
                           mlir::Value sums, mlir::Value weights,
                           mlir::Value inputs);

/// True if \p kind multiplies two rows of inputs at once.
bool multipliesPairs(DotProductKind kind);

/// Sums of two rows, of vectors of 16 as those are: each four lanes have two
/// outputs of the first row and the same two of the second.
KernelBuilder::Values packPair(KernelBuilder &b, mlir::Value first,
                               mlir::Value second);

/// The sums of each row again.
KernelBuilder::Values unpackPair(KernelBuilder &b, mlir::ValueRange sums);

/// \p sums of `packPair` + the products of eight columns: four of \p weights,
/// `vector<64xi8>`, and the next four of \p moreWeights with \p inputs,
/// `vector<4xi32>`: eight bytes of the first row, then eight of the second.
/// Exact, in any order.
KernelBuilder::Values addPairProducts(KernelBuilder &b, mlir::ValueRange sums,
                                      mlir::Value weights,
                                      mlir::Value moreWeights,
                                      mlir::Value inputs);

/// \p sums (`vector<16xf32>`) + the products of \p weights, `vector<16xi32>` of
/// pairs of bf16, with \p input, the same pair in all lanes, by `bfdot`.
mlir::Value addBF16Dots(KernelBuilder &b, mlir::Value sums, mlir::Value weights,
                        mlir::Value input);

/// \p sums of `packPair`, in f32, + the products of four columns of bf16, the
/// pairs \p weights and the next pairs \p moreWeights, with \p inputs,
/// `vector<4xi32>`: four columns of the first row, then of the second. By
/// `bfmmla`, which gives the bits of two `bfdot`.
KernelBuilder::Values addBF16PairProducts(KernelBuilder &b,
                                          mlir::ValueRange sums,
                                          mlir::Value weights,
                                          mlir::Value moreWeights,
                                          mlir::Value inputs);

/// Moves \p bits of each of 64 bytes from bit \p from on to bit \p to on; the
/// others become 0.
mlir::Value moveBits(KernelBuilder &b, mlir::Value bytes, int64_t bits,
                     int64_t from, int64_t to);

/// The numbers of \p table, of which there are 16, that \p codes, 64 bytes, are
/// the places of, each plus `weightOffset`.
mlir::Value lookUp(KernelBuilder &b, DotProductKind kind,
                   llvm::ArrayRef<int64_t> table, mlir::Value codes);

/// \p numbers times two to the power of \p exponents, whole numbers, in 16 f32
/// of AVX-512; an infinite one makes zeros or infinities.
mlir::Value scaleByExponents(KernelBuilder &b, mlir::Value numbers,
                             mlir::Value exponents);

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DOTPRODUCT_H
