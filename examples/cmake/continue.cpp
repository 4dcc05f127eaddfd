// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continues token ids with the model that CMakeLists.txt compiles, in C++
// without exceptions: the likeliest token, 32 times.

#include "story.h" // Declares story_model.

#include "hadal_rt/hadal_rt.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

static void check(hadal_rt_status_t status) {
  if (status == HADAL_RT_OK)
    return;
  std::fprintf(stderr, "error: %s\n", hadal_rt_last_error());
  std::exit(1);
}

int main(int argc, char **argv) {
  std::vector<int32_t> tokens;
  for (int i = 1; i < argc; ++i)
    tokens.push_back(std::atoi(argv[i]));
  if (tokens.empty()) {
    std::fprintf(stderr, "usage: %s TOKEN_ID...\n", argv[0]);
    return 2;
  }
  hadal::rt::Weights weights;
  check(weights.open(story_model, WEIGHTS));
  hadal_rt_session_options_t options = {};
  options.kv_tokens = int64_t(tokens.size()) + 32;
  hadal::rt::Session session;
  check(session.create(story_model, weights, options));
  hadal::rt::Sequence sequence;
  check(sequence.create(session));

  float logits[STORY_VOCAB];
  for (int i = 0; i < 32; ++i) {
    check(sequence.append(tokens.data(), int64_t(tokens.size()), logits));
    auto likeliest = std::max_element(logits, logits + STORY_VOCAB) - logits;
    std::printf("%d\n", int(likeliest));
    tokens.assign(1, int32_t(likeliest));
  }
  return 0;
}
