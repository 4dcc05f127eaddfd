// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes the weights file of a compiled model: evaluates the recipe of every
// weight, piece by piece, into its place.

#ifndef HADAL_PACKER_PACKER_H
#define HADAL_PACKER_PACKER_H

#include "lib/Support/FileIO.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/STLFunctionalExtras.h"

#include <string>
#include <utility>
#include <vector>

namespace hadal {

namespace deepseek {
class ExpertMerger;
} // namespace deepseek

/// Discardable integer attribute of a `deepseek.weight`: where the weight is in
/// the section "weights". A weight without it is not packed.
constexpr char weightOffsetAttrName[] = "rt.offset";

struct PackOptions {
  /// Sections after "weights", in order: name (1 to 31 printable ASCII
  /// characters, each once) and contents.
  std::vector<std::pair<std::string, std::string>> sections;
  /// Files that are not in the model's folder: their names in recipes, and
  /// their paths.
  std::vector<std::pair<std::string, std::string>> moreFiles;
  /// Called now and then with the bytes of "weights" that are written and those
  /// that there are in all. May be null.
  llvm::function_ref<void(uint64_t, uint64_t)> progress = nullptr;
  /// Called, when all is written, with each layer whose experts were merged, by
  /// the name of its router. May be null.
  llvm::function_ref<void(llvm::StringRef, const deepseek::ExpertMerger &)>
      merged = nullptr;
  /// Where the files of an adapter are; see `SourceFiles`.
  std::string adapterFolder = "";
  /// Bytes of the result that are computed at a time.
  int64_t chunkBytes = 4 << 20;
};

/// Bytes that \p weight takes in the weights file, padding of tiles included.
///
/// kInvalidArgument: they do not fit 63 bits.
absl::StatusOr<int64_t> getStoredBytes(mlir::Operation *weight);

/// Writes the weights file of \p module to the end of \p output, which is open
/// and has a multiple of 4096 bytes, and does not commit it. Sources are read
/// from \p modelFolder and never from outside it. Memory is bounded, whatever
/// the size of the weights.
///
/// kInvalidArgument: a tensor cannot be read, has an element that is not
/// finite, or has one that does not fit its stored type; weights overlap or are
/// out of the section. kUnimplemented: a recipe has an op that the packer does
/// not know. kInternal: \p module has no `rt.program`.
absl::Status packWeights(mlir::ModuleOp module, llvm::StringRef modelFolder,
                         AtomicFile &output, const PackOptions &options);

/// The same, of a module without `rt.program`: section "weights" has
/// \p totalBytes, and \p layoutHash, 16 bytes, ties the file to the code.
absl::Status packWeights(mlir::ModuleOp module, llvm::StringRef layoutHash,
                         int64_t totalBytes, llvm::StringRef modelFolder,
                         AtomicFile &output, const PackOptions &options);

} // namespace hadal

#endif // HADAL_PACKER_PACKER_H
