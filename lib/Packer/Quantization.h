// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rounds groups of weights to integers of one scale, as `deepseek.quantize` and
// `deepseek.quantize_scales` say.

#ifndef HADAL_PACKER_QUANTIZATION_H
#define HADAL_PACKER_QUANTIZATION_H

#include <cstdint>

namespace hadal {

/// The element of largest magnitude among \p largest and the \p count numbers
/// at \p data; of equal ones, the first. NaN is the largest of all.
float findLargest(float largest, const float *data, int64_t count);

/// Divides \p count numbers by \p scale and rounds them to integers of \p bits,
/// 4, 5, 6 or 8, to nearest, ties to even; with a scale of 0 they become 0.
void quantize(const float *from, int64_t count, float scale, unsigned bits,
              int8_t *to);

/// Packs \p count times as many integers of \p bits as tiles store together,
/// each in a byte, into words of 4 bytes: see `#deepseek.tiled`.
void packCodes(const int8_t *from, int64_t count, int64_t bits, bool isSigned,
               uint8_t *to);

} // namespace hadal

#endif // HADAL_PACKER_QUANTIZATION_H
