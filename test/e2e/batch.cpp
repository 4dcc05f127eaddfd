// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Links a model that was compiled as the library `product`, and holds it to
// what hadal_rt.h promises: that a sequence's logits do not depend on what
// else is in a step, nor on the pages it got; that a refused step changes
// nothing; and that a session takes no more memory than was said.
//
// usage: batch product.weights THREADS

#include "product.h"

#include "hadal_rt/hadal_rt.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

namespace {

#ifdef __has_feature
constexpr bool isSanitized = __has_feature(address_sanitizer);
#else
constexpr bool isSanitized = false;
#endif

using Tokens = std::vector<int32_t>;
using Logits = std::vector<float>;

const hadal_rt_model_t &model = product_model;
hadal_rt_weights_t *weights;
int64_t threads;
const char *part = "";

[[noreturn]] void fail(const char *format, ...) {
  printf("FAIL %s: ", part);
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  exit(1);
}

void expect(bool condition, const char *what) {
  if (!condition)
    fail("%s", what);
}

void check(hadal_rt_status_t status) {
  if (status)
    fail("unexpected status %d: %s", status, hadal_rt_last_error());
}

void expectStatus(hadal_rt_status_t expected, hadal_rt_status_t found) {
  if (expected != found)
    fail("expected status %d, got %d: %s", expected, found,
         found ? hadal_rt_last_error() : "");
  if (found && (!*hadal_rt_last_error() || strchr(hadal_rt_last_error(), '\n')))
    fail("status %d comes with '%s', not with one line", found,
         hadal_rt_last_error());
}

/// Token ids that only depend on \p seed.
Tokens makeTokens(uint32_t seed, int64_t count) {
  Tokens tokens;
  uint64_t state = seed * 2654435761u + 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(int32_t((state >> 33) % uint64_t(model.vocab)));
  }
  return tokens;
}

/// One token of a step.
struct Token {
  int32_t sequence;
  int32_t id;
};

class Session {
public:
  explicit Session(int64_t sequences, int64_t kvTokens, int64_t stepTokens) {
    hadal_rt_session_options_t options = {};
    options.threads = threads;
    options.max_step_tokens = stepTokens;
    options.max_sequences = sequences;
    options.kv_tokens = kvTokens;
    check(hadal_rt_session_create(&model, weights, &options, &session));
  }
  Session(const Session &) = delete;
  ~Session() { hadal_rt_session_free(session); }

  operator hadal_rt_session_t *() { return session; }

  int32_t create() {
    int32_t sequence;
    check(hadal_rt_sequence_create(session, &sequence));
    return sequence;
  }
  int64_t length(int32_t sequence) {
    int64_t length;
    check(hadal_rt_sequence_length(session, sequence, &length));
    return length;
  }

  /// As hadal_rt_session_step(), with the logits of every token.
  hadal_rt_status_t tryStep(const std::vector<Token> &step, Logits &logits) {
    Tokens tokens, sequences;
    for (Token token : step) {
      tokens.push_back(token.id);
      sequences.push_back(token.sequence);
    }
    // Rows may be wanted in any order: last first, then put right again.
    Tokens rows(step.size());
    std::iota(rows.rbegin(), rows.rend(), 0);
    size_t vocab = size_t(model.vocab);
    Logits reversed(step.size() * vocab);
    hadal_rt_status_t status = hadal_rt_session_step(
        session, tokens.data(), sequences.data(), int64_t(tokens.size()),
        rows.data(), int64_t(rows.size()), reversed.data());
    logits.resize(reversed.size());
    for (size_t row = 0; row < step.size(); ++row)
      std::copy_n(&reversed[row * vocab], vocab,
                  &logits[(step.size() - 1 - row) * vocab]);
    return status;
  }
  Logits step(const std::vector<Token> &step) {
    Logits logits;
    check(tryStep(step, logits));
    return logits;
  }
  /// Runs all \p tokens of one sequence in one step.
  Logits run(int32_t sequence, const Tokens &tokens) {
    std::vector<Token> all;
    for (int32_t token : tokens)
      all.push_back({sequence, token});
    return step(all);
  }

private:
  hadal_rt_session_t *session;
};

void expectEqual(const float *expected, const float *found, int64_t rows,
                 const char *what) {
  for (int64_t i = 0; i < rows * model.vocab; ++i)
    if (memcmp(&expected[i], &found[i], sizeof(float)))
      fail("%s: token %lld has logit %lld = %.9g, expected %.9g", what,
           (long long)(i / model.vocab), (long long)(i % model.vocab),
           double(found[i]), double(expected[i]));
}

