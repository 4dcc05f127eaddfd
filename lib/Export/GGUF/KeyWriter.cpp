// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keys of a GGUF file: a name, a type and a value each, little-endian
// (https://github.com/ggml-org/ggml, docs/gguf.md).

#include "lib/Export/GGUF/KeyWriter.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/Endian.h"

using namespace hadal;
using namespace hadal::gguf;
using llvm::StringRef;

void gguf::appendU32(std::string &bytes, uint32_t value) {
  char data[sizeof(value)];
  llvm::support::endian::write32le(data, value);
  bytes.append(data, sizeof(data));
}

void gguf::appendU64(std::string &bytes, uint64_t value) {
  char data[sizeof(value)];
  llvm::support::endian::write64le(data, value);
  bytes.append(data, sizeof(data));
}

void gguf::appendString(std::string &bytes, StringRef text) {
  appendU64(bytes, text.size());
  bytes += text;
}

void KeyWriter::addKey(StringRef key, ValueType type) {
  appendString(bytes, key);
  appendU32(bytes, uint32_t(type));
  ++count;
}

void KeyWriter::addArray(StringRef key, ValueType type, uint64_t size) {
  addKey(key, ValueType::Array);
  appendU32(bytes, uint32_t(type));
  appendU64(bytes, size);
}

void KeyWriter::addString(StringRef key, StringRef value) {
  addKey(key, ValueType::String);
  appendString(bytes, value);
}

void KeyWriter::addBoolean(StringRef key, bool value) {
  addKey(key, ValueType::Bool);
  bytes += char(value);
}

void KeyWriter::addInteger(StringRef key, int64_t value) {
  addKey(key, ValueType::U32);
  appendU32(bytes, uint32_t(value));
}

void KeyWriter::addNumber(StringRef key, double value) {
  addKey(key, ValueType::F32);
  appendU32(bytes, llvm::bit_cast<uint32_t>(float(value)));
}

void KeyWriter::addStrings(StringRef key, llvm::ArrayRef<std::string> values) {
  addArray(key, ValueType::String, values.size());
  for (const std::string &value : values)
    appendString(bytes, value);
}

void KeyWriter::addNumbers(StringRef key, llvm::ArrayRef<float> values) {
  addArray(key, ValueType::F32, values.size());
  for (float value : values)
    appendU32(bytes, llvm::bit_cast<uint32_t>(value));
}

void KeyWriter::addIntegers(StringRef key, llvm::ArrayRef<int32_t> values) {
  addArray(key, ValueType::I32, values.size());
  for (int32_t value : values)
    appendU32(bytes, uint32_t(value));
}
