// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where the tensors of a folder of safetensors files are. Reads headers only.

#ifndef HADAL_IMPORT_SAFETENSORS_H
#define HADAL_IMPORT_SAFETENSORS_H

#include "absl/status/statusor.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::safetensors {

/// The element types that a header may name.
enum class DType {
  Bool,
  I8,
  U8,
  I16,
  U16,
  I32,
  U32,
  I64,
  U64,
  F8E4M3,
  F8E5M2,
  F8E8M0,
  F16,
  BF16,
  F32,
  F64
};

/// As the header spells it: `BF16`.
llvm::StringRef stringify(DType dtype);

/// A tensor whose header entry has been checked: `shape` times the size of
/// `dtype` is `sizeBytes`, and all bytes are inside the file.
struct Tensor {
  DType dtype;
  llvm::SmallVector<int64_t, 4> shape;
  /// Index into `Checkpoint::files`.
  unsigned file;
  /// Counted from the start of the file, not of its data.
  int64_t offsetBytes;
  int64_t sizeBytes;
};

/// All tensors of a checkpoint, by name.
class Checkpoint {
public:
  /// Reads the header of `model.safetensors` in \p folder, or, where there is
  /// none, of every file that `model.safetensors.index.json` names. Errors are
  /// one line with the file, the tensor, and what was expected.
  static absl::StatusOr<Checkpoint> open(llvm::StringRef folder);

  /// Reads the header of the file \p path, or of \p name in \p folder, alone.
  static absl::StatusOr<Checkpoint> openFile(llvm::StringRef path);
  static absl::StatusOr<Checkpoint> openFile(llvm::StringRef folder,
                                             llvm::StringRef name);

  /// Null if the checkpoint has no such tensor.
  const Tensor *find(llvm::StringRef name) const {
    auto it = tensors.find(name);
    return it == tensors.end() ? nullptr : &it->second;
  }
  /// Names in the order of the alphabet.
  std::vector<llvm::StringRef> names() const;
  /// The name, relative to the folder, of the file that \p tensor is in.
  llvm::StringRef fileOf(const Tensor &tensor) const {
    return files[tensor.file];
  }
  /// The same with the folder before it, for messages.
  std::string pathOf(const Tensor &tensor) const {
    return folder + "/" + files[tensor.file];
  }
  /// The path of the file that says which tensors there are.
  std::string sourcePath() const { return folder + "/" + sourceName; }

private:
  /// Reads the header of \p name and adds its tensors.
  absl::Status addFile(llvm::StringRef name);

  std::string folder;
  std::string sourceName;
  std::vector<std::string> files;
  llvm::StringMap<Tensor> tensors;
};

} // namespace hadal::safetensors

#endif // HADAL_IMPORT_SAFETENSORS_H
