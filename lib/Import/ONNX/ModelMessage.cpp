// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads messages of protobuf from a file whose tensors are not read. A message
// cannot be parsed as a whole for that: it is walked field by field, and all
// but bytes of tensors goes to the parser of the message that it is in.

#include "lib/Import/ONNX/ModelMessage.h"

#include "lib/Import/JSON.h"
#include "lib/Support/FileIO.h"

#include "llvm/Support/Path.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>
#include <onnx/onnx_pb.h>

#include <climits>
#include <optional>
#include <string>

using namespace hadal;
using llvm::StringRef;
using llvm::Twine;

namespace protobuf = google::protobuf;
using protobuf::FieldDescriptor;
using protobuf::io::CodedInputStream;
using protobuf::io::CodedOutputStream;

/// Of what is held in memory: names, nodes, attributes. The graph of a model of
/// 80 layers that torch exports has some megabytes.
constexpr uint64_t maxGraphBytes = 128 << 20;
/// What a field and a message cost besides their bytes, about.
constexpr uint64_t fieldBytes = 48, messageBytes = 192;
/// What is read at once, where messages are.
constexpr int windowBytes = 64 << 10;
/// Graphs in attributes of nodes; those of control flow are refused later.
constexpr int maxDepth = 32;

namespace {
/// As protobuf numbers them:
/// https://protobuf.dev/programming-guides/encoding/.
enum WireType : uint32_t { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };

class FileStream final : public protobuf::io::CopyingInputStream {
public:
  explicit FileStream(const InputFile &file) : file(file) {}

  int Read(void *buffer, int size) override {
    auto bytes = std::min<uint64_t>(uint64_t(size), file.size() - offset);
    if (!file.read(offset, buffer, bytes, error))
      return -1;
    offset += bytes;
    return int(bytes);
  }
  int Skip(int count) override {
    auto bytes = std::min<uint64_t>(uint64_t(count), file.size() - offset);
    offset += bytes;
    return int(bytes);
  }

  std::string error;

private:
  const InputFile &file;
  uint64_t offset = 0;
};

/// The bytes [begin, begin + size) of a file; no file of protobuf has more than
/// an int says.
struct Place {
  int begin = 0, size = 0;
};

class MessageReader {
public:
  MessageReader(StringRef path, CodedInputStream &input)
      : path(path), input(input) {}

  /// Reads up to the limit of the stream.
  bool read(protobuf::Message &message);

  absl::Status status;

private:
  bool fail(const Twine &message) {
    if (status.ok())
      status = invalid(path + ": " + message);
    return false;
  }
  bool charge(uint64_t bytes);
  bool readField(protobuf::Message &message, CodedOutputStream &scalars,
                 std::optional<Place> &elements);
  bool setPlace(::onnx::TensorProto &tensor, Place elements);

  StringRef path;
  CodedInputStream &input;
  uint64_t budget = maxGraphBytes;
};
} // namespace

static std::string nameOf(const FieldDescriptor &field) {
  return field.containing_type()->name() + "." + field.name();
}

static bool isRead(const FieldDescriptor &field) {
  StringRef name = field.name();
  return name != "doc_string" && name != "metadata_props" &&
         name != "value_info" && name != "quantization_annotation" &&
         name != "training_info";
}

/// Whether \p field is elements of a tensor, as their bytes are in memory.
static bool isElements(const FieldDescriptor &field) {
  using Tensor = ::onnx::TensorProto;
  int number = field.number();
  return field.containing_type() == Tensor::descriptor() &&
         (number == Tensor::kRawDataFieldNumber ||
          number == Tensor::kFloatDataFieldNumber ||
          number == Tensor::kDoubleDataFieldNumber);
}

bool MessageReader::charge(uint64_t bytes) {
  if (bytes > budget)
    return fail("has more nodes, names and attributes than Hadal takes");
  budget -= bytes;
  return true;
}

bool MessageReader::setPlace(::onnx::TensorProto &tensor, Place elements) {
  std::string name = "tensor " + quote(tensor.name());
  if (tensor.external_data_size() ||
      tensor.data_location() == ::onnx::TensorProto::EXTERNAL)
    return fail(name + " has elements in the file, and external_data");
  if (tensor.float_data_size() || tensor.double_data_size())
    return fail(name + " has elements in more than one piece");
  tensor.set_data_location(::onnx::TensorProto::EXTERNAL);
  auto add = [&](const char *key, const Twine &value) {
    ::onnx::StringStringEntryProto *entry = tensor.add_external_data();
    entry->set_key(key);
    entry->set_value(value.str());
  };
  add("location", llvm::sys::path::filename(path));
  add("offset", Twine(elements.begin));
  add("length", Twine(elements.size));
  return charge(3 * messageBytes);
}

