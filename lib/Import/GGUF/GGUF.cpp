// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The header of a GGUF file. The format: magic, version, counts, keys with
// values, entries of tensors, then their data, aligned
// (https://github.com/ggml-org/ggml, docs/gguf.md). Nothing in it is trusted:
// each size is held against what is left of the file before it is used.

#include "lib/Import/GGUF/GGUF.h"

#include "lib/Import/JSON.h"
#include "lib/Support/CheckedMath.h"
#include "lib/Support/FileIO.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

using namespace hadal;
using namespace hadal::gguf;
using llvm::StringRef;
using llvm::Twine;

/// Real files have about fifty keys and some thousands of tensors.
constexpr uint64_t maxKeys = 1 << 14;
constexpr uint64_t maxTensors = 1 << 20;
/// The format's own limit for keys; ggml's for names of tensors is 64.
constexpr uint64_t maxKeyBytes = (1 << 16) - 1;
constexpr uint64_t maxNameBytes = 1024;
/// The longest real string is a chat template of some tens of kilobytes.
constexpr uint64_t maxStringBytes = 16 << 20;
/// A vocabulary has some hundred thousand entries, an array with an element
/// for each layer some hundred. Longer ones, and those of strings that are no
/// vocabulary, are read over.
constexpr uint64_t maxVocabulary = 1 << 22;
constexpr uint64_t maxKeptElements = 4096;
constexpr uint64_t maxVocabularyBytes = 256 << 20;
constexpr uint32_t maxAlignment = 1 << 20;
constexpr uint32_t maxRank = 4;
constexpr int64_t maxFiles = 1024;
/// For tables that are part of the configuration.
constexpr int64_t maxTableElements = 1 << 16;

/// Sizes from ggml's `type_traits` (src/ggml.c).
static constexpr BlockType blockTypes[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},
    {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},
    {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},
};

const BlockType *gguf::findBlockType(StringRef name) {
  const auto *it = llvm::find_if(
      blockTypes, [&](const BlockType &type) { return type.name == name; });
  return it == std::end(blockTypes) ? nullptr : it;
}

std::optional<deepseek::GGUFFormat> gguf::getFormat(const BlockType &type) {
  return deepseek::symbolizeGGUFFormat(type.name.lower());
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

/// The bytes of a value of fixed size; 0 for the others.
static uint64_t sizeBytes(ValueType type) {
  switch (type) {
  case ValueType::U8:
  case ValueType::I8:
  case ValueType::Bool:
    return 1;
  case ValueType::U16:
  case ValueType::I16:
    return 2;
  case ValueType::U32:
  case ValueType::I32:
  case ValueType::F32:
    return 4;
  case ValueType::U64:
  case ValueType::I64:
  case ValueType::F64:
    return 8;
  case ValueType::String:
  case ValueType::Array:
    return 0;
  }
  llvm_unreachable("unknown type of value");
}

static bool isFloat(ValueType type) {
  return type == ValueType::F32 || type == ValueType::F64;
}

/// What the little-endian \p data of \p type stands for, as `KeyValue::bits`.
static uint64_t decode(ValueType type, const char *data) {
  using namespace llvm::support::endian;
  switch (type) {
  case ValueType::U8:
  case ValueType::Bool:
    return uint8_t(*data);
  case ValueType::I8:
    return uint64_t(int64_t(int8_t(*data)));
  case ValueType::U16:
    return read16le(data);
  case ValueType::I16:
    return uint64_t(int64_t(int16_t(read16le(data))));
  case ValueType::U32:
    return read32le(data);
  case ValueType::I32:
    return uint64_t(int64_t(int32_t(read32le(data))));
  case ValueType::F32:
    return llvm::bit_cast<uint64_t>(
        double(llvm::bit_cast<float>(read32le(data))));
  case ValueType::U64:
  case ValueType::I64:
  case ValueType::F64:
    return read64le(data);
  case ValueType::String:
  case ValueType::Array:
    break;
  }
  llvm_unreachable("not a type of fixed size");
}

std::optional<int64_t> KeyValue::getInteger(size_t i) const {
  if (i >= bits.size() || isFloat(type) || type == ValueType::Bool)
    return std::nullopt;
  if (type == ValueType::U64 && bits[i] > uint64_t(INT64_MAX))
    return std::nullopt;
  return int64_t(bits[i]);
}

std::optional<double> KeyValue::getNumber(size_t i) const {
  if (std::optional<int64_t> integer = getInteger(i))
    return double(*integer);
  if (i >= bits.size() || !isFloat(type))
    return std::nullopt;
  auto number = llvm::bit_cast<double>(bits[i]);
  if (type == ValueType::F64 || !std::isfinite(number))
    return number;
  for (int digits = 6; digits <= 9; ++digits) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.*g", digits, number);
    double decimal = std::strtod(text, nullptr);
    if (float(decimal) == float(number))
      return decimal;
  }
  return number;
}

