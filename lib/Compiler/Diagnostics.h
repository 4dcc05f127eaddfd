// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// MLIR's diagnostics become a status, and its passes leave their IR behind.

#ifndef HADAL_COMPILER_DIAGNOSTICS_H
#define HADAL_COMPILER_DIAGNOSTICS_H

#include "absl/status/status.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassInstrumentation.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace hadal {

/// Keeps the first error that is emitted while it lives, and every remark;
/// prints nothing.
class DiagnosticCapture {
public:
  explicit DiagnosticCapture(mlir::MLIRContext &context);

  /// The first error as one line, with its place if it has one; \p otherwise if
  /// there was none.
  absl::Status toStatus(absl::StatusCode code, const char *otherwise) const;

  /// Returns the remarks since the last call.
  std::vector<std::string> takeRemarks() { return std::exchange(remarks, {}); }

private:
  std::string message;
  std::vector<std::string> remarks;
  mlir::ScopedDiagnosticHandler handler;
};

/// Prints IR to numbered files of a folder.
class IRDumper {
public:
  /// An empty \p folder: does nothing.
  explicit IRDumper(std::string folder) : folder(std::move(folder)) {}

  /// Writes \p op to NN-NAME.mlir, with \p comment on the first line.
  void dump(mlir::Operation *op, const std::string &name,
            const std::string &comment = "");

  /// Writes the module after each pass of a pass manager over it. Passes over
  /// functions run in parallel; there is one file after a group of them.
  std::unique_ptr<mlir::PassInstrumentation> getInstrumentation();

  /// The first file that could not be written, or OK.
  absl::Status getStatus() const;

  bool isEnabled() const { return !folder.empty(); }

private:
  std::string folder;
  std::string error;
  int number = 0;
};

} // namespace hadal

#endif // HADAL_COMPILER_DIAGNOSTICS_H
