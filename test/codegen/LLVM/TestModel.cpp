// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Parses, lowers and emits a model as the compiler does.

#include "TestModel.h"

#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "hadal_rt/abi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <tuple>

using namespace mlir;
using namespace hadal;

std::vector<std::string> hadal::getRunnableCpus() {
  uint32_t features = resolve({}).cpuFeatures;
  std::vector<std::string> cpus;
  if (features & HADAL_RT_CPU_AVX2_FMA_F16C)
    cpus.emplace_back("x86-64-v3");
  if (features & HADAL_RT_CPU_AVX512_F_BW_DQ_VL)
    cpus.emplace_back("x86-64-v4");
  cpus.emplace_back("native");
  return cpus;
}

ResolvedTarget hadal::resolve(const Target &target) {
  auto resolved = resolveTarget(target);
  EXPECT_TRUE(resolved.ok()) << resolved.status();
  return resolved.ok() ? *resolved : ResolvedTarget();
}

std::string hadal::compile(const Target &target, const EmitOptions &options,
                           StringRef source) {
  DialectRegistry registry;
  registry.insert<deepseek::DeepSeekDialect, rt::RTDialect, arith::ArithDialect,
                  func::FuncDialect, memref::MemRefDialect, scf::SCFDialect,
                  vector::VectorDialect>();
  MLIRContext context(registry);
  auto module =
      source.empty()
          ? parseSourceFile<ModuleOp>(HADAL_TEST_INPUTS "/tiny.mlir", &context)
          : parseSourceString<ModuleOp>(source, &context);
  EXPECT_TRUE(module);
  if (!module)
    return "";
  ResolvedTarget resolved = resolve(target);
  setCpuFeatures(*module, resolved);
  PassManager passes(&context);
  passes.addPass(createPlanMemory());
  buildLowerToLLVMPipeline(passes, {});
  EXPECT_TRUE(succeeded(passes.run(*module)));

  SmallString<0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  absl::Status status = emit(CodeLevel{*module, resolved}, options, stream);
  EXPECT_TRUE(status.ok()) << status;
  return bytes.str().str();
}

TemporaryFolder::TemporaryFolder() {
  SmallString<128> path;
  EXPECT_FALSE(llvm::sys::fs::createUniqueDirectory("hadal-test", path));
  folder = path.str().str();
}

TemporaryFolder::~TemporaryFolder() {
  std::ignore = llvm::sys::fs::remove_directories(folder);
}

std::string TemporaryFolder::path(StringRef name) const {
  SmallString<128> path(folder);
  llvm::sys::path::append(path, name);
  return path.str().str();
}

std::string TemporaryFolder::write(StringRef name, StringRef contents) const {
  std::error_code error;
  llvm::raw_fd_ostream stream(path(name), error);
  EXPECT_FALSE(error) << error.message();
  stream << contents;
  return path(name);
}

std::string TemporaryFolder::read(StringRef name) const {
  auto buffer = llvm::MemoryBuffer::getFile(path(name));
  EXPECT_TRUE(buffer) << path(name);
  return buffer ? (*buffer)->getBuffer().str() : "";
}