/// Reads one field: a message into \p message, other values to \p scalars, as
/// they are encoded.
bool MessageReader::readField(protobuf::Message &message,
                              CodedOutputStream &scalars,
                              std::optional<Place> &elements) {
  int begin = input.CurrentPosition();
  std::string where = ("the field at byte " + Twine(begin)).str();
  auto isCutShort = [&] { return fail(where + " is cut short"); };
  uint32_t tag = input.ReadTag();
  int number = int(tag >> 3);
  if (number == 0)
    return fail(where + " has number 0, so that this is not an ONNX model");
  const FieldDescriptor *field =
      message.GetDescriptor()->FindFieldByNumber(number);
  if (field && !isRead(*field))
    field = nullptr;
  if (field && !charge(fieldBytes))
    return false;
  uint64_t value = 0;
  uint32_t word = 0;
  int size = 0;
  switch (tag & 7) {
  case Varint:
    if (!input.ReadVarint64(&value))
      return isCutShort();
    break;
  case Fixed64:
    if (!input.ReadLittleEndian64(&value))
      return isCutShort();
    break;
  case Fixed32:
    if (!input.ReadLittleEndian32(&word))
      return isCutShort();
    break;
  case Bytes:
    if (!input.ReadVarintSizeAsInt(&size))
      return isCutShort();
    if (size > input.BytesUntilLimit())
      return fail(where + " has " + Twine(size) + " bytes, but " +
                  Twine(input.BytesUntilLimit()) + " are left");
    break;
  default:
    return fail(where + " has wire type " + Twine(tag & 7) +
                ", expected 0, 1, 2 or 5");
  }
  bool isSized = (tag & 7) == Bytes;
  if (!field)
    return input.Skip(size) || isCutShort();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (!isSized)
      return fail(nameOf(*field) + " has wire type " + Twine(tag & 7) +
                  ", expected 2");
    if (!charge(messageBytes))
      return false;
    if (!input.IncrementRecursionDepth())
      return fail(where + " is a message in more than " + Twine(maxDepth) +
                  " others");
    const protobuf::Reflection &reflection = *message.GetReflection();
    if (!field->is_repeated() && reflection.HasField(message, field))
      return fail(nameOf(*field) + " at byte " + Twine(begin) +
                  " is there for the second time");
    CodedInputStream::Limit limit = input.PushLimit(size);
    bool isGood = read(field->is_repeated()
                           ? *reflection.AddMessage(&message, field)
                           : *reflection.MutableMessage(&message, field));
    input.PopLimit(limit);
    input.UnsafeDecrementRecursionDepth();
    return isGood;
  }
  if (isSized && isElements(*field)) {
    if (elements)
      return fail(nameOf(*field) + " at byte " + Twine(begin) +
                  " is a second piece of a tensor");
    elements = Place{input.CurrentPosition(), size};
    return input.Skip(size) || isCutShort();
  }
  scalars.WriteTag(tag);
  if (!isSized) {
    if ((tag & 7) == Varint)
      scalars.WriteVarint64(value);
    else if ((tag & 7) == Fixed64)
      scalars.WriteLittleEndian64(value);
    else
      scalars.WriteLittleEndian32(word);
    return true;
  }
  // Text is copied three times on its way to the graph, and a packed number,
  // which has at least one byte, has eight in memory.
  bool isText = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  if (!charge(uint64_t(size) * (isText ? 4 : 8)))
    return false;
  std::string bytes;
  if (!input.ReadString(&bytes, size))
    return isCutShort();
  scalars.WriteVarint32(uint32_t(size));
  scalars.WriteString(bytes);
  return true;
}

bool MessageReader::read(protobuf::Message &message) {
  std::string bytes;
  std::optional<Place> elements;
  int begin = input.CurrentPosition();
  {
    protobuf::io::StringOutputStream stream(&bytes);
    CodedOutputStream scalars(&stream);
    while (input.BytesUntilLimit() > 0)
      if (!readField(message, scalars, elements))
        return false;
  }
  StringRef type = message.GetDescriptor()->name();
  if (!message.MergeFromString(bytes))
    return fail("the " + type + " at byte " + Twine(begin) +
                " has a value that cannot be parsed");
  const protobuf::UnknownFieldSet &unknown =
      message.GetReflection()->GetUnknownFields(message);
  if (!unknown.empty())
    return fail("the " + type + " at byte " + Twine(begin) +
                " has a value that is not known: " +
                nameOf(*message.GetDescriptor()->FindFieldByNumber(
                    unknown.field(0).number())));
  return !elements || elements->size == 0 ||
         setPlace(static_cast<::onnx::TensorProto &>(message), *elements);
}

absl::Status hadal::onnx::readModelMessage(StringRef path,
                                           ::onnx::ModelProto &model) {
  InputFile file;
  std::string error;
  if (!file.open(path, error))
    return invalid(error);
  if (file.size() == 0)
    return invalid(path + ": is empty");
  if (file.size() > INT_MAX)
    return invalid(path + ": has " + Twine(file.size()) +
                   " bytes, but a message of protobuf at most " +
                   Twine(INT_MAX) + "; larger tensors are external data");
  // What it has to say, it writes to standard error.
  protobuf::LogSilencer silencer;
  FileStream bytes(file);
  protobuf::io::CopyingInputStreamAdaptor stream(&bytes, windowBytes);
  CodedInputStream input(&stream);
  input.SetRecursionLimit(maxDepth);
  CodedInputStream::Limit limit = input.PushLimit(int(file.size()));
  MessageReader reader(path, input);
  bool isGood = reader.read(model);
  input.PopLimit(limit);
  if (!bytes.error.empty())
    return invalid(bytes.error);
  return isGood ? absl::OkStatus() : reader.status;
}
