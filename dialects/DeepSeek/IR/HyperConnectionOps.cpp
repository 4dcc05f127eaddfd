// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Verifiers of hyper-connections.

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/IR/VerifyShapes.h"

using namespace mlir;
using namespace hadal::deepseek;

/// Kernels keep what is computed of a token's streams in registers.
constexpr int64_t mostStreams = 8;

LogicalResult HyperExpandOp::verify() {
  int64_t streams = getStreams(), columns = columnsOf(getResult());
  if (streams <= 0 || columns % streams != 0 ||
      columns / streams != columnsOf(getInput())) // C1
    return emitOpError("expects a result of ")
           << streams << " > 0 times the columns of " << getInput().getType()
           << ", but got " << getResult().getType();
  return success();
}

/// Requires that \p input is from 1 to 8 streams.
static LogicalResult verifyStreams(Operation *op, Value input,
                                   int64_t streams) {
  if (streams < 1 || streams > mostStreams)
    return op->emitOpError("expects from 1 to ")
           << mostStreams << " streams, but got " << streams;
  if (columnsOf(input) % streams != 0)
    return op->emitOpError("expects streams that divide ")
           << columnsOf(input) << " columns, but got " << streams;
  return success();
}

LogicalResult HyperMixOp::verify() {
  int64_t m = getStreams(), columns = columnsOf(getInput());
  if (failed(verifyStreams(*this, getInput(), m))) // C1
    return failure();
  int64_t rows = (2 + m) * m;
  if (failed(expectShape(*this, "weight", getWeight(), {rows, columns})) ||
      failed(expectShape(*this, "base", getBase(), {rows})) ||
      failed(expectShape(*this, "scale", getScale(), {3}))) // C2
    return failure();
  if (failed(expectShape(*this, "sublayer", getSublayer(),
                         {anySize, columns / m})) ||
      failed(expectShape(*this, "post", getPost(), {anySize, m})) ||
      failed(expectShape(*this, "comb", getComb(), {anySize, m * m}))) // C3
    return failure();
  if (int64_t(getIterations()) <= 0) // C4
    return emitOpError("expects iterations > 0, but got ")
           << int64_t(getIterations());
  if (failed(expectPositive(*this, "norm_epsilon", getNormEpsilonAttr())))
    return failure();                                        // C4
  return expectPositive(*this, "epsilon", getEpsilonAttr()); // C4
}

LogicalResult HyperUpdateOp::verify() {
  int64_t columns = columnsOf(getInput()), hidden = columnsOf(getSublayer());
  int64_t m = columnsOf(getPost());
  if (m <= 0 || columns != m * hidden) // C1
    return emitOpError("expects input of ")
           << m << " times the columns of " << getSublayer().getType()
           << ", but got " << getInput().getType();
  return expectShape(*this, "comb", getComb(), {anySize, m * m}); // C1
}

LogicalResult HyperHeadOp::verify() {
  int64_t m = getStreams(), columns = columnsOf(getInput());
  if (failed(verifyStreams(*this, getInput(), m)) ||
      failed(expectShape(*this, "a result", getResult(),
                         {anySize, columns / m}))) // C1
    return failure();
  if (failed(expectShape(*this, "weight", getWeight(), {m, columns})) ||
      failed(expectShape(*this, "base", getBase(), {m})) ||
      failed(expectShape(*this, "scale", getScale(), {1}))) // C2
    return failure();
  if (failed(expectPositive(*this, "norm_epsilon", getNormEpsilonAttr())))
    return failure();                                        // C3
  return expectPositive(*this, "epsilon", getEpsilonAttr()); // C3
}
