// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keys of a GGUF file, as its bytes.

#ifndef HADAL_EXPORT_GGUF_KEYWRITER_H
#define HADAL_EXPORT_GGUF_KEYWRITER_H

#include "lib/Import/GGUF/GGUF.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::gguf {

/// Appends \p value, little-endian, to \p bytes.
void appendU32(std::string &bytes, uint32_t value);
void appendU64(std::string &bytes, uint64_t value);
/// Appends a string as the format has it: its length and its bytes.
void appendString(std::string &bytes, llvm::StringRef text);

/// Collects keys in the order in which they are added, each once.
class KeyWriter {
public:
  void addString(llvm::StringRef key, llvm::StringRef value);
  void addBoolean(llvm::StringRef key, bool value);
  /// A u32, which every key of the format takes; \p value fits.
  void addInteger(llvm::StringRef key, int64_t value);
  /// Rounds to f32, the type of all numbers that are no integers.
  void addNumber(llvm::StringRef key, double value);
  void addStrings(llvm::StringRef key, llvm::ArrayRef<std::string> values);
  void addNumbers(llvm::StringRef key, llvm::ArrayRef<float> values);
  void addIntegers(llvm::StringRef key, llvm::ArrayRef<int32_t> values);

  uint64_t getCount() const { return count; }
  llvm::StringRef getBytes() const { return bytes; }

private:
  void addKey(llvm::StringRef key, ValueType type);
  void addArray(llvm::StringRef key, ValueType type, uint64_t size);

  std::string bytes;
  uint64_t count = 0;
};

} // namespace hadal::gguf

#endif // HADAL_EXPORT_GGUF_KEYWRITER_H