void expectEqual(const Logits &expected, const Logits &found,
                 const char *what) {
  expect(expected.size() == found.size(), what);
  expectEqual(expected.data(), found.data(),
              int64_t(found.size()) / model.vocab, what);
}

/// What a sequence gets: its tokens, and how many each of its steps has.
struct Story {
  Tokens tokens;
  std::vector<int64_t> pieces;
  Logits logits; ///< [tokens, vocab], alone in a session.
};

Story makeStory(uint32_t seed, const std::vector<int64_t> &pieces) {
  Story story;
  story.pieces = pieces;
  int64_t count = std::accumulate(pieces.begin(), pieces.end(), int64_t(0));
  story.tokens = makeTokens(seed, count);
  Session session(1, count, *std::max_element(pieces.begin(), pieces.end()));
  int32_t sequence = session.create();
  auto next = story.tokens.begin();
  for (int64_t piece : pieces) {
    Logits logits = session.run(sequence, Tokens(next, next + piece));
    next += piece;
    story.logits.insert(story.logits.end(), logits.begin(), logits.end());
  }
  for (float logit : story.logits)
    expect(logit - logit == 0, "a logit is not finite");
  return story;
}

/// Runs the stories together in \p session. The tokens of a step take turns,
/// and the sequence that is first changes with each step.
void runTogether(Session &session, const std::vector<Story> &stories,
                 const char *what) {
  std::vector<int32_t> ids;
  size_t steps = 0;
  for (const Story &story : stories) {
    ids.push_back(session.create());
    steps = std::max(steps, story.pieces.size());
  }
  std::vector<int64_t> done(stories.size());
  for (size_t step = 0; step < steps; ++step) {
    std::vector<Token> tokens;
    std::vector<std::pair<size_t, int64_t>> places; // Story, its token.
    for (bool isMore = true; isMore;) {
      isMore = false;
      for (size_t turn = 0; turn < stories.size(); ++turn) {
        size_t s = (turn + step) % stories.size();
        const Story &story = stories[s];
        int64_t end = 0;
        for (size_t i = 0; i <= step && i < story.pieces.size(); ++i)
          end += story.pieces[i];
        if (done[s] == end)
          continue;
        tokens.push_back({ids[s], story.tokens[size_t(done[s])]});
        places.push_back({s, done[s]++});
        isMore = true;
      }
    }
    Logits logits = session.step(tokens);
    for (size_t row = 0; row < places.size(); ++row)
      expectEqual(&stories[places[row].first]
                       .logits[size_t(places[row].second * model.vocab)],
                  &logits[row * size_t(model.vocab)], 1, what);
  }
  for (size_t s = 0; s < stories.size(); ++s) {
    expect(session.length(ids[s]) == int64_t(stories[s].tokens.size()), what);
    check(hadal_rt_sequence_free(session, ids[s]));
  }
}

int64_t pagesFor(int64_t tokens) {
  return (tokens + model.page_tokens - 1) / model.page_tokens;
}

/// Three sequences in each step: prompts of 5, 1 and 29 tokens, then tokens
/// one by one, with two at once now and then, as in speculative decoding.
void testBatch() {
  part = "batch";
  std::vector<Story> stories = {
      makeStory(1, {5, 1, 1, 2, 1, 1, 3, 1}),
      makeStory(2, {1, 1, 2, 1, 1, 1, 1, 1, 1, 1}),
      makeStory(3, {29, 1, 1, 1, 1, 4}),
  };
  int64_t pages = 0;
  for (const Story &story : stories)
    pages += pagesFor(int64_t(story.tokens.size()));
  Session session(3, pages * model.page_tokens, 35);
  expect(hadal_rt_session_free_pages(session) == pages, "pages at the start");
  runTogether(session, stories, "three sequences in one step");

  // Everything was given back; the pages now hold what others left there.
  expect(hadal_rt_session_free_pages(session) == pages, "pages after free");
  runTogether(session, {stories[2], stories[0], stories[1]},
              "the same in pages that were used before");
  expect(hadal_rt_session_free_pages(session) == pages, "pages at the end");

  // A sequence that joins while another is half way.
  int32_t first = session.create();
  const Story &late = stories[1];
  session.run(first, makeTokens(9, 7));
  int32_t second = session.create();
  auto next = late.tokens.begin();
  const float *expected = late.logits.data();
  for (int64_t piece : late.pieces) {
    std::vector<Token> step = {{first, 3}};
    for (int64_t i = 0; i < piece; ++i)
      step.push_back({second, *next++});
    Logits logits = session.step(step);
    expectEqual(expected, &logits[size_t(model.vocab)], piece,
                "a sequence that joined later");
    expected += piece * model.vocab;
  }
  printf("ok   %-12s 3 sequences, prompts of 5, 1 and 29, %lld pages of %lld "
         "tokens: bit-equal\n",
         part, (long long)pages, (long long)model.page_tokens);
}

