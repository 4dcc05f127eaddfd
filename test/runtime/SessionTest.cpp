// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sessions, sequences and KV pages, on a model that shows any mix-up.

#include "Cpu.h"
#include "FakeModel.h"

#include "gtest/gtest.h"
#include <cfenv>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>
#include <string>

using namespace fake;

namespace {

class SessionTest : public testing::Test {
protected:
  SessionTest() : file(WeightsFile().bytes), model(makeModel()) {
    EXPECT_EQ(hadal_rt_weights_open(&model, file.path(), &weights),
              HADAL_RT_OK);
  }
  ~SessionTest() override {
    hadal_rt_session_free(session);
    hadal_rt_weights_close(weights);
    poisonPages = false;
    windowTokens = sinkTokens = 0;
  }

  void setWindow(int64_t tokens, int64_t sink, int64_t context) {
    windowTokens = tokens;
    sinkTokens = sink;
    model = makeModel();
    model.context = context;
  }

  void useRandomly(unsigned seed);

  void create(const hadal_rt_session_options_t &options) {
    ASSERT_EQ(hadal_rt_session_create(&model, weights, &options, &session),
              HADAL_RT_OK)
        << hadal_rt_last_error();
  }

  int32_t newSequence() {
    int32_t sequence;
    EXPECT_EQ(hadal_rt_sequence_create(session, &sequence), HADAL_RT_OK);
    return sequence;
  }

  int64_t lengthOf(int32_t sequence) {
    int64_t length = -1;
    EXPECT_EQ(hadal_rt_sequence_length(session, sequence, &length),
              HADAL_RT_OK);
    return length;
  }

  /// Runs a step that asks for the logits of every token.
  hadal_rt_status_t step(const std::vector<int32_t> &tokens,
                         const std::vector<int32_t> &sequences) {
    std::vector<int32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    logits.assign(tokens.size() * vocab, -1.0f);
    return hadal_rt_session_step(session, tokens.data(), sequences.data(),
                                 int64_t(tokens.size()), rows.data(),
                                 int64_t(rows.size()), logits.data());
  }

  std::vector<float> row(int64_t index) const {
    return {logits.begin() + index * vocab,
            logits.begin() + (index + 1) * vocab};
  }

  TemporaryFile file;
  hadal_rt_model_t model;
  hadal_rt_weights_t *weights = nullptr;
  hadal_rt_session_t *session = nullptr;
  std::vector<float> logits;
};

} // namespace

TEST_F(SessionTest, SingleStepEqualsManySteps) {
  for (int64_t threads = 1; threads <= 8; ++threads) {
    hadal_rt_session_options_t options = {};
    options.threads = threads;
    create(options);
    EXPECT_EQ(hadal_rt_session_threads(session), threads);
    int32_t sequence = newSequence();
    std::vector<int32_t> tokens;
    for (int32_t t : {3, 0, 10, 7, 7, 1, 2, 9, 4}) {
      tokens.push_back(t);
      ASSERT_EQ(step({t}, {sequence}), HADAL_RT_OK);
      EXPECT_EQ(row(0), expectedLogits(tokens));
    }
    ASSERT_EQ(hadal_rt_sequence_truncate(session, sequence, 0), HADAL_RT_OK);
    ASSERT_EQ(step(tokens, std::vector<int32_t>(tokens.size(), sequence)),
              HADAL_RT_OK);
    for (size_t i = 0; i < tokens.size(); ++i)
      EXPECT_EQ(row(int64_t(i)),
                expectedLogits({tokens.begin(), tokens.begin() + long(i) + 1}));
    hadal_rt_session_free(session);
    session = nullptr;
  }
}

