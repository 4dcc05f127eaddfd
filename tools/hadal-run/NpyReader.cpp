// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads NumPy array files (numpy/lib/format.py). All targets of Hadal are
// little-endian.

#include "NpyReader.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

using namespace hadal::run;

/// NumPy's own limit, for files that are not trusted.
static constexpr size_t maxHeaderBytes = 10000;

namespace {
/// The Python dictionary of a header: three keys, whose values are text, a
/// truth or a tuple of integers.
class HeaderParser {
public:
  explicit HeaderParser(const std::string &text) : text(text) {}

  bool parse(NpyArray &array, bool &isFortran) {
    bool hasDescr = false, hasOrder = false, hasShape = false;
    if (!take('{'))
      return false;
    while (!take('}')) {
      std::string key;
      if (!takeString(key) || !take(':'))
        return false;
      if (key == "descr" && !hasDescr)
        hasDescr = takeString(array.descr);
      else if (key == "fortran_order" && !hasOrder)
        hasOrder = takeTruth(isFortran);
      else if (key == "shape" && !hasShape)
        hasShape = takeTuple(array.shape);
      else
        return false;
      if (!take(',') && !peek('}'))
        return false;
    }
    return hasDescr && hasOrder && hasShape;
  }

private:
  void skip() {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\n'))
      ++at;
  }
  bool peek(char c) {
    skip();
    return at < text.size() && text[at] == c;
  }
  bool take(char c) {
    if (!peek(c))
      return false;
    ++at;
    return true;
  }
  bool takeString(std::string &value) {
    if (!take('\''))
      return false;
    size_t end = text.find('\'', at);
    if (end == std::string::npos)
      return false;
    value = text.substr(at, end - at);
    at = end + 1;
    return true;
  }
  bool takeTruth(bool &value) {
    skip();
    for (const char *word : {"False", "True"})
      if (!text.compare(at, strlen(word), word)) {
        at += strlen(word);
        value = word[0] == 'T';
        return true;
      }
    return false;
  }
  bool takeTuple(std::vector<int64_t> &values) {
    if (!take('('))
      return false;
    while (!take(')')) {
      skip();
      int64_t value = 0;
      size_t begin = at;
      for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
        if (value > (INT64_MAX - 9) / 10)
          return false;
        value = 10 * value + (text[at] - '0');
      }
      if (at == begin)
        return false;
      values.push_back(value);
      if (!take(',') && !peek(')'))
        return false;
    }
    return true;
  }

  const std::string &text;
  size_t at = 0;
};
} // namespace

static std::string toText(const std::vector<int64_t> &shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

std::string hadal::run::readNpy(const std::string &path,
                                const std::string &descr, uint64_t elementBytes,
                                const std::vector<int64_t> &shape,
                                NpyArray &array) {
  std::unique_ptr<FILE, int (*)(FILE *)> file(fopen(path.c_str(), "rb"),
                                              fclose);
  if (!file)
    return path + ": cannot open: " + strerror(errno);
  auto fail = [&](const std::string &what) { return path + ": " + what; };
  auto read = [&](void *data, size_t bytes) {
    return fread(data, 1, bytes, file.get()) == bytes;
  };
  unsigned char prefix[8];
  if (!read(prefix, sizeof(prefix)) || memcmp(prefix, "\x93NUMPY", 6) ||
      prefix[6] < 1 || prefix[6] > 3)
    return fail("is not a .npy file");
  unsigned char sizes[4] = {};
  if (!read(sizes, prefix[6] == 1 ? 2 : 4))
    return fail("ends within its header");
  size_t headerBytes = size_t(sizes[0]) | size_t(sizes[1]) << 8 |
                       size_t(sizes[2]) << 16 | size_t(sizes[3]) << 24;
  if (headerBytes > maxHeaderBytes)
    return fail("has a header of " + std::to_string(headerBytes) +
                " bytes, expected at most " + std::to_string(maxHeaderBytes));
  std::string header(headerBytes, '\0');
  if (!read(header.data(), header.size()))
    return fail("ends within its header");
  bool isFortran = false;
  array = NpyArray();
  if (!HeaderParser(header).parse(array, isFortran))
    return fail("has a header that is not that of an array");
  // The order of bytes says nothing of one, and NumPy has no name for bf16.
  const std::string &own = array.descr;
  if (own.size() < 2 || own.substr(1) != descr.substr(1) ||
      (own[0] != '<' && own[0] != '=' && own[0] != '|'))
    return fail("has elements of type '" + own + "', expected '" + descr + "'");
  if (array.shape != shape)
    return fail("has the shape " + toText(array.shape) + ", expected " +
                toText(shape));
  if (isFortran && shape.size() > 1)
    return fail("is in Fortran's order, expected C's");
  uint64_t bytes = elementBytes;
  for (int64_t size : shape)
    bytes *= uint64_t(size); // The shape is that of the program.
  array.data.resize(bytes);
  char more;
  if (!read(array.data.data(), bytes) || read(&more, 1))
    return fail("does not have " + std::to_string(bytes) +
                " bytes after its header");
  return "";
}
