// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an .onnx file says: its graph, and where the bytes of its tensors are.
// Nothing in it is trusted: each size is held against what is left of the file
// before it is used, and messages nest as deep as the code that reads them.

#include "lib/Import/ONNX/ONNXFile.h"

#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/WireFormat.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

using namespace hadal;
using namespace hadal::onnx;
using llvm::StringRef;
using llvm::Twine;

/// Of what is held in memory: names, nodes, attributes. The graph of a model of
/// 80 layers that torch exports has some megabytes.
constexpr uint64_t maxGraphBytes = 128 << 20;
constexpr size_t maxRank = 8;
/// Elements that are not stored as bytes are those of shapes and scalars; more
/// are a weight.
constexpr size_t maxNumbers = 1 << 16;

static constexpr DataType dataTypes[] = {
    {1, "FLOAT", 32},
    {2, "UINT8", 8},
    {3, "INT8", 8},
    {4, "UINT16", 16},
    {5, "INT16", 16},
    {6, "INT32", 32},
    {7, "INT64", 64},
    {9, "BOOL", 8},
    {10, "FLOAT16", 16},
    {11, "DOUBLE", 64},
    {12, "UINT32", 32},
    {13, "UINT64", 64},
    {16, "BFLOAT16", 16},
    {17, "FLOAT8E4M3FN", 8},
    {18, "FLOAT8E4M3FNUZ", 8},
    {19, "FLOAT8E5M2", 8},
    {20, "FLOAT8E5M2FNUZ", 8},
    {21, "UINT4", 4},
    {22, "INT4", 4},
    {23, "FLOAT4E2M1", 4},
    {24, "FLOAT8E8M0", 8},
    {25, "UINT2", 2},
    {26, "INT2", 2},
};

const DataType *onnx::findDataType(int64_t number) {
  const auto *found = llvm::find_if(
      dataTypes, [&](const DataType &type) { return type.number == number; });
  return found == std::end(dataTypes) ? nullptr : found;
}

namespace {
/// Files beside the model that tensors are in, each looked at once.
class ExternalFiles {
public:
  explicit ExternalFiles(StringRef modelPath)
      : folder(llvm::sys::path::parent_path(modelPath)) {}

  /// The size of \p location, a path below the model's folder.
  absl::StatusOr<uint64_t> getSize(StringRef location);

private:
  absl::StatusOr<uint64_t> find(StringRef location);

  std::string folder;
  llvm::StringMap<uint64_t> sizes;
};

class ModelReader {
public:
  ModelReader(const InputFile &file, StringRef path, bool hasPlaces)
      : path(path), hasPlaces(hasPlaces), reader(file, maxGraphBytes),
        externalFiles(path) {}

  absl::StatusOr<Model> read();

private:
  void fail(const Twine &message) { reader.fail(message); }
  void refuse(const Twine &message) {
    if (reader.ok() && refusal.ok())
      refusal = unimplemented(path + ": " + message);
  }
  bool ok() const { return reader.ok() && refusal.ok(); }

  void readOpset(Range message);
  void readGraph(Range message);
  Node readNode(Range message);
  Attribute readAttribute(Range message, const Twine &node);
  Tensor readTensor(Range message, const Twine &where);
  void placeTensor(Tensor &tensor, const Twine &where, StringRef location,
                   std::optional<int64_t> offset,
                   std::optional<int64_t> length);
  ValueInfo readValueInfo(Range message, StringRef what);
  void readShape(Range message, ValueInfo &info);

  StringRef path;
  bool hasPlaces;
  WireReader reader;
  absl::Status refusal;
  ExternalFiles externalFiles;
  Model model;
};
} // namespace

//===----------------------------------------------------------------------===//
// Files beside the model
//===----------------------------------------------------------------------===//