/// Two sessions on one file of weights, in two threads.
void testSessions() {
  part = "sessions";
  std::vector<Story> stories = {makeStory(4, {17, 1, 1, 1, 1}),
                                makeStory(5, {3, 1, 1, 1, 1, 1, 1})};
  auto runAgain = [&] {
    for (int i = 0; i < 3; ++i) {
      Session session(2, 2 * 32 + 2 * model.page_tokens, 20);
      runTogether(session, stories, "two sessions at once");
    }
  };
  std::thread other(runAgain);
  runAgain();
  other.join();
  printf("ok   %-12s two at once on the same weights: bit-equal\n", part);
}

/// Truncates in the middle of a page, at the end of one, and to nothing.
void testTruncate() {
  part = "truncate";
  int64_t page = model.page_tokens, count = page + page / 2 + 3;
  Story story = makeStory(6, {count});
  Session session(2, 2 * (count + page), count);
  int32_t sequence = session.create();
  int64_t free = hadal_rt_session_free_pages(session);
  session.run(sequence, makeTokens(7, count));
  check(hadal_rt_sequence_truncate(session, sequence, 0));
  expect(hadal_rt_session_free_pages(session) == free, "pages after truncate");
  expectEqual(story.logits, session.run(sequence, story.tokens), "from 0");

  for (int64_t length : {count - 1, page, page - 1, int64_t(1)}) {
    // Something else comes in between, so that old keys would be seen.
    check(hadal_rt_sequence_truncate(session, sequence, length));
    session.run(sequence, makeTokens(8, count - length));
    check(hadal_rt_sequence_truncate(session, sequence, length));
    expect(session.length(sequence) == length, "length after truncate");
    Logits once, again;
    Tokens rest(story.tokens.begin() + length, story.tokens.end());
    once = session.run(sequence, rest);
    check(hadal_rt_sequence_truncate(session, sequence, length));
    again = session.run(sequence, rest);
    expectEqual(once, again, "run again after truncate");

    // The same pieces without any detour.
    int32_t plain = session.create();
    session.run(plain,
                Tokens(story.tokens.begin(), story.tokens.begin() + length));
    expectEqual(session.run(plain, rest), once, "after truncate");
    check(hadal_rt_sequence_free(session, plain));
  }
  expectStatus(HADAL_RT_INVALID_ARGUMENT,
               hadal_rt_sequence_truncate(session, sequence, count + 1));
  expectStatus(HADAL_RT_INVALID_ARGUMENT,
               hadal_rt_sequence_truncate(session, sequence, -1));
  expect(session.length(sequence) == count, "length after refusals");
  printf("ok   %-12s to %lld, %lld, %lld, 1 and 0 of %lld tokens: bit-equal\n",
         part, (long long)count - 1, (long long)page, (long long)page - 1,
         (long long)count);
}

/// Two continuations of one prompt share its pages until they write.
void testFork() {
  part = "fork";
  int64_t page = model.page_tokens, prompt = page + 3;
  Tokens tokens = makeTokens(10, prompt);
  Tokens left = makeTokens(11, 4), right = makeTokens(12, 4);
  auto runAlone = [&](const Tokens &continuation) {
    Session session(1, prompt + 4, prompt);
    int32_t sequence = session.create();
    session.run(sequence, tokens);
    return session.run(sequence, continuation);
  };
  Session session(2, 2 * (prompt + 4 + page), prompt);
  int32_t source = session.create(), copy;
  session.run(source, tokens);
  int64_t free = hadal_rt_session_free_pages(session);
  check(hadal_rt_sequence_fork(session, source, &copy));
  expect(hadal_rt_session_free_pages(session) == free, "a fork takes no page");
  std::vector<Token> step;
  for (size_t i = 0; i < 4; ++i) {
    step.push_back({source, left[i]});
    step.push_back({copy, right[i]});
  }
  Logits together = session.step(step),
         expected[2] = {runAlone(left), runAlone(right)};
  for (size_t row = 0; row < step.size(); ++row)
    expectEqual(&expected[row % 2][row / 2 * size_t(model.vocab)],
                &together[row * size_t(model.vocab)], 1, "after a fork");
  printf("ok   %-12s two continuations of %lld tokens: bit-equal\n", part,
         (long long)prompt);
}

