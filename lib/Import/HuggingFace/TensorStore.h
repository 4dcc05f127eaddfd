// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the model builder needs to know of the tensors of a checkpoint, whatever
// the format. Tensors have the names and shapes that Hugging Face gives them; a
// store of another format says how to make them.

#ifndef HADAL_IMPORT_TENSORSTORE_H
#define HADAL_IMPORT_TENSORSTORE_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

#include "absl/status/statusor.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hadal::huggingface {

struct Config;

/// What an adapter adds to a tensor `[.., n, k]`: scale * up * down, see
/// `deepseek.lora`.
struct LowRankChange {
  double scale;
  /// Make `[.., r, k]` and `[.., n, r]` in a recipe, in f32, f16 or bf16. As
  /// long as the store lives.
  std::function<mlir::Value(mlir::OpBuilder &)> buildDown, buildUp;
};

/// A tensor, or a stack of tensors of one type, with the shape it was asked
/// for.
struct StoredTensor {
  /// Null if no weight may have it.
  mlir::Type element;
  /// Starts messages about it: "DIR/model.safetensors: tensor 'x'".
  std::string place;
  /// Its type as the format spells it: "BF16".
  std::string typeName;
  /// Makes its value, of type `element`, in a recipe. As long as the store
  /// lives. Null: it is of any type, and of no file.
  std::function<mlir::Value(mlir::OpBuilder &)> build;
  /// Whether a tensor that the same op reads is f32, as this one must be then.
  bool mustBeF32 = false;
  /// What is added to it.
  std::optional<LowRankChange> change = std::nullopt;
};

/// The integers of 8 bits that a model rounds the input of a product to, see
/// `deepseek.round_to_grid`.
struct InputGrid {
  float scale, zero;

  bool operator==(const InputGrid &other) const {
    return scale == other.scale && zero == other.zero;
  }
};

class TensorStore {
public:
  virtual ~TensorStore() = default;

  /// Gives the tensor \p name, and counts it as used. Not there, or not of
  /// \p shape: an error that says so.
  virtual absl::StatusOr<StoredTensor> take(llvm::StringRef name,
                                            llvm::ArrayRef<int64_t> shape) = 0;

  /// The same for tensors `name` with 0, 1, .. in place of `{}`, as many as
  /// \p shape has in its first dimension.
  virtual absl::StatusOr<StoredTensor>
  takeStack(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) = 0;

  /// What the model rounds what it multiplies the matrix \p name with to.
  virtual std::optional<InputGrid> getInputGrid(llvm::StringRef name) const {
    return std::nullopt;
  }

  /// An error if a tensor was not taken and is not known to be of no use:
  /// leaving it out would mean wrong text without a word.
  virtual absl::Status checkUnused(const Config &config,
                                   std::vector<std::string> &notes) = 0;

  /// The path of the file that says which tensors there are.
  virtual std::string sourcePath() const = 0;
};

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_TENSORSTORE_H