/// A location may have folders in it, which `resolveInFolder` refuses.
absl::StatusOr<uint64_t> ExternalFiles::find(StringRef location) {
  namespace fs = llvm::sys::fs;
  namespace path = llvm::sys::path;
  auto refuse = [&](const Twine &why) -> absl::Status {
    return invalid("location " + quote(location) + " " + why);
  };
  if (location.empty() || path::is_absolute(location) ||
      location.find_first_of(StringRef("\\\0", 2)) != StringRef::npos ||
      llvm::is_contained(
          llvm::make_range(path::begin(location), path::end(location)), ".."))
    return refuse("is not a path below the model's folder");
  llvm::SmallString<256> full(folder.empty() ? StringRef(".") : folder);
  llvm::SmallString<256> realFolder, realPath;
  std::error_code error = fs::real_path(full, realFolder);
  // Each folder on the way, and the file itself, must be there by itself.
  for (StringRef step :
       llvm::make_range(path::begin(location), path::end(location))) {
    path::append(full, step);
    fs::file_status status;
    if (!error)
      error = fs::status(full, status, /*follow=*/false);
    if (error)
      return refuse("cannot be opened: " + error.message());
    if (status.type() == fs::file_type::symlink_file)
      return refuse("goes through a symbolic link");
  }
  fs::file_status status;
  if (std::error_code code = fs::status(full, status))
    return refuse("cannot be opened: " + code.message());
  if (status.type() != fs::file_type::regular_file)
    return refuse("is not a regular file");
  if (status.getLinkCount() > 1)
    return refuse("is a hard link: the file has " +
                  Twine(status.getLinkCount()) + " names, expected one");
  return status.getSize();
}