/// What does not fit is refused, and changes nothing.
void testRefusals() {
  part = "refusals";
  int64_t page = model.page_tokens;
  Tokens tokens = makeTokens(13, 2 * page);
  Session session(2, 2 * page, 2 * page);
  int32_t a = session.create(), b = session.create(), c = 7;
  expectStatus(HADAL_RT_EXHAUSTED, hadal_rt_sequence_create(session, &c));
  expect(c == -1, "the id after a refusal is -1");
  session.run(a, Tokens(tokens.begin(), tokens.begin() + page));
  session.run(b, {tokens[0]});
  expect(hadal_rt_session_free_pages(session) == 0, "all pages are in use");

  Logits logits;
  auto refuse = [&](hadal_rt_status_t status, const std::vector<Token> &step) {
    int64_t lengths[] = {session.length(a), session.length(b)};
    int64_t free = hadal_rt_session_free_pages(session);
    expectStatus(status, session.tryStep(step, logits));
    expect(session.length(a) == lengths[0] && session.length(b) == lengths[1],
           "a refused step leaves the lengths");
    expect(hadal_rt_session_free_pages(session) == free,
           "a refused step leaves the pages");
  };
  refuse(HADAL_RT_EXHAUSTED, {{a, 1}});
  refuse(HADAL_RT_EXHAUSTED, {{b, 1}, {a, 1}});
  expectStatus(HADAL_RT_EXHAUSTED, hadal_rt_session_reserve(session, a, 1));
  refuse(HADAL_RT_INVALID_ARGUMENT, {{b, -1}});
  refuse(HADAL_RT_INVALID_ARGUMENT, {{b, int32_t(model.vocab)}});
  refuse(HADAL_RT_INVALID_ARGUMENT, {{b, 1}, {2, 1}});
  refuse(HADAL_RT_INVALID_ARGUMENT, {{-1, 1}});
  std::vector<Token> tooMany(size_t(2 * page + 1), {b, 1});
  refuse(HADAL_RT_INVALID_ARGUMENT, tooMany);
  refuse(HADAL_RT_INVALID_ARGUMENT, {});

  // The session works as before; what one gives back, the other can take.
  Story story = makeStory(14, {page, page});
  check(hadal_rt_sequence_free(session, a));
  check(hadal_rt_sequence_truncate(session, b, 0));
  Tokens half(story.tokens.begin(), story.tokens.begin() + page);
  Logits first = session.run(b, half);
  Logits second =
      session.run(b, Tokens(story.tokens.begin() + page, story.tokens.end()));
  first.insert(first.end(), second.begin(), second.end());
  expectEqual(story.logits, first, "after refusals");
  expectStatus(HADAL_RT_INVALID_ARGUMENT, hadal_rt_sequence_free(session, a));

  // The end of the context, in a session that has room for it.
  Session whole(1, model.context, 512);
  int32_t sequence = whole.create();
  Tokens all = makeTokens(15, model.context);
  for (int64_t done = 0; done < model.context; done += 512)
    whole.run(sequence,
              Tokens(all.begin() + done,
                     all.begin() + std::min(done + 512, model.context)));
  expectStatus(HADAL_RT_CONTEXT_FULL, whole.tryStep({{sequence, 1}}, logits));
  expectStatus(HADAL_RT_CONTEXT_FULL,
               hadal_rt_session_reserve(whole, sequence, 1));
  expect(whole.length(sequence) == model.context, "length of a full context");

  // Options that make no session.
  hadal_rt_session_options_t options = {};
  int64_t bytes;
  check(hadal_rt_session_memory_bytes(&model, &options, &bytes));
  hadal_rt_session_t *none;
  options.memory_limit_bytes = bytes - 1;
  expectStatus(HADAL_RT_MEMORY_LIMIT,
               hadal_rt_session_create(&model, weights, &options, &none));
  expect(!none, "no session after a refusal");
  options.memory_limit_bytes = bytes;
  check(hadal_rt_session_create(&model, weights, &options, &none));
  hadal_rt_session_free(none);
  options = {};
  options.kv_tokens = -1;
  expectStatus(HADAL_RT_INVALID_ARGUMENT,
               hadal_rt_session_create(&model, weights, &options, &none));
  options.kv_tokens = INT64_MAX;
  expectStatus(HADAL_RT_INVALID_ARGUMENT,
               hadal_rt_session_create(&model, weights, &options, &none));
  printf("ok   %-12s pages, sequences, ids, rows, context of %lld, memory "
         "limit\n",
         part, (long long)model.context);
}

