// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a product says of how it was made.

#ifndef HADAL_COMPILER_MANIFEST_H
#define HADAL_COMPILER_MANIFEST_H

#include "hadal/Compiler.h"
#include "lib/Compiler/CudaToolkit.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringRef.h"

namespace hadal {

struct ManifestInput {
  const CompileOptions &options;
  const ModelReport &report;
  std::string modelFolder; ///< Where source files are.
  std::string modelFile;   ///< In that folder, if the model is one file.
  std::string pipeline;    ///< Of passes, as hadal-opt takes it.
  const std::optional<CudaToolkit> &cuda;
  std::string triple, cpu, features;
  /// Code for lesser processors that is there, too, the best first.
  std::vector<std::pair<std::string, std::string>> lesser; ///< Cpu, features.
  std::vector<std::string> notes;
  std::vector<std::string> remarks; ///< What passes say of what they did.
  std::vector<std::string> lossy;   ///< What was taken away.
  const std::optional<Verification> &verification;
  /// Whether weights become integers, and inputs of products those of 8 bits,
  /// or numbers of bf16.
  bool roundsWeights, roundsActivations, hasBF16Inputs;
};

/// The section of an object that has its manifest.
inline constexpr llvm::StringLiteral manifestSectionName = ".hadal.manifest";

/// What the manifest of a graph of tensors says of it.
struct GraphInfo {
  std::string name, layoutHash;
  int64_t arenaBytes, weightsBytes;
};

/// Names of the files that the recipes of \p module read, sorted.
std::vector<std::string> getSourceFiles(mlir::ModuleOp module);

/// Makes the manifest of \p module, which has an `rt.program`: JSON on one
/// line, with sorted keys. Reads the headers of the source files. Has no dates
/// and no paths.
absl::StatusOr<std::string>
makeManifest(mlir::ModuleOp module, const std::vector<std::string> &sources,
             const ManifestInput &input);

/// The same of a graph of tensors.
absl::StatusOr<std::string>
makeGraphManifest(const GraphInfo &graph,
                  const std::vector<std::string> &sources,
                  const ManifestInput &input);

} // namespace hadal

#endif // HADAL_COMPILER_MANIFEST_H
