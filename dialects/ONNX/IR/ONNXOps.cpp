// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The onnx dialect: registration and verifiers. Each check names the constraint
// of the op's description that it is.

#include "dialects/ONNX/IR/ONNXOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace hadal::onnx;

#include "dialects/ONNX/IR/ONNXDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/ONNX/IR/ONNXTypes.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/ONNX/IR/ONNXOps.cpp.inc"

void ONNXDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/ONNX/IR/ONNXTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/ONNX/IR/ONNXOps.cpp.inc"
      >();
}

LogicalResult ConstantOp::verify() {
  bool hasPlace = bool(getNameAttr());
  if (hasPlace != bool(getFileAttr()) ||
      hasPlace != bool(getOffsetAttr())) // C1
    return emitOpError("expects a name, a file and an offset, or none of them");
  if (hasPlace && int64_t(*getOffset()) < 0) // C2
    return emitOpError("expects offset >= 0, but got ")
           << int64_t(*getOffset());
  return success();
}

LogicalResult InitializerOp::verify() {
  if (!getType().hasStaticShape()) // C1
    return emitOpError("expects a static shape, but got ") << getType();
  if (int64_t(getOffset()) < 0) // C2
    return emitOpError("expects offset >= 0, but got ") << int64_t(getOffset());
  return success();
}