std::optional<bool> KeyValue::getBoolean() const {
  if (isArray || bits.empty() || type != ValueType::Bool)
    return std::nullopt;
  return bits[0] != 0;
}

std::optional<StringRef> KeyValue::getString() const {
  if (isArray || strings.empty())
    return std::nullopt;
  return StringRef(strings[0]);
}

std::string KeyValue::toText() const {
  if (isArray)
    return ("an array of " + Twine(count)).str();
  if (std::optional<StringRef> string = getString())
    return quote(llvm::json::fixUTF8(string->take_front(256)));
  if (std::optional<bool> boolean = getBoolean())
    return *boolean ? "true" : "false";
  if (std::optional<int64_t> integer = getInteger())
    return std::to_string(*integer);
  if (type == ValueType::U64)
    return std::to_string(bits[0]);
  char text[32];
  std::snprintf(text, sizeof(text), "%g", *getNumber());
  return text;
}

//===----------------------------------------------------------------------===//
// Reader
//===----------------------------------------------------------------------===//

namespace hadal::gguf {
/// Reads the header of one file from its start. The first error is kept, and
/// what is read after it is zero, so that callers check once in a while.
class HeaderReader {
public:
  HeaderReader(Model &model, unsigned fileIndex, const InputFile &file,
               bool hasData)
      : model(model), fileIndex(fileIndex), file(file),
        path(model.pathOf(model.files[fileIndex])), hasData(hasData) {}

  /// Adds the file's tensors to the model, and its keys if \p keepsKeys.
  /// Returns the keys otherwise.
  absl::Status read(llvm::StringMap<KeyValue> &values);

private:
  bool ok() const { return status.ok(); }
  void fail(const Twine &message) {
    if (ok())
      status = invalid(path + ": " + message);
  }
  uint64_t remaining() const { return file.size() - position; }

  /// Makes sure that \p bytes more are in the file. \p what is what they are.
  bool expect(uint64_t bytes, const Twine &what) {
    if (ok() && bytes > remaining())
      fail(what + " has " + Twine(bytes) + " bytes at byte " + Twine(position) +
           ", but the file ends at byte " + Twine(file.size()));
    return ok();
  }
  void readBytes(char *data, uint64_t bytes, const Twine &what);
  void skip(uint64_t bytes, const Twine &what) {
    if (expect(bytes, what))
      position += bytes;
  }
  uint32_t readU32(const Twine &what) {
    char data[4] = {};
    readBytes(data, sizeof(data), what);
    return llvm::support::endian::read32le(data);
  }
  uint64_t readU64(const Twine &what) {
    char data[8] = {};
    readBytes(data, sizeof(data), what);
    return llvm::support::endian::read64le(data);
  }
  /// A length and as many bytes of UTF-8, or of any kind if \p mayBeBytes.
  std::string readString(uint64_t maxBytes, const Twine &what,
                         bool mayBeBytes = false);
  std::optional<ValueType> readType(StringRef key);
  KeyValue readValue(StringRef key);
  void readArray(KeyValue &value, StringRef key);
  void readTensor();

  /// A tensor's entry before it is known where the data starts.
  struct Entry {
    std::string name;
    Tensor tensor;
    uint64_t offset;
  };
  void placeTensors(uint64_t alignment);

  Model &model;
  unsigned fileIndex;
  const InputFile &file;
  std::string path;
  bool hasData;
  uint64_t position = 0;
  /// Bytes of the file from `bufferBegin` on, so that not each value is a call.
  std::vector<char> buffer;
  uint64_t bufferBegin = 0;
  uint64_t vocabularyBytes = 0;
  std::vector<Entry> entries;
  absl::Status status;
};
} // namespace hadal::gguf

