// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Links through the C++ compiler driver of the system, which knows where its C
// library is; archives are written here.

#include "codegen/LLVM/Link.h"

#include "absl/status/statusor.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/Magic.h"
#include "llvm/Object/Archive.h"
#include "llvm/Object/ArchiveWriter.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include <cerrno>
#include <cstring>
#include <optional>

#include <sys/mman.h>
#include <unistd.h>

using namespace llvm;
using namespace hadal;

static std::string concat(ArrayRef<StringRef> parts) { return join(parts, ""); }

/// The path of \p name, a path or a program in PATH.
static std::optional<std::string> findProgram(StringRef name) {
  if (name.empty())
    return std::nullopt;
  if (sys::path::has_parent_path(name))
    return sys::fs::can_execute(name) ? std::optional(name.str())
                                      : std::nullopt;
  auto path = sys::findProgramByName(name);
  return path ? std::optional(*path) : std::nullopt;
}

bool hadal::isForThisMachine(StringRef name) {
  Triple triple(name), host(sys::getDefaultTargetTriple());
  return triple.getArch() == host.getArch() && triple.getOS() == host.getOS() &&
         triple.isAndroid() == host.isAndroid();
}

namespace {
struct Driver {
  std::string path;
  std::vector<std::string> arguments; ///< That any link with it needs.
};
} // namespace

static bool isClang(StringRef driver) {
  // /usr/bin/c++ may be either.
  SmallString<128> real;
  if (sys::fs::real_path(driver, real))
    real = driver;
  return sys::path::filename(real).contains("clang") ||
         sys::path::filename(driver).contains("clang");
}

static Triple getTriple(const LinkOptions &options) {
  return Triple(options.triple.empty() ? sys::getDefaultTargetTriple()
                                       : options.triple);
}

/// What to say where a compiler or its libraries are missing, as Debian names
/// its packages.
static std::string namePackage(const Triple &triple) {
  if (triple.isAndroid())
    return "; Debian's packages are clang-22 and lld-22";
  std::string arch = triple.getArchName().str();
  llvm::replace(arch, '_', '-');
  return concat(
      {"; Debian's package is g++", isForThisMachine(triple.str())
                                        ? std::string()
                                        : concat({"-", arch, "-linux-gnu"})});
}

static absl::StatusOr<Driver> findDriver(const LinkOptions &options) {
  Triple triple = getTriple(options);
  Driver driver;
  std::vector<std::string> names;
  bool native = isForThisMachine(triple.str());
  if (!options.driver.empty())
    names = {options.driver};
  else if (native)
    names = {HADAL_CXX_DRIVER, "c++", "clang++-22", "clang++", "g++"};
  else if (triple.isAndroid())
    names = {"clang++-22", "clang++"};
  else
    names = {concat({triple.getArchName(), "-linux-gnu-g++"}), "clang++-22",
             "clang++"};
  for (StringRef name : names)
    if (auto path = findProgram(name)) {
      driver.path = *path;
      break;
    }
  if (driver.path.empty())
    return absl::NotFoundError(
        concat({"linking for ", triple.str(),
                " needs a C++ compiler driver, but there is none of: ",
                join(names, ", "), namePackage(triple)}));
  if (!isClang(driver.path)) {
    // A cross gcc looks for a linker that is named after its target.
    if (native && findProgram("ld.lld"))
      driver.arguments.emplace_back("-fuse-ld=lld");
    return driver;
  }
  if (!native)
    driver.arguments.push_back(concat({"--target=", triple.str()}));
  // It may be beside clang without being in PATH.
  SmallString<128> beside;
  if (!sys::fs::real_path(driver.path, beside)) {
    sys::path::remove_filename(beside);
    sys::path::append(beside, "ld.lld");
  }
  if (findProgram("ld.lld") || sys::fs::can_execute(beside))
    driver.arguments.emplace_back("-fuse-ld=lld");
  return driver;
}

/// The line of a linker's output that says what is wrong.
static std::string firstError(StringRef output) {
  SmallVector<StringRef> lines;
  output.split(lines, '\n', -1, /*KeepEmpty=*/false);
  for (StringRef sign : {"error:", "undefined reference", "cannot ", ""})
    for (StringRef line : lines)
      if (line.contains(sign))
        return line.trim().str();
  return "no message";
}

static absl::Status runDriver(const Driver &driver,
                              ArrayRef<std::string> arguments) {
  // A file without a name: no signal leaves it behind, not even one that comes
  // while the program starts.
  int file = memfd_create("hadal-link", MFD_CLOEXEC);
  if (file < 0)
    return absl::UnavailableError(
        concat({"no temporary file: ", std::strerror(errno)}));
  scope_exit cleanup([&] { close(file); });
  std::string log = concat({"/proc/self/fd/", std::to_string(file)});

  SmallVector<StringRef> line = {driver.path};
  line.append(driver.arguments.begin(), driver.arguments.end());
  line.append(arguments.begin(), arguments.end());
  std::optional<StringRef> redirects[] = {StringRef(), StringRef(log),
                                          StringRef(log)};
  std::string message;
  int code = sys::ExecuteAndWait(driver.path, line, /*Env=*/std::nullopt,
                                 redirects, /*SecondsToWait=*/0,
                                 /*MemoryLimit=*/0, &message);
  if (code == 0)
    return absl::OkStatus();
  if (code > 0) {
    auto output = MemoryBuffer::getFile(log);
    message = output ? firstError((*output)->getBuffer()) : "no message";
    // lld maps what it writes: a full disk is a signal to it.
    if (StringRef(message).contains("Bus error"))
      message = "cannot write the output: No space left on device";
  }
  return absl::InvalidArgumentError(
      concat({sys::path::filename(driver.path), ": ", message}));
}

