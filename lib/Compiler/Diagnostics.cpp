// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// MLIR's diagnostics become a status, and its passes leave their IR behind.

#include "lib/Compiler/Diagnostics.h"

#include "lib/Support/FileIO.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"

#include <mutex>

using namespace mlir;
using namespace hadal;

/// "FILE:LINE:COLUMN: " of \p location, or nothing.
static std::string formatPlace(Location location) {
  std::string place;
  location->walk([&](Location inner) {
    auto file = dyn_cast<FileLineColLoc>(inner);
    if (!file)
      return WalkResult::advance();
    place = llvm::formatv("{0}:{1}:{2}: ", file.getFilename().getValue(),
                          file.getLine(), file.getColumn());
    return WalkResult::interrupt();
  });
  return place;
}

DiagnosticCapture::DiagnosticCapture(MLIRContext &context)
    : handler(&context, [this](Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == DiagnosticSeverity::Error &&
            message.empty())
          message = formatPlace(diagnostic.getLocation()) + diagnostic.str();
        if (diagnostic.getSeverity() == DiagnosticSeverity::Remark)
          remarks.push_back(diagnostic.str());
        return success(); // Warnings are not for users.
      }) {}

absl::Status DiagnosticCapture::toStatus(absl::StatusCode code,
                                         const char *otherwise) const {
  std::string line = message.empty() ? otherwise : message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  return absl::Status(code, line);
}

void IRDumper::dump(Operation *op, const std::string &name,
                    const std::string &comment) {
  if (!isEnabled() || !error.empty())
    return;
  if (std::error_code code = llvm::sys::fs::create_directories(folder)) {
    error = llvm::formatv("cannot create '{0}': {1}", folder, code.message());
    return;
  }
  std::string text;
  llvm::raw_string_ostream os(text);
  if (!comment.empty())
    os << "// " << comment << '\n';
  op->print(os);
  os << '\n';
  AtomicFile file;
  std::string path =
      llvm::formatv("{0}/{1,0+2}-{2}.mlir", folder, ++number, name);
  (void)(file.open(path, error) &&
         file.write(text.data(), text.size(), error) && file.commit(error));
}

absl::Status IRDumper::getStatus() const {
  return error.empty() ? absl::OkStatus() : absl::InvalidArgumentError(error);
}

namespace {

class DumpInstrumentation : public PassInstrumentation {
public:
  explicit DumpInstrumentation(IRDumper &dumper) : dumper(dumper) {}

  void runAfterPass(Pass *pass, Operation *op) override {
    std::lock_guard<std::mutex> lock(mutex);
    std::string argument = pass->getArgument().str();
    if (!isa<ModuleOp>(op)) {
      if (!argument.empty() && !llvm::is_contained(nested, argument))
        nested.push_back(argument);
    } else if (!argument.empty()) {
      dumper.dump(op, argument);
    } else if (!nested.empty()) {
      dumper.dump(op, nested.front(), llvm::join(nested, ", "));
      nested.clear();
    }
  }

  void runAfterPassFailed(Pass *pass, Operation *op) override {
    std::lock_guard<std::mutex> lock(mutex);
    if (isa<ModuleOp>(op) && !pass->getArgument().empty())
      dumper.dump(op, (pass->getArgument() + "-failed").str());
  }

private:
  IRDumper &dumper;
  std::mutex mutex;
  std::vector<std::string> nested; ///< Passes since the last file.
};

} // namespace

std::unique_ptr<PassInstrumentation> IRDumper::getInstrumentation() {
  return std::make_unique<DumpInstrumentation>(*this);
}
