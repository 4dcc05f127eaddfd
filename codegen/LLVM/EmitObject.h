// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a module of the llvm dialect to an object file, assembly or LLVM IR.

#ifndef HADAL_CODEGEN_LLVM_EMITOBJECT_H
#define HADAL_CODEGEN_LLVM_EMITOBJECT_H

#include "codegen/CacheSizes.h"
#include "codegen/DotProductKind.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdint>
#include <string>

namespace hadal {

/// What a user asks for.
struct Target {
  std::string triple;         ///< Empty: that of this machine.
  std::string cpu = "native"; ///< As in clang's -mcpu: x86-64-v3, znver4, ...
  std::string features;       ///< As in llc's -mattr: "+avx512bf16,-fma".
};

/// What that means to LLVM.
///
/// Code uses just what `cpuFeatures` can say, so that the runtime can refuse a
/// processor that lacks it: on x86-64 the level of the processor (1 to 4),
/// VNNI and BF16; on 64-bit ARM dot products, products of 8-bit matrices and
/// those of bf16 beside what all of them have. The processor itself decides
/// only how code is scheduled. Features that a user names are added as they
/// are.
struct ResolvedTarget {
  std::string triple;
  std::string cpu;
  std::string tuneCpu;
  std::string features;
  uint32_t cpuFeatures = 0; ///< HADAL_RT_CPU_* bits that the code needs.
  unsigned vectorBits = 0;  ///< Of the widest registers: 128, 256 or 512.
  DotProductKind dotProduct = DotProductKind::Generic;
  bool bf16Pairs = false; ///< It multiplies pairs of bf16 in 512 bits.
  bool bf16Dots = false;  ///< It has `bfdot` and `bfmmla`.
  /// It has other pipes for `vscalefps` than for products.
  bool scalesByExponents = false;
  /// It follows one stream of weights as fast as memory is, but not several.
  bool followsStreams = false;
  CacheSizes caches;
  std::string dataLayout;
};

/// Fails with `kInvalidArgument` when the triple, the processor or a feature is
/// not one that LLVM knows, or `native` is asked of another architecture.
absl::StatusOr<ResolvedTarget> resolveTarget(const Target &target);

/// Writes what the code needs into `cpu_features` of the `rt.program` in
/// \p module, if there is one. Before `-convert-rt-to-llvm`.
void setCpuFeatures(mlir::ModuleOp module, const ResolvedTarget &target);

enum class EmitKind { Object, Assembly, LLVMIR };

struct EmitOptions {
  EmitKind kind = EmitKind::Object;
  unsigned optLevel = 2; ///< 0 to 3, as in clang's -O.
  /// Kernels are vector code already, with their own order of summation.
  bool vectorize = false;
};

/// A module of the llvm dialect alone, and the processors that it is for.
struct CodeLevel {
  mlir::ModuleOp module;
  ResolvedTarget target;
};

/// Compiles \p levels and writes them to \p stream as one object. There is one,
/// or there are several modules of one model for one architecture, the best
/// first: each names the model of the next as `lesser` of its own. What is not
/// of the first has the processor's name after its own, and no symbol that
/// others see. The same modules, targets and options give the same bytes.
/// Products and sums are never fused and sums never reordered. Gives modules
/// the data layout and the triple of their target. Fails with `kInternal` when
/// a module is not valid LLVM IR, and `kInvalidArgument` when a target cannot
/// do what it asks; \p stream may then hold a part.
absl::Status emit(llvm::ArrayRef<CodeLevel> levels, const EmitOptions &options,
                  llvm::raw_pwrite_stream &stream);

} // namespace hadal

#endif // HADAL_CODEGEN_LLVM_EMITOBJECT_H
