// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where the tensors of a folder of safetensors files are. The format: eight
// bytes with the length of a JSON header, the header, then the data
// (https://github.com/huggingface/safetensors, README.md, "Format").

#include "lib/Import/Safetensors/Safetensors.h"

#include "lib/Import/JSON.h"
#include "lib/Support/CheckedMath.h"
#include "lib/Support/FileIO.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <map>

using namespace hadal;
using namespace hadal::safetensors;
using llvm::StringRef;
using llvm::Twine;

/// The limit that the reference implementation has.
constexpr uint64_t maxHeaderBytes = 100'000'000;
/// An index has a line of about a hundred bytes per tensor.
constexpr uint64_t maxIndexBytes = 256 << 20;
constexpr size_t maxRank = 8;

namespace {
struct DTypeInfo {
  StringRef name;
  DType dtype;
  int64_t sizeBytes;
};
} // namespace

static constexpr DTypeInfo dtypes[] = {
    {"BOOL", DType::Bool, 1},      {"I8", DType::I8, 1},
    {"U8", DType::U8, 1},          {"I16", DType::I16, 2},
    {"U16", DType::U16, 2},        {"I32", DType::I32, 4},
    {"U32", DType::U32, 4},        {"I64", DType::I64, 8},
    {"U64", DType::U64, 8},        {"F8_E4M3", DType::F8E4M3, 1},
    {"F8_E5M2", DType::F8E5M2, 1}, {"F8_E8M0", DType::F8E8M0, 1},
    {"F16", DType::F16, 2},        {"BF16", DType::BF16, 2},
    {"F32", DType::F32, 4},        {"F64", DType::F64, 8},
};

StringRef safetensors::stringify(DType dtype) {
  return llvm::find_if(
             dtypes, [&](const DTypeInfo &info) { return info.dtype == dtype; })
      ->name;
}

/// Reads \p entry, the header's entry of one tensor in a file with
/// \p dataBytes of data. Offsets count from the start of the data.
static absl::StatusOr<Tensor> readEntry(const llvm::json::Value &entry,
                                        int64_t dataBytes, const Twine &where) {
  const llvm::json::Object *object = entry.getAsObject();
  if (!object)
    return invalid(where + " has the entry " + toText(entry) +
                   ", expected an object");
  for (const auto &[key, value] : *object)
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      return invalid(where + " has the unknown key " + quote(key));

  Tensor tensor;
  const llvm::json::Value *dtype = object->get("dtype");
  std::optional<StringRef> dtypeName =
      dtype ? dtype->getAsString() : std::nullopt;
  const auto *info = llvm::find_if(dtypes, [&](const DTypeInfo &info) {
    return dtypeName && info.name == *dtypeName;
  });
  if (info == std::end(dtypes))
    return invalid(where + " has dtype " +
                   (dtype ? toText(*dtype) : "missing") +
                   ", expected one of safetensors' such as \"BF16\"");
  tensor.dtype = info->dtype;

  const llvm::json::Value *shape = object->get("shape");
  const llvm::json::Array *sizes = shape ? shape->getAsArray() : nullptr;
  bool isShape = sizes && sizes->size() <= maxRank;
  for (size_t i = 0; isShape && i < sizes->size(); ++i) {
    std::optional<int64_t> size = (*sizes)[i].getAsInteger();
    isShape = size && *size >= 0;
    if (isShape)
      tensor.shape.push_back(*size);
  }
  if (!isShape)
    return invalid(where + " has shape " +
                   (shape ? toText(*shape) : "missing") +
                   ", expected at most " + Twine(maxRank) +
                   " sizes that are not negative");
  llvm::SmallVector<int64_t, 8> factors(tensor.shape.begin(),
                                        tensor.shape.end());
  factors.push_back(info->sizeBytes);
  std::optional<int64_t> sizeBytes = checkedProduct(factors);
  if (!sizeBytes)
    return invalid(where + " has shape " + toText(tensor.shape) +
                   ", whose size overflows 64 bits");
  tensor.sizeBytes = *sizeBytes;

  const llvm::json::Value *range = object->get("data_offsets");
  const llvm::json::Array *ends = range ? range->getAsArray() : nullptr;
  std::optional<int64_t> begin, end;
  if (ends && ends->size() == 2) {
    begin = (*ends)[0].getAsInteger();
    end = (*ends)[1].getAsInteger();
  }
  if (!begin || !end || *begin < 0 || *end < *begin)
    return invalid(where + " has data_offsets " +
                   (range ? toText(*range) : "missing") +
                   ", expected [begin, end] with 0 <= begin <= end");
  if (*end > dataBytes)
    return invalid(where + " has data_offsets " + toText(*range) +
                   ", but the file has " + Twine(dataBytes) + " bytes of data");
  if (*end - *begin != tensor.sizeBytes)
    return invalid(where + " has data_offsets " + toText(*range) + ", " +
                   Twine(*end - *begin) + " bytes, but shape " +
                   toText(tensor.shape) + " of " + info->name + " needs " +
                   Twine(tensor.sizeBytes));
  tensor.offsetBytes = *begin;
  return tensor;
}

