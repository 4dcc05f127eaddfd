// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of emitted executables.

#ifndef HADAL_TOOLS_HADAL_RUN_OPTIONS_H
#define HADAL_TOOLS_HADAL_RUN_OPTIONS_H

#include "Integers.h"
#include "Report.h"

#include "hadal_text/sampler.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::run {

struct RunOptions {
  enum class Mode { None, Help, Prompt, Chat, Tokens };
  Mode mode = Mode::None;
  std::string text;            ///< Of --prompt or --chat.
  std::vector<int32_t> tokens; ///< Of --tokens.
  std::string system;          ///< Of --system; empty: none.
  std::string chatFormat;      ///< Empty: what the model says.
  bool thinking = false;
  int64_t generate = -1; ///< Of -n; -1: not given.
  text::SamplerOptions sampler;
  int64_t threads = 0;       ///< 0: all.
  int64_t contextTokens = 0; ///< 0: what the run needs.
  int64_t chunkTokens = 0;   ///< 0: chosen by the program.
  std::string logitsPath;    ///< Empty: none.
  std::string schemaPath;    ///< Of --json-schema; empty: none.
  std::string adapter;       ///< Empty: none.
  std::string weightsPath;   ///< Empty: found beside or in the program.
  bool json = false;
  bool profile = false;
  std::string tracePath;  ///< Empty: none.
  std::string valuesPath; ///< Empty: none.
};

/// Reads the command line into \p options; reports what is wrong with it.
ExitCode parseOptions(int argc, char **argv, RunOptions &options);

/// Returns what --help prints.
std::string makeHelp();

/// Reads all of the file at \p path. \returns False, with errno set, if that
/// is not possible.
bool readFile(const char *path, std::string &contents);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_OPTIONS_H
