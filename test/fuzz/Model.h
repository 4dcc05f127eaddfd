// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the fuzzed entry points share: a folder for the model that an input
// describes, and its import.

#ifndef HADAL_TEST_FUZZ_MODEL_H
#define HADAL_TEST_FUZZ_MODEL_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>
#include <utility>

namespace hadal::fuzz {

/// A folder of this process, removed when it ends.
class Folder {
public:
  Folder();
  ~Folder();
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;

  std::string pathOf(llvm::StringRef name) const;
  /// Replaces file \p name by \p bytes and \p zeros bytes of zero after them,
  /// which take no room on the disk.
  void write(llvm::StringRef name, llvm::ArrayRef<uint8_t> bytes,
             uint64_t zeros = 0);

private:
  std::string path;
};

/// Splits an input into a number of zeros below 16 MiB, little-endian in its
/// first four bytes, and the rest. A header is then enough of a seed: the
/// tensors that it promises are the zeros.
std::pair<llvm::ArrayRef<uint8_t>, uint64_t>
splitZeros(llvm::ArrayRef<uint8_t> input);

/// Imports the model at \p path and drops what came out. An input may be
/// refused; an error of Hadal's own, or one that is not a line, is a finding.
void importAndCheck(llvm::StringRef path, bool weights);

} // namespace hadal::fuzz

#endif // HADAL_TEST_FUZZ_MODEL_H
