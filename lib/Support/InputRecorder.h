// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a compilation has read, for the build systems that ask.

#ifndef HADAL_SUPPORT_INPUTRECORDER_H
#define HADAL_SUPPORT_INPUTRECORDER_H

#include "llvm/ADT/StringRef.h"

#include <set>
#include <string>

namespace hadal {

/// While one lives, it takes note of each file that an InputFile of the same
/// thread opens. Of several, the youngest does.
class InputRecorder {
public:
  InputRecorder();
  ~InputRecorder();
  InputRecorder(const InputRecorder &) = delete;
  InputRecorder &operator=(const InputRecorder &) = delete;

  /// Called for each file that is opened.
  static void note(llvm::StringRef path);

  /// Paths as they were opened, each once.
  const std::set<std::string> &getPaths() const { return paths; }

private:
  InputRecorder *outer;
  std::set<std::string> paths;
};

} // namespace hadal

#endif // HADAL_SUPPORT_INPUTRECORDER_H