/// \p path as a driver takes it: one that begins with - or @ is no option.
static std::string asInput(StringRef path) {
  return sys::path::is_absolute(path) ? path.str() : concat({"./", path});
}

static absl::Status link(std::vector<std::string> arguments, StringRef object,
                         ArrayRef<std::string> libraries, StringRef output,
                         const LinkOptions &options) {
  absl::StatusOr<Driver> driver = findDriver(options);
  if (!driver.ok())
    return driver.status();
  for (StringRef argument :
       {"-pthread", "-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections",
        "-Wl,--build-id=none", "-Wl,-z,relro,-z,now"})
    arguments.emplace_back(argument);
  arguments.insert(arguments.end(), {"-o", asInput(output), asInput(object)});
  if (options.wholeLibraries)
    arguments.emplace_back("-Wl,--whole-archive");
  for (StringRef library : libraries)
    arguments.push_back(asInput(library));
  if (options.wholeLibraries)
    arguments.emplace_back("-Wl,--no-whole-archive");
  arguments.emplace_back("-lm");
  // clang packs Android's relocations by tags that no other loader knows.
  if (!options.systemFolder.empty())
    arguments.insert(arguments.end(),
                     {"-lc", "-nostdlib", concat({"-L", options.systemFolder}),
                      "-Wl,--pack-dyn-relocs=none"});
  arguments.insert(arguments.end(), options.arguments.begin(),
                   options.arguments.end());
  absl::Status status = runDriver(*driver, arguments);
  // clang comes without the C library of any system.
  StringRef message(status.message().data(), status.message().size());
  if (isClang(driver->path) && (message.contains("cannot open Scrt1.o") ||
                                message.contains("cannot open crt") ||
                                message.contains("unable to find library")))
    return absl::Status(status.code(),
                        concat({message, namePackage(getTriple(options))}));
  return status;
}

static absl::Status toStatus(Error error, StringRef path) {
  return absl::InvalidArgumentError(
      concat({path, ": ", toString(std::move(error))}));
}

/// Appends the members of the archive \p buffer to \p members.
static absl::Status addArchive(StringRef path, MemoryBufferRef buffer,
                               std::vector<NewArchiveMember> &members) {
  auto input = object::Archive::create(buffer);
  if (!input)
    return toStatus(input.takeError(), path);
  Error error = Error::success();
  for (const object::Archive::Child &child : (*input)->children(error)) {
    auto member = NewArchiveMember::getOldMember(child, /*Deterministic=*/true);
    if (!member) {
      consumeError(std::move(error));
      return toStatus(member.takeError(), path);
    }
    // The bytes outlive the archive that they were read from.
    member->Buf = MemoryBuffer::getMemBufferCopy(
        member->Buf->getBuffer(), member->Buf->getBufferIdentifier());
    member->MemberName = member->Buf->getBufferIdentifier();
    members.push_back(std::move(*member));
  }
  return error ? toStatus(std::move(error), path) : absl::OkStatus();
}

absl::Status hadal::linkExecutable(StringRef object,
                                   ArrayRef<std::string> libraries,
                                   StringRef output,
                                   const LinkOptions &options) {
  return link({"-pie"}, object, libraries, output, options);
}

absl::Status hadal::linkShared(StringRef object,
                               ArrayRef<std::string> libraries,
                               StringRef output, const LinkOptions &options) {
  return link({"-shared", "-Wl,-z,defs"}, object, libraries, output, options);
}

absl::Status hadal::compileSource(StringRef source, StringRef output,
                                  ArrayRef<std::string> flags,
                                  const LinkOptions &options) {
  absl::StatusOr<Driver> driver = findDriver(options);
  if (!driver.ok())
    return driver.status();
  // What chooses a linker is of no use here, and clang says so.
  llvm::erase(driver->arguments, "-fuse-ld=lld");
  std::vector<std::string> arguments(flags.begin(), flags.end());
  arguments.insert(arguments.end(),
                   {"-c", "-o", asInput(output), asInput(source)});
  return runDriver(*driver, arguments);
}

absl::Status hadal::archive(ArrayRef<std::string> inputs, StringRef output) {
  std::vector<NewArchiveMember> members;
  for (const std::string &path : inputs) {
    auto buffer = MemoryBuffer::getFile(path);
    if (!buffer)
      return absl::InvalidArgumentError(
          concat({path, ": ", buffer.getError().message()}));
    switch (identify_magic((*buffer)->getBuffer())) {
    case file_magic::archive:
      if (absl::Status status =
              addArchive(path, (*buffer)->getMemBufferRef(), members);
          !status.ok())
        return status;
      break;
    case file_magic::elf_relocatable: {
      NewArchiveMember member;
      member.Buf = MemoryBuffer::getMemBufferCopy((*buffer)->getBuffer(),
                                                  sys::path::filename(path));
      member.MemberName = member.Buf->getBufferIdentifier();
      members.push_back(std::move(member));
      break;
    }
    default:
      return absl::InvalidArgumentError(
          concat({path, ": expected an object or an archive"}));
    }
  }
  // writeArchive ends the process where the disk is full.
  auto written = writeArchiveToBuffer(members, SymtabWritingMode::NormalSymtab,
                                      object::Archive::K_GNU,
                                      /*Deterministic=*/true, /*Thin=*/false);
  if (!written)
    return toStatus(written.takeError(), output);
  std::error_code code;
  raw_fd_ostream os(output, code);
  if (!code) {
    os << (*written)->getBuffer();
    os.close();
    code = os.error();
    os.clear_error();
  }
  return code ? toStatus(errorCodeToError(code), output) : absl::OkStatus();
}
