// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs nvcc.

#include "lib/Compiler/CudaToolkit.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"

using namespace hadal;
using llvm::StringRef;

/// GPUs that code is made for, as far as nvcc knows them: those of data centers
/// from Ampere on, and of Jetson Orin.
static constexpr const char *wantedArchitectures[] = {"80", "87", "90a", "100"};

/// Runs nvcc; returns what it has written to its standard output.
static absl::StatusOr<std::string> run(const std::string &nvcc,
                                       llvm::ArrayRef<std::string> arguments,
                                       Outputs &outputs) {
  absl::StatusOr<std::string> errors = outputs.getScratchPath("nvcc.errors"),
                              text = outputs.getScratchPath("nvcc.output");
  if (!errors.ok())
    return errors.status();
  if (!text.ok())
    return text.status();
  llvm::SmallVector<StringRef> line = {nvcc};
  line.append(arguments.begin(), arguments.end());
  std::string message;
  int code = outputs.run(nvcc, line, *errors, message, *text);
  auto read = [](const std::string &path) {
    auto buffer = llvm::MemoryBuffer::getFile(path);
    return buffer ? (*buffer)->getBuffer().str() : std::string();
  };
  std::string output = read(*text);
  if (code == 0)
    return output;
  if (code > 0) {
    // cudafe++ and ptxas say what is wrong on either stream.
    std::string all = read(*errors) + "\n" + output;
    llvm::SmallVector<StringRef> lines;
    StringRef(all).split(lines, '\n', -1, /*KeepEmpty=*/false);
    auto found = llvm::find_if(lines, [](StringRef text) {
      return text.contains_insensitive("error");
    });
    message = found != lines.end() ? found->trim().str()
              : lines.empty()      ? "no message"
                                   : lines.back().trim().str();
  }
  // It calls one, and does not say which.
  if (!llvm::sys::findProgramByName("g++"))
    message += "; nvcc needs a C++ compiler, but there is none of: g++; "
               "Debian's package is g++";
  return absl::InvalidArgumentError(absl::StrCat(nvcc, ": ", message));
}

absl::StatusOr<std::optional<CudaToolkit>>
hadal::findCuda(const std::string &path, Outputs &outputs) {
  CudaToolkit toolkit;
  if (!path.empty()) {
    toolkit.nvcc = path;
    if (!llvm::sys::fs::can_execute(path))
      return absl::NotFoundError(
          absl::StrCat("'", path, "' is no program, expected nvcc"));
  } else if (auto found = llvm::sys::findProgramByName("nvcc")) {
    toolkit.nvcc = *found;
  } else if (auto installed = llvm::sys::findProgramByName(
                 "nvcc", {"/usr/local/cuda/bin"})) {
    toolkit.nvcc = *installed;
  } else {
    return std::nullopt;
  }
  absl::StatusOr<std::string> version =
      run(toolkit.nvcc, {"--version"}, outputs);
  if (!version.ok())
    return version.status();
  // "Cuda compilation tools, release 13.0, V13.0.88"
  StringRef number = StringRef(*version).split(", V").second;
  toolkit.version =
      number.take_while([](char c) { return llvm::isDigit(c) || c == '.'; })
          .str();
  if (toolkit.version.empty())
    return absl::InvalidArgumentError(absl::StrCat(
        "'", toolkit.nvcc, " --version' names no version, expected one"));
  absl::StatusOr<std::string> known =
      run(toolkit.nvcc, {"--list-gpu-arch"}, outputs);
  if (!known.ok())
    return known.status();
  for (const char *wanted : wantedArchitectures) {
    // Those with an a are not listed.
    std::string name = "compute_" + StringRef(wanted).rtrim('a').str();
    for (StringRef line : llvm::split(*known, '\n'))
      if (line.trim() == name)
        toolkit.architectures.push_back(std::string("sm_") + wanted);
  }
  toolkit.architectures.emplace_back("compute_80");
  return toolkit;
}

absl::Status hadal::compileCuda(const CudaToolkit &toolkit,
                                const std::string &source,
                                const std::string &includeFolder,
                                const std::string &output, Outputs &outputs) {
  // Nothing is fused: numbers are those of the processor.
  std::vector<std::string> arguments = {
      "-std=c++17", "-O3", "-fmad=false", "-fatbin",
      "--threads",  "0",   "-I",          includeFolder};
  for (StringRef code : toolkit.architectures) {
    StringRef name = code.split('_').second;
    arguments.emplace_back("-gencode");
    arguments.push_back(
        absl::StrCat("arch=compute_", name.str(), ",code=", code.str()));
  }
  arguments.insert(arguments.end(), {"-o", output, source});
  return run(toolkit.nvcc, arguments, outputs).status();
}