TEST_F(SessionTest, AppendsInAsFewStepsAsItTakes) {
  hadal_rt_session_options_t options = {};
  options.max_step_tokens = 4;
  options.kv_tokens = 12;
  create(options);
  int32_t sequence = newSequence();
  const std::vector<int32_t> tokens = {3, 0, 10, 7, 7, 1, 2, 9, 4};
  auto append = [&](std::vector<int32_t> ids, float *to) {
    return hadal_rt_sequence_append(session, sequence, ids.data(),
                                    int64_t(ids.size()), to);
  };
  auto length = [&] {
    int64_t tokens = -1;
    EXPECT_EQ(hadal_rt_sequence_length(session, sequence, &tokens),
              HADAL_RT_OK);
    return tokens;
  };
  logits.assign(size_t(vocab), -1.0f);
  ASSERT_EQ(append(tokens, logits.data()), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits(tokens));
  EXPECT_EQ(length(), 9);
  // What cannot end does not begin: the last id is wrong, there are no pages.
  EXPECT_EQ(append({1, 1, 1, 1, 11}, nullptr), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(append({1, 1, 1, 1}, nullptr), HADAL_RT_EXHAUSTED);
  EXPECT_EQ(append({}, nullptr), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_sequence_append(session, sequence, nullptr, 1, nullptr),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_sequence_append(nullptr, 0, tokens.data(), 1, nullptr),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(length(), 9);
  ASSERT_EQ(append({5, 6}, nullptr), HADAL_RT_OK);
  ASSERT_EQ(append({8}, logits.data()), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({3, 0, 10, 7, 7, 1, 2, 9, 4, 5, 6, 8}));
}

TEST_F(SessionTest, MixesSequencesInAStep) {
  hadal_rt_session_options_t options = {};
  options.threads = 2;
  options.max_sequences = 3;
  create(options);
  int32_t a = newSequence(), b = newSequence(), c = newSequence();
  ASSERT_EQ(step({1, 2, 3, 4, 5, 6}, {a, b, a, c, a, b}), HADAL_RT_OK);
  EXPECT_EQ(row(4), expectedLogits({1, 3, 5}));
  EXPECT_EQ(row(5), expectedLogits({2, 6}));
  EXPECT_EQ(row(3), expectedLogits({4}));
  EXPECT_EQ(lengthOf(a), 3);
  EXPECT_EQ(lengthOf(b), 2);
  EXPECT_EQ(lengthOf(c), 1);
  ASSERT_EQ(step({7, 8}, {c, a}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({4, 7}));
  EXPECT_EQ(row(1), expectedLogits({1, 3, 5, 8}));
}

TEST_F(SessionTest, OutputsAreOptional) {
  create({});
  int32_t sequence = newSequence();
  int32_t tokens[] = {1, 2}, sequences[] = {sequence, sequence};
  EXPECT_EQ(
      hadal_rt_session_step(session, tokens, sequences, 2, nullptr, 0, nullptr),
      HADAL_RT_OK);
  EXPECT_EQ(lengthOf(sequence), 2);
}

TEST_F(SessionTest, RefusesBadStepsAndChangesNothing) {
  hadal_rt_session_options_t options = {};
  options.max_step_tokens = 3;
  options.max_sequences = 2;
  create(options);
  int32_t sequence = newSequence();
  ASSERT_EQ(step({1}, {sequence}), HADAL_RT_OK);
  int64_t pages = hadal_rt_session_free_pages(session);

  EXPECT_EQ(step({1, vocab}, {sequence, sequence}), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_STREQ(hadal_rt_last_error(), "token_ids[1] is 11, expected 0 .. 10");
  EXPECT_EQ(step({-1}, {sequence}), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(step({1, 1}, {sequence, 1}), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_STREQ(hadal_rt_last_error(), "there is no sequence 1");
  EXPECT_EQ(step({1}, {2}), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(step({1}, {-1}), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(step({}, {}), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(step({1, 1, 1, 1}, {0, 0, 0, 0}), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_STREQ(hadal_rt_last_error(), "a step has 4 tokens, expected 1 .. 3");
  int32_t token = 1, badRow = 1;
  float out[2 * vocab];
  EXPECT_EQ(
      hadal_rt_session_step(session, &token, &sequence, 1, &badRow, 1, out),
      HADAL_RT_INVALID_ARGUMENT);
  badRow = -1;
  EXPECT_EQ(
      hadal_rt_session_step(session, &token, &sequence, 1, &badRow, 1, out),
      HADAL_RT_INVALID_ARGUMENT);
  badRow = 0;
  EXPECT_EQ(
      hadal_rt_session_step(session, &token, &sequence, 1, &badRow, 2, out),
      HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(
      hadal_rt_session_step(session, &token, &sequence, 1, &badRow, 1, nullptr),
      HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(
      hadal_rt_session_step(nullptr, &token, &sequence, 1, &badRow, 1, out),
      HADAL_RT_INVALID_ARGUMENT);

  EXPECT_EQ(lengthOf(sequence), 1);
  EXPECT_EQ(hadal_rt_session_free_pages(session), pages);
  ASSERT_EQ(step({2}, {sequence}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({1, 2}));
}

TEST_F(SessionTest, StopsAtTheContext) {
  hadal_rt_session_options_t options = {};
  options.kv_tokens = 2 * context;
  create(options);
  int32_t sequence = newSequence();
  std::vector<int32_t> sequences(context, sequence);
  ASSERT_EQ(step(std::vector<int32_t>(context - 1, 1),
                 std::vector<int32_t>(context - 1, sequence)),
            HADAL_RT_OK);
  EXPECT_EQ(step({1, 1}, {sequence, sequence}), HADAL_RT_CONTEXT_FULL);
  EXPECT_EQ(hadal_rt_session_reserve(session, sequence, 2),
            HADAL_RT_CONTEXT_FULL);
  EXPECT_EQ(hadal_rt_session_reserve(session, sequence, INT64_MAX),
            HADAL_RT_CONTEXT_FULL);
  EXPECT_EQ(step({1}, {sequence}), HADAL_RT_OK);
  EXPECT_EQ(step({1}, {sequence}), HADAL_RT_CONTEXT_FULL);
  EXPECT_EQ(lengthOf(sequence), context);
}

TEST_F(SessionTest, ExhaustsAndRecoversPages) {
  hadal_rt_session_options_t options = {};
  options.kv_tokens = 9; // Three pages of four.
  options.max_sequences = 3;
  create(options);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 3);
  int32_t a = newSequence(), b = newSequence();
  ASSERT_EQ(step({1, 2, 3, 4, 5}, {a, a, a, a, a}), HADAL_RT_OK);
  ASSERT_EQ(step({6}, {b}), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 0);
  // b still has room in its page, but a has not; neither may grow.
  ASSERT_EQ(step({1, 1, 1}, {a, a, a}), HADAL_RT_OK);
  EXPECT_EQ(step({7, 8}, {b, a}), HADAL_RT_EXHAUSTED);
  EXPECT_EQ(lengthOf(a), 8);
  EXPECT_EQ(lengthOf(b), 1);
  ASSERT_EQ(step({7}, {b}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({6, 7}));

  ASSERT_EQ(hadal_rt_sequence_free(session, b), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 1);
  ASSERT_EQ(step({8}, {a}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({1, 2, 3, 4, 5, 1, 1, 1, 8}));
  EXPECT_EQ(step({1}, {b}), HADAL_RT_INVALID_ARGUMENT);
}

TEST_F(SessionTest, ReservesPages) {
  hadal_rt_session_options_t options = {};
  options.kv_tokens = 12;
  options.max_sequences = 2;
  create(options);
  int32_t a = newSequence(), b = newSequence();
  ASSERT_EQ(hadal_rt_session_reserve(session, a, 8), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_session_reserve(session, a, 8), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_session_reserve(session, a, 0), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 1);
  EXPECT_EQ(lengthOf(a), 0);
  EXPECT_EQ(hadal_rt_session_reserve(session, b, 5), HADAL_RT_EXHAUSTED);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 1);
  EXPECT_EQ(hadal_rt_session_reserve(session, b, -1),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_session_reserve(nullptr, b, 1), HADAL_RT_INVALID_ARGUMENT);
  ASSERT_EQ(step({1, 1, 1, 1}, {b, b, b, b}), HADAL_RT_OK);
  for (int i = 0; i < 8; ++i)
    ASSERT_EQ(step({1}, {a}), HADAL_RT_OK);
  EXPECT_EQ(step({1}, {a}), HADAL_RT_EXHAUSTED);
}

TEST_F(SessionTest, TruncatesAndForgetsNaN) {
  hadal_rt_session_options_t options = {};
  options.kv_tokens = 8;
  create(options);
  int32_t sequence = newSequence();
  poisonPages = true;
  ASSERT_EQ(step({1, 2, 3, 4, 5, 6}, std::vector<int32_t>(6, sequence)),
            HADAL_RT_OK);
  poisonPages = false;
  EXPECT_EQ(hadal_rt_sequence_truncate(session, sequence, 7),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_sequence_truncate(session, sequence, -1),
            HADAL_RT_INVALID_ARGUMENT);
  // The used pages come back zeroed, or the sum would be NaN.
  ASSERT_EQ(hadal_rt_sequence_truncate(session, sequence, 0), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 2);
  ASSERT_EQ(step({1, 2, 3, 4, 5, 6}, std::vector<int32_t>(6, sequence)),
            HADAL_RT_OK);
  EXPECT_EQ(row(5), expectedLogits({1, 2, 3, 4, 5, 6}));
  ASSERT_EQ(hadal_rt_sequence_truncate(session, sequence, 5), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 0);
  ASSERT_EQ(step({9}, {sequence}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({1, 2, 3, 4, 5, 9}));
}

TEST_F(SessionTest, ForksShareUntilWritten) {
  hadal_rt_session_options_t options = {};
  options.kv_tokens = 16;
  options.max_sequences = 3;
  create(options);
  int32_t a = newSequence(), b = -1, c = -1, d = -1;
  ASSERT_EQ(step({1, 2, 3, 4, 5}, std::vector<int32_t>(5, a)), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_sequence_fork(session, a, &b), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_sequence_fork(session, b, &c), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_sequence_fork(session, a, &d), HADAL_RT_EXHAUSTED);
  EXPECT_EQ(d, -1);
  EXPECT_EQ(lengthOf(c), 5);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 2);
  ASSERT_EQ(step({6, 7}, {a, b}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(row(1), expectedLogits({1, 2, 3, 4, 5, 7}));
  // c is now the only owner of the page that all three shared.
  EXPECT_EQ(hadal_rt_session_free_pages(session), 0);
  ASSERT_EQ(step({8}, {c}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({1, 2, 3, 4, 5, 8}));
  ASSERT_EQ(hadal_rt_sequence_free(session, a), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 1);
  // Rewinding into a shared page must not write to it.
  ASSERT_EQ(hadal_rt_sequence_truncate(session, b, 2), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 2);
  ASSERT_EQ(step({9, 0}, {b, c}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({1, 2, 9}));
  EXPECT_EQ(row(1), expectedLogits({1, 2, 3, 4, 5, 8, 0}));
  ASSERT_EQ(hadal_rt_sequence_free(session, b), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_sequence_free(session, c), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 4);
}

/// Creates, forks, truncates, frees and extends sequences at random, and checks
/// each logit.
void SessionTest::useRandomly(unsigned seed) {
  hadal_rt_session_options_t options = {};
  options.threads = 3;
  options.kv_tokens = 64;
  options.max_sequences = 5;
  options.max_step_tokens = 9;
  create(options);
  int64_t pages = hadal_rt_session_free_pages(session);
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> contents(5);
  std::vector<bool> alive(5);
  for (int round = 0; round < 5000; ++round) {
    int32_t s = int32_t(random() % 5);
    switch (random() % 8) {
    case 0:
      if (alive[s]) {
        ASSERT_EQ(hadal_rt_sequence_free(session, s), HADAL_RT_OK);
        alive[s] = false;
      }
      break;
    case 1: {
      int32_t fresh;
      if (!hadal_rt_sequence_create(session, &fresh)) {
        ASSERT_FALSE(alive[fresh]);
        alive[fresh] = true;
        contents[fresh].clear();
      }
      break;
    }
    case 2: {
      int32_t fresh;
      if (alive[s] && !hadal_rt_sequence_fork(session, s, &fresh)) {
        ASSERT_FALSE(alive[fresh]);
        alive[fresh] = true;
        contents[fresh] = contents[s];
      }
      break;
    }
    case 3:
      if (alive[s]) {
        size_t length = random() % (contents[s].size() + 1);
        hadal_rt_status_t status =
            hadal_rt_sequence_truncate(session, s, int64_t(length));
        // What was out of the window cannot be brought back.
        if (!windowTokens || length == 0 || length == contents[s].size())
          ASSERT_EQ(status, HADAL_RT_OK);
        if (!status)
          contents[s].resize(length);
      }
      break;
    default: {
      std::vector<int32_t> tokens, sequences;
      for (int n = 1 + int(random() % 9); n; --n) {
        int32_t target = int32_t(random() % 5);
        if (!alive[target])
          continue;
        tokens.push_back(int32_t(random() % vocab));
        sequences.push_back(target);
      }
      if (tokens.empty())
        break;
      hadal_rt_status_t status = step(tokens, sequences);
      if (status) {
        ASSERT_TRUE(status == HADAL_RT_EXHAUSTED ||
                    status == HADAL_RT_CONTEXT_FULL);
        break;
      }
      for (size_t i = 0; i < tokens.size(); ++i) {
        contents[sequences[i]].push_back(tokens[i]);
        ASSERT_EQ(row(int64_t(i)), expectedLogits(contents[sequences[i]]));
      }
      break;
    }
    }
    for (int32_t i = 0; i < 5; ++i)
      if (alive[i])
        ASSERT_EQ(lengthOf(i), int64_t(contents[i].size()));
  }
  for (int32_t i = 0; i < 5; ++i)
    if (alive[i])
      ASSERT_EQ(hadal_rt_sequence_free(session, i), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), pages);
  hadal_rt_session_free(session);
  session = nullptr;
}

TEST_F(SessionTest, RandomUseKeepsSequencesApart) { useRandomly(7); }

TEST_F(SessionTest, RandomUseWithWindows) {
  for (auto [tokens, sink] : {std::pair(1, 0), {6, 2}, {9, 0}, {3, 7}}) {
    setWindow(tokens, sink, /*context=*/120);
    useRandomly(unsigned(tokens));
  }
}

TEST_F(SessionTest, WindowUsesPagesAgain) {
  setWindow(/*tokens=*/6, /*sink=*/2, /*context=*/400);
  hadal_rt_session_options_t options = {};
  options.max_step_tokens = 3;
  create(options);
  // One of the sink, and what 6 - 1 + 3 tokens can touch, by pages of 4.
  EXPECT_EQ(hadal_rt_session_free_pages(session), 4);
  int32_t sequence = newSequence();
  ASSERT_EQ(hadal_rt_session_reserve(session, sequence, 399), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 0);
  std::vector<int32_t> tokens;
  for (int n = 0; tokens.size() < 399; n = (n + 1) % 3) {
    std::vector<int32_t> some;
    for (int i = 0; i <= n && tokens.size() + some.size() < 399; ++i)
      some.push_back(int32_t((tokens.size() * 7 + size_t(i)) % vocab));
    ASSERT_EQ(step(some, std::vector<int32_t>(some.size(), sequence)),
              HADAL_RT_OK)
        << hadal_rt_last_error();
    for (size_t i = 0; i < some.size(); ++i) {
      tokens.push_back(some[i]);
      ASSERT_EQ(row(int64_t(i)), expectedLogits(tokens));
    }
  }
  // The latest tokens can be taken back as far as the window was kept, or all.
  EXPECT_EQ(hadal_rt_sequence_truncate(session, sequence, 398), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_sequence_truncate(session, sequence, 200),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(std::string(hadal_rt_last_error()).find("cannot truncate sequence"),
            0u);
  EXPECT_EQ(lengthOf(sequence), 398);
  EXPECT_EQ(hadal_rt_sequence_truncate(session, sequence, 0), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 4);
  ASSERT_EQ(step({5}, {sequence}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({5}));
}

TEST_F(SessionTest, ForksOfAWindowGiveUpWhatBothHaveSeen) {
  setWindow(/*tokens=*/4, /*sink=*/0, /*context=*/100);
  hadal_rt_session_options_t options = {};
  options.max_step_tokens = 8;
  options.max_sequences = 2;
  create(options);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 8);
  int32_t a = newSequence(), b = -1;
  ASSERT_EQ(step({1, 2, 3, 4, 5, 6, 7, 8}, std::vector<int32_t>(8, a)),
            HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_sequence_fork(session, a, &b), HADAL_RT_OK);
  EXPECT_EQ(hadal_rt_session_free_pages(session), 6);
  std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8};
  for (int32_t t = 0; t < 8; ++t) {
    tokens.push_back(t);
    ASSERT_EQ(step({t, t}, {a, b}), HADAL_RT_OK);
    EXPECT_EQ(row(0), expectedLogits(tokens));
    EXPECT_EQ(row(1), expectedLogits(tokens));
  }
  // Both shared pages are out of both windows; each has its own two.
  EXPECT_EQ(hadal_rt_session_free_pages(session), 4);
}

TEST_F(SessionTest, MemoryIsKnownAndLimited) {
  hadal_rt_session_options_t options = {};
  options.threads = 3;
  options.max_step_tokens = 100;
  options.kv_tokens = 1 << 20;
  int64_t bytes = 0;
  ASSERT_EQ(hadal_rt_session_memory_bytes(&model, &options, &bytes),
            HADAL_RT_OK);
  // KV, two stacks, arena; and not much else.
  int64_t kv = (1 << 20) * int64_t(sizeof(float)), stacks = 2 * 1024 * 1024;
  EXPECT_GE(bytes, kv + stacks + 100 * 8 + 64);
  EXPECT_LE(bytes, kv + stacks + (1 << 20) * 2 + 65536);
  options.memory_limit_bytes = bytes - 1;
  EXPECT_EQ(hadal_rt_session_create(&model, weights, &options, &session),
            HADAL_RT_MEMORY_LIMIT);
  EXPECT_EQ(session, nullptr);
  options.memory_limit_bytes = bytes;
  create(options);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HADAL_TEST_SHADOW_MEMORY
#endif
#endif

#ifndef HADAL_TEST_SHADOW_MEMORY
/// Resident memory of this process that is not of a file.
static int64_t anonymousBytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.rfind("RssAnon:", 0) == 0)
      return std::stoll(line.substr(8)) * 1024;
  return -1;
}

/// Writes all the memory that a step may write.
static void touchEverything(const hadal_rt_step_t *step) {
  int64_t params[] = {0};
  step->dispatch(
      step->pool, step,
      [](const hadal_rt_step_t *, const int64_t *, int64_t, int64_t) {
        volatile char stack[HADAL_RT_KERNEL_STACK_BYTES];
        for (size_t i = 0; i < sizeof(stack); i += 4096)
          stack[i] = 1;
      },
      params, 64);
  memset(step->arena, 1, size_t(step->tokens * (1 << 20) + 64));
  for (int64_t i = 0; i < step->tokens; ++i) {
    int32_t page =
        step->page_table[step->sequences[i] * step->page_table_stride +
                         step->positions[i] / pageTokens];
    memset(step->kv + int64_t(page) * (4 << 20), 1, 4 << 20);
  }
}

TEST_F(SessionTest, KeepsToTheMemoryItPromises) {
  model.arena_bytes_per_token = 1 << 20;
  model.page_bytes = 4 << 20;
  model.step = touchEverything;
  hadal_rt_session_options_t options = {};
  options.threads = 4;
  options.max_step_tokens = context;
  int64_t promised = 0;
  ASSERT_EQ(hadal_rt_session_memory_bytes(&model, &options, &promised),
            HADAL_RT_OK);
  int64_t before = anonymousBytes();
  create(options);
  int32_t sequence = newSequence();
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(step(std::vector<int32_t>(context, 1),
                   std::vector<int32_t>(context, sequence)),
              HADAL_RT_OK);
    ASSERT_EQ(hadal_rt_sequence_truncate(session, sequence, 0), HADAL_RT_OK);
  }
  int64_t used = anonymousBytes() - before;
  // The promise is an upper bound, and not a loose one; the stacks are not
  // used in full here. A little goes to this test's own vectors.
  EXPECT_LE(used, promised + (256 << 10));
  EXPECT_GE(used, promised - 3 * (1 << 20));
}
#endif // HADAL_TEST_SHADOW_MEMORY

TEST_F(SessionTest, RefusesBadOptions) {
  auto expect = [&](hadal_rt_status_t expected,
                    hadal_rt_session_options_t options) {
    EXPECT_EQ(hadal_rt_session_create(&model, weights, &options, &session),
              expected)
        << hadal_rt_last_error();
    EXPECT_EQ(session, nullptr);
  };
  expect(HADAL_RT_INVALID_ARGUMENT, {-1, 0, 0, 0, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {1025, 0, 0, 0, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {0, -1, 0, 0, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {0, INT64_MAX, 0, 0, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {0, 0, -1, 0, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {0, 0, INT64_MAX, 0, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {0, 0, 0, -1, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {0, 0, 0, INT64_MAX, 0});
  expect(HADAL_RT_INVALID_ARGUMENT, {0, 0, 0, 0, -1});
  int64_t bytes;
  EXPECT_EQ(hadal_rt_session_memory_bytes(nullptr, nullptr, &bytes),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_session_create(&model, nullptr, nullptr, &session),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_session_create(&model, weights, nullptr, nullptr),
            HADAL_RT_INVALID_ARGUMENT);
  hadal_rt_session_free(nullptr);

  model.page_bytes = INT64_MAX / 2;
  expect(HADAL_RT_INVALID_ARGUMENT, {0, 0, 0, 0, 0});
  // More than any address space: refused by the system, not by a crash.
  model.page_bytes = int64_t(1) << 56;
  expect(HADAL_RT_OUT_OF_MEMORY, {0, 0, 0, 0, 0});
}

TEST_F(SessionTest, RefusesWeightsOfAnotherModel) {
  hadal_rt_model_t other = makeModel();
  other.layout_hash[0] = 99;
  EXPECT_EQ(hadal_rt_session_create(&other, weights, nullptr, &session),
            HADAL_RT_INVALID_ARGUMENT);
}

TEST_F(SessionTest, RefusesAnUnsupportedProcessor) {
  model.cpu_features = 1u << 31;
  EXPECT_EQ(hadal_rt_model_check(&model), HADAL_RT_UNSUPPORTED_CPU);
  EXPECT_EQ(hadal_rt_session_create(&model, weights, nullptr, &session),
            HADAL_RT_UNSUPPORTED_CPU);
  EXPECT_NE(strstr(hadal_rt_last_error(), "'fake'"), nullptr);
}

// The best that the processor can run, and its step.
TEST_F(SessionTest, ChoosesALesserModel) {
  static int steps;
  hadal_rt_model_t least = makeModel(), lesser = makeModel();
  lesser.step = [](const hadal_rt_step_t *step) {
    ++steps;
    makeModel().step(step);
  };
  model.cpu_features = 1u << 31;
  model.lesser = &lesser;
  lesser.lesser = &least;
  const hadal_rt_model_t *chosen;
  EXPECT_EQ(hadal_rt_model_choose(&model, &chosen), HADAL_RT_OK);
  EXPECT_EQ(chosen, &lesser);
  create({});
  int32_t a = newSequence();
  ASSERT_EQ(step({1, 2}, {a, a}), HADAL_RT_OK);
  EXPECT_EQ(row(1), expectedLogits({1, 2}));
  EXPECT_EQ(steps, 1);

  lesser.cpu_features = least.cpu_features = 1u << 30;
  EXPECT_EQ(hadal_rt_model_choose(&model, &chosen), HADAL_RT_UNSUPPORTED_CPU);
  EXPECT_EQ(chosen, nullptr);
  lesser.cpu_features = 0;
  least.arena_bytes_fixed += 64;
  EXPECT_EQ(hadal_rt_model_check(&model), HADAL_RT_INVALID_ARGUMENT);
}

TEST(Cpu, NamesTheFirstMissingFeature) {
  using hadal_rt::missingCpuFeature;
  EXPECT_EQ(missingCpuFeature(0, 0), nullptr);
  EXPECT_EQ(missingCpuFeature(5, 7), nullptr);
  EXPECT_STREQ(missingCpuFeature(HADAL_RT_CPU_AVX512_VNNI, 3), "AVX-512 VNNI");
  EXPECT_STREQ(missingCpuFeature(15, 7), "AVX-512 BF16");
  EXPECT_STREQ(missingCpuFeature(31, 15),
               "AMX-INT8, and a system that lets programs use it");
  EXPECT_STREQ(missingCpuFeature(3, 1), "AVX-512 F, BW, DQ and VL (x86-64-v4)");
  EXPECT_STREQ(missingCpuFeature(3, 0), "AVX2, FMA and F16C (x86-64-v3)");
}

#if defined(__x86_64__) && defined(__GNUC__)
TEST(Cpu, AgreesWithTheCompiler) {
  uint32_t features = hadal_rt::cpuFeatures();
  EXPECT_EQ(bool(features & HADAL_RT_CPU_AVX2_FMA_F16C),
            __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  EXPECT_EQ(bool(features & HADAL_RT_CPU_AVX512_F_BW_DQ_VL),
            __builtin_cpu_supports("avx512f") &&
                __builtin_cpu_supports("avx512vl"));
  EXPECT_EQ(bool(features & HADAL_RT_CPU_AVX512_VNNI),
            bool(__builtin_cpu_supports("avx512vnni")));
  EXPECT_EQ(bool(features & HADAL_RT_CPU_AVX512_BF16),
            bool(__builtin_cpu_supports("avx512bf16")));
}
#endif

TEST_F(SessionTest, GivesEachTokenTheAdapterOfItsSequence) {
  hadal_rt_session_options_t options = {};
  options.max_sequences = 4;
  create(options);
  int32_t index = 7;
  EXPECT_STREQ(hadal_rt_model_adapter(&model, 1), "second");
  EXPECT_EQ(hadal_rt_model_adapter(&model, 2), nullptr);
  EXPECT_EQ(hadal_rt_model_adapter(&model, -1), nullptr);
  EXPECT_EQ(hadal_rt_model_find_adapter(&model, "third", &index),
            HADAL_RT_NOT_FOUND);
  EXPECT_EQ(index, -1);
  ASSERT_EQ(hadal_rt_model_find_adapter(&model, "second", &index), HADAL_RT_OK);
  EXPECT_EQ(index, 1);

  int32_t a = newSequence(), b = newSequence(), c;
  EXPECT_EQ(hadal_rt_sequence_set_adapter(session, a, 2),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_sequence_set_adapter(session, a, -2),
            HADAL_RT_INVALID_ARGUMENT);
  ASSERT_EQ(hadal_rt_sequence_set_adapter(session, a, index), HADAL_RT_OK);
  ASSERT_EQ(step({1, 2, 3}, {a, b, a}), HADAL_RT_OK);
  EXPECT_EQ(fake::stepAdapters[0], 2);
  EXPECT_EQ(fake::stepAdapters[1], 0);
  EXPECT_EQ(fake::stepAdapters[2], 2);
  // Its tokens are of that one; a copy goes on with it.
  EXPECT_EQ(hadal_rt_sequence_set_adapter(session, a, 0),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_sequence_set_adapter(session, a, 1), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_sequence_fork(session, a, &c), HADAL_RT_OK);
  ASSERT_EQ(step({4}, {c}), HADAL_RT_OK);
  EXPECT_EQ(fake::stepAdapters[0], 2);
  // Without tokens it may have another, and a new one has none.
  ASSERT_EQ(hadal_rt_sequence_truncate(session, a, 0), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_sequence_set_adapter(session, a, 0), HADAL_RT_OK);
  ASSERT_EQ(hadal_rt_sequence_free(session, c), HADAL_RT_OK);
  c = newSequence();
  ASSERT_EQ(step({1, 2}, {a, c}), HADAL_RT_OK);
  EXPECT_EQ(fake::stepAdapters[0], 1);
  EXPECT_EQ(fake::stepAdapters[1], 0);
}

TEST_F(SessionTest, RestoresTheFloatingPointMode) {
  create({});
  int32_t sequence = newSequence();
  fesetround(FE_UPWARD);
  hadal_rt_status_t status = step({1}, {sequence});
  EXPECT_EQ(fegetround(), FE_UPWARD);
  fesetround(FE_TONEAREST);
  EXPECT_EQ(status, HADAL_RT_OK);
}

TEST_F(SessionTest, KeepsOnADeviceWhatTheModelSays) {
  model.device = &device;
  useRandomly(/*seed=*/3);
  setWindow(/*tokens=*/6, /*sink=*/2, /*context=*/120);
  model.device = &device;
  useRandomly(/*seed=*/4);
  EXPECT_EQ(openDevices, 0);
}

TEST_F(SessionTest, CountsTheMemoryOfADevice) {
  hadal_rt_session_options_t options = {};
  options.threads = 4;
  int64_t host, both;
  model.arena_bytes_fixed = 1 << 20;
  ASSERT_EQ(hadal_rt_session_memory_bytes(&model, &options, &host),
            HADAL_RT_OK);
  model.device = &device;
  ASSERT_EQ(hadal_rt_session_memory_bytes(&model, &options, &both),
            HADAL_RT_OK);
  // No stacks of threads, and the arena elsewhere.
  EXPECT_LT(both, host);
  EXPECT_GT(both, 1 << 20);
  options.memory_limit_bytes = both - 1;
  EXPECT_EQ(hadal_rt_session_create(&model, weights, &options, &session),
            HADAL_RT_MEMORY_LIMIT);
  EXPECT_EQ(openDevices, 0);
  options.memory_limit_bytes = both;
  create(options);
  EXPECT_EQ(openDevices, 1);
  EXPECT_EQ(hadal_rt_session_threads(session), 1);
}

TEST_F(SessionTest, PassesOnWhatADeviceFailsWith) {
  model.device = &device;
  failsToOpen = true;
  hadal_rt_session_options_t options = {};
  EXPECT_EQ(hadal_rt_session_create(&model, weights, &options, &session),
            HADAL_RT_OUT_OF_MEMORY);
  EXPECT_EQ(session, nullptr);
  failsToOpen = false;
  create(options);
  int32_t sequence = newSequence();
  ASSERT_EQ(step({1, 2}, {sequence, sequence}), HADAL_RT_OK);
  failsToStep = true;
  EXPECT_EQ(step({3}, {sequence}), HADAL_RT_DEVICE_ERROR);
  failsToStep = false;
  // Nothing has changed.
  EXPECT_EQ(lengthOf(sequence), 2);
  ASSERT_EQ(step({4}, {sequence}), HADAL_RT_OK);
  EXPECT_EQ(row(0), expectedLogits({1, 2, 4}));
  hadal_rt_device_t noCalls = {};
  hadal_rt_model_t damaged = model;
  damaged.device = &noCalls;
  EXPECT_EQ(hadal_rt_model_check(&damaged), HADAL_RT_INVALID_ARGUMENT);
}

TEST(Status, EveryCodeHasAText) {
  for (hadal_rt_status_t s = HADAL_RT_OK; s <= HADAL_RT_DEVICE_ERROR; ++s)
    EXPECT_STRNE(hadal_rt_status_text(s), "unknown status") << s;
  EXPECT_STREQ(hadal_rt_status_text(-1), "unknown status");
  EXPECT_STREQ(hadal_rt_status_text(1000), "unknown status");
}
