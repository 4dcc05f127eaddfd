// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tokenizer.json, and what its tokenizer makes of text: of a fixed one with
// many kinds of characters, and of the end of the input.

#include "hadal_text/tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

using namespace hadal::text;

static const char text[] =
    "Hello, world's end!  1234567 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80\n\n"
    "<|begin|> \xff\xfe tab\tna\xc3\xafve e\xcc\x81  ";

static void check(bool holds, const char *what, const std::string &error) {
  if (holds)
    return;
  std::fprintf(stderr, "finding: %s: '%s'\n", what, error.c_str());
  std::abort();
}

static bool isLine(const std::string &error) {
  return !error.empty() && error.find('\n') == std::string::npos;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view json(reinterpret_cast<const char *>(data), size);
  std::string error;
  std::unique_ptr<Tokenizer> tokenizer = Tokenizer::fromJson(json, error);
  check(tokenizer || isLine(error), "refused without one line", error);
  if (!tokenizer)
    return 0;
  size_t tail = std::min<size_t>(size, 64);
  for (std::string_view input :
       {std::string_view(text, sizeof(text) - 1), json.substr(size - tail)})
    for (bool parseSpecial : {false, true}) {
      std::string why;
      auto ids = tokenizer->encode(input, true, parseSpecial, why);
      check(ids || isLine(why), "gave up without one line", why);
      if (ids)
        tokenizer->decode(*ids, parseSpecial);
    }
  return 0;
}
