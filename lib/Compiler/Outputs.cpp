// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The files that a compilation writes: all of them appear, or none.

#include "lib/Compiler/Outputs.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Signals.h"

#include <csignal>
#include <cstring>
#include <unistd.h>

using namespace hadal;

/// The scratch folder, for the handler of signals; empty if there is none.
static char folderToRemove[4096];

/// LLVM has removed the files; what is left is the folder they were in.
static void removeFolderAndExit() {
  if (folderToRemove[0])
    ::rmdir(folderToRemove);
  ::_exit(128 + SIGINT);
}

Outputs::Outputs() { llvm::sys::SetInterruptFunction(removeFolderAndExit); }

Outputs::~Outputs() {
  for (Entry &entry : entries) {
    entry.file.reset();
    llvm::sys::DontRemoveFileOnSignal(entry.temporary);
  }
  for (const std::string &file : scratchFiles) {
    llvm::sys::fs::remove(file);
    llvm::sys::DontRemoveFileOnSignal(file);
  }
  if (!scratchFolder.empty()) {
    llvm::sys::fs::remove(scratchFolder);
    folderToRemove[0] = 0;
  }
  llvm::sys::SetInterruptFunction(nullptr);
}

absl::StatusOr<AtomicFile *> Outputs::add(const std::string &path,
                                          unsigned mode) {
  Entry entry;
  entry.file = std::make_unique<AtomicFile>();
  entry.path = path;
  entry.mode = mode;

  // No signal between making the file and noting that it is to be removed.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  auto restore =
      llvm::scope_exit([&] { pthread_sigmask(SIG_SETMASK, &before, nullptr); });
  std::string error;
  if (!entry.file->open(path, error))
    return absl::InvalidArgumentError(error);
  entry.temporary = entry.file->temporaryPath();
  llvm::sys::RemoveFileOnSignal(entry.temporary);
  entries.push_back(std::move(entry));
  return entries.back().file.get();
}

absl::StatusOr<std::string> Outputs::getScratchPath(const std::string &name) {
  if (scratchFolder.empty()) {
    llvm::SmallString<128> folder;
    if (std::error_code code =
            llvm::sys::fs::createUniqueDirectory("hadalc", folder))
      return absl::InvalidArgumentError(
          absl::StrCat("cannot create a temporary folder: ", code.message()));
    scratchFolder = folder.str().str();
    if (scratchFolder.size() < sizeof(folderToRemove))
      std::strcpy(folderToRemove, scratchFolder.c_str());
  }
  scratchFiles.push_back(scratchFolder + "/" + name);
  llvm::sys::RemoveFileOnSignal(scratchFiles.back());
  return scratchFiles.back();
}

absl::Status Outputs::commit() {
  for (size_t i = 0; i < entries.size(); ++i) {
    Entry &entry = entries[i];
    // A linker may have replaced the file that was opened.
    std::string error;
    std::error_code code = llvm::sys::fs::setPermissions(
        entry.temporary, static_cast<llvm::sys::fs::perms>(entry.mode));
    if (code)
      error = absl::StrCat("cannot set the mode of '", entry.path,
                           "': ", code.message());
    if (code || !entry.file->commit(error, entry.mode)) {
      for (size_t done = 0; done < i; ++done)
        llvm::sys::fs::remove(entries[done].path);
      return absl::InvalidArgumentError(error);
    }
    llvm::sys::DontRemoveFileOnSignal(entry.temporary);
  }
  return absl::OkStatus();
}
