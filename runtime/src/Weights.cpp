// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Opens, checks and maps weights files. Nothing in a file is trusted: every
// number is checked against the size of the file before it is used.

#include "Weights.h"

#include "hadal_rt/graph.h"

#include "Platform.h"
#include "Status.h"

#include <stdlib.h>
#include <string.h>
#ifndef HADAL_RT_BARE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

using namespace hadal_rt;

namespace {

#ifndef HADAL_RT_BARE
/// A file descriptor that closes itself.
struct File {
  explicit File(int descriptor) : descriptor(descriptor) {}
  ~File() {
    if (descriptor >= 0)
      close(descriptor);
  }
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  const int descriptor;
};
#endif

/// Whose weights they are.
struct Owner {
  const char *name;
  const uint8_t *layoutHash;
  int64_t weightsBytes;
  const hadal_rt_model_t *model; ///< Null for a graph.
};

/// Sixteen bytes as hexadecimal text.
struct HashText {
  explicit HashText(const uint8_t *hash) {
    for (int i = 0; i < 16; ++i) {
      text[2 * i] = "0123456789abcdef"[hash[i] >> 4];
      text[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
    }
  }
  char text[33] = {};
};

} // namespace

#ifndef HADAL_RT_BARE
/// Reads \p bytes bytes at \p offset; false at the end of file or an error.
static bool readAt(int descriptor, void *buffer, size_t bytes,
                   uint64_t offset) {
  char *cursor = static_cast<char *>(buffer);
  while (bytes) {
    ssize_t got = pread(descriptor, cursor, bytes, off_t(offset));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      if (got == 0)
        errno = 0;
      return false;
    }
    cursor += got;
    offset += uint64_t(got);
    bytes -= size_t(got);
  }
  return true;
}

static const char *readErrorText() {
  return errno ? strerror(errno) : "it ends too early";
}

/// Opens \p path, a regular file, and finds its size.
static hadal_rt_status_t checkRegular(const char *path, int descriptor,
                                      uint64_t *bytes) {
  if (descriptor < 0)
    return fail(HADAL_RT_IO_ERROR, "%s: cannot open: %s", path,
                strerror(errno));
  struct stat info;
  if (fstat(descriptor, &info))
    return fail(HADAL_RT_IO_ERROR, "%s: cannot stat: %s", path,
                strerror(errno));
  if (!S_ISREG(info.st_mode))
    return fail(HADAL_RT_IO_ERROR, "%s: not a regular file", path);
  *bytes = uint64_t(info.st_size);
  return HADAL_RT_OK;
}
#endif

/// Checks \p header alone and against \p fileBytes, the bytes that are there.
static hadal_rt_status_t checkHeader(const char *path,
                                     const hadal_rt_weights_header_t &header,
                                     uint64_t fileBytes) {
  if (header.version != HADAL_RT_WEIGHTS_VERSION)
    return fail(HADAL_RT_INVALID_WEIGHTS,
                "%s: format version is %u, expected %u", path, header.version,
                HADAL_RT_WEIGHTS_VERSION);
  if (header.file_bytes != fileBytes)
    return fail(HADAL_RT_INVALID_WEIGHTS,
                "%s: header says %llu bytes, but there are %llu", path,
                (unsigned long long)header.file_bytes,
                (unsigned long long)fileBytes);
  if (header.section_count > HADAL_RT_MAX_SECTIONS)
    return fail(HADAL_RT_INVALID_WEIGHTS,
                "%s: header says %u sections, expected at most %u", path,
                header.section_count, HADAL_RT_MAX_SECTIONS);
  for (uint32_t i = 0; i < header.section_count; ++i) {
    const hadal_rt_section_t &section = header.sections[i];
    if (!section.name[0] || !memchr(section.name, 0, sizeof(section.name)))
      return fail(HADAL_RT_INVALID_WEIGHTS,
                  "%s: section %u: expected a name of 1 to 31 bytes", path, i);
    for (const char *c = section.name; *c; ++c)
      if (*c < 0x20 || *c > 0x7e)
        return fail(HADAL_RT_INVALID_WEIGHTS,
                    "%s: section %u: name has byte 0x%02x, expected printable "
                    "ASCII",
                    path, i, unsigned(uint8_t(*c)));
    for (uint32_t j = 0; j < i; ++j)
      if (!strcmp(section.name, header.sections[j].name))
        return fail(HADAL_RT_INVALID_WEIGHTS,
                    "%s: sections %u and %u are both called '%s'", path, j, i,
                    section.name);
    if (section.offset < HADAL_RT_WEIGHTS_ALIGNMENT ||
        section.offset % HADAL_RT_WEIGHTS_ALIGNMENT)
      return fail(HADAL_RT_INVALID_WEIGHTS,
                  "%s: section '%s' is at offset %llu, expected a positive "
                  "multiple of %u",
                  path, section.name, (unsigned long long)section.offset,
                  HADAL_RT_WEIGHTS_ALIGNMENT);
    if (section.offset > fileBytes ||
        section.bytes > fileBytes - section.offset)
      return fail(HADAL_RT_INVALID_WEIGHTS,
                  "%s: section '%s' has %llu bytes at offset %llu, but the "
                  "file has %llu",
                  path, section.name, (unsigned long long)section.bytes,
                  (unsigned long long)section.offset,
                  (unsigned long long)fileBytes);
  }
  return HADAL_RT_OK;
}

