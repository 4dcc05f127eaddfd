// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads a JSON object key by key, with messages that name key, value and what
// was expected.

#ifndef HADAL_IMPORT_OBJECTREADER_H
#define HADAL_IMPORT_OBJECTREADER_H

#include "lib/Import/JSON.h"

#include "llvm/ADT/StringSet.h"

namespace hadal {

/// One object of the file, read key by key. The first error is kept and what
/// is read after it is a harmless value, so that callers need not check each.
class ObjectReader {
public:
  ObjectReader(const llvm::json::Object &json, std::string where,
               absl::Status &status)
      : json(json), where(std::move(where)), status(status) {}

  /// Null if the key is missing or null.
  const llvm::json::Value *get(llvm::StringRef key) {
    seen.insert(key);
    const llvm::json::Value *value = json.get(key);
    return value && value->kind() != llvm::json::Value::Null ? value : nullptr;
  }
  bool has(llvm::StringRef key) const { return json.get(key); }

  int64_t integer(llvm::StringRef key, const llvm::json::Value &value,
                  int64_t min, int64_t max);
  double number(llvm::StringRef key, const llvm::json::Value &value, double min,
                double max);
  std::string string(llvm::StringRef key, const llvm::json::Value &value);
  bool boolean(llvm::StringRef key, const llvm::json::Value &value);

  void missing(llvm::StringRef key) {
    if (has(key))
      fail(key, "null", "a value");
    else
      fail(invalid(where + ": has no key '" + key + "'"));
  }
  void fail(llvm::StringRef key, const llvm::Twine &value,
            const llvm::Twine &expected) {
    fail(invalid(where + ": '" + key + "' is " + value + ", expected " +
                 expected));
  }
  void fail(absl::Status error) {
    if (status.ok())
      status = std::move(error);
  }
  bool ok() const { return status.ok(); }

  /// The keys that nothing asked for, in the order of the alphabet.
  std::vector<llvm::StringRef> unseen() const;

  const std::string &place() const { return where; }

private:
  const llvm::json::Object &json;
  std::string where;
  absl::Status &status;
  llvm::StringSet<> seen;
};

/// \p number with as many digits as it takes to read it: `0.25`.
std::string toText(double number);

} // namespace hadal

#endif // HADAL_IMPORT_OBJECTREADER_H
