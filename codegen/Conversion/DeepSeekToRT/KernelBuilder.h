// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Short names for the arith, scf, memref and vector ops that kernels are made
// of. Reductions are built as fixed trees and products as explicit `math.fma`,
// so that a kernel gives the same bits on every target.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_KERNELBUILDER_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_KERNELBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace hadal {

class KernelBuilder : public mlir::ImplicitLocOpBuilder {
public:
  using Value = mlir::Value;
  using ValueRange = mlir::ValueRange;
  using Values = llvm::SmallVector<Value>;
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;

  /// Lanes of the widest vector that kernels use: 16 f32.
  static constexpr int64_t maxLanes = 16;

  /// The widest power of two, at most `maxLanes`, that divides \p size.
  static int64_t lanesFor(int64_t size);

  /// Whether people read what is built: products with weights then have loops
  /// of one step, and ask for nothing ahead.
  bool isRead = false;

  /// Notes in the `tile` of the kernel that is being built how many \p name it
  /// takes at a time. Of several products in one kernel, the last counts.
  void setTile(llvm::StringRef name, int64_t size);

  mlir::VectorType vectorType(int64_t lanes);

  /// What is built while it lives has \p name for people who read the kernel,
  /// as far as it is a function of its own there.
  class Named {
  public:
    Named(KernelBuilder &b, llvm::StringRef name) : b(b), around(b.getLoc()) {
      b.setLoc(mlir::NameLoc::get(b.getStringAttr(name), around));
    }
    ~Named() { b.setLoc(around); }
    Named(const Named &) = delete;
    Named &operator=(const Named &) = delete;

  private:
    KernelBuilder &b;
    mlir::Location around;
  };

  /// \p value, which people who read the kernel see as \p name.
  Value called(llvm::StringRef name, Value value);
  /// The same for each of \p values, as far as there are \p names.
  void call(ValueRange values, llvm::ArrayRef<llvm::StringRef> names);

  //===--- Integers and indices -------------------------------------------===//

  Value index(int64_t value);
  Value i32(int32_t value);
  Value add(Value a, Value b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value div(Value a, Value b);
  Value rem(Value a, Value b);
  /// a / b, rounded up.
  Value ceilDiv(Value a, Value b);
  Value min(Value a, Value b);
  Value add(Value a, int64_t b) { return b ? add(a, index(b)) : a; }
  Value mul(Value a, int64_t b) { return b == 1 ? a : mul(a, index(b)); }
  Value div(Value a, int64_t b) { return b == 1 ? a : div(a, index(b)); }
  Value rem(Value a, int64_t b) { return rem(a, index(b)); }
  Value less(Value a, Value b);
  Value equal(Value a, Value b);
  /// 0, 1, .. in i32.
  Value laneNumbers(int64_t lanes);
  /// An i32 read from memory, as an index.
  Value toIndex(Value i);
  Value toI32(Value i);

  //===--- Floating point, scalar or vector -------------------------------===//

  /// A constant of the type of \p like.
  Value f32(double value, mlir::Type like = {});
  Value addf(Value a, Value b);
  Value subf(Value a, Value b);
  Value mulf(Value a, Value b);
  Value divf(Value a, Value b);
  Value maxf(Value a, Value b);
  Value fma(Value a, Value b, Value c);
  Value sqrt(Value a);
  Value lessf(Value a, Value b);
  Value select(Value condition, Value a, Value b);
  /// e^x to 2 units in the last place; 0 below -87.3, finite above 88.
  Value exp(Value x);
  /// 1 / (1 + e^-x).
  Value sigmoid(Value x);
  /// ln(1 + e^x).
  Value softplus(Value x);
  /// gate / (1 + e^-gate) * up, both cut off at \p limit if there is one.
  Value gated(Value gate, Value up, std::optional<double> limit);
  Value broadcast(Value scalar, int64_t lanes);
  /// Sum of the lanes, of integers too, as a tree: halves are added until one
  /// lane is left.
  Value sumLanes(Value vector);
  Value maxLane(Value vector);

  //===--- Memory
  //-----------------------------------------------------------===//

  Value load(Value memref, ValueRange indices);
  Value loadVector(Value memref, ValueRange indices, int64_t lanes);
  void store(Value value, Value memref, ValueRange indices);
  void storeVector(Value vector, Value memref, ValueRange indices);
  /// Stack memory; only at the start of a kernel, not in a loop. \p name is for
  /// people who read the kernel.
  Value stack(llvm::ArrayRef<int64_t> shape, mlir::Type element,
              llvm::StringRef name = "scratch");

  //===--- Control
  //----------------------------------------------------------===//

  using LoopBody = llvm::function_ref<Values(Value iv, ValueRange carried)>;
  /// for (iv = lower; iv < upper; iv += step), with values carried around.
  Values loop(Value lower, Value upper, int64_t step, ValueRange carried,
              LoopBody body);
  void loop(Value lower, Value upper, Value step,
            llvm::function_ref<void(Value iv)> body);
  void loop(Value lower, Value upper, int64_t step,
            llvm::function_ref<void(Value iv)> body) {
    loop(lower, upper, index(step), body);
  }
  /// The same, where people who read the kernel see \p name for iv.
  Values loop(llvm::StringRef name, Value lower, Value upper, int64_t step,
              ValueRange carried, LoopBody body) {
    return loop(lower, upper, step, carried, [&](Value iv, ValueRange values) {
      return body(called(name, iv), values);
    });
  }
  template <typename Step>
  void loop(llvm::StringRef name, Value lower, Value upper, Step step,
            llvm::function_ref<void(Value iv)> body) {
    loop(lower, upper, step, [&](Value iv) { body(called(name, iv)); });
  }
  void when(Value condition, llvm::function_ref<void()> body);
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_KERNELBUILDER_H
