// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The files that a compilation writes: all of them appear, or none.

#include "lib/Compiler/Outputs.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Signals.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

using namespace hadal;
using llvm::StringRef;

//===----------------------------------------------------------------------===//
// Signals
//===----------------------------------------------------------------------===//

namespace {

/// A path where a handler of signals can read it.
struct PathSlot {
  char path[4096];
  std::atomic<bool> isUsed;
};

} // namespace

/// More than a compilation and one inside it have; what does not fit is left
/// after a signal.
static PathSlot temporaryFiles[32];
static PathSlot temporaryFolders[4];

/// The program that runs, or 0.
static std::atomic<pid_t> child;

static std::atomic<int> outputsAlive;

static void addSlot(llvm::MutableArrayRef<PathSlot> slots, StringRef path) {
  for (PathSlot &slot : slots) {
    if (slot.isUsed)
      continue;
    if (path.size() >= sizeof(slot.path))
      return;
    std::memcpy(slot.path, path.data(), path.size());
    slot.path[path.size()] = 0;
    slot.isUsed = true;
    return;
  }
}

static void dropSlot(llvm::MutableArrayRef<PathSlot> slots, StringRef path) {
  for (PathSlot &slot : slots)
    if (slot.isUsed && path == slot.path)
      slot.isUsed = false;
}

/// LLVM removes \p path at a signal, and endAtSignal once more.
static void removeOnSignal(const std::string &path) {
  llvm::sys::RemoveFileOnSignal(path);
  addSlot(temporaryFiles, path);
}

static void dontRemoveOnSignal(const std::string &path) {
  llvm::sys::DontRemoveFileOnSignal(path);
  dropSlot(temporaryFiles, path);
}

/// Ends the process after a signal. A linker that still runs may write its
/// output after LLVM has removed it. A second signal ends the wait.
static void endAtSignal() {
  if (pid_t running = child)
    ::kill(running, SIGKILL);
  while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR)
    ;
  // Another thread may still be creating one of them.
  bool isEmpty = false;
  for (int attempt = 0; attempt < 100 && !isEmpty; ++attempt) {
    for (PathSlot &slot : temporaryFiles)
      if (slot.isUsed)
        ::unlink(slot.path);
    isEmpty = true;
    for (PathSlot &slot : temporaryFolders)
      isEmpty &= !slot.isUsed || !::rmdir(slot.path) || errno == ENOENT;
  }
  ::_exit(128 + SIGINT);
}

//===----------------------------------------------------------------------===//
// Outputs
//===----------------------------------------------------------------------===//

Outputs::Outputs() {
  ++outputsAlive;
  llvm::sys::SetInterruptFunction(endAtSignal);
}

Outputs::~Outputs() {
  for (Entry &entry : entries) {
    entry.file.reset();
    dontRemoveOnSignal(entry.temporary);
  }
  for (const std::string &file : scratchFiles) {
    (void)llvm::sys::fs::remove(file);
    dontRemoveOnSignal(file);
  }
  if (!scratchFolder.empty()) {
    (void)llvm::sys::fs::remove(scratchFolder);
    dropSlot(temporaryFolders, scratchFolder);
  }
  if (--outputsAlive == 0)
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
  removeOnSignal(entry.temporary);
  entries.push_back(std::move(entry));
  return entries.back().file.get();
}

absl::StatusOr<std::string> Outputs::getScratchPath(const std::string &name) {
  if (scratchFolder.empty()) {
    std::error_code code;
    do {
      llvm::SmallString<128> folder;
      llvm::sys::fs::createUniquePath("hadalc-%%%%%%", folder,
                                      /*MakeAbsolute=*/true);
      // Noted first: any thread may get the signal that has it removed.
      addSlot(temporaryFolders, folder);
      code = llvm::sys::fs::create_directory(folder, /*IgnoreExisting=*/false,
                                             llvm::sys::fs::owner_all);
      if (!code)
        scratchFolder = folder.str().str();
      else
        dropSlot(temporaryFolders, folder);
    } while (code == std::errc::file_exists);
    if (code)
      return absl::InvalidArgumentError(
          absl::StrCat("cannot create a temporary folder: ", code.message()));
  }
  std::string path = scratchFolder + "/" + name;
  if (!llvm::is_contained(scratchFiles, path)) {
    scratchFiles.push_back(path);
    removeOnSignal(path);
  }
  return path;
}

bool Outputs::isScratch(const std::string &path) const {
  return llvm::is_contained(scratchFiles, path);
}

std::vector<std::string> Outputs::getPaths() const {
  std::vector<std::string> paths;
  for (const Entry &entry : entries)
    paths.push_back(entry.path);
  return paths;
}

int Outputs::run(const std::string &program,
                 llvm::ArrayRef<StringRef> arguments, const std::string &errors,
                 std::string &message, const std::string &output) {
  std::optional<StringRef> redirects[] = {StringRef(""), StringRef(output),
                                          StringRef(errors)};
  // What an earlier run has left there would stay behind what is shorter.
  for (const std::string &file : {errors, output})
    (void)llvm::sys::fs::remove(file);
  bool isFailed = false;
  llvm::sys::ProcessInfo started = llvm::sys::ExecuteNoWait(
      program, arguments, std::nullopt, redirects, 0, &message, &isFailed);
  if (isFailed)
    return -1;
  child = started.Pid;
  llvm::sys::ProcessInfo ended =
      llvm::sys::Wait(started, std::nullopt, &message);
  child = 0;
  return ended.ReturnCode;
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
        (void)llvm::sys::fs::remove(entries[done].path);
      return absl::InvalidArgumentError(error);
    }
    dontRemoveOnSignal(entry.temporary);
  }
  return absl::OkStatus();
}

std::string hadal::findLastError(int code, const std::string &errors,
                                 std::string message) {
  if (auto text = llvm::MemoryBuffer::getFile(errors); text && code > 0) {
    StringRef line = (*text)->getBuffer().rtrim().rsplit('\n').second;
    if (line.empty())
      line = (*text)->getBuffer().rtrim();
    // "PROGRAM: error: MESSAGE".
    size_t at = line.find("error: ");
    message = line.substr(at == StringRef::npos ? 0 : at + 7).str();
  }
  return message.empty() ? "the program failed" : message;
}