/// Reads a line of /proc/self/status that ends in kB.
int64_t readStatusBytes(const char *name) {
  FILE *file = fopen("/proc/self/status", "r");
  expect(file, "/proc/self/status opens");
  char line[256];
  long long kilobytes = -1;
  while (fgets(line, sizeof(line), file))
    if (!strncmp(line, name, strlen(name)))
      sscanf(line + strlen(name), ": %lld", &kilobytes);
  fclose(file);
  expect(kilobytes >= 0, name);
  return int64_t(kilobytes) * 1024;
}

/// Fills a session to its last token, in the largest steps it takes.
void testMemory() {
  part = "memory";
  constexpr int64_t sequences = 4, stepTokens = 256;
  // As much as is quick to fill; attention takes quadratic time.
  int64_t each = std::min<int64_t>(model.context, 1024) / model.page_tokens *
                 model.page_tokens;
  hadal_rt_session_options_t options = {};
  options.threads = threads;
  options.max_step_tokens = stepTokens;
  options.max_sequences = sequences;
  options.kv_tokens = sequences * each;
  int64_t promised;
  check(hadal_rt_session_memory_bytes(&model, &options, &promised));
  Tokens tokens = makeTokens(16, each), owners(stepTokens), rows(stepTokens);
  std::iota(rows.begin(), rows.end(), 0);
  Logits logits(size_t(stepTokens * model.vocab)); // Touched: all zeros.

  // A device has a copy of the weights as long as there is a session, and what
  // emulates one takes memory for its first step.
  hadal_rt_session_options_t least = {1, 1, 1, 1, 0};
  hadal_rt_session_t *session, *other;
  int32_t first;
  check(hadal_rt_session_create(&model, weights, &least, &other));
  check(hadal_rt_sequence_create(other, &first));
  check(hadal_rt_session_step(other, tokens.data(), &first, 1, nullptr, 0,
                              nullptr));
  int64_t before = readStatusBytes("RssAnon");
  check(hadal_rt_session_create(&model, weights, &options, &session));
  int32_t ids[sequences];
  for (int32_t &id : ids)
    check(hadal_rt_sequence_create(session, &id));
  int64_t most = 0;
  for (int32_t id : ids) {
    owners.assign(stepTokens, id);
    for (int64_t done = 0; done < each; done += stepTokens) {
      int64_t count = std::min(stepTokens, each - done);
      check(hadal_rt_session_step(session, &tokens[size_t(done)], owners.data(),
                                  count, rows.data(), count, logits.data()));
      most = std::max(most, readStatusBytes("RssAnon") - before);
    }
  }
  expect(hadal_rt_session_free_pages(session) == 0, "all pages are in use");
  hadal_rt_session_free(session);
  int64_t after = readStatusBytes("RssAnon") - before;
  hadal_rt_session_free(other);

  // The reading itself, and what the C library keeps of a thread.
  constexpr int64_t slack = 512 << 10;
  int64_t pool = pagesFor(each) * sequences * model.page_bytes;
  if (most > promised + slack)
    fail("a session takes %lld bytes, but %lld were promised", (long long)most,
         (long long)promised);
  // A promise of far more than is used would be no promise. Stacks and the
  // arena are not used to the last byte; keys and values are.
  if (most < pool)
    fail("only %lld bytes are used, and keys and values have %lld",
         (long long)most, (long long)pool);
  if (after > slack)
    fail("%lld bytes are left after the session", (long long)after);
  printf("ok   %-12s %.2f MB promised, %.2f MB used (%.2f MB of it keys and "
         "values), %.2f MB left after\n",
         part, double(promised) / 1e6, double(most) / 1e6, double(pool) / 1e6,
         double(after) / 1e6);
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s product.weights THREADS\n", argv[0]);
    return 2;
  }
  threads = atoi(argv[2]);
  setvbuf(stdout, nullptr, _IOLBF, 0);
  part = "weights";
  check(hadal_rt_weights_open(&model, argv[1], &weights));
  // First, before the allocator has pages to hand out again. A sanitizer takes
  // memory of its own.
  if (!isSanitized)
    testMemory();
  testBatch();
  testSessions();
  testTruncate();
  testFork();
  testRefusals();
  hadal_rt_weights_close(weights);
  return 0;
}
