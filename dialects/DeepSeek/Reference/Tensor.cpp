// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values of the reference interpreter, and the rounding of stored types.

#include "dialects/DeepSeek/Reference/Tensor.h"

#include "lib/Support/CheckedMath.h"

#include "llvm/ADT/APFloat.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

Tensor::Tensor(ArrayRef<int64_t> shape)
    : shape(shape), values(size_t(*checkedProduct(shape))) {}

Tensor::Tensor(ArrayRef<int64_t> shape, std::vector<double> values)
    : shape(shape), values(std::move(values)) {
  assert(int64_t(this->values.size()) == *checkedProduct(shape) &&
         "expected as many values as the shape has");
}

double hadal::deepseek::roundTo(double value, FloatType type) {
  if (type.isF32())
    return double(float(value));
  APFloat number(value);
  bool losesInfo;
  number.convert(type.getFloatSemantics(), APFloat::rmNearestTiesToEven,
                 &losesInfo);
  number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                 &losesInfo);
  return number.convertToDouble();
}

double hadal::deepseek::decode(const uint8_t *bytes, FloatType type) {
  unsigned width = type.getWidth();
  assert((width == 8 || width == 16 || width == 32) && "expected whole bytes");
  uint64_t bits = 0;
  for (unsigned i = 0; i < width / 8; ++i)
    bits |= uint64_t(bytes[i]) << (8 * i);
  APFloat number(type.getFloatSemantics(), APInt(width, bits));
  bool losesInfo;
  number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                 &losesInfo);
  return number.convertToDouble();
}
