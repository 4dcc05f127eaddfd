// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an .onnx file says: its graph, and where the bytes of its tensors are.
// Nothing in it is trusted: shapes, sizes, places and files are held against
// each other before one is used.

#include "lib/Import/ONNX/ONNXFile.h"

#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/ModelMessage.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

#include <onnx/onnx_pb.h>

using namespace hadal;
using namespace hadal::onnx;
using llvm::StringRef;
using llvm::Twine;

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

const DataType *hadal::onnx::findDataType(int64_t number) {
  const auto *found = llvm::find_if(
      dataTypes, [&](const DataType &type) { return type.number == number; });
  return found == std::end(dataTypes) ? nullptr : found;
}

namespace {
/// Files that tensors are in, the model's own and those beside it, each looked
/// at once.
class ExternalFiles {
public:
  explicit ExternalFiles(StringRef modelPath)
      : modelPath(modelPath), folder(llvm::sys::path::parent_path(modelPath)) {}

  /// The size of \p location, a path below the model's folder.
  absl::StatusOr<uint64_t> getSize(StringRef location);

private:
  absl::StatusOr<uint64_t> find(StringRef location);

  StringRef modelPath;
  std::string folder;
  llvm::StringMap<uint64_t> sizes;
};

class ModelReader {
public:
  ModelReader(StringRef path, bool isText, bool hasPlaces)
      : path(path), isText(isText), hasPlaces(hasPlaces), externalFiles(path) {}

  absl::StatusOr<Model> read(const ::onnx::ModelProto &message);

private:
  void fail(const Twine &message) {
    if (status.ok())
      status = invalid(path + ": " + message);
  }
  void refuse(const Twine &message) {
    if (status.ok())
      status = unimplemented(path + ": " + message);
  }
  bool ok() const { return status.ok(); }

  Node readNode(const ::onnx::NodeProto &message);
  Attribute readAttribute(const ::onnx::AttributeProto &message,
                          const Twine &node);
  Tensor readTensor(const ::onnx::TensorProto &message, const Twine &where);
  void readNumbers(const ::onnx::TensorProto &message, Tensor &tensor,
                   const Twine &name);
  void readPlace(const ::onnx::TensorProto &message, Tensor &tensor,
                 const Twine &name);
  ValueInfo readValueInfo(const ::onnx::ValueInfoProto &message,
                          StringRef what);

