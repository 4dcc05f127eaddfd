// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recognizes the executables and libraries that hadalc makes, without running
// them.

#include "ElfFile.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <string_view>
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

namespace {
/// An ELF file that is not trusted. Each member returns what is wrong; empty if
/// nothing is.
class ElfFile {
public:
  explicit ElfFile(int descriptor) : descriptor(descriptor) {}

  /// Reads the header. \p product is what hadalc makes instead.
  std::string open(const char *product);
  std::string findManifest() const;
  /// Finds the model that a library exports.
  std::string findModel(std::string &symbol) const;
  /// A shared library has no entry point, a relocatable object neither.
  bool isExecutable() const {
    return (header.e_type == ET_EXEC || header.e_type == ET_DYN) &&
           header.e_entry;
  }
  bool isLibrary() const { return header.e_type == ET_DYN && !header.e_entry; }

private:
  bool readSection(unsigned index, Elf64_Shdr &section) const;
  bool readName(const Elf64_Shdr &names, uint64_t at, std::string &name) const;

  int descriptor;
  Elf64_Ehdr header = {};
};
} // namespace

std::string ElfFile::open(const char *product) {
  struct stat info;
  if (fstat(descriptor, &info))
    return std::string("cannot stat: ") + strerror(errno);
  if (!S_ISREG(info.st_mode))
    return "not a regular file";
  if (!readAt(descriptor, &header, sizeof(header), 0) ||
      memcmp(header.e_ident, ELFMAG, SELFMAG))
    return std::string("not an ELF file; expected ") + product +
           " made by hadalc";
  if (header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != hostMachine)
    return "made for another machine: ELF machine " +
           std::to_string(header.e_machine) + ", this is " +
           std::to_string(hostMachine);
  return "";
}

bool ElfFile::readSection(unsigned index, Elf64_Shdr &section) const {
  uint64_t offset;
  return header.e_shoff && header.e_shentsize == sizeof(Elf64_Shdr) &&
         index < header.e_shnum &&
         !__builtin_add_overflow(header.e_shoff,
                                 uint64_t(index) * sizeof(section), &offset) &&
         readAt(descriptor, &section, sizeof(section), offset);
}

/// Reads the string at \p at of the section \p names; those that are longer
/// than any of ours are cut.
bool ElfFile::readName(const Elf64_Shdr &names, uint64_t at,
                       std::string &name) const {
  char buffer[256];
  uint64_t offset;
  if (at >= names.sh_size ||
      __builtin_add_overflow(names.sh_offset, at, &offset))
    return false;
  size_t bytes = size_t(std::min<uint64_t>(names.sh_size - at, sizeof(buffer)));
  if (!readAt(descriptor, buffer, bytes, offset))
    return false;
  name.assign(buffer, strnlen(buffer, bytes));
  return true;
}

std::string ElfFile::findManifest() const {
  Elf64_Shdr names, section;
  std::string name;
  if (readSection(header.e_shstrndx, names))
    for (unsigned i = 0; readSection(i, section); ++i)
      if (readName(names, section.sh_name, name) && name == manifestSection)
        return "";
  return std::string("not made by hadalc: it has no section ") +
         manifestSection;
}

std::string ElfFile::findModel(std::string &symbol) const {
  static constexpr std::string_view suffix = "_model";
  Elf64_Shdr section, names;
  for (unsigned i = 0; readSection(i, section); ++i) {
    if (section.sh_type != SHT_DYNSYM || !readSection(section.sh_link, names))
      continue;
    Elf64_Sym entry;
    // A file cannot have more than it has bytes, so this ends.
    for (uint64_t at = 0; at < section.sh_size; at += sizeof(entry)) {
      uint64_t offset;
      if (__builtin_add_overflow(section.sh_offset, at, &offset) ||
          !readAt(descriptor, &entry, sizeof(entry), offset))
        break;
      if (ELF64_ST_TYPE(entry.st_info) == STT_OBJECT &&
          entry.st_shndx != SHN_UNDEF &&
          readName(names, entry.st_name, symbol) &&
          symbol.size() > suffix.size() &&
          !symbol.compare(symbol.size() - suffix.size(), suffix.size(), suffix))
        return "";
    }
  }
  return "a library of hadalc, but it exports no symbol that ends in _model";
}

std::string run::checkProduct(int descriptor) {
  ElfFile file(descriptor);
  if (std::string error = file.open("an executable"); !error.empty())
    return error;
  if (!file.isExecutable())
    return "an ELF file, but not an executable; compile with --emit=exe";
  return file.findManifest();
}

std::string run::checkLibrary(int descriptor, std::string &symbol) {
  ElfFile file(descriptor);
  if (std::string error = file.open("a library"); !error.empty())
    return error;
  if (!file.isLibrary())
    return "an ELF file, but not a shared library; compile with --emit=lib";
  if (std::string error = file.findManifest(); !error.empty())
    return error;
  return file.findModel(symbol);
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
    return printOutput(help);
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
