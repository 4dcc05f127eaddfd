// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The files that a compilation writes: all of them appear, or none.

#ifndef HADAL_COMPILER_OUTPUTS_H
#define HADAL_COMPILER_OUTPUTS_H

#include "lib/Support/FileIO.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <memory>
#include <string>
#include <vector>

namespace hadal {

/// Files under temporary names until they are committed. What is not committed
/// is removed: when this is destroyed, or when a signal ends the process. There
/// may be one for a compilation, and another for one that it needs.
class Outputs {
public:
  Outputs();
  Outputs(const Outputs &) = delete;
  Outputs &operator=(const Outputs &) = delete;
  ~Outputs();

  /// Adds a file that will be at \p path, with permissions \p mode.
  absl::StatusOr<AtomicFile *> add(const std::string &path,
                                   unsigned mode = 0644);

  /// The path of a file called \p name that is removed at the end, in a folder
  /// of its own, so that tools see no random name.
  absl::StatusOr<std::string> getScratchPath(const std::string &name);

  /// True if \p path is that of such a file.
  bool isScratch(const std::string &path) const;

  /// Where the files will be.
  std::vector<std::string> getPaths() const;

  /// Runs \p program with \p arguments, of which the first is its name, and
  /// what it says on stderr in the file \p errors. A signal that ends this
  /// process ends it, too. Returns its exit code; below 0, \p message says why
  /// it has none.
  int run(const std::string &program, llvm::ArrayRef<llvm::StringRef> arguments,
          const std::string &errors, std::string &message,
          const std::string &output = "");

  /// Puts all files in their places. If one cannot be, those before it are
  /// removed again.
  absl::Status commit();

private:
  struct Entry {
    std::unique_ptr<AtomicFile> file;
    std::string path, temporary;
    unsigned mode;
  };
  std::vector<Entry> entries;
  std::string scratchFolder;
  std::vector<std::string> scratchFiles;
};

/// What a program that ended with \p code said last in the file \p errors, or
/// \p message, if it did not run.
std::string findLastError(int code, const std::string &errors,
                          std::string message);

} // namespace hadal

#endif // HADAL_COMPILER_OUTPUTS_H