absl::Status Checkpoint::addFile(StringRef name) {
  // The root's is empty, without the slash that ends it.
  absl::StatusOr<std::string> path =
      resolveInFolder(folder.empty() ? "/" : folder, name);
  if (!path.ok())
    return path.status();
  InputFile file;
  std::string error;
  if (!file.open(*path, error))
    return invalid(error);
  char prefix[8];
  if (file.size() < sizeof(prefix))
    return invalid(*path + ": has " + Twine(file.size()) +
                   " bytes, expected at least the 8 of the header's length");
  if (!file.read(0, prefix, sizeof(prefix), error))
    return invalid(error);
  uint64_t headerBytes = llvm::support::endian::read64le(prefix);
  uint64_t rest = file.size() - sizeof(prefix);
  if (headerBytes > rest || headerBytes > maxHeaderBytes)
    return invalid(*path + ": says its header has " + Twine(headerBytes) +
                   " bytes, expected at most " +
                   Twine(std::min(rest, maxHeaderBytes)));
  std::string text(headerBytes, '\0');
  if (!file.read(sizeof(prefix), text.data(), headerBytes, error))
    return invalid(error);
  absl::StatusOr<llvm::json::Object> header = parseObject(text, *path);
  if (!header.ok())
    return header.status();

  int64_t dataBegin = int64_t(sizeof(prefix) + headerBytes);
  int64_t dataBytes = int64_t(rest - headerBytes);
  unsigned fileIndex = unsigned(files.size());
  files.push_back(name.str());
  // By place, to find tensors that share bytes.
  std::map<std::pair<int64_t, int64_t>, StringRef> byOffset;
  for (const auto &[key, entry] : *header) {
    StringRef tensorName = key;
    if (tensorName == "__metadata__")
      continue;
    absl::StatusOr<Tensor> tensor =
        readEntry(entry, dataBytes, *path + ": tensor " + quote(tensorName));
    if (!tensor.ok())
      return tensor.status();
    int64_t begin = tensor->offsetBytes, size = tensor->sizeBytes;
    tensor->offsetBytes += dataBegin;
    tensor->file = fileIndex;
    auto [it, isNew] = tensors.try_emplace(tensorName, std::move(*tensor));
    if (!isNew)
      return invalid(*path + ": tensor " + quote(tensorName) + " is also in " +
                     quote(files[it->second.file]));
    if (size)
      if (auto [other, fits] =
              byOffset.try_emplace({begin, begin + size}, it->first());
          !fits)
        return invalid(*path + ": tensors " + quote(other->second) + " and " +
                       quote(tensorName) + " share byte " + Twine(begin));
  }
  const std::pair<const std::pair<int64_t, int64_t>, StringRef> *last = nullptr;
  for (const auto &range : byOffset) {
    if (last && range.first.first < last->first.second)
      return invalid(*path + ": tensors " + quote(last->second) + " and " +
                     quote(range.second) + " share byte " +
                     Twine(range.first.first));
    last = &range;
  }
  return absl::OkStatus();
}

