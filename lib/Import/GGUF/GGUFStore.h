// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a GGUF file, for the model builder.

#ifndef HADAL_IMPORT_GGUF_GGUFSTORE_H
#define HADAL_IMPORT_GGUF_GGUFSTORE_H

#include "lib/Import/GGUF/GGUF.h"
#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/TensorStore.h"

#include "llvm/ADT/StringSet.h"

#include <map>
#include <optional>
#include <string>

namespace hadal::gguf {

/// The name in a GGUF file of the tensor that a Hugging Face checkpoint calls
/// \p name; that of a stack of experts has `{}` for their number. Nothing for a
/// tensor that models of GGUF files have not.
std::optional<std::string> toGGUFName(llvm::StringRef name);

/// Undoes in recipes what the converter to GGUF did to the tensors: other
/// names, experts in stacks, rows of q and k in another order, kv_b in two
/// halves. Blocks become f32, in recipes that say so.
class GGUFStore : public huggingface::TensorStore {
public:
  /// \p model and \p config outlive the store. Without \p hasPlaces, recipes do
  /// not say where bytes are.
  GGUFStore(mlir::MLIRContext &context, const Model &model,
            const huggingface::Config &config, bool hasPlaces);

  absl::StatusOr<huggingface::StoredTensor>
  take(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  absl::StatusOr<huggingface::StoredTensor>
  takeStack(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  absl::Status checkUnused(const huggingface::Config &config,
                           std::vector<std::string> &notes) override;
  std::string sourcePath() const override { return model.sourcePath(); }

private:
  /// A tensor that was found, and how to read it.
  struct Part {
    std::string name;
    const Tensor *tensor;
    /// The IR's type of it: null if there is none, f32 for blocks.
    mlir::Type element;
  };

  absl::StatusOr<Part> find(llvm::StringRef name,
                            llvm::ArrayRef<int64_t> shape);
  huggingface::StoredTensor describe(const Part &part) const;
  mlir::Value readSource(mlir::OpBuilder &recipe, const Part &part,
                         mlir::RankedTensorType type) const;
  mlir::Value readWideBlocks(mlir::OpBuilder &recipe, const Part &part,
                             llvm::ArrayRef<int64_t> shape) const;
  mlir::Value read(mlir::OpBuilder &recipe, const Part &part,
                   llvm::ArrayRef<int64_t> shape, int64_t permutedHeads) const;
  absl::StatusOr<huggingface::StoredTensor>
  takeExpansion(llvm::StringRef prefix, llvm::ArrayRef<int64_t> shape);

  mlir::MLIRContext &context;
  const Model &model;
  const huggingface::Config &config;
  bool hasPlaces;
  /// Rows of q and k are in the order of rotation by neighbors.
  bool hasPermutedRows;
  llvm::StringSet<> used;
  /// Of tensors in blocks: bytes by type, and elements of them all.
  std::map<llvm::StringRef, int64_t> blockBytes;
  int64_t blockElements = 0;
};

} // namespace hadal::gguf

#endif // HADAL_IMPORT_GGUF_GGUFSTORE_H