static const hadal_rt_section_t *
findSection(const hadal_rt_weights_header_t &header, const char *name) {
  for (uint32_t i = 0; i < header.section_count; ++i)
    if (!strcmp(header.sections[i].name, name))
      return &header.sections[i];
  return nullptr;
}

/// What comes before any header is read.
static hadal_rt_status_t checkSize(const char *path, uint64_t bytes) {
  static_assert(sizeof(hadal_rt_weights_header_t) <= HADAL_RT_WEIGHTS_ALIGNMENT,
                "the header fits before the first section");
  if (bytes < HADAL_RT_WEIGHTS_ALIGNMENT)
    return fail(HADAL_RT_INVALID_WEIGHTS,
                "%s: has %llu bytes, but a weights file has at least %u", path,
                (unsigned long long)bytes, HADAL_RT_WEIGHTS_ALIGNMENT);
  return HADAL_RT_OK;
}

static Owner ownerOf(const hadal_rt_model_t *model) {
  return {model->name, model->layout_hash, model->weights_bytes, model};
}

/// Checks \p header of \p bytes bytes against \p owner, and finds the section
/// that it reads.
static hadal_rt_status_t checkContents(const Owner &owner, const char *path,
                                       const hadal_rt_weights_header_t &header,
                                       uint64_t bytes,
                                       const hadal_rt_section_t **section) {
  if (memcmp(header.magic, HADAL_RT_WEIGHTS_MAGIC, sizeof(header.magic)))
    return fail(HADAL_RT_INVALID_WEIGHTS,
                "%s: not a weights file (it does not start with %s)", path,
                HADAL_RT_WEIGHTS_MAGIC);
  if (hadal_rt_status_t status = checkHeader(path, header, bytes))
    return status;

  if (memcmp(header.layout_hash, owner.layoutHash, sizeof(header.layout_hash)))
    return fail(HADAL_RT_WEIGHTS_MISMATCH,
                "%s: layout is %s, but model '%s' expects %s", path,
                HashText(header.layout_hash).text, owner.name,
                HashText(owner.layoutHash).text);
  *section = findSection(header, "weights");
  if (!*section)
    return fail(HADAL_RT_INVALID_WEIGHTS, "%s: has no section 'weights'", path);
  if ((*section)->bytes != uint64_t(owner.weightsBytes))
    return fail(HADAL_RT_WEIGHTS_MISMATCH,
                "%s: section 'weights' has %llu bytes, but model '%s' expects "
                "%lld",
                path, (unsigned long long)(*section)->bytes, owner.name,
                (long long)owner.weightsBytes);
  return HADAL_RT_OK;
}

