// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a Hugging Face folder whose matrices were quantized by GPTQ,
// AWQ or compressed-tensors, for the model builder.

#ifndef HADAL_IMPORT_PACKEDSTORE_H
#define HADAL_IMPORT_PACKEDSTORE_H

#include "lib/Import/HuggingFace/PackedConfig.h"
#include "lib/Import/HuggingFace/SafetensorsStore.h"

namespace hadal::huggingface {

/// A matrix X.weight whose parts are there instead (X.qweight, ..) is what they
/// stand for, in f32; every other tensor is that of the folder.
class PackedStore : public TensorStore {
public:
  /// \p base and \p checkpoint outlive the store.
  PackedStore(mlir::MLIRContext &context, SafetensorsStore &base,
              const safetensors::Checkpoint &checkpoint,
              const PackedConfig &config)
      : context(context), base(base), checkpoint(checkpoint), config(config) {}

  absl::StatusOr<StoredTensor> take(llvm::StringRef name,
                                    llvm::ArrayRef<int64_t> shape) override;
  absl::StatusOr<StoredTensor>
  takeStack(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) override;
  absl::Status checkUnused(const Config &config,
                           std::vector<std::string> &notes) override;
  std::string sourcePath() const override { return base.sourcePath(); }

private:
  using Build = std::function<mlir::Value(mlir::OpBuilder &)>;
  struct Parts;

  std::string partName(llvm::StringRef module) const;
  absl::Status chooseWidth(Parts &parts);
  absl::StatusOr<StoredTensor> takePacked(llvm::StringRef module,
                                          llvm::ArrayRef<int64_t> shape);
  absl::Status takeGPTQ(Parts &parts);
  absl::Status takeAWQ(Parts &parts);
  absl::Status takeAWQRows(Parts &parts);
  absl::Status takeCompressed(Parts &parts);
  absl::StatusOr<bool> takeOrder(Parts &parts, llvm::StringRef suffix);
  absl::Status checkShapeTensor(Parts &parts);
  absl::StatusOr<Build> takeScales(Parts &parts, llvm::StringRef suffix,
                                   llvm::ArrayRef<int64_t> shape);
  absl::StatusOr<std::vector<int64_t>> readIntegers(llvm::StringRef name);

  mlir::MLIRContext &context;
  SafetensorsStore &base;
  const safetensors::Checkpoint &checkpoint;
  PackedConfig config;
  int64_t packed = 0;
};

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_PACKEDSTORE_H
