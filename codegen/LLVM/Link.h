// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From an object file to an executable, a shared library or an archive.

#ifndef HADAL_CODEGEN_LLVM_LINK_H
#define HADAL_CODEGEN_LLVM_LINK_H

#include "absl/status/status.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>
#include <vector>

namespace hadal {

/// True if \p triple has the architecture and the system of this process.
bool isForThisMachine(llvm::StringRef triple);

struct LinkOptions {
  /// Name or path of a C++ compiler driver. Empty: the one that this compiler
  /// was configured with, or else the first of c++, clang++ and g++ in PATH.
  std::string driver;
  /// Empty: that of this machine. For another, a driver named after it, as in
  /// `aarch64-linux-gnu-g++`, or else clang.
  std::string triple;
  /// Added at the end.
  std::vector<std::string> arguments;
  /// Take all of the libraries, not what is needed of them: for a shared
  /// library that also offers what they offer.
  bool wholeLibraries = false;
  /// The folder of `libc.so` and `libm.so`, or of what has their names. Empty:
  /// the driver knows it, and what else a program begins with.
  std::string systemFolder;
};

/// Links \p object and \p libraries, paths of archives or objects, to the
/// executable \p output, which needs only the C library of the system. Writes
/// \p output in place: a caller that must not leave a part names a temporary
/// file. The same inputs give the same bytes.
///
/// `kInvalidArgument` has the linker's first error as its message;
/// `kNotFound`: there is no driver.
absl::Status linkExecutable(llvm::StringRef object,
                            llvm::ArrayRef<std::string> libraries,
                            llvm::StringRef output,
                            const LinkOptions &options = {});

/// Like `linkExecutable`, to a shared library.
absl::Status linkShared(llvm::StringRef object,
                        llvm::ArrayRef<std::string> libraries,
                        llvm::StringRef output,
                        const LinkOptions &options = {});

/// Compiles \p source, a file of C++, with \p flags to the object \p output, by
/// the driver that links. Errors are those of `linkExecutable`.
absl::Status compileSource(llvm::StringRef source, llvm::StringRef output,
                           llvm::ArrayRef<std::string> flags,
                           const LinkOptions &options = {});

/// Writes \p members, objects or archives, whose members are then taken, to the
/// archive \p output, with a symbol table and without dates, owners and paths.
/// `kInvalidArgument` when one is neither.
absl::Status archive(llvm::ArrayRef<std::string> members,
                     llvm::StringRef output);

} // namespace hadal

#endif // HADAL_CODEGEN_LLVM_LINK_H
