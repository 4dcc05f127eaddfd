// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a Hugging Face folder, for the model builder.

#ifndef HADAL_IMPORT_SAFETENSORSSTORE_H
#define HADAL_IMPORT_SAFETENSORSSTORE_H

#include "lib/Import/HuggingFace/TensorStore.h"
#include "lib/Import/Safetensors/Safetensors.h"

#include "llvm/ADT/StringSet.h"

namespace hadal::huggingface {

/// The IR's type for \p dtype, or null if no weight may have it.
mlir::Type elementOf(mlir::MLIRContext &context, safetensors::DType dtype);

/// Every tensor is a `deepseek.source`; a stack has one in each file and place.
class SafetensorsStore : public TensorStore {
public:
  /// \p checkpoint outlives the store.
  SafetensorsStore(mlir::MLIRContext &context,
                   const safetensors::Checkpoint &checkpoint)
      : context(context), checkpoint(checkpoint) {}

  absl::StatusOr<StoredTensor> take(llvm::StringRef name,
                                    llvm::ArrayRef<int64_t> shape) override;
  absl::StatusOr<StoredTensor>
  takeStack(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  /// The same, for one or a stack, of type \p dtype, an integer: as bytes,
  /// whose last dimension is that of \p shape times the bytes of an integer.
  absl::StatusOr<StoredTensor> takeBytes(llvm::StringRef name,
                                         llvm::ArrayRef<int64_t> shape,
                                         safetensors::DType dtype);
  /// Counts \p name as used, or each of a stack of \p count.
  void ignore(llvm::StringRef name, int64_t count);
  absl::Status checkUnused(const Config &config,
                           std::vector<std::string> &notes) override;
  std::string sourcePath() const override { return checkpoint.sourcePath(); }

private:
  absl::StatusOr<const safetensors::Tensor *>
  find(llvm::StringRef name, llvm::ArrayRef<int64_t> shape);
  absl::Status checkTiedHead(llvm::StringRef headName);
  StoredTensor describe(llvm::StringRef name,
                        const safetensors::Tensor &tensor) const;

  mlir::MLIRContext &context;
  const safetensors::Checkpoint &checkpoint;
  llvm::StringSet<> used;
};

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_SAFETENSORSSTORE_H