/// Makes the handle of a file that starts at \p file.
static hadal_rt_status_t makeHandle(const Owner &owner, const char *path,
                                    const uint8_t *file,
                                    const hadal_rt_weights_header_t &header,
                                    const hadal_rt_section_t *section,
                                    hadal_rt_weights_t **out) {
  auto *weights =
      static_cast<hadal_rt_weights_t *>(malloc(sizeof(hadal_rt_weights_t)));
  if (!weights)
    return fail(HADAL_RT_OUT_OF_MEMORY, "%s: no memory for %zu bytes", path,
                sizeof(hadal_rt_weights_t));
  weights->model = owner.model;
  weights->mapping = nullptr;
  weights->mappingBytes = 0;
  weights->file = file;
  weights->weights = file + section->offset;
  weights->header = header;
  *out = weights;
  return HADAL_RT_OK;
}

/// Sets \p out to null. \p source, which the caller gives as \p name, says
/// where the weights are.
static hadal_rt_status_t checkPointers(const char *name, const void *source,
                                       hadal_rt_weights_t **out) {
  if (!out)
    return fail(HADAL_RT_INVALID_ARGUMENT, "out is null");
  *out = nullptr;
  if (!source)
    return fail(HADAL_RT_INVALID_ARGUMENT, "%s is null", name);
  return HADAL_RT_OK;
}

#ifndef HADAL_RT_BARE
/// Opens the weights file that fills [offset, offset + bytes) of a file. That
/// range is known to lie within the file.
static hadal_rt_status_t openRange(const Owner &owner, const char *path,
                                   int descriptor, uint64_t offset,
                                   uint64_t bytes, hadal_rt_weights_t **out) {
  hadal_rt_weights_header_t header;
  if (hadal_rt_status_t status = checkSize(path, bytes))
    return status;
  if (!readAt(descriptor, &header, sizeof(header), offset))
    return fail(HADAL_RT_IO_ERROR, "%s: cannot read: %s", path,
                readErrorText());
  const hadal_rt_section_t *section = nullptr;
  if (hadal_rt_status_t status =
          checkContents(owner, path, header, bytes, &section))
    return status;

  // A page may be larger than the alignment of an embedded file.
  uint64_t pageBytes = uint64_t(sysconf(_SC_PAGESIZE));
  uint64_t start = offset & ~(pageBytes - 1);
  uint64_t mappingBytes = offset - start + bytes;
  void *mapping = mmap(nullptr, mappingBytes, PROT_READ, MAP_PRIVATE,
                       descriptor, off_t(start));
  if (mapping == MAP_FAILED)
    return fail(HADAL_RT_IO_ERROR, "%s: cannot map %llu bytes: %s", path,
                (unsigned long long)mappingBytes, strerror(errno));
  // Advice only: where it is not understood, nothing is lost.
#ifdef MADV_HUGEPAGE
  madvise(mapping, mappingBytes, MADV_HUGEPAGE);
#endif
  // Read ahead what will stay. A model larger than memory is read as its
  // experts are used.
  uint64_t physicalBytes = uint64_t(sysconf(_SC_PHYS_PAGES)) * pageBytes;
  if (mappingBytes <= physicalBytes / 2)
    madvise(mapping, mappingBytes, MADV_WILLNEED);

  const auto *file = static_cast<const uint8_t *>(mapping) + (offset - start);
  if (hadal_rt_status_t status =
          makeHandle(owner, path, file, header, section, out)) {
    munmap(mapping, mappingBytes);
    return status;
  }
  (*out)->mapping = mapping;
  (*out)->mappingBytes = mappingBytes;
  return HADAL_RT_OK;
}

// O_NONBLOCK: opening a pipe must not wait for a writer.
static constexpr int openFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

/// Opens the weights file at \p path, all of it.
static hadal_rt_status_t openFile(const Owner &owner, const char *path,
                                  hadal_rt_weights_t **out) {
  File file(open(path, openFlags));
  uint64_t bytes;
  if (hadal_rt_status_t status = checkRegular(path, file.descriptor, &bytes))
    return status;
  return openRange(owner, path, file.descriptor, 0, bytes, out);
}

hadal_rt_status_t hadal_rt_weights_open(const hadal_rt_model_t *model,
                                        const char *path,
                                        hadal_rt_weights_t **out) {
  if (hadal_rt_status_t status = checkPointers("path", path, out))
    return status;
  if (hadal_rt_status_t status = checkModel(model))
    return status;
  return openFile(ownerOf(model), path, out);
}

