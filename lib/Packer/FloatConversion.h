// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Conversions between the element types of weights, of whole arrays at a time.

#ifndef HADAL_PACKER_FLOATCONVERSION_H
#define HADAL_PACKER_FLOATCONVERSION_H

#include <cstdint>
#include <optional>

namespace mlir {
class Type;
} // namespace mlir

namespace hadal {

/// An element type of a weight.
enum class ElementKind {
  F32,
  F16,
  BF16,
  F8E4M3FN,
  F8E8M0FNU,
  I8,
  I4,
  UI4,
  I32,
  I64
};

/// The kind of an MLIR \p type, or nothing if no weight has it.
std::optional<ElementKind> getElementKind(mlir::Type type);

constexpr bool isInteger(ElementKind kind) {
  return kind == ElementKind::I8 || kind == ElementKind::I4 ||
         kind == ElementKind::UI4 || kind == ElementKind::I32 ||
         kind == ElementKind::I64;
}

/// Bytes of one element. One of four bits has a byte, until it is packed.
constexpr int64_t sizeBytes(ElementKind kind) {
  return kind == ElementKind::I64                                ? 8
         : kind == ElementKind::F32 || kind == ElementKind::I32  ? 4
         : kind == ElementKind::F16 || kind == ElementKind::BF16 ? 2
                                                                 : 1;
}

/// The name that MLIR gives the type: "bf16".
const char *getName(ElementKind kind);

/// Widens \p count elements at \p from to f32, which is exact; wide integers
/// are not taken.
void widen(ElementKind kind, const void *from, int64_t count, float *to);

/// Rounds \p count numbers to \p kind, which is no integer and not an exponent
/// alone, to nearest, ties to even. A number too large for the kind becomes an
/// infinity, or NaN where there is none.
void narrow(ElementKind kind, const float *from, int64_t count, void *to);

/// The first of \p count elements that is NaN or an infinity, or -1.
int64_t findNonFinite(ElementKind kind, const void *data, int64_t count);

} // namespace hadal

#endif // HADAL_PACKER_FLOATCONVERSION_H
