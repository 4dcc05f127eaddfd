// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The header of a GGUF file, or of several that are one model: its keys, and
// where its tensors are. Reads no tensor.

#ifndef HADAL_IMPORT_GGUF_H
#define HADAL_IMPORT_GGUF_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "absl/status/statusor.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace hadal::gguf {

/// The types of values, with the numbers that the file has for them.
enum class ValueType : uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12
};

/// The value of a key: one, or an array of them.
struct KeyValue {
  /// Of the elements, if it is an array; then never Array.
  ValueType type = ValueType::U8;
  bool isArray = false;
  /// Elements of an array. They are in `bits` or `strings`, unless the array is
  /// one that nothing reads.
  uint64_t count = 1;
  bool isKept = true;
  /// Integers extended to 64 bits; floating point as its bits in f64.
  llvm::SmallVector<uint64_t, 1> bits;
  std::vector<std::string> strings;

  /// An integer that fits; nothing for other values, and for arrays.
  std::optional<int64_t> getInteger() const {
    return isArray ? std::nullopt : getInteger(0);
  }
  /// Element \p i of an array.
  std::optional<int64_t> getInteger(size_t i) const;
  /// A number; nothing for other values, and for arrays. One that was f32 is
  /// the shortest decimal that rounds to it: 1e-6 and not 9.99999997e-7, as in
  /// the configuration that it came from.
  std::optional<double> getNumber() const {
    return isArray ? std::nullopt : getNumber(0);
  }
  /// Element \p i of an array.
  std::optional<double> getNumber(size_t i) const;
  std::optional<bool> getBoolean() const;
  std::optional<llvm::StringRef> getString() const;
  /// For messages.
  std::string toText() const;
};

/// A type of ggml, with the blocks that rows of it are made of.
struct BlockType {
  uint32_t id;
  llvm::StringRef name;
  int64_t blockElements;
  int64_t blockBytes;
};

/// A tensor whose entry has been checked: rows are whole blocks, sizes do not
/// overflow, and all bytes are inside the file.
struct Tensor {
  const BlockType *type;
  /// As PyTorch has it: the last dimension is contiguous.
  llvm::SmallVector<int64_t, 4> shape;
  /// Index into `Model::files`.
  unsigned file;
  /// Counted from the start of the file.
  int64_t offsetBytes;
  int64_t sizeBytes;
};

/// A model's keys and tensors, from all of its files.
class Model {
public:
  /// Reads the header of \p path, and those of the files that it says it is
  /// split into, which are beside it. With \p hasData, every tensor's bytes
  /// have to be there. Errors are one line with the file, the key or tensor,
  /// and what was expected.
  static absl::StatusOr<Model> open(llvm::StringRef path, bool hasData);

  /// Null if there is no such key.
  const KeyValue *get(llvm::StringRef key) const {
    auto it = values.find(key);
    return it == values.end() ? nullptr : &it->second;
  }
  /// Adds the keys \p given, which the files lack, with values as text; an
  /// error if a file has one.
  absl::Status
  supply(llvm::ArrayRef<std::pair<std::string, std::string>> given);
  /// Whether \p key was supplied.
  bool isSupplied(llvm::StringRef key) const { return supplied.contains(key); }

  /// Keys in the order of the alphabet.
  std::vector<llvm::StringRef> keys() const;

  /// Null if there is no such tensor.
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
    return pathOf(files[tensor.file]);
  }
  /// The path of the first file, which has the keys.
  std::string sourcePath() const { return pathOf(files.front()); }

  /// Reads an f32 tensor of few elements.
  absl::StatusOr<std::vector<float>> readF32(const Tensor &tensor) const;

private:
  friend class HeaderReader;

  std::string pathOf(llvm::StringRef name) const;
  absl::Status addFile(llvm::StringRef name, bool hasData);
  absl::Status addSplits(bool hasData);

  std::string folder;
  std::vector<std::string> files;
  llvm::StringMap<KeyValue> values;
  llvm::StringMap<Tensor> tensors;
  llvm::StringSet<> supplied;
};

/// The type that ggml calls \p name, such as "Q4_0"; null if there is none.
const BlockType *findBlockType(llvm::StringRef name);

/// The format of \p type in a recipe, if it is one of blocks that Hadal reads.
std::optional<deepseek::GGUFFormat> getFormat(const BlockType &type);

} // namespace hadal::gguf

#endif // HADAL_IMPORT_GGUF_H
