// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the reference says of an op, for who hovers over it.

#ifndef HADAL_TOOLS_HADAL_LSP_SERVER_OPDOCS_H
#define HADAL_TOOLS_HADAL_LSP_SERVER_OPDOCS_H

#include "llvm/ADT/StringRef.h"

#include <string>
#include <thread>

namespace hadal::lsp {

/// Summary, syntax and description of the op \p name ("deepseek.rms_norm"), in
/// Markdown; empty if it is none of this project's.
llvm::StringRef findOpDocs(llvm::StringRef name);

/// \p message, a message of the language server as JSON, with the documentation
/// of the op in it if it is what hovering over one shows.
std::string addOpDocs(llvm::StringRef message);

/// While it lives, what is written to the standard output are messages of a
/// language server, to which the documentation of ops is added.
class OutputFilter {
public:
  OutputFilter();
  ~OutputFilter();
  OutputFilter(const OutputFilter &) = delete;
  OutputFilter &operator=(const OutputFilter &) = delete;

private:
  void run();

  int input = -1, output = -1;
  std::thread thread;
};

} // namespace hadal::lsp

#endif // HADAL_TOOLS_HADAL_LSP_SERVER_OPDOCS_H
