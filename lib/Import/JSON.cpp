// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// JSON from files that nobody vouches for, and text for messages about them.

#include "lib/Import/JSON.h"

#include "lib/Support/FileIO.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <optional>

using namespace hadal;
using llvm::StringRef;
using llvm::Twine;

/// Real files nest three levels; LLVM's parser uses the stack for each.
constexpr size_t maxDepth = 64;
constexpr size_t maxTextInMessage = 96;

absl::Status hadal::invalid(const Twine &message) {
  return absl::InvalidArgumentError(message.str());
}

absl::Status hadal::unimplemented(const Twine &message) {
  return absl::UnimplementedError(message.str());
}

static std::string cut(std::string text) {
  if (text.size() > maxTextInMessage) {
    text.resize(maxTextInMessage);
    // Not in the middle of a UTF-8 sequence.
    llvm::json::isUTF8(text) ? void() : void(text = llvm::json::fixUTF8(text));
    text += "...";
  }
  return text;
}

std::string hadal::quote(StringRef text) {
  std::string escaped;
  for (char c : text.take_front(maxTextInMessage + 1)) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      escaped +=
          "\\x" + llvm::utohexstr(static_cast<unsigned char>(c), true, 2);
    else
      escaped += c;
  }
  return "'" + cut(std::move(escaped)) + "'";
}

std::string hadal::toText(const llvm::json::Value &value) {
  std::string text;
  llvm::raw_string_ostream(text) << value;
  return cut(std::move(text));
}

std::string hadal::toText(llvm::ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (auto [i, size] : llvm::enumerate(shape.take_front(16)))
    text += (i ? ", " : "") + std::to_string(size);
  return text + (shape.size() > 16 ? ", ...]" : "]");
}

namespace {
/// One pass over a JSON text, outside of strings, ahead of the parser.
class Scanner {
public:
  Scanner(StringRef text, StringRef where) : text(text), where(where) {}

  absl::Status scan();

private:
  absl::Status addKey(StringRef literal);

  StringRef text, where;
  /// Keys of each open object; nothing for an array.
  llvm::SmallVector<std::optional<llvm::StringSet<>>, 8> open;
};
} // namespace

absl::Status Scanner::addKey(StringRef literal) {
  std::string key = literal.drop_front().drop_back().str();
  if (key.find('\\') != std::string::npos) {
    llvm::Expected<llvm::json::Value> value = llvm::json::parse(literal);
    if (!value) {
      llvm::consumeError(value.takeError());
      return absl::OkStatus(); // The parser says it with the place.
    }
    if (std::optional<StringRef> decoded = value->getAsString())
      key = decoded->str();
  }
  if (open.back()->insert(key).second)
    return absl::OkStatus();
  return invalid(where + ": key " + quote(key) + " appears twice in an object");
}

absl::Status Scanner::scan() {
  bool expectsKey = false;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
    case '{':
    case '[':
      if (open.size() == maxDepth)
        return invalid(where + ": nests deeper than " + Twine(maxDepth) +
                       " levels at byte " + Twine(i));
      expectsKey = text[i] == '{';
      open.emplace_back();
      if (expectsKey)
        open.back().emplace();
      break;
    case '}':
    case ']':
      if (!open.empty())
        open.pop_back();
      expectsKey = false;
      break;
    case ',':
      expectsKey = !open.empty() && open.back();
      break;
    case '"': {
      size_t begin = i++;
      while (i < text.size() && text[i] != '"')
        i += text[i] == '\\' ? 2 : 1;
      if (i >= text.size())
        return absl::OkStatus(); // Left to the parser.
      if (expectsKey)
        if (absl::Status status = addKey(text.slice(begin, i + 1));
            !status.ok())
          return status;
      expectsKey = false;
      break;
    }
    default:
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<llvm::json::Object> hadal::parseObject(StringRef text,
                                                      StringRef where) {
  if (text.trim().empty())
    return invalid(where + ": empty, expected a JSON object");
  if (absl::Status status = Scanner(text, where).scan(); !status.ok())
    return status;
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(text);
  if (!value)
    return invalid(where + ": not JSON: " + llvm::toString(value.takeError()));
  if (llvm::json::Object *object = value->getAsObject())
    return std::move(*object);
  return invalid(where + ": expected a JSON object, but got " + toText(*value));
}

absl::StatusOr<std::string> hadal::readText(StringRef path, uint64_t maxBytes,
                                            StringRef unit) {
  InputFile file;
  std::string error;
  if (!file.open(path, error))
    return invalid(error);
  if (file.size() > maxBytes)
    return invalid(path + ": has " + Twine(file.size()) + " " + unit +
                   ", expected at most " + Twine(maxBytes));
  std::string text(file.size(), '\0');
  if (!file.read(0, text.data(), text.size(), error))
    return invalid(error);
  return text;
}

absl::StatusOr<llvm::json::Object> hadal::readObject(StringRef path,
                                                     uint64_t maxBytes) {
  absl::StatusOr<std::string> text = readText(path, maxBytes);
  if (!text.ok())
    return text.status();
  return parseObject(*text, path);
}

absl::StatusOr<std::string> hadal::resolveInFolder(StringRef folder,
                                                   StringRef name) {
  // A NUL would end the name early for the system.
  if (name.empty() || name == "." || name == ".." ||
      name.find_first_of(StringRef("/\\\0", 3)) != StringRef::npos)
    return invalid(folder + ": " + quote(name) +
                   " is not a plain file name inside the model's folder");
  llvm::SmallString<256> path(folder), realFolder, realPath;
  llvm::sys::path::append(path, name);
  std::error_code error = llvm::sys::fs::real_path(folder, realFolder);
  if (!error)
    error = llvm::sys::fs::real_path(path, realPath);
  if (error)
    return invalid("cannot open " + quote(path) + ": " + error.message());
  if (!llvm::sys::path::parent_path(realPath).starts_with(realFolder) ||
      (realFolder != "/" && realPath[realFolder.size()] != '/'))
    return invalid(quote(path) +
                   " is a symbolic link that leaves the model's folder, to " +
                   quote(realPath));
  // Before it is opened, because opening a pipe would wait for a writer.
  llvm::sys::fs::file_status status;
  if (llvm::sys::fs::status(realPath, status) ||
      status.type() != llvm::sys::fs::file_type::regular_file)
    return invalid(quote(path) + " is not a regular file");
  return path.str().str();
}
