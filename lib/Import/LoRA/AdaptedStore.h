// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a checkpoint with what a LoRA adapter does to them, for the
// model builder.

#ifndef HADAL_IMPORT_LORA_ADAPTEDSTORE_H
#define HADAL_IMPORT_LORA_ADAPTEDSTORE_H

#include "lib/Import/HuggingFace/TensorStore.h"
#include "lib/Import/LoRA/Adapter.h"

namespace hadal::lora {

/// Tensors are those of another store, or of the adapter where it has one that
/// takes their place; to others is attached what the adapter adds to them.
class AdaptedStore : public huggingface::TensorStore {
public:
  /// \p base and \p adapter outlive the store. \p isTied: embedding and head
  /// are one tensor.
  AdaptedStore(mlir::MLIRContext &context, huggingface::TensorStore &base,
               Adapter &adapter, bool isTied)
      : context(context), base(base), adapter(adapter), isTied(isTied) {}

  absl::StatusOr<huggingface::StoredTensor>
  take(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  absl::StatusOr<huggingface::StoredTensor>
  takeStack(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  std::optional<huggingface::InputGrid>
  getInputGrid(llvm::StringRef name) const override {
    return base.getInputGrid(name);
  }
  absl::Status checkUnused(const huggingface::Config &config,
                           std::vector<std::string> &notes) override;
  std::string sourcePath() const override { return base.sourcePath(); }

private:
  absl::Status checkTied(llvm::StringRef name,
                         const safetensors::Tensor &tensor,
                         llvm::StringRef tensorName) const;
  huggingface::StoredTensor attach(huggingface::StoredTensor stored,
                                   llvm::StringRef name,
                                   llvm::ArrayRef<int64_t> shape,
                                   std::vector<const LowRank *> changes) const;
  huggingface::StoredTensor attachStack(huggingface::StoredTensor stored,
                                        llvm::ArrayRef<int64_t> shape,
                                        const LowRank &stack) const;

  mlir::MLIRContext &context;
  huggingface::TensorStore &base;
  Adapter &adapter;
  bool isTied;
};

/// Says of the weights of a tiny model, which have no tensors, that they are
/// changed if the adapter changes one like it in some layer: by made-up
/// matrices, of a rank of up to four. Replacements of tensors do not matter.
class TinyStore : public huggingface::TensorStore {
public:
  /// Most that a rank of the adapter becomes.
  static constexpr int64_t maxRank = 4;

  /// \p adapter outlives the store.
  TinyStore(mlir::MLIRContext &context, const Adapter &adapter)
      : context(context), adapter(adapter) {}

  absl::StatusOr<huggingface::StoredTensor>
  take(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  absl::StatusOr<huggingface::StoredTensor>
  takeStack(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  absl::Status checkUnused(const huggingface::Config &config,
                           std::vector<std::string> &notes) override;
  std::string sourcePath() const override;

private:
  mlir::MLIRContext &context;
  const Adapter &adapter;
};

} // namespace hadal::lora

#endif // HADAL_IMPORT_LORA_ADAPTEDSTORE_H