void HeaderReader::readBytes(char *data, uint64_t bytes, const Twine &what) {
  if (!expect(bytes, what))
    return;
  constexpr uint64_t bufferBytes = 1 << 16;
  std::string error;
  if (bytes > bufferBytes) {
    if (!file.read(position, data, bytes, error))
      status = invalid(error);
    position += bytes;
    return;
  }
  if (position < bufferBegin ||
      position + bytes > bufferBegin + buffer.size()) {
    buffer.resize(std::min(bufferBytes, remaining()));
    bufferBegin = position;
    if (!file.read(position, buffer.data(), buffer.size(), error)) {
      status = invalid(error);
      buffer.clear();
      return;
    }
  }
  std::memcpy(data, buffer.data() + (position - bufferBegin), bytes);
  position += bytes;
}

std::string HeaderReader::readString(uint64_t maxBytes, const Twine &what,
                                     bool mayBeBytes) {
  uint64_t begin = position;
  uint64_t length = readU64(what);
  if (!ok() || !expect(length, what))
    return "";
  if (length > maxBytes) {
    fail(what + " has " + Twine(length) + " bytes at byte " + Twine(begin) +
         ", expected at most " + Twine(maxBytes));
    return "";
  }
  std::string text(length, '\0');
  readBytes(text.data(), length, what);
  if (ok() && !mayBeBytes && !llvm::json::isUTF8(text))
    fail(what + " at byte " + Twine(begin) +
         " is not UTF-8: " + quote(llvm::json::fixUTF8(text)));
  return ok() ? text : "";
}

std::optional<ValueType> HeaderReader::readType(StringRef key) {
  uint64_t begin = position;
  uint32_t type = readU32("the type of " + quote(key));
  if (ok() && type > uint32_t(ValueType::F64))
    fail("key " + quote(key) + " has a value of type " + Twine(type) +
         " at byte " + Twine(begin) + ", expected 0 to " +
         Twine(uint32_t(ValueType::F64)));
  if (!ok())
    return std::nullopt;
  return ValueType(type);
}

/// A tokenizer's list, as long as a vocabulary.
static bool isVocabulary(StringRef key) {
  return key == "tokenizer.ggml.tokens" || key == "tokenizer.ggml.merges" ||
         key == "tokenizer.ggml.scores" || key == "tokenizer.ggml.token_type";
}

void HeaderReader::readArray(KeyValue &value, StringRef key) {
  value.isArray = true;
  std::optional<ValueType> type = readType(key);
  value.count = readU64("the array of " + quote(key));
  if (!ok() || !type)
    return;
  if (*type == ValueType::Array)
    return fail("key " + quote(key) +
                " has an array of arrays, expected one "
                "of strings or numbers");
  value.type = *type;
  // A string has at least its length.
  uint64_t leastBytes = std::max<uint64_t>(sizeBytes(*type), 1);
  if (*type == ValueType::String)
    leastBytes = 8;
  if (value.count > remaining() / leastBytes)
    return fail("key " + quote(key) + " has an array of " + Twine(value.count) +
                " elements at byte " + Twine(position) +
                ", but the file has room for " +
                Twine(remaining() / leastBytes));
  if (isVocabulary(key) && value.count > maxVocabulary)
    return fail("key " + quote(key) + " has an array of " + Twine(value.count) +
                " elements, expected at most " + Twine(maxVocabulary));
  value.isKept = isVocabulary(key) ||
                 (*type != ValueType::String && value.count <= maxKeptElements);
  if (*type == ValueType::String) {
    for (uint64_t i = 0; i < value.count && ok(); ++i) {
      if (!value.isKept) {
        skip(readU64("the array of " + quote(key)),
             "a string of " + quote(key));
        continue;
      }
      value.strings.push_back(readString(maxStringBytes,
                                         "a string of " + quote(key),
                                         /*mayBeBytes=*/true));
      vocabularyBytes += value.strings.back().size() + sizeof(std::string);
      if (vocabularyBytes > maxVocabularyBytes)
        fail("key " + quote(key) + " has more than " +
             Twine(maxVocabularyBytes) + " bytes, expected fewer");
    }
    return;
  }
  if (!value.isKept)
    return skip(value.count * sizeBytes(*type), "the array of " + quote(key));
  value.bits.reserve(value.count);
  for (uint64_t i = 0; i < value.count && ok(); ++i) {
    char data[8] = {};
    readBytes(data, sizeBytes(*type), "the array of " + quote(key));
    value.bits.push_back(decode(*type, data));
  }
}

