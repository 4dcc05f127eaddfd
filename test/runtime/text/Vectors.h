// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reading what make_tokenizer_vectors.py wrote.

#ifndef HADAL_TEST_RUNTIME_TEXT_VECTORS_H
#define HADAL_TEST_RUNTIME_TEXT_VECTORS_H

#include "hadal_text/tokenizer.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdio>
#include <string>
#include <vector>

namespace hadal::text::test {

/// The text of a gzip file in vectors/; empty, and a failure, if it is missing.
inline std::string readVectorFile(const std::string &name) {
  std::string path = std::string(HADAL_TEXT_VECTORS) + "/" + name;
  std::string text;
  gzFile file = gzopen(path.c_str(), "rb");
  EXPECT_NE(file, nullptr) << path;
  if (!file)
    return text;
  char buffer[1 << 16];
  int size;
  while ((size = gzread(file, buffer, sizeof buffer)) > 0)
    text.append(buffer, size);
  gzclose(file);
  return text;
}

inline std::unique_ptr<Tokenizer> loadTokenizer(const std::string &name) {
  std::string error;
  auto tokenizer =
      Tokenizer::fromJson(readVectorFile(name + ".json.gz"), error);
  EXPECT_NE(tokenizer, nullptr) << error;
  return tokenizer;
}

inline std::vector<std::string> splitFields(const std::string &text,
                                            char separator) {
  std::vector<std::string> fields(1);
  for (char c : text) {
    if (c == separator)
      fields.emplace_back();
    else
      fields.back() += c;
  }
  return fields;
}

inline std::string unhex(const std::string &hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

inline std::vector<int32_t> readIds(const std::string &text) {
  std::vector<int32_t> ids;
  if (!text.empty())
    for (const std::string &id : splitFields(text, ' '))
      ids.push_back(std::stoi(id));
  return ids;
}

} // namespace hadal::text::test

#endif // HADAL_TEST_RUNTIME_TEXT_VECTORS_H
