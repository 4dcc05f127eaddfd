// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "Model.h"

#include "hadal/Import.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdlib>
#include <memory>
#include <unistd.h>
#include <vector>

using namespace hadal;
using namespace hadal::fuzz;

[[noreturn]] static void stop(const llvm::Twine &message) {
  llvm::errs() << "finding: " << message << "\n";
  std::abort();
}

Folder::Folder() {
  llvm::SmallString<128> created;
  if (std::error_code error =
          llvm::sys::fs::createUniqueDirectory("hadal-fuzz", created))
    stop("no folder for inputs: " + error.message());
  path = created.str().str();
}

Folder::~Folder() { llvm::sys::fs::remove_directories(path); }

std::string Folder::pathOf(llvm::StringRef name) const {
  return path + "/" + name.str();
}

void Folder::write(llvm::StringRef name, llvm::ArrayRef<uint8_t> bytes,
                   uint64_t zeros) {
  std::error_code error;
  llvm::raw_fd_ostream out(pathOf(name), error);
  if (error)
    stop(pathOf(name) + ": " + error.message());
  out.write(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  out.close();
  if (out.has_error() ||
      (zeros && truncate(pathOf(name).c_str(), bytes.size() + zeros)))
    stop(pathOf(name) + ": cannot be written");
}

std::pair<llvm::ArrayRef<uint8_t>, uint64_t>
hadal::fuzz::splitZeros(llvm::ArrayRef<uint8_t> input) {
  uint64_t zeros = 0;
  size_t read = std::min<size_t>(4, input.size());
  for (size_t i = 0; i < read; ++i)
    zeros |= uint64_t(input[i]) << (8 * i);
  return {input.drop_front(read), zeros % (uint64_t(16) << 20)};
}

void hadal::fuzz::importAndCheck(llvm::StringRef path, bool weights) {
  // One context for many inputs, since to load the dialects takes longer than
  // most imports do; not for all, since it keeps every type and attribute.
  static std::unique_ptr<mlir::MLIRContext> context;
  static unsigned uses = 0;
  if (uses++ % 4096 == 0)
    context = std::make_unique<mlir::MLIRContext>(
        mlir::MLIRContext::Threading::DISABLED);
  std::vector<std::string> notes;
  std::vector<TextFile> textFiles;
  ImportOptions options;
  options.weights = weights;
  options.notes = &notes;
  options.textFiles = &textFiles;
  auto module = importModel(*context, path, options);
  if (module.ok())
    return;
  llvm::StringRef message(module.status().message().data(),
                          module.status().message().size());
  if (module.status().code() == absl::StatusCode::kInternal ||
      message.empty() || message.contains('\n'))
    stop("status " + module.status().ToString());
}
