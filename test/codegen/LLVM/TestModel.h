// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the tests of emission and of linking share: the model of tiny.mlir.

#ifndef HADAL_TEST_CODEGEN_LLVM_TESTMODEL_H
#define HADAL_TEST_CODEGEN_LLVM_TESTMODEL_H

#include "codegen/LLVM/EmitObject.h"

#include "gtest/gtest.h"

#include <string>

namespace hadal {

/// What this machine can run of the targets that are tested, widest last.
std::vector<std::string> getRunnableCpus();

ResolvedTarget resolve(const Target &target);

/// Compiles \p source, IR of the rt dialect, or tiny.mlir if it is empty.
std::string compile(const Target &target, const EmitOptions &options = {},
                    llvm::StringRef source = "");

/// A folder that goes away with the test.
class TemporaryFolder {
public:
  TemporaryFolder();
  ~TemporaryFolder();

  std::string path(llvm::StringRef name) const;
  /// Writes \p contents to the file \p name and gives its path.
  std::string write(llvm::StringRef name, llvm::StringRef contents) const;
  std::string read(llvm::StringRef name) const;

private:
  std::string folder;
};

} // namespace hadal

#endif // HADAL_TEST_CODEGEN_LLVM_TESTMODEL_H