  StringRef path;
  bool isText;
  bool hasPlaces;
  absl::Status status;
  ExternalFiles externalFiles;
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
  if (location == path::filename(modelPath)) {
    // Named by who asked for it, so that it may be a link.
    uint64_t size = 0;
    if (std::error_code error = fs::file_size(modelPath, size))
      return refuse("cannot be opened: " + error.message());
    return size;
  }
  llvm::SmallString<256> realFolder;
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

/// Sets where the bytes of \p tensor are.
void ModelReader::readPlace(const ::onnx::TensorProto &message, Tensor &tensor,
                            const Twine &name) {
  StringRef location;
  int64_t begin = 0;
  // Without a length, a tensor has what its shape needs.
  int64_t bytes = tensor.sizeBytes;
  for (const ::onnx::StringStringEntryProto &entry : message.external_data()) {
    StringRef key = entry.key(), value = entry.value();
    if (key == "location")
      location = value;
    if (key != "offset" && key != "length")
      continue;
    int64_t number = 0;
    if (value.getAsInteger(10, number) || number < 0)
      return fail(name + " has " + key + " " + quote(value) +
                  ", expected a number of bytes");
    (key == "offset" ? begin : bytes) = number;
  }
  if (location.empty())
    return fail(name + " is external data, but has no location");
  if (bytes != tensor.sizeBytes)
    return fail(name + " has length " + Twine(bytes) + ", but shape " +
                toText(tensor.shape) + " of " + tensor.type->name + " needs " +
                Twine(tensor.sizeBytes) + " bytes");
  if (!hasPlaces || !ok())
    return;
  absl::StatusOr<uint64_t> size = externalFiles.getSize(location);
  if (!size.ok())
    return fail(name + ": " +
                StringRef(size.status().message().data(),
                          size.status().message().size()));
  if (uint64_t(begin) > *size)
    return fail(name + " has offset " + Twine(begin) + " in " +
                quote(location) + ", but the file has " + Twine(*size) +
                " bytes");
  if (uint64_t(bytes) > *size - uint64_t(begin))
    return fail(name + " has " + Twine(bytes) + " bytes at offset " +
                Twine(begin) + " of " + quote(location) +
                ", but the file has " + Twine(*size) + " bytes");
  tensor.file = location.str();
  tensor.offsetBytes = begin;
}

/// Reads elements that are fields of the message.
void ModelReader::readNumbers(const ::onnx::TensorProto &message,
                              Tensor &tensor, const Twine &name) {
  std::vector<int64_t> numbers(message.int64_data().begin(),
                               message.int64_data().end());
  llvm::append_range(numbers, message.int32_data());
  llvm::append_range(numbers, message.uint64_data());
  for (float number : message.float_data())
    numbers.push_back(int64_t(llvm::bit_cast<uint32_t>(number)));
  for (double number : message.double_data())
    numbers.push_back(llvm::bit_cast<int64_t>(number));
  // Text has no bytes, so that a weight in it is one without numbers.
  if (isText && numbers.empty() && tensor.elements)
    return;
  if (int64_t(numbers.size()) != tensor.elements)
    return fail(name + " has " + Twine(numbers.size()) +
                " numbers, but shape " + toText(tensor.shape) + " needs " +
                Twine(tensor.elements));
  if (numbers.size() > maxNumbers || tensor.type->bits < 8)
    return refuse(name + " has its " + Twine(numbers.size()) +
                  " numbers of type " + tensor.type->name +
                  " as fields of a message, expected raw_data or external "
                  "data");
  tensor.numbers = std::move(numbers);
  tensor.hasNumbers = true;
}

Tensor ModelReader::readTensor(const ::onnx::TensorProto &message,
                               const Twine &where) {
  Tensor tensor;
  tensor.name = message.name();
  std::string name =
      (where + (tensor.name.empty() ? "" : " " + quote(tensor.name))).str();
  tensor.type = findDataType(message.data_type());
  if (!tensor.type || message.string_data_size() || message.has_segment()) {
    refuse(name + " is of data type " + Twine(message.data_type()) +
           (message.has_segment() ? ", in segments" : "") +
           ", which is not supported");
    return tensor;
  }
  tensor.shape.assign(message.dims().begin(), message.dims().end());
  if (tensor.shape.size() > maxRank ||
      llvm::any_of(tensor.shape, [](int64_t size) { return size < 0; })) {
    fail(name + " has shape " + toText(tensor.shape) + ", expected at most " +
         Twine(maxRank) + " sizes that are not negative");
    return tensor;
  }
  std::optional<int64_t> elements = checkedProduct(tensor.shape);
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
  if (message.data_location() == ::onnx::TensorProto::EXTERNAL)
    readPlace(message, tensor, name);
  else if (message.external_data_size())
    fail(name + " has external_data, but its data_location is not EXTERNAL");
  else
    readNumbers(message, tensor, name);
  return tensor;
}

//===----------------------------------------------------------------------===//
// The graph
//===----------------------------------------------------------------------===//

Attribute ModelReader::readAttribute(const ::onnx::AttributeProto &message,
                                     const Twine &node) {
  Attribute attribute;
  attribute.name = message.name();
  attribute.kind = message.type();
  attribute.floats.assign(message.floats().begin(), message.floats().end());
  attribute.ints.assign(message.ints().begin(), message.ints().end());
  attribute.strings.assign(message.strings().begin(), message.strings().end());
  if (message.has_f())
    attribute.floats.push_back(message.f());
  if (message.has_i())
    attribute.ints.push_back(message.i());
  if (message.has_s())
    attribute.strings.push_back(message.s());
  if (message.has_t())
    attribute.tensors.push_back(
        readTensor(message.t(), node + ": the tensor of attribute " +
                                    quote(attribute.name)));
  if (message.has_g() || message.has_sparse_tensor() || message.has_tp() ||
      message.tensors_size() || message.graphs_size() ||
      message.sparse_tensors_size() || message.type_protos_size())
    refuse(node + " has the attribute " + quote(attribute.name) +
           " of a kind that is not supported, such as a graph of its own");
  return attribute;
}

Node ModelReader::readNode(const ::onnx::NodeProto &message) {
  Node node;
  node.name = message.name();
  node.opType = message.op_type();
  node.domain = message.domain();
  node.inputs.assign(message.input().begin(), message.input().end());
  node.outputs.assign(message.output().begin(), message.output().end());
  if (node.opType.empty())
    fail("node " + quote(node.name) + " has no op_type");
  std::string where =
      "node " + quote(node.name) + " (" + quote(node.opType) + ")";
  for (const ::onnx::AttributeProto &attribute : message.attribute())
    node.attributes.push_back(readAttribute(attribute, where));
  return node;
}

ValueInfo ModelReader::readValueInfo(const ::onnx::ValueInfoProto &message,
                                     StringRef what) {
  ValueInfo info;
  info.name = message.name();
  const ::onnx::TypeProto::Tensor &type = message.type().tensor_type();
  info.type = findDataType(type.elem_type());
  if (!info.type || info.type->bits < 8)
    refuse(what + " " + quote(info.name) + " is of data type " +
           Twine(type.elem_type()) + ", which is not supported");
  info.hasShape = type.has_shape();
  for (const auto &dimension : type.shape().dim()) {
    info.names.push_back(dimension.dim_param());
    info.shape.push_back(dimension.has_dim_value() ? dimension.dim_value()
                                                   : -1);
    if (info.shape.back() < -1)
      fail(quote(info.name) + " has a dimension of " +
           Twine(info.shape.back()));
  }
  if (info.shape.size() > maxRank)
    fail(quote(info.name) + " has " + Twine(info.shape.size()) +
         " dimensions, expected at most " + Twine(maxRank));
  return info;
}

absl::StatusOr<Model> ModelReader::read(const ::onnx::ModelProto &message) {
  if (message.ir_version() < 3)
    fail("has ir_version " + Twine(message.ir_version()) +
         ", expected 3 or more");
  if (!message.has_graph())
    fail("has no graph");
  if (message.functions_size())
    refuse("has functions of its own (ModelProto.functions), which are not "
           "supported: inline them, as onnx.inliner does");
  const ::onnx::GraphProto &graph = message.graph();
  if (graph.sparse_initializer_size())
    refuse("has sparse tensors, which are not supported");
  Model model;
  model.irVersion = message.ir_version();
  model.producer = message.producer_name();
  for (const ::onnx::OperatorSetIdProto &opset : message.opset_import())
    model.opsets.emplace_back(opset.domain(), opset.version());
  for (const ::onnx::TensorProto &tensor : graph.initializer())
    if (ok())
      model.initializers.push_back(readTensor(tensor, "tensor"));
  for (const ::onnx::ValueInfoProto &input : graph.input())
    model.inputs.push_back(readValueInfo(input, "input"));
  for (const ::onnx::ValueInfoProto &output : graph.output())
    model.outputs.push_back(readValueInfo(output, "output"));
  for (const ::onnx::NodeProto &node : graph.node())
    if (ok())
      model.nodes.push_back(readNode(node));
  if (!ok())
    return status;
  return std::move(model);
}

bool hadal::onnx::isTextFile(StringRef path) {
  return path.ends_with_insensitive(".onnxtext");
}

/// "ai.onnx" is another name for the domain without one.
static void shortenDomains(::onnx::ModelProto &message) {
  auto shorten = [](auto &part) {
    if (part.domain() == "ai.onnx")
      part.clear_domain();
  };
  for (::onnx::OperatorSetIdProto &opset : *message.mutable_opset_import())
    shorten(opset);
  if (message.has_graph())
    for (::onnx::NodeProto &node : *message.mutable_graph()->mutable_node())
      shorten(node);
}

absl::StatusOr<Model> hadal::onnx::readModel(StringRef path, bool hasPlaces) {
  ::onnx::ModelProto message;
  bool isText = isTextFile(path);
  if (absl::Status status = isText ? parseModelText(path, message)
                                   : readModelMessage(path, message);
      !status.ok())
    return status;
  shortenDomains(message);
  absl::StatusOr<Model> model =
      ModelReader(path, isText, hasPlaces).read(message);
  if (!model.ok())
    return model;
  if (absl::Status status = checkNodes(path, message); !status.ok())
    return status;
  return model;
}