absl::StatusOr<Checkpoint> Checkpoint::openFile(StringRef path) {
  StringRef folder = llvm::sys::path::parent_path(path);
  return openFile(folder.empty() ? "." : folder,
                  llvm::sys::path::filename(path));
}

absl::StatusOr<Checkpoint> Checkpoint::openFile(StringRef folder,
                                                StringRef name) {
  Checkpoint checkpoint;
  checkpoint.folder = folder.rtrim('/').str();
  checkpoint.sourceName = name.str();
  if (absl::Status status = checkpoint.addFile(name); !status.ok())
    return status;
  return checkpoint;
}

absl::StatusOr<Checkpoint> Checkpoint::open(StringRef folder) {
  Checkpoint checkpoint;
  checkpoint.folder = folder.rtrim('/').str();
  // The order in which Hugging Face's loader looks.
  llvm::SmallString<256> path(folder);
  llvm::sys::path::append(path, "model.safetensors");
  if (llvm::sys::fs::exists(path))
    return openFile(folder, "model.safetensors");
  checkpoint.sourceName = "model.safetensors.index.json";
  path = folder;
  llvm::sys::path::append(path, checkpoint.sourceName);
  if (!llvm::sys::fs::exists(path))
    return invalid(folder + ": has neither 'model.safetensors' nor '" +
                   checkpoint.sourceName + "'");
  absl::StatusOr<std::string> indexPath =
      resolveInFolder(folder, checkpoint.sourceName);
  if (!indexPath.ok())
    return indexPath.status();
  absl::StatusOr<llvm::json::Object> index =
      readObject(*indexPath, maxIndexBytes);
  if (!index.ok())
    return index.status();
  const llvm::json::Object *map = index->getObject("weight_map");
  if (!map)
    return invalid(*indexPath + ": has no object 'weight_map'");

  // Sorted, so that the order of files does not depend on a hash.
  std::map<StringRef, StringRef> fileOfTensor;
  std::map<StringRef, StringRef> tensorOfFile;
  for (const auto &[key, value] : *map) {
    std::optional<StringRef> file = value.getAsString();
    if (!file)
      return invalid(*indexPath + ": tensor " + quote(key) + " is in " +
                     toText(value) + ", expected the name of a file");
    fileOfTensor[key] = *file;
    StringRef &first = tensorOfFile[*file];
    if (first.empty() || StringRef(key) < first)
      first = key;
  }
  for (auto [file, tensor] : tensorOfFile)
    if (absl::Status status = checkpoint.addFile(file); !status.ok())
      return invalid(
          *indexPath + ": tensor " + quote(tensor) + ": " +
          StringRef(status.message().data(), status.message().size()));
  for (auto [name, file] : fileOfTensor) {
    const Tensor *tensor = checkpoint.find(name);
    if (!tensor || checkpoint.fileOf(*tensor) != file)
      return invalid(*indexPath + ": tensor " + quote(name) +
                     " is not in the file " + quote(file) + " but in " +
                     (tensor ? quote(checkpoint.fileOf(*tensor)) : "none"));
  }
  for (StringRef name : checkpoint.names())
    if (!fileOfTensor.count(name))
      return invalid(*indexPath + ": does not list tensor " + quote(name) +
                     " of the file " +
                     quote(checkpoint.fileOf(*checkpoint.find(name))));
  return checkpoint;
}

std::vector<StringRef> Checkpoint::names() const {
  std::vector<StringRef> names(tensors.keys().begin(), tensors.keys().end());
  llvm::sort(names);
  return names;
}
