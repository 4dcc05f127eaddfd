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
  I3,
  I4,
  I5,
  I6,
  UI2,
  UI4,
  UI5,
  I32,
  I64
};

/// The kind of an MLIR \p type, or nothing if no weight has it.
std::optional<ElementKind> getElementKind(mlir::Type type);

constexpr bool isInteger(ElementKind kind) { return kind >= ElementKind::I8; }

/// Whether numbers of the kind are integers of less than 8 bits that count from
/// 0.
constexpr bool isUnsigned(ElementKind kind) {
  return kind == ElementKind::UI2 || kind == ElementKind::UI4 ||
         kind == ElementKind::UI5;
}

/// Bits of one element, once it is packed.
constexpr int64_t bitsOf(ElementKind kind) {
  switch (kind) {
  case ElementKind::I64:
    return 64;
  case ElementKind::F32:
  case ElementKind::I32:
    return 32;
  case ElementKind::F16:
  case ElementKind::BF16:
    return 16;
  case ElementKind::F8E4M3FN:
  case ElementKind::F8E8M0FNU:
  case ElementKind::I8:
    return 8;
  case ElementKind::I6:
    return 6;
  case ElementKind::I5:
  case ElementKind::UI5:
    return 5;
  case ElementKind::I4:
  case ElementKind::UI4:
    return 4;
  case ElementKind::I3:
    return 3;
  case ElementKind::UI2:
    return 2;
  }
  return 0;
}

/// Bytes of one element. One of fewer bits has a byte, until it is packed.
constexpr int64_t sizeBytes(ElementKind kind) { return (bitsOf(kind) + 7) / 8; }

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