absl::StatusOr<uint64_t> ExternalFiles::getSize(StringRef location) {
  if (auto found = sizes.find(location); found != sizes.end())
    return found->second;
  absl::StatusOr<uint64_t> size = find(location);
  if (size.ok())
    sizes[location] = *size;
  return size;
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

/// Sets where the bytes of \p tensor are: in \p location, or, if that is empty,
/// in the model's own file.
void ModelReader::placeTensor(Tensor &tensor, const Twine &where,
                              StringRef location, std::optional<int64_t> offset,
                              std::optional<int64_t> length) {
  if (!hasPlaces || !ok())
    return;
  absl::StatusOr<uint64_t> size = externalFiles.getSize(location);
  if (!size.ok())
    return fail(where + ": " +
                StringRef(size.status().message().data(),
                          size.status().message().size()));
  int64_t begin = offset.value_or(0);
  if (begin < 0 || uint64_t(begin) > *size)
    return fail(where + " has offset " + Twine(begin) + " in " +
                quote(location) + ", but the file has " + Twine(*size) +
                " bytes");
  // Without a length, a tensor has what its shape needs.
  int64_t bytes = length.value_or(tensor.sizeBytes);
  if (bytes != tensor.sizeBytes)
    return fail(where + " has length " + Twine(bytes) + ", but shape " +
                toText(tensor.shape) + " of " + tensor.type->name + " needs " +
                Twine(tensor.sizeBytes) + " bytes");
  if (uint64_t(bytes) > *size - uint64_t(begin))
    return fail(where + " has " + Twine(bytes) + " bytes at offset " +
                Twine(begin) + " of " + quote(location) +
                ", but the file has " + Twine(*size) + " bytes");
  tensor.file = location.str();
  tensor.offsetBytes = begin;
}

Tensor ModelReader::readTensor(Range message, const Twine &where) {
  reader.charge(sizeof(Tensor));
  Tensor tensor;
  std::vector<int64_t> dims, numbers;
  std::vector<float> floats;
  std::optional<Range> raw;
  int64_t typeNumber = 0, location = 0;
  bool isText = false, isSegment = false;
  std::vector<std::pair<std::string, std::string>> external;
  Field field;
  while (reader.next(message, field)) {
    switch (field.number) {
    case 1:
      reader.readIntegers(field, dims, "TensorProto.dims");
      break;
    case 2:
      typeNumber = reader.readInteger(field, "TensorProto.data_type");
      break;
    case 3:
      isSegment = true;
      break;
    case 4:
      // In the order of bytes that a tensor has, if it is in one piece.
      if (field.kind == Field::Bytes && !raw && floats.empty())
        raw = field.bytes;
      else if (!raw)
        reader.readFloats(field, floats, "TensorProto.float_data");
      else
        fail(where + " has float_data in more than one piece");
      break;
    case 5:
    case 7:
    case 11:
      reader.readIntegers(field, numbers, "the numbers of a tensor");
      break;
    case 6:
      isText = true;
      break;
    case 8:
      tensor.name = reader.readString(field, "TensorProto.name");
      break;
    case 9:
      raw = reader.readMessage(field, "TensorProto.raw_data");
      break;
    case 10:
      if (field.kind == Field::Bytes && !raw)
        raw = field.bytes;
      else
        fail(where + " has double_data in more than one piece");
      break;
    case 13: {
      Range entry = reader.readMessage(field, "TensorProto.external_data");
      auto &[key, value] = external.emplace_back();
      for (Field part; reader.next(entry, part);)
        if (part.number <= 2)
          (part.number == 1 ? key : value) =
              reader.readString(part, "TensorProto.external_data");
      break;
    }
    case 14:
      location = reader.readInteger(field, "TensorProto.data_location");
      break;
    }
  }
  std::string name =
      (where + (tensor.name.empty() ? "" : " " + quote(tensor.name))).str();
  if (!ok())
    return tensor;
  tensor.type = findDataType(typeNumber);
  if (!tensor.type || isText || isSegment) {
    refuse(name + " is of data type " + Twine(typeNumber) +
           (isSegment ? ", in segments" : "") + ", which is not supported");
    return tensor;
  }
  tensor.shape.assign(dims.begin(), dims.end());
  if (dims.size() > maxRank ||
      llvm::any_of(dims, [](int64_t size) { return size < 0; })) {
    fail(name + " has shape " + toText(tensor.shape) + ", expected at most " +
         Twine(maxRank) + " sizes that are not negative");
    return tensor;
  }
  std::optional<int64_t> elements = checkedProduct(dims);
  std::optional<int64_t> bits =
      elements ? checkedProduct({*elements, int64_t(tensor.type->bits)})
               : std::nullopt;
  if (!bits || *bits > INT64_MAX - 7) {
    fail(name + " has shape " + toText(tensor.shape) +
         ", whose size overflows 64 bits");
    return tensor;
  }
  tensor.elements = *elements;
  tensor.sizeBytes = (*bits + 7) / 8;

  if (location == 1) { // EXTERNAL
    std::string file;
    std::optional<int64_t> offset, length;
    for (const auto &[key, value] : external) {
      int64_t number = 0;
      if (key == "location")
        file = value;
      else if (key == "offset" || key == "length") {
        if (StringRef(value).getAsInteger(10, number) || number < 0) {
          fail(name + " has " + key + " " + quote(value) +
               ", expected a number of bytes");
          return tensor;
        }
        (key == "offset" ? offset : length) = number;
      }
    }
    if (file.empty())
      fail(name + " is external data, but has no location");
    placeTensor(tensor, name, file, offset, length);
    return tensor;
  }
  if (location != 0)
    fail(name + " has data_location " + Twine(location) + ", expected 0 or 1");
  if (!external.empty())
    fail(name + " has external_data, but its data_location is not EXTERNAL");
  if (raw) {
    if (int64_t(raw->size()) != tensor.sizeBytes)
      fail(name + " has " + Twine(raw->size()) + " bytes, but shape " +
           toText(tensor.shape) + " of " + tensor.type->name + " needs " +
           Twine(tensor.sizeBytes));
    if (hasPlaces) {
      tensor.file = llvm::sys::path::filename(path).str();
      tensor.offsetBytes = int64_t(raw->begin);
    }
    return tensor;
  }
  for (float number : floats)
    numbers.push_back(int64_t(llvm::bit_cast<uint32_t>(number)));
  if (int64_t(numbers.size()) != tensor.elements) {
    fail(name + " has " + Twine(numbers.size()) + " numbers, but shape " +
         toText(tensor.shape) + " needs " + Twine(tensor.elements));
  } else if (numbers.size() > maxNumbers || tensor.type->bits < 8) {
    refuse(name + " has its " + Twine(numbers.size()) + " numbers of type " +
           tensor.type->name +
           " as fields of a message, expected raw_data or external data");
  }
  tensor.numbers = std::move(numbers);
  tensor.hasNumbers = true;
  return tensor;
}

//===----------------------------------------------------------------------===//
// The graph
//===----------------------------------------------------------------------===//

Attribute ModelReader::readAttribute(Range message, const Twine &node) {
  reader.charge(sizeof(Attribute));
  Attribute attribute;
  bool hasSubgraph = false;
  Field field;
  while (reader.next(message, field)) {
    switch (field.number) {
    case 1:
      attribute.name = reader.readString(field, "AttributeProto.name");
      break;
    case 2:
      attribute.floats.push_back(reader.readFloat(field, "AttributeProto.f"));
      break;
    case 3:
      attribute.ints.push_back(reader.readInteger(field, "AttributeProto.i"));
      break;
    case 4:
      attribute.strings.push_back(reader.readString(field, "AttributeProto.s"));
      break;
    case 5:
      attribute.tensors.push_back(readTensor(
          reader.readMessage(field, "AttributeProto.t"),
          node + ": the tensor of attribute " + quote(attribute.name)));
      break;
    case 7:
      reader.readFloats(field, attribute.floats, "AttributeProto.floats");
      break;
    case 8:
      reader.readIntegers(field, attribute.ints, "AttributeProto.ints");
      break;
    case 9:
      attribute.strings.push_back(
          reader.readString(field, "AttributeProto.strings"));
      break;
    case 20:
      attribute.kind = reader.readInteger(field, "AttributeProto.type");
      break;
    case 6:
    case 10:
    case 11:
    case 14:
    case 21:
    case 22:
    case 23:
      hasSubgraph = true;
      break;
    }
  }
  if (hasSubgraph)
    refuse(node + " has the attribute " + quote(attribute.name) +
           " of a kind that is not supported, such as a graph of its own");
  return attribute;
}

Node ModelReader::readNode(Range message) {
  reader.charge(sizeof(Node));
  Node node;
  std::vector<Range> attributes;
  Field field;
  while (reader.next(message, field)) {
    switch (field.number) {
    case 1:
      node.inputs.push_back(reader.readString(field, "NodeProto.input"));
      break;
    case 2:
      node.outputs.push_back(reader.readString(field, "NodeProto.output"));
      break;
    case 3:
      node.name = reader.readString(field, "NodeProto.name");
      break;
    case 4:
      node.opType = reader.readString(field, "NodeProto.op_type");
      break;
    case 5:
      attributes.push_back(reader.readMessage(field, "NodeProto.attribute"));
      break;
    case 7:
      node.domain = reader.readString(field, "NodeProto.domain");
      break;
    }
  }
  if (node.domain == "ai.onnx")
    node.domain.clear();
  if (ok() && node.opType.empty())
    fail("node " + quote(node.name) + " has no op_type");
  // Once it is known what to call the node.
  std::string where =
      "node " + quote(node.name) + " (" + quote(node.opType) + ")";
  for (Range attribute : attributes)
    if (ok())
      node.attributes.push_back(readAttribute(attribute, where));
  return node;
}

void ModelReader::readShape(Range message, ValueInfo &info) {
  info.hasShape = true;
  Field field;
  while (reader.next(message, field)) {
    if (field.number != 1)
      continue;
    Range dimension = reader.readMessage(field, "TensorShapeProto.dim");
    int64_t size = -1;
    std::string &name = info.names.emplace_back();
    for (Field part; reader.next(dimension, part);) {
      if (part.number == 1)
        size = reader.readInteger(part, "TensorShapeProto.dim_value");
      else if (part.number == 2)
        name = reader.readString(part, "TensorShapeProto.dim_param");
    }
    if (ok() && size < -1)
      fail(quote(info.name) + " has a dimension of " + Twine(size));
    info.shape.push_back(size);
  }
  if (ok() && info.shape.size() > maxRank)
    fail(quote(info.name) + " has " + Twine(info.shape.size()) +
         " dimensions, expected at most " + Twine(maxRank));
}

ValueInfo ModelReader::readValueInfo(Range message, StringRef what) {
  ValueInfo info;
  Range type;
  Field field;
  while (reader.next(message, field)) {
    if (field.number == 1)
      info.name = reader.readString(field, "ValueInfoProto.name");
    else if (field.number == 2)
      type = reader.readMessage(field, "ValueInfoProto.type");
  }
  int64_t typeNumber = 0;
  while (reader.next(type, field)) {
    if (field.number != 1)
      continue;
    Range tensor = reader.readMessage(field, "TypeProto.tensor_type");
    for (Field part; reader.next(tensor, part);) {
      if (part.number == 1)
        typeNumber = reader.readInteger(part, "TypeProto.Tensor.elem_type");
      else if (part.number == 2)
        readShape(reader.readMessage(part, "TypeProto.Tensor.shape"), info);
    }
  }
  info.type = findDataType(typeNumber);
  if (ok() && (!info.type || info.type->bits < 8))
    refuse(Twine(what) + " " + quote(info.name) + " is of data type " +
           Twine(typeNumber) + ", which is not supported");
  return info;
}

void ModelReader::readGraph(Range message) {
  Field field;
  while (ok() && reader.next(message, field)) {
    switch (field.number) {
    case 1:
      model.nodes.push_back(
          readNode(reader.readMessage(field, "GraphProto.node")));
      break;
    case 5:
      model.initializers.push_back(readTensor(
          reader.readMessage(field, "GraphProto.initializer"), "tensor"));
      break;
    case 11:
      model.inputs.push_back(readValueInfo(
          reader.readMessage(field, "GraphProto.input"), "input"));
      break;
    case 12:
      model.outputs.push_back(readValueInfo(
          reader.readMessage(field, "GraphProto.output"), "output"));
      break;
    case 15:
      refuse("has sparse tensors, which are not supported");
      break;
    }
  }
}

void ModelReader::readOpset(Range message) {
  std::string domain;
  int64_t version = 0;
  Field field;
  while (reader.next(message, field)) {
    if (field.number == 1)
      domain = reader.readString(field, "OperatorSetIdProto.domain");
    else if (field.number == 2)
      version = reader.readInteger(field, "OperatorSetIdProto.version");
  }
  if (domain == "ai.onnx")
    domain.clear();
  model.opsets.emplace_back(std::move(domain), version);
}

absl::StatusOr<Model> ModelReader::read() {
  Range message{0, reader.getFile().size()};
  if (message.size() == 0)
    fail("is empty");
  bool hasGraph = false;
  Field field;
  while (ok() && reader.next(message, field)) {
    switch (field.number) {
    case 1:
      model.irVersion = reader.readInteger(field, "ModelProto.ir_version");
      break;
    case 2:
      model.producer = reader.readString(field, "ModelProto.producer_name");
      break;
    case 7:
      if (hasGraph)
        fail("has more than one graph");
      hasGraph = true;
      readGraph(reader.readMessage(field, "ModelProto.graph"));
      break;
    case 8:
      readOpset(reader.readMessage(field, "ModelProto.opset_import"));
      break;
    case 25:
      refuse("has functions of its own (ModelProto.functions), which are not "
             "supported: inline them, as onnx.inliner does");
      break;
    }
  }
  if (!reader.ok())
    return reader.getStatus();
  if (!refusal.ok())
    return refusal;
  if (model.irVersion < 3)
    return invalid(path + ": has ir_version " + Twine(model.irVersion) +
                   ", expected 3 or more");
  if (!hasGraph)
    return invalid(path + ": has no graph");
  return std::move(model);
}

absl::StatusOr<Model> onnx::readModel(StringRef path, bool hasPlaces) {
  InputFile file;
  std::string error;
  if (!file.open(path, error))
    return invalid(error);
  return ModelReader(file, path, hasPlaces).read();
}
