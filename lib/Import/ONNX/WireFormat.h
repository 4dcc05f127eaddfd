// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks a protobuf message in a file field by field, without a schema. Bytes
// that nothing asks for are not read, so that a model whose tensors are inside
// takes no more memory than one whose tensors are beside it.

#ifndef HADAL_IMPORT_ONNX_WIREFORMAT_H
#define HADAL_IMPORT_ONNX_WIREFORMAT_H

#include "lib/Support/FileIO.h"

#include "absl/status/status.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::onnx {

/// The bytes [begin, end) of a file.
struct Range {
  uint64_t begin = 0, end = 0;

  uint64_t size() const { return end - begin; }
};

/// A field of a message. Encoding:
/// https://protobuf.dev/programming-guides/encoding/.
struct Field {
  enum Kind { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };

  uint64_t number = 0;
  Kind kind = Varint;
  /// Of all kinds but `Bytes`.
  uint64_t value = 0;
  /// Of `Bytes`: a string, a message, or packed numbers.
  Range bytes;
};

/// The first error stays; what is read after it is empty.
class WireReader {
public:
  /// \p file outlives the reader. No more than \p maxBytes of memory come from
  /// what is read.
  WireReader(const InputFile &file, uint64_t maxBytes)
      : file(file), budget(maxBytes) {}

  /// Reads the field at the start of \p message and takes it off; false at the
  /// end, and after an error.
  bool next(Range &message, Field &field);

  /// The field as a string, a number or a message; an error if it is encoded
  /// in another way. \p what is what messages call it.
  std::string readString(const Field &field, llvm::StringRef what);
  int64_t readInteger(const Field &field, llvm::StringRef what);
  float readFloat(const Field &field, llvm::StringRef what);
  Range readMessage(const Field &field, llvm::StringRef what);

  /// Adds the field's numbers to \p values: one, or many that are packed.
  void readIntegers(const Field &field, std::vector<int64_t> &values,
                    llvm::StringRef what);
  void readFloats(const Field &field, std::vector<float> &values,
                  llvm::StringRef what);

  /// Counts \p bytes against what may be held in memory.
  void charge(uint64_t bytes);
  void fail(const llvm::Twine &message);

  bool ok() const { return status.ok(); }
  const absl::Status &getStatus() const { return status; }
  const InputFile &getFile() const { return file; }

private:
  /// Copies \p bytes at \p offset.
  bool read(uint64_t offset, void *data, uint64_t bytes);
  bool readVarint(Range &message, uint64_t &value);
  bool expect(const Field &field, Field::Kind kind, llvm::StringRef what);

  const InputFile &file;
  uint64_t budget;
  absl::Status status;
  /// The bytes of the file from `windowBegin` on.
  std::vector<char> window;
  uint64_t windowBegin = 0;
};

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_WIREFORMAT_H
