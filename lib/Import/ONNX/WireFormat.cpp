// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks a protobuf message in a file field by field.

#include "lib/Import/ONNX/WireFormat.h"

#include "lib/Import/JSON.h"

#include "llvm/Support/Endian.h"

#include <cstring>

using namespace hadal;
using namespace hadal::onnx;
using llvm::StringRef;
using llvm::Twine;

/// What is read at once, where messages are.
constexpr uint64_t windowBytes = 64 << 10;
/// What a field costs in memory besides its bytes, about.
constexpr uint64_t fieldBytes = 48;

void WireReader::fail(const Twine &message) {
  if (status.ok())
    status = invalid(file.path() + ": " + message);
}

void WireReader::charge(uint64_t bytes) {
  if (bytes > budget)
    return fail("has more nodes, names and attributes than Hadal takes");
  budget -= bytes;
}

bool WireReader::read(uint64_t offset, void *data, uint64_t bytes) {
  auto *out = static_cast<char *>(data);
  while (bytes && ok()) {
    if (offset < windowBegin || offset >= windowBegin + window.size()) {
      if (offset >= file.size()) {
        fail("ends at byte " + Twine(file.size()) + ", inside a message");
        return false;
      }
      windowBegin = offset;
      window.resize(std::min(windowBytes, file.size() - offset));
      std::string error;
      if (!file.read(offset, window.data(), window.size(), error)) {
        status = invalid(error);
        return false;
      }
    }
    uint64_t at = offset - windowBegin;
    uint64_t now = std::min<uint64_t>(bytes, window.size() - at);
    std::memcpy(out, window.data() + at, now);
    out += now;
    offset += now;
    bytes -= now;
  }
  return ok();
}

bool WireReader::readVarint(Range &message, uint64_t &value) {
  uint64_t begin = message.begin;
  value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    unsigned char byte;
    if (message.begin == message.end) {
      fail("the number at byte " + Twine(begin) + " is cut short");
      return false;
    }
    if (!read(message.begin++, &byte, 1))
      return false;
    value |= uint64_t(byte & 0x7F) << shift;
    if (!(byte & 0x80)) {
      if (shift != 63 || byte <= 1)
        return true;
      break;
    }
  }
  fail("the number at byte " + Twine(begin) + " has more than 64 bits");
  return false;
}

bool WireReader::next(Range &message, Field &field) {
  if (!ok() || message.begin == message.end)
    return false;
  uint64_t begin = message.begin, tag, bytes = 0;
  if (!readVarint(message, tag))
    return false;
  field = Field();
  field.number = tag >> 3;
  unsigned kind = tag & 7;
  if (field.number == 0 || field.number >= (1u << 29)) {
    fail("the field at byte " + Twine(begin) + " has number " +
         Twine(field.number) + ", so that this is not an ONNX model");
    return false;
  }
  switch (kind) {
  case Field::Varint:
    field.kind = Field::Varint;
    return readVarint(message, field.value);
  case Field::Fixed64:
  case Field::Fixed32: {
    field.kind = Field::Kind(kind);
    bytes = kind == Field::Fixed64 ? 8 : 4;
    if (message.size() < bytes)
      break;
    unsigned char data[8] = {};
    if (!read(message.begin, data, bytes))
      return false;
    message.begin += bytes;
    field.value = llvm::support::endian::read64le(data);
    return true;
  }
  case Field::Bytes:
    field.kind = Field::Bytes;
    if (!readVarint(message, bytes))
      return false;
    if (message.size() < bytes)
      break;
    field.bytes = {message.begin, message.begin + bytes};
    message.begin += bytes;
    return true;
  default:
    fail("the field at byte " + Twine(begin) + " has wire type " + Twine(kind) +
         ", expected 0, 1, 2 or 5");
    return false;
  }
  fail("the field at byte " + Twine(begin) + " has " + Twine(bytes) +
       " bytes, but " + Twine(message.size()) + " are left");
  return false;
}

bool WireReader::expect(const Field &field, Field::Kind kind, StringRef what) {
  charge(fieldBytes);
  if (!ok())
    return false;
  if (field.kind == kind)
    return true;
  fail(what + " has wire type " + Twine(int(field.kind)) + ", expected " +
       Twine(int(kind)));
  return false;
}

std::string WireReader::readString(const Field &field, StringRef what) {
  if (!expect(field, Field::Bytes, what))
    return "";
  charge(field.bytes.size());
  if (!ok())
    return "";
  std::string text(field.bytes.size(), '\0');
  return read(field.bytes.begin, text.data(), text.size()) ? text : "";
}

int64_t WireReader::readInteger(const Field &field, StringRef what) {
  return expect(field, Field::Varint, what) ? int64_t(field.value) : 0;
}

static float toFloat(uint64_t bits) {
  auto word = uint32_t(bits);
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

float WireReader::readFloat(const Field &field, StringRef what) {
  return expect(field, Field::Fixed32, what) ? toFloat(field.value) : 0;
}

Range WireReader::readMessage(const Field &field, StringRef what) {
  return expect(field, Field::Bytes, what) ? field.bytes : Range();
}

void WireReader::readIntegers(const Field &field, std::vector<int64_t> &values,
                              StringRef what) {
  if (field.kind != Field::Bytes) {
    values.push_back(readInteger(field, what));
    return;
  }
  Range packed = readMessage(field, what);
  while (ok() && packed.begin != packed.end) {
    uint64_t value;
    charge(sizeof(value));
    if (readVarint(packed, value))
      values.push_back(int64_t(value));
  }
}

void WireReader::readFloats(const Field &field, std::vector<float> &values,
                            StringRef what) {
  if (field.kind != Field::Bytes) {
    values.push_back(readFloat(field, what));
    return;
  }
  Range packed = readMessage(field, what);
  if (packed.size() % 4 != 0)
    return fail(what + " has " + Twine(packed.size()) +
                " bytes, expected a multiple of 4");
  charge(packed.size());
  for (; ok() && packed.begin != packed.end; packed.begin += 4) {
    unsigned char data[4];
    if (read(packed.begin, data, sizeof(data)))
      values.push_back(toFloat(llvm::support::endian::read32le(data)));
  }
}