KeyValue HeaderReader::readValue(StringRef key) {
  KeyValue value;
  std::optional<ValueType> type = readType(key);
  if (!type)
    return value;
  value.type = *type;
  switch (*type) {
  case ValueType::Array:
    readArray(value, key);
    break;
  case ValueType::String:
    value.strings.push_back(readString(maxStringBytes,
                                       "the string of key " + quote(key),
                                       /*mayBeBytes=*/true));
    break;
  default: {
    uint64_t begin = position;
    char data[8] = {};
    readBytes(data, sizeBytes(*type), "the value of key " + quote(key));
    value.bits.push_back(decode(*type, data));
    if (*type == ValueType::Bool && value.bits[0] > 1)
      fail("key " + quote(key) + " is " + Twine(value.bits[0]) + " at byte " +
           Twine(begin) + ", expected a boolean, 0 or 1");
    break;
  }
  }
  return value;
}

void HeaderReader::readTensor() {
  Entry entry;
  entry.name =
      readString(maxNameBytes, "the name of tensor " + Twine(entries.size()) +
                                   " of " + quote(path));
  std::string what = "tensor " + quote(entry.name);
  uint32_t rank = readU32(what);
  if (ok() && (rank == 0 || rank > maxRank))
    fail(what + " has " + Twine(rank) + " dimensions, expected 1 to " +
         Twine(maxRank));
  bool isOverflow = false;
  llvm::SmallVector<uint64_t, 4> sizes;
  for (uint32_t i = 0; i < rank && ok(); ++i) {
    sizes.push_back(readU64(what));
    isOverflow |= sizes.back() > uint64_t(INT64_MAX);
  }
  uint32_t id = readU32(what);
  entry.offset = readU64(what);
  if (!ok())
    return;
  Tensor &tensor = entry.tensor;
  tensor.file = fileIndex;
  const auto *type = llvm::find_if(
      blockTypes, [&](const BlockType &type) { return type.id == id; });
  if (type == std::end(blockTypes))
    return fail(what + " has the unknown type " + Twine(id) +
                ", expected one of ggml's such as 1 (F16)");
  tensor.type = type;
  std::string shape;
  for (uint64_t size : llvm::reverse(sizes))
    shape += (shape.empty() ? "[" : ", ") + std::to_string(size);
  shape += "]";
  tensor.shape.assign(sizes.rbegin(), sizes.rend());
  std::optional<int64_t> count;
  if (!isOverflow)
    count = checkedProduct(tensor.shape);
  std::optional<int64_t> bytes;
  if (count && (*count == 0 || tensor.shape.back() % type->blockElements != 0))
    return fail(what + " has shape " + shape + " of " + type->name +
                ", expected rows of a multiple of " +
                Twine(type->blockElements) + " elements");
  if (count)
    bytes = checkedProduct({*count / type->blockElements, type->blockBytes});
  if (!bytes)
    return fail(what + " has shape " + shape +
                ", whose size overflows 64 "
                "bits");
  tensor.sizeBytes = *bytes;
  entries.push_back(std::move(entry));
}

/// Finds where the data of all tensors is, now that the header's end is known.
void HeaderReader::placeTensors(uint64_t alignment) {
  uint64_t dataBegin = (position + alignment - 1) / alignment * alignment;
  std::map<uint64_t, std::pair<uint64_t, StringRef>> byOffset;
  for (Entry &entry : entries) {
    Tensor &tensor = entry.tensor;
    auto bytes = uint64_t(tensor.sizeBytes);
    std::string what = "tensor " + quote(entry.name);
    if (entry.offset % alignment != 0)
      return fail(what + " has offset " + Twine(entry.offset) +
                  ", expected a multiple of the alignment, " +
                  Twine(alignment));
    // Both below 2^63, so that sums do not overflow.
    if (entry.offset > uint64_t(INT64_MAX) / 4 ||
        bytes > uint64_t(INT64_MAX) / 4 ||
        (hasData && dataBegin + entry.offset + bytes > file.size()))
      return fail(what + " of " + toText(tensor.shape) + " in " +
                  tensor.type->name + " has " + Twine(bytes) +
                  " bytes at offset " + Twine(entry.offset) +
                  " of the data, which starts at byte " + Twine(dataBegin) +
                  ", but the file ends at byte " + Twine(file.size()));
    tensor.offsetBytes = int64_t(dataBegin + entry.offset);
    auto [it, isNew] = model.tensors.try_emplace(entry.name, tensor);
    if (!isNew)
      return fail(it->second.file == fileIndex
                      ? what + " appears twice"
                      : what + " is also in " +
                            quote(model.files[it->second.file]));
    if (auto [other, fits] = byOffset.try_emplace(
            entry.offset, std::pair(entry.offset + bytes, it->first()));
        !fits)
      return fail("tensors " + quote(other->second.second) + " and " +
                  quote(entry.name) + " share byte " +
                  Twine(tensor.offsetBytes));
  }
  const std::pair<const uint64_t, std::pair<uint64_t, StringRef>> *last =
      nullptr;
  for (const auto &range : byOffset) {
    if (last && range.first < last->second.first)
      return fail("tensors " + quote(last->second.second) + " and " +
                  quote(range.second.second) + " share byte " +
                  Twine(dataBegin + range.first));
    last = &range;
  }
}

