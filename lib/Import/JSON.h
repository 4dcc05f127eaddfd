// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// JSON from files that nobody vouches for, and text for messages about them.

#ifndef HADAL_IMPORT_JSON_H
#define HADAL_IMPORT_JSON_H

#include "absl/status/statusor.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/JSON.h"

#include <string>

namespace hadal {

/// Parses \p text, an object. Refuses what a JSON parser may take but no
/// honest file has: nesting beyond 64 levels, a key twice in one object.
/// \p where starts each message.
absl::StatusOr<llvm::json::Object> parseObject(llvm::StringRef text,
                                               llvm::StringRef where);

/// Reads \p path, a regular file of at most \p maxBytes. \p unit is what an
/// error counts.
absl::StatusOr<std::string> readText(llvm::StringRef path, uint64_t maxBytes,
                                     llvm::StringRef unit = "bytes");

/// Reads and parses \p path, a regular file of at most \p maxBytes.
absl::StatusOr<llvm::json::Object> readObject(llvm::StringRef path,
                                              uint64_t maxBytes);

/// The path that \p folder / \p name stands for once symbolic links are
/// followed; an error if that is not a regular file inside \p folder. \p name
/// must be a plain file name.
absl::StatusOr<std::string> resolveInFolder(llvm::StringRef folder,
                                            llvm::StringRef name);

/// \p text in quotes on one line: escaped, and cut if it is long.
std::string quote(llvm::StringRef text);
/// \p value as JSON on one line, cut if it is long.
std::string toText(const llvm::json::Value &value);
/// `[2, 3]`.
std::string toText(llvm::ArrayRef<int64_t> shape);

absl::Status invalid(const llvm::Twine &message);
absl::Status unimplemented(const llvm::Twine &message);

} // namespace hadal

#endif // HADAL_IMPORT_JSON_H
