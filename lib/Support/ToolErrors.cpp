// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "lib/Support/ToolErrors.h"

#include "llvm/Support/raw_ostream.h"

#include <cstdlib>

using namespace hadal;

/// Whether whoever reads errors sees colors, and wants them (no-color.org).
static bool hasColors() {
  const char *refusal = std::getenv("NO_COLOR");
  return llvm::errs().has_colors() && !(refusal && *refusal);
}

int ToolErrors::fail(int code, const std::string &message) const {
  std::string line = message;
  for (char &c : line)
    if (static_cast<unsigned char>(c) < 0x20)
      c = ' ';
  llvm::outs().flush();
  llvm::raw_ostream &os = llvm::errs();
  bool isColored = hasColors();
  os << name << ": ";
  if (isColored)
    os.changeColor(llvm::raw_ostream::RED, /*Bold=*/true);
  os << "error: ";
  if (isColored)
    os.resetColor();
  os << line << '\n';
  return code;
}

int ToolErrors::failUsage(const std::string &message) const {
  return fail(BadUsage, message + "; see " + name + " --help");
}

int ToolErrors::fail(const absl::Status &status) const {
  return fail(absl::IsInternal(status) ? Bug : BadInput,
              std::string(status.message()));
}

int ToolErrors::finish(int code) const {
  llvm::outs().flush();
  if (!llvm::outs().has_error())
    return code;
  std::string why = llvm::outs().error().message();
  llvm::outs().clear_error();
  return fail(BadInput, "cannot write to the standard output: " + why);
}
