// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// MLIR's language server shows the name of an op and its generic form. What the
// op means is added to its answers on their way out.

#include "OpDocs.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <unistd.h>

using namespace hadal::lsp;
using llvm::StringRef;

/// The pages of docs/reference that describe ops, one after the other.
static constexpr char pages[] =
#include "OpDocs.inc"
    ;

/// The parts of the pages by the op that they are of.
static llvm::StringMap<StringRef> readPages() {
  // Each begins with "### `dialect.op` (class)".
  static constexpr char heading[] = "\n### `";
  llvm::StringMap<StringRef> docs;
  StringRef rest = pages;
  while (true) {
    size_t start = rest.find(heading);
    if (start == StringRef::npos)
      return docs;
    rest = rest.drop_front(start + StringRef(heading).size());
    StringRef part = rest.take_front(rest.find(heading));
    StringRef name = part.take_until([](char c) { return c == '`'; });
    // Tables of traits, attributes and operands come after the description.
    part = part.drop_front(std::min(part.find('\n'), part.size()));
    docs[name] = part.take_front(part.find("\nTraits:"))
                     .take_front(part.find("\nInterfaces:"))
                     .take_front(part.find("\n#### "))
                     .trim();
  }
}

StringRef hadal::lsp::findOpDocs(StringRef name) {
  static const llvm::StringMap<StringRef> docs = readPages();
  return docs.lookup(name);
}

std::string hadal::lsp::addOpDocs(StringRef message) {
  // Most messages are something else, and some are long.
  if (!message.contains("\"contents\""))
    return message.str();
  llvm::Expected<llvm::json::Value> json = llvm::json::parse(message);
  if (!json) {
    llvm::consumeError(json.takeError());
    return message.str();
  }
  llvm::json::Object *object = json->getAsObject();
  llvm::json::Object *result = object ? object->getObject("result") : nullptr;
  llvm::json::Object *contents =
      result ? result->getObject("contents") : nullptr;
  std::optional<StringRef> text =
      contents ? contents->getString("value") : std::nullopt;
  // "deepseek.rms_norm", in quotes, and more.
  if (!text || !text->starts_with("\""))
    return message.str();
  StringRef docs = findOpDocs(
      text->drop_front().take_until([](char c) { return c == '"'; }));
  if (docs.empty())
    return message.str();
  (*contents)["value"] = (docs + "\n***\n" + *text).str();
  bool isPretty = message.starts_with("{\n");
  return llvm::formatv(isPretty ? "{0:2}" : "{0}", *json);
}

OutputFilter::OutputFilter() {
  llvm::outs(); // So that it outlives this, where both are static.
  int ends[2];
  if (pipe(ends) != 0)
    return;
  input = ends[0];
  output = dup(STDOUT_FILENO);
  dup2(ends[1], STDOUT_FILENO);
  close(ends[1]);
  thread = std::thread([this] { run(); });
}

OutputFilter::~OutputFilter() {
  if (!thread.joinable())
    return;
  llvm::outs().flush();
  // The other end of the pipe: the thread comes to its end.
  dup2(output, STDOUT_FILENO);
  thread.join();
  close(input);
  close(output);
}

void OutputFilter::run() {
  llvm::raw_fd_ostream os(output, /*shouldClose=*/false);
  std::string buffer;
  auto read = [&] {
    char bytes[65536];
    ssize_t count = ::read(input, bytes, sizeof bytes);
    if (count > 0)
      buffer.append(bytes, size_t(count));
    return count > 0;
  };
  constexpr char separator[] = "\r\n\r\n", length[] = "Content-Length: ";
  while (true) {
    size_t header;
    while ((header = buffer.find(separator)) == std::string::npos)
      if (!read()) {
        os << buffer; // What is not a message: the text of --help.
        return;
      }
    size_t size = 0;
    if (StringRef(buffer).starts_with(length))
      StringRef(buffer)
          .slice(StringRef(length).size(), header)
          .take_until([](char c) { return c == '\r'; })
          .getAsInteger(10, size);
    size_t start = header + StringRef(separator).size();
    while (buffer.size() < start + size)
      if (!read())
        break;
    std::string message = addOpDocs(StringRef(buffer).substr(start, size));
    os << length << message.size() << separator << message;
    os.flush();
    buffer.erase(0, start + size);
  }
}
