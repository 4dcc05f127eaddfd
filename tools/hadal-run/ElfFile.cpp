// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recognizes the executables that hadalc makes, without running them.

#include "ElfFile.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

using namespace hadal;
using namespace hadal::run;

static constexpr char manifestSection[] = ".hadal.manifest";

#if defined(__x86_64__)
static constexpr unsigned hostMachine = EM_X86_64;
#elif defined(__aarch64__)
static constexpr unsigned hostMachine = EM_AARCH64;
#elif defined(__riscv)
static constexpr unsigned hostMachine = EM_RISCV;
#else
#error "the ELF machine of this host is not known"
#endif

/// Reads \p bytes bytes at \p offset, which is from the file and may be
/// anything. \returns Whether they were all there.
static bool readAt(int descriptor, void *buffer, size_t bytes,
                   uint64_t offset) {
  if (offset > uint64_t(INT64_MAX))
    return false;
  char *cursor = static_cast<char *>(buffer);
  while (bytes) {
    ssize_t got = pread(descriptor, cursor, bytes, off_t(offset));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return false;
    cursor += got;
    offset += uint64_t(got);
    bytes -= size_t(got);
  }
  return true;
}

std::string run::checkProduct(int descriptor) {
  struct stat info;
  if (fstat(descriptor, &info))
    return std::string("cannot stat: ") + strerror(errno);
  if (!S_ISREG(info.st_mode))
    return "not a regular file";
  Elf64_Ehdr header;
  if (!readAt(descriptor, &header, sizeof(header), 0) ||
      memcmp(header.e_ident, ELFMAG, SELFMAG))
    return "not an ELF file; expected an executable made by hadalc";
  if (header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != hostMachine)
    return "made for another machine: ELF machine " +
           std::to_string(header.e_machine) + ", this is " +
           std::to_string(hostMachine);
  // A shared library has no entry point, a relocatable object neither.
  if ((header.e_type != ET_EXEC && header.e_type != ET_DYN) || !header.e_entry)
    return "an ELF file, but not an executable; compile with --emit=exe";

  std::string noManifest =
      std::string("not made by hadalc: it has no section ") + manifestSection;
  if (!header.e_shoff || header.e_shentsize != sizeof(Elf64_Shdr) ||
      header.e_shstrndx >= header.e_shnum)
    return noManifest;
  Elf64_Shdr names;
  uint64_t namesOffset;
  if (__builtin_add_overflow(header.e_shoff,
                             uint64_t(header.e_shstrndx) * sizeof(names),
                             &namesOffset) ||
      !readAt(descriptor, &names, sizeof(names), namesOffset))
    return noManifest;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    uint64_t offset;
    if (__builtin_add_overflow(header.e_shoff, uint64_t(i) * sizeof(section),
                               &offset) ||
        !readAt(descriptor, &section, sizeof(section), offset))
      return noManifest;
    char name[sizeof(manifestSection)];
    if (section.sh_name < names.sh_size &&
        names.sh_size - section.sh_name >= sizeof(name) &&
        !__builtin_add_overflow(names.sh_offset, uint64_t(section.sh_name),
                                &offset) &&
        readAt(descriptor, name, sizeof(name), offset) &&
        !memcmp(name, manifestSection, sizeof(name)))
      return "";
  }
  return noManifest;
}

int run::executeProduct(char *const *argv) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  int descriptor = open(argv[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0)
    return reportError(BadInput, "%s: cannot open: %s", argv[0],
                       strerror(errno));
  std::string error = checkProduct(descriptor);
  if (!error.empty()) {
    close(descriptor);
    return reportError(BadInput, "%s: %s", argv[0], error.c_str());
  }
  // What was checked, even if the name has another file by now.
  fexecve(descriptor, argv, environ);
  int code =
      reportError(BadInput, "%s: cannot execute: %s", argv[0], strerror(errno));
  close(descriptor);
  return code;
}

std::optional<ExitCode> run::checkProductArgument(int argc, char **argv,
                                                  const char *help) {
  setProgramName(argc ? argv[0] : nullptr);
  if (argc < 2)
    return reportUsage("expected an executable made by hadalc");
  if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
    return printHelp(help);
  if (argv[1][0] == '-')
    return reportUsage("expected the executable first, but got '%.60s'",
                       argv[1]);
  return std::nullopt;
}

int run::runProductTool(int argc, char **argv, const char *help,
                        const char *mode) {
  if (std::optional<ExitCode> code = checkProductArgument(argc, argv, help))
    return *code;
  std::string option = mode ? mode : "";
  std::vector<char *> arguments = {argv[1]};
  if (mode)
    arguments.push_back(option.data());
  arguments.insert(arguments.end(), argv + 2, argv + argc);
  arguments.push_back(nullptr);
  return executeProduct(arguments.data());
}
