// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of hadal-serve.

#ifndef HADAL_TOOLS_HADAL_SERVE_OPTIONS_H
#define HADAL_TOOLS_HADAL_SERVE_OPTIONS_H

#include "../hadal-run/Report.h"
#include "Engine.h"
#include "Http.h"

#include <cstdint>
#include <string>

namespace hadal::serve {

struct ServeOptions {
  bool help = false;
  std::string product;
  std::string host = "127.0.0.1";
  int64_t port = 8080;
  std::string name;        ///< Empty: that of the file.
  std::string weightsPath; ///< Empty: beside the product.
  std::string chatFormat;  ///< Empty: what the model says.
  int64_t timeoutSeconds = 600;
  int64_t drainSeconds = 30;
  bool json = false, quiet = false;
  EngineOptions engine;
  HttpLimits http;
};

/// Reads the command line into \p options; reports what is wrong with it.
run::ExitCode parseOptions(int argc, char **argv, ServeOptions &options);

/// What --help prints.
extern const char help[];

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_OPTIONS_H