hadal_rt_status_t hadal_rt_graph_weights_open(const hadal_rt_graph_t *graph,
                                              const char *path,
                                              hadal_rt_weights_t **out) {
  if (hadal_rt_status_t status = checkPointers("path", path, out))
    return status;
  if (hadal_rt_status_t status = hadal_rt_graph_check(graph))
    return status;
  return openFile(
      {graph->name, graph->layout_hash, graph->weights_bytes, nullptr}, path,
      out);
}

hadal_rt_status_t hadal_rt_weights_open_embedded(const hadal_rt_model_t *model,
                                                 const char *path,
                                                 hadal_rt_weights_t **out) {
  if (hadal_rt_status_t status = checkPointers("path", path, out))
    return status;
  if (hadal_rt_status_t status = checkModel(model))
    return status;
  File file(open(path, openFlags));
  uint64_t bytes;
  if (hadal_rt_status_t status = checkRegular(path, file.descriptor, &bytes))
    return status;
  hadal_rt_trailer_t trailer;
  if (bytes < sizeof(trailer))
    return fail(HADAL_RT_NOT_FOUND, "%s: carries no weights", path);
  uint64_t end = bytes - sizeof(trailer);
  if (!readAt(file.descriptor, &trailer, sizeof(trailer), end))
    return fail(HADAL_RT_IO_ERROR, "%s: cannot read: %s", path,
                readErrorText());
  if (memcmp(trailer.magic, HADAL_RT_TRAILER_MAGIC, sizeof(trailer.magic)))
    return fail(HADAL_RT_NOT_FOUND, "%s: carries no weights", path);
  if (trailer.offset % HADAL_RT_WEIGHTS_ALIGNMENT || trailer.offset > end ||
      trailer.bytes > end - trailer.offset)
    return fail(HADAL_RT_INVALID_WEIGHTS,
                "%s: trailer says %llu bytes at offset %llu, but %llu bytes "
                "come before it",
                path, (unsigned long long)trailer.bytes,
                (unsigned long long)trailer.offset, (unsigned long long)end);
  return openRange(ownerOf(model), path, file.descriptor, trailer.offset,
                   trailer.bytes, out);
}

#endif // HADAL_RT_BARE

hadal_rt_status_t hadal_rt_weights_open_memory(const hadal_rt_model_t *model,
                                               const void *data, uint64_t bytes,
                                               hadal_rt_weights_t **out) {
  if (hadal_rt_status_t status = checkPointers("data", data, out))
    return status;
  if (hadal_rt_status_t status = checkModel(model))
    return status;
  if (uintptr_t(data) % HADAL_RT_WEIGHTS_ALIGNMENT)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "data is at address 0x%llx, expected a multiple of %u",
                (unsigned long long)uintptr_t(data),
                HADAL_RT_WEIGHTS_ALIGNMENT);
  const char *path = "weights in memory";
  if (hadal_rt_status_t status = checkSize(path, bytes))
    return status;
  hadal_rt_weights_header_t header;
  memcpy(&header, data, sizeof(header));
  const hadal_rt_section_t *section = nullptr;
  if (hadal_rt_status_t status =
          checkContents(ownerOf(model), path, header, bytes, &section))
    return status;
  return makeHandle(ownerOf(model), path, static_cast<const uint8_t *>(data),
                    header, section, out);
}

hadal_rt_status_t hadal_rt_weights_section(const hadal_rt_weights_t *weights,
                                           const char *name, const void **data,
                                           uint64_t *bytes) {
  if (!weights || !name || !data || !bytes)
    return fail(HADAL_RT_INVALID_ARGUMENT, "an argument is null");
  *data = nullptr;
  *bytes = 0;
  const hadal_rt_section_t *section = findSection(weights->header, name);
  if (!section)
    return fail(HADAL_RT_NOT_FOUND, "the weights have no section '%s'", name);
  *data = weights->file + section->offset;
  *bytes = section->bytes;
  return HADAL_RT_OK;
}

void hadal_rt_weights_close(hadal_rt_weights_t *weights) {
  if (!weights)
    return;
#ifndef HADAL_RT_BARE
  if (weights->mapping)
    munmap(weights->mapping, weights->mappingBytes);
#endif
  free(weights);
}