absl::Status HeaderReader::read(llvm::StringMap<KeyValue> &values) {
  if (file.size() == 0)
    return invalid(path + ": empty, expected a GGUF file");
  char magic[4] = {};
  readBytes(magic, sizeof(magic), "the magic");
  if (ok() && StringRef(magic, 4) != "GGUF")
    fail("starts with the bytes " + llvm::toHex(StringRef(magic, 4)) +
         ", expected 47475546, \"GGUF\"");
  uint32_t version = readU32("the version");
  if (ok() && version != 2 && version != 3) {
    if (llvm::byteswap(version) == 2 || llvm::byteswap(version) == 3)
      return unimplemented(path + ": is a big-endian GGUF file, expected a "
                                  "little-endian one");
    if (version == 1)
      return unimplemented(path + ": is a GGUF file of version 1, expected 2 "
                                  "or 3");
    fail("is a GGUF file of version " + Twine(version) + ", expected 2 or 3");
  }
  uint64_t tensorCount = readU64("the number of tensors");
  uint64_t keyCount = readU64("the number of keys");
  if (!ok())
    return status;
  // The least that an entry takes: a length, a type and a value of one byte; a
  // length, a rank, one dimension, a type and an offset.
  uint64_t roomForKeys = std::min<uint64_t>(remaining() / 13, maxKeys);
  if (keyCount > roomForKeys)
    fail("says it has " + Twine(keyCount) + " keys, expected at most " +
         Twine(roomForKeys) + " in a file of " + Twine(file.size()) + " bytes");
  uint64_t roomForTensors = std::min<uint64_t>(remaining() / 32, maxTensors);
  if (tensorCount > roomForTensors)
    fail("says it has " + Twine(tensorCount) + " tensors, expected at most " +
         Twine(roomForTensors) + " in a file of " + Twine(file.size()) +
         " bytes");
  for (uint64_t i = 0; i < keyCount && ok(); ++i) {
    std::string key = readString(maxKeyBytes, "the name of key " + Twine(i));
    KeyValue value = readValue(key);
    if (ok() && !values.try_emplace(key, std::move(value)).second)
      fail("key " + quote(key) + " appears twice");
  }
  uint64_t alignment = 32;
  if (auto it = values.find("general.alignment"); it != values.end()) {
    std::optional<int64_t> given = it->second.getInteger();
    if (!given || *given < 1 || *given > maxAlignment ||
        !llvm::isPowerOf2_64(uint64_t(*given)))
      fail("'general.alignment' is " + it->second.toText() +
           ", expected a power of two up to " + Twine(maxAlignment));
    else
      alignment = uint64_t(*given);
  }
  for (uint64_t i = 0; i < tensorCount && ok(); ++i)
    readTensor();
  if (ok())
    placeTensors(alignment);
  return status;
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

std::string Model::pathOf(StringRef name) const {
  return folder.empty() ? name.str() : folder + "/" + name.str();
}

/// Reads the header of \p name; the keys of the first file are the model's.
absl::Status Model::addFile(StringRef name, bool hasData) {
  absl::StatusOr<std::string> path =
      resolveInFolder(folder.empty() ? "." : folder, name);
  if (!path.ok())
    return path.status();
  InputFile file;
  std::string error;
  if (!file.open(*path, error))
    return invalid(error);
  auto index = unsigned(files.size());
  files.push_back(name.str());
  llvm::StringMap<KeyValue> local;
  HeaderReader reader(*this, index, file, hasData);
  if (index == 0)
    return reader.read(values);
  if (absl::Status status = reader.read(local); !status.ok())
    return status;
  for (auto [key, expected] :
       {std::pair<StringRef, int64_t>("split.no", index),
        {"split.count", *values.find("split.count")->second.getInteger()}}) {
    auto it = local.find(key);
    std::optional<int64_t> given;
    if (it != local.end())
      given = it->second.getInteger();
    if (given != expected)
      return invalid(pathOf(name) + ": '" + key + "' is " +
                     (it == local.end() ? "missing" : it->second.toText()) +
                     ", expected " + Twine(expected));
  }
  return absl::OkStatus();
}

/// Reads the headers of the files after the first.
absl::Status Model::addSplits(bool hasData) {
  const KeyValue *value = get("split.count");
  if (!value)
    return absl::OkStatus();
  std::string first = sourcePath();
  std::optional<int64_t> count = value->getInteger();
  if (!count || *count < 0 || *count > maxFiles)
    return invalid(first + ": 'split.count' is " + value->toText() +
                   ", expected an integer from 0 to " + Twine(maxFiles));
  if (*count <= 1)
    return absl::OkStatus();
  auto suffixOf = [&](int64_t i) {
    char text[64];
    std::snprintf(text, sizeof(text), "-%05d-of-%05d.gguf", int(i + 1),
                  int(*count));
    return std::string(text);
  };
  const KeyValue *number = get("split.no");
  StringRef stem = files.front();
  if (!number || number->getInteger() != 0)
    return invalid(first + ": 'split.no' is " +
                   (number ? number->toText() : "missing") +
                   ", expected 0: the first of " + Twine(*count) + " files, *" +
                   suffixOf(0));
  if (!stem.consume_back(suffixOf(0)))
    return invalid(first + ": is the first of " + Twine(*count) +
                   " files, expected a name like *" + suffixOf(0));
  std::string prefix = stem.str();
  for (int64_t i = 1; i < *count; ++i)
    if (absl::Status status = addFile(prefix + suffixOf(i), hasData);
        !status.ok())
      return status;
  if (const KeyValue *total = get("split.tensors.count"))
    if (total->getInteger() != int64_t(tensors.size()))
      return invalid(first + ": 'split.tensors.count' is " + total->toText() +
                     ", but the " + Twine(*count) + " files have " +
                     Twine(tensors.size()));
  return absl::OkStatus();
}

absl::StatusOr<Model> Model::open(StringRef path, bool hasData) {
  Model model;
  model.folder = llvm::sys::path::parent_path(path).str();
  if (absl::Status status =
          model.addFile(llvm::sys::path::filename(path), hasData);
      !status.ok())
    return status;
  if (absl::Status status = model.addSplits(hasData); !status.ok())
    return status;
  return model;
}

absl::Status
Model::supply(llvm::ArrayRef<std::pair<std::string, std::string>> given) {
  for (const auto &[key, text] : given) {
    if (const KeyValue *value = get(key))
      return invalid(sourcePath() + ": has key " + quote(key) + ", as " +
                     value->toText() + ", it cannot be given as " +
                     quote(text));
    KeyValue value;
    int64_t integer;
    double number;
    if (!StringRef(text).getAsInteger(10, integer)) {
      value.type = ValueType::I64;
      value.bits = {uint64_t(integer)};
    } else if (!StringRef(text).getAsDouble(number)) {
      value.type = ValueType::F64;
      value.bits = {llvm::bit_cast<uint64_t>(number)};
    } else if (text == "true" || text == "false") {
      value.type = ValueType::Bool;
      value.bits = {uint64_t(text == "true")};
    } else {
      value.type = ValueType::String;
      value.strings = {text};
    }
    values[key] = std::move(value);
    supplied.insert(key);
  }
  return absl::OkStatus();
}

std::vector<StringRef> Model::keys() const {
  std::vector<StringRef> keys(values.keys().begin(), values.keys().end());
  llvm::sort(keys);
  return keys;
}

std::vector<StringRef> Model::names() const {
  std::vector<StringRef> names(tensors.keys().begin(), tensors.keys().end());
  llvm::sort(names);
  return names;
}

absl::StatusOr<std::vector<float>> Model::readF32(const Tensor &tensor) const {
  InputFile file;
  std::string error;
  int64_t count = tensor.sizeBytes / 4;
  if (count > maxTableElements)
    return invalid(pathOf(tensor) + ": a table of " + Twine(count) +
                   " elements, expected at most " + Twine(maxTableElements));
  std::vector<char> bytes(size_t(tensor.sizeBytes));
  if (!file.open(pathOf(tensor), error) ||
      !file.read(uint64_t(tensor.offsetBytes), bytes.data(), bytes.size(),
                 error))
    return invalid(error);
  std::vector<float> values;
  values.reserve(size_t(count));
  for (int64_t i = 0; i < count; ++i)
    values.push_back(llvm::bit_cast<float>(
        llvm::support::endian::read32le(bytes.data() + i * 4)));
  return values;
}
