// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the programs here report errors and print JSON.

#include "Report.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

using namespace hadal;
using namespace hadal::run;

static const char *name = "hadal-run";

void run::setProgramName(const char *argv0) {
  if (!argv0 || !*argv0)
    return;
  const char *slash = strrchr(argv0, '/');
  name = slash && slash[1] ? slash + 1 : argv0;
}

const char *run::programName() { return name; }

/// Whether whoever reads errors sees colors, and wants them (no-color.org).
static bool hasColors() {
  const char *terminal = getenv("TERM"), *refusal = getenv("NO_COLOR");
  return isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") &&
         !(refusal && *refusal);
}

static void printLine(const char *format, va_list arguments,
                      const char *suffix) {
  // Longer lines are cut; the beginning says what it is about.
  char line[2048];
  vsnprintf(line, sizeof(line), format, arguments);
  for (char *c = line; *c; ++c)
    if (uint8_t(*c) < 0x20 || *c == 0x7f)
      *c = '?';
  fflush(stdout);
  // Bold and red.
  fprintf(stderr,
          hasColors() ? "%s: \033[1;31merror: \033[0m%s%s\n"
                      : "%s: error: %s%s\n",
          name, line, suffix);
}

ExitCode run::reportError(ExitCode code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printLine(format, arguments, "");
  va_end(arguments);
  return code;
}

ExitCode run::reportUsage(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printLine(format, arguments, " (see --help)");
  va_end(arguments);
  return BadUsage;
}

void run::appendJsonString(std::string &out, std::string_view text) {
  out += '"';
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (uint8_t(c) < 0x20) {
      appendFormat(out, "\\u%04x", unsigned(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

void run::appendJsonList(std::string &out, const std::vector<int32_t> &values) {
  out += '[';
  for (size_t i = 0; i < values.size(); ++i) {
    if (i)
      out += ',';
    out += std::to_string(values[i]);
  }
  out += ']';
}

void run::appendFormat(std::string &out, const char *format, ...) {
  char buffer[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(buffer, sizeof(buffer), format, arguments);
  va_end(arguments);
  out += buffer;
}

ExitCode run::printOutput(std::string_view text) {
  if (fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
      !fflush(stdout))
    return Done;
  return reportError(BadInput, "cannot write to stdout: %s", strerror(errno));
}
