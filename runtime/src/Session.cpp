// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sessions: memory, KV pages, sequences and steps. Everything a session needs
// lies in one mapping, whose size is known before it is made.

#include "Checked.h"
#include "Cpu.h"
#include "Status.h"
#include "ThreadPool.h"
#include "Weights.h"

#include "hadal_rt/graph.h"

#include <new>
#include <string.h>
#ifdef HADAL_RT_BARE
#include <stdlib.h>
#else
#include <errno.h>
#include <sys/mman.h>
#endif

using namespace hadal_rt;

namespace {

/// The options with every zero replaced, and the sizes that follow from them.
struct Plan {
  int64_t threads;
  int64_t maxStepTokens;
  int64_t maxSequences;
  int64_t pages;
  int64_t pageTableStride;
  /// Of a model with a window; else 0 and `pageTableStride`.
  int64_t sinkPages, ringPages;
  int64_t mappingBytes;
  /// `mappingBytes`, the stacks, and the memory of a device: what the session
  /// can ever use.
  int64_t totalBytes;
  hadal_rt_device_sizes_t device;

  // Offsets in the mapping.
  int64_t poolThreads;
  int64_t lengths;
  int64_t heldPages;
  int64_t firstPages;
  int64_t stepTokens;
  int64_t touched;
  int64_t inUse;
  int64_t positions;
  int64_t adapters;
  int64_t stepAdapters;
  int64_t pageTable;
  int64_t freePages;
  int64_t pageUses;
  int64_t arena;
  int64_t kv;
};

} // namespace

struct hadal_rt_session {
  ThreadPool pool;
  const hadal_rt_model_t *model;
  const uint8_t *weights;
  Plan plan;
  int64_t *lengths;    ///< [sequences] tokens of each.
  int64_t *heldPages;  ///< [sequences] end of the pages of each; >= those it
                       ///< fills.
  int64_t *firstPages; ///< [sequences] of those after the sink's, the first
                       ///< that was not used again.
  int64_t *stepTokens; ///< [sequences] new tokens in this step; else zero.
  int32_t *touched;    ///< [sequences] those with stepTokens > 0.
  uint8_t *inUse;      ///< [sequences]
  int32_t *positions;  ///< [maxStepTokens]
  int32_t *adapters;   ///< [sequences] which each has chosen, from 1 on, or 0.
  int32_t *stepAdapters; ///< [maxStepTokens] the same of each token.
  int32_t *pageTable;    ///< [sequences, pageTableStride]
  int32_t *freePages;    ///< A stack of pages that were used before.
  int32_t *pageUses;     ///< [pages] sequences that hold the page.
  int64_t freeCount;     ///< Height of that stack.
  int64_t freshPages;    ///< Pages from here on were never used: still zero.
  uint8_t *arena;        ///< This and `kv` are null with a device.
  uint8_t *kv;
  void *device; ///< What the model's device has opened, or null.

  const hadal_rt_device_calls_t &deviceCalls() const {
    return *model->device->calls;
  }
  int64_t countFreePages() const {
    return freeCount + (plan.pages - freshPages);
  }
  int32_t *pagesOf(int64_t sequence) {
    return pageTable + sequence * plan.pageTableStride;
  }
  /// The first page, after those of the sink, that the token at \p position
  /// of a sequence sees.
  int64_t firstSeenPage(int64_t position) const {
    if (!model->window_tokens)
      return 0;
    int64_t first = position + 1 - model->window_tokens;
    first = first < 0 ? 0 : first / model->page_tokens;
    return first < plan.sinkPages ? plan.sinkPages : first;
  }
  void zeroPage(int32_t page);
  int32_t takePage(bool zero);
  int32_t reusePage(int64_t sequence);
  void dropPage(int32_t &page);
  void dropPages(int64_t sequence, int64_t keep);
  void dropUnseenPages(int64_t sequence);
  int64_t countOwnPages(int64_t sequence, int64_t first, int64_t last);
  int64_t countNeededPages(int64_t sequence, int64_t tokens);
  int64_t countReservedPages(int64_t sequence, int64_t tokens);
  bool sharesLastPage(int64_t sequence);
  void copySharedPage(int64_t sequence);
  void takeNeededPages(int64_t sequence, int64_t tokens);
};

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

/// True if \p a and \p b differ in nothing but what steps are made of.
static bool areAlike(const hadal_rt_model_t &a, const hadal_rt_model_t &b) {
  return !memcmp(a.layout_hash, b.layout_hash, sizeof(a.layout_hash)) &&
         a.abi_version == b.abi_version && a.weights_bytes == b.weights_bytes &&
         a.vocab == b.vocab && a.hidden == b.hidden && a.layers == b.layers &&
         a.context == b.context && a.page_tokens == b.page_tokens &&
         a.page_bytes == b.page_bytes &&
         a.arena_bytes_per_token == b.arena_bytes_per_token &&
         a.arena_bytes_fixed == b.arena_bytes_fixed &&
         a.window_tokens == b.window_tokens && a.sink_tokens == b.sink_tokens &&
         !a.device && !b.device && a.step && b.step;
}

hadal_rt_status_t hadal_rt::checkModel(const hadal_rt_model_t *model) {
  if (!model)
    return fail(HADAL_RT_INVALID_ARGUMENT, "model is null");
  if (model->abi_version != HADAL_RT_ABI_VERSION)
    return fail(HADAL_RT_UNSUPPORTED_ABI,
                "the model has ABI version %u, this runtime has %u",
                model->abi_version, HADAL_RT_ABI_VERSION);
  // Ids and positions are 32-bit.
  if (!model->name || !model->step || model->weights_bytes < 0 ||
      model->vocab < 1 || model->vocab > INT32_MAX || model->context < 1 ||
      model->context > INT32_MAX || model->page_tokens < 1 ||
      model->page_bytes < 0 || model->arena_bytes_per_token < 0 ||
      model->arena_bytes_fixed < 0 || model->window_tokens < 0 ||
      model->window_tokens > INT32_MAX || model->sink_tokens < 0 ||
      model->sink_tokens > INT32_MAX ||
      (model->device && !model->device->calls))
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "the model description is damaged: vocab %lld, context %lld, "
                "page_tokens %lld",
                (long long)model->vocab, (long long)model->context,
                (long long)model->page_tokens);
  for (const hadal_rt_model_t *level = model->lesser; level;
       level = level->lesser)
    if (!areAlike(*model, *level))
      return fail(HADAL_RT_INVALID_ARGUMENT,
                  "the model description is damaged: the code of '%s' for "
                  "lesser processors is of another model",
                  model->name);
  return HADAL_RT_OK;
}

/// The first of \p features that this processor, or its system, lacks; null if
/// none.
static const char *findMissingFeature(uint32_t features) {
  uint32_t available = cpuFeatures();
  available &= ~refusedCpuFeatures(features & available);
  return missingCpuFeature(features, available);
}

static hadal_rt_status_t refuseCpu(const char *name, const char *missing) {
  return fail(HADAL_RT_UNSUPPORTED_CPU,
              "model '%s' was compiled for processors with %s; this one "
              "does not have that",
              name, missing);
}

hadal_rt_status_t hadal_rt_model_choose(const hadal_rt_model_t *model,
                                        const hadal_rt_model_t **chosen) {
  if (!chosen)
    return fail(HADAL_RT_INVALID_ARGUMENT, "chosen is null");
  *chosen = nullptr;
  if (hadal_rt_status_t status = checkModel(model))
    return status;
  for (const hadal_rt_model_t *level = model;; level = level->lesser) {
    const char *missing = findMissingFeature(level->cpu_features);
    if (!missing) {
      *chosen = level;
      return HADAL_RT_OK;
    }
    if (!level->lesser)
      return refuseCpu(model->name, missing);
  }
}

hadal_rt_status_t hadal_rt_model_check(const hadal_rt_model_t *model) {
  const hadal_rt_model_t *ignored;
  return hadal_rt_model_choose(model, &ignored);
}

hadal_rt_status_t hadal_rt_graph_check(const hadal_rt_graph_t *graph) {
  if (!graph)
    return fail(HADAL_RT_INVALID_ARGUMENT, "graph is null");
  if (graph->abi_version != HADAL_RT_GRAPH_ABI_VERSION)
    return fail(HADAL_RT_UNSUPPORTED_ABI,
                "the graph has ABI version %u, this runtime has %u",
                graph->abi_version, HADAL_RT_GRAPH_ABI_VERSION);
  if (const char *missing = findMissingFeature(graph->cpu_features))
    return refuseCpu(graph->name, missing);
  return HADAL_RT_OK;
}

const char *hadal_rt_model_adapter(const hadal_rt_model_t *model,
                                   int32_t index) {
  const char *name = model && index >= 0 ? model->adapter_names : nullptr;
  if (!name)
    return nullptr;
  // Not by strlen, which a system without a C library may lack.
  for (; *name && index > 0; ++name)
    if (!name[1]) {
      ++name;
      --index;
    }
  return *name ? name : nullptr;
}

hadal_rt_status_t hadal_rt_model_find_adapter(const hadal_rt_model_t *model,
                                              const char *name,
                                              int32_t *index) {
  if (!model || !name || !index)
    return fail(HADAL_RT_INVALID_ARGUMENT, "an argument is null");
  *index = -1;
  int32_t i = 0;
  while (const char *known = hadal_rt_model_adapter(model, i)) {
    if (!strcmp(known, name)) {
      *index = i;
      return HADAL_RT_OK;
    }
    ++i;
  }
  return fail(HADAL_RT_NOT_FOUND, "model '%s' has no adapter '%s'", model->name,
              name);
}

/// Takes \p option, or \p byDefault for zero; refuses what is not in
/// [1, limit].
static hadal_rt_status_t readOption(const char *name, int64_t option,
                                    int64_t byDefault, int64_t limit,
                                    int64_t *value) {
  *value = option ? option : byDefault;
  if (*value < 1 || *value > limit)
    return fail(HADAL_RT_INVALID_ARGUMENT, "%s is %lld, expected 1 .. %lld",
                name, (long long)*value, (long long)limit);
  return HADAL_RT_OK;
}

static hadal_rt_status_t makePlan(const hadal_rt_model_t *model,
                                  const hadal_rt_session_options_t *options,
                                  Plan *plan) {
  if (hadal_rt_status_t status = checkModel(model))
    return status;
  static const hadal_rt_session_options_t defaults = {};
  if (!options)
    options = &defaults;
  int64_t kvTokens;
  if (hadal_rt_status_t status =
          readOption("threads", options->threads,
                     options->threads ? 0 : availableProcessors(), maxThreads,
                     &plan->threads))
    return status;
  if (model->device) // All it does is to wait.
    plan->threads = 1;
  if (hadal_rt_status_t status =
          readOption("max_step_tokens", options->max_step_tokens, 512,
                     INT32_MAX, &plan->maxStepTokens))
    return status;
  if (hadal_rt_status_t status =
          readOption("max_sequences", options->max_sequences, 1, INT32_MAX,
                     &plan->maxSequences))
    return status;
  if (hadal_rt_status_t status =
          readOption("kv_tokens", options->kv_tokens, model->context, INT64_MAX,
                     &kvTokens))
    return status;
  plan->pages = ceilDivide(kvTokens, model->page_tokens);
  if (plan->pages > INT32_MAX)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "kv_tokens is %lld, which makes %lld pages, expected at most "
                "%d",
                (long long)kvTokens, (long long)plan->pages, INT32_MAX);
  plan->pageTableStride = ceilDivide(model->context, model->page_tokens);
  plan->ringPages = plan->pageTableStride;
  plan->sinkPages = 0;
  if (model->window_tokens) {
    // What the tokens of one step see between them begins and ends within
    // pages.
    plan->sinkPages = ceilDivide(model->sink_tokens, model->page_tokens);
    int64_t ring =
        plan->sinkPages + 1 +
        ceilDivide(model->window_tokens - 1 + plan->maxStepTokens - 1,
                   model->page_tokens);
    plan->ringPages = ring < plan->ringPages ? ring : plan->ringPages;
    // More than this is never used.
    int64_t most = plan->maxSequences * plan->ringPages;
    plan->pages = most < plan->pages ? most : plan->pages;
  }

  CheckedBytes total(sizeof(hadal_rt_session));
  auto place = [&](int64_t &offset, CheckedBytes bytes, int64_t alignment) {
    offset = total.alignTo(alignment).get();
    total += bytes;
  };
  auto arrayOf = [](int64_t count, int64_t bytes) {
    return CheckedBytes(count) *= bytes;
  };
  place(plan->poolThreads, arrayOf(plan->threads, sizeof(PoolThread)), 64);
  place(plan->lengths, arrayOf(plan->maxSequences, 8), 64);
  place(plan->heldPages, arrayOf(plan->maxSequences, 8), 64);
  place(plan->firstPages, arrayOf(plan->maxSequences, 8), 64);
  place(plan->stepTokens, arrayOf(plan->maxSequences, 8), 64);
  place(plan->touched, arrayOf(plan->maxSequences, 4), 64);
  place(plan->inUse, arrayOf(plan->maxSequences, 1), 64);
  place(plan->positions, arrayOf(plan->maxStepTokens, 4), 64);
  place(plan->adapters, arrayOf(plan->maxSequences, 4), 64);
  place(plan->stepAdapters, arrayOf(plan->maxStepTokens, 4), 64);
  place(plan->pageTable,
        arrayOf(plan->maxSequences, plan->pageTableStride) *= 4, 64);
  place(plan->freePages, arrayOf(plan->pages, 4), 64);
  place(plan->pageUses, arrayOf(plan->pages, 4), 64);
  CheckedBytes arena =
      arrayOf(plan->maxStepTokens, model->arena_bytes_per_token) +=
      model->arena_bytes_fixed;
  CheckedBytes kv = arrayOf(plan->pages, model->page_bytes);
  plan->device = {plan->maxStepTokens, plan->maxSequences,
                  plan->pageTableStride, plan->pages, arena.get()};
  if (!model->device) {
    place(plan->arena, arena, 4096);
    place(plan->kv, kv, 4096);
  }
  total.alignTo(4096);
  plan->mappingBytes = total.get();
  total += arrayOf(plan->threads - 1, workerStackBytes);
  if (model->device && arena.isValid())
    total += model->device->calls->memory_bytes(model, &plan->device);
  plan->totalBytes = total.get();
  if (!total.isValid())
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "the options ask for more memory than can be counted: "
                "max_step_tokens %lld, max_sequences %lld, kv_tokens %lld",
                (long long)plan->maxStepTokens, (long long)plan->maxSequences,
                (long long)kvTokens);
  return HADAL_RT_OK;
}

static hadal_rt_status_t checkSequence(const hadal_rt_session_t *session,
                                       int64_t sequence) {
  if (!session)
    return fail(HADAL_RT_INVALID_ARGUMENT, "session is null");
  if (sequence < 0 || sequence >= session->plan.maxSequences)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "sequence id is %lld, expected 0 .. %lld", (long long)sequence,
                (long long)session->plan.maxSequences - 1);
  if (!session->inUse[sequence])
    return fail(HADAL_RT_INVALID_ARGUMENT, "there is no sequence %lld",
                (long long)sequence);
  return HADAL_RT_OK;
}

static hadal_rt_status_t checkContext(const hadal_rt_session_t *session,
                                      int64_t sequence, int64_t tokens) {
  int64_t length = session->lengths[sequence];
  if (tokens > session->model->context - length)
    return fail(HADAL_RT_CONTEXT_FULL,
                "sequence %lld has %lld tokens; %lld more do not fit into the "
                "context of %lld",
                (long long)sequence, (long long)length, (long long)tokens,
                (long long)session->model->context);
  return HADAL_RT_OK;
}

static hadal_rt_status_t checkPages(const hadal_rt_session_t *session,
                                    int64_t needed) {
  int64_t free = session->countFreePages();
  if (needed > free)
    return fail(HADAL_RT_EXHAUSTED,
                "%lld KV pages of %lld tokens are needed, but %lld of %lld are "
                "free",
                (long long)needed, (long long)session->model->page_tokens,
                (long long)free, (long long)session->plan.pages);
  return HADAL_RT_OK;
}

//===----------------------------------------------------------------------===//
// Pages
//===----------------------------------------------------------------------===//

void hadal_rt_session::zeroPage(int32_t page) {
  if (device)
    return deviceCalls().zero_page(device, page);
  memset(kv + page * model->page_bytes, 0, size_t(model->page_bytes));
}

/// Takes a free page, of which there must be one. It is zeroed if \p zero:
/// kernels read whole pages and give what is past the end a weight of zero,
/// which would not silence a NaN.
int32_t hadal_rt_session::takePage(bool zero) {
  int32_t page;
  if (freeCount) {
    page = freePages[--freeCount];
    if (zero)
      zeroPage(page);
  } else {
    page = int32_t(freshPages++);
  }
  pageUses[page] = 1;
  return page;
}

/// Gives back \p page of a sequence.
void hadal_rt_session::dropPage(int32_t &page) {
  if (--pageUses[page] == 0)
    freePages[freeCount++] = page;
  // Page 0 is always there, so even a stale entry can be read.
  page = 0;
}

/// Gives back all but the first \p keep pages of \p sequence.
void hadal_rt_session::dropPages(int64_t sequence, int64_t keep) {
  int32_t *pages = pagesOf(sequence);
  while (heldPages[sequence] > keep) {
    int64_t last = --heldPages[sequence];
    if (last < plan.sinkPages || last >= firstPages[sequence])
      dropPage(pages[last]);
  }
  if (keep <= plan.sinkPages)
    firstPages[sequence] = plan.sinkPages;
}

/// Gives back pages that \p sequence does not see any more and shares, so that
/// the last of those that share them can use them again.
void hadal_rt_session::dropUnseenPages(int64_t sequence) {
  int32_t *pages = pagesOf(sequence);
  int64_t end = firstSeenPage(lengths[sequence]);
  int64_t &first = firstPages[sequence];
  while (first < end && first < heldPages[sequence] &&
         pageUses[pages[first]] > 1)
    dropPage(pages[first++]);
}

/// Counts pages [first, last) of \p sequence that no other holds.
int64_t hadal_rt_session::countOwnPages(int64_t sequence, int64_t first,
                                        int64_t last) {
  const int32_t *pages = pagesOf(sequence);
  int64_t own = 0;
  for (int64_t i = first; i < last; ++i)
    own += pageUses[pages[i]] == 1;
  return own;
}

/// Takes a page from \p sequence that it does not see any more, and zeroes it;
/// -1 if there is none.
int32_t hadal_rt_session::reusePage(int64_t sequence) {
  int32_t *pages = pagesOf(sequence);
  int64_t end = firstSeenPage(lengths[sequence]);
  int64_t &first = firstPages[sequence];
  while (first < end && first < heldPages[sequence]) {
    int32_t &entry = pages[first++];
    int32_t page = entry;
    if (pageUses[page] > 1) {
      dropPage(entry);
      continue;
    }
    entry = 0;
    zeroPage(page);
    return page;
  }
  return -1;
}

/// Counts the free pages that \p tokens more tokens take: those that are not
/// held yet, less those that can be used again, and a copy of the page they
/// start in when others share it.
int64_t hadal_rt_session::countNeededPages(int64_t sequence, int64_t tokens) {
  if (!tokens)
    return 0;
  int64_t length = lengths[sequence], held = heldPages[sequence];
  int64_t needed = ceilDivide(length + tokens, model->page_tokens) - held;
  if (needed > 0 && model->window_tokens) {
    int64_t end = firstSeenPage(length);
    needed -=
        countOwnPages(sequence, firstPages[sequence], end < held ? end : held);
  }
  return (needed < 0 ? 0 : needed) + sharesLastPage(sequence);
}

/// Whether another sequence shares the page that \p sequence goes on in.
bool hadal_rt_session::sharesLastPage(int64_t sequence) {
  int64_t length = lengths[sequence];
  return length % model->page_tokens &&
         pageUses[pagesOf(sequence)[length / model->page_tokens]] > 1;
}

/// Makes the page that \p sequence goes on in its own.
void hadal_rt_session::copySharedPage(int64_t sequence) {
  if (!sharesLastPage(sequence))
    return;
  int32_t &page = pagesOf(sequence)[lengths[sequence] / model->page_tokens];
  int32_t copy = takePage(/*zero=*/false);
  if (device)
    deviceCalls().copy_page(device, copy, page);
  else
    memcpy(kv + copy * model->page_bytes, kv + page * model->page_bytes,
           size_t(model->page_bytes));
  --pageUses[page];
  page = copy;
}

/// Takes the pages that countNeededPages() counted.
void hadal_rt_session::takeNeededPages(int64_t sequence, int64_t tokens) {
  if (!tokens)
    return;
  copySharedPage(sequence);
  int32_t *pages = pagesOf(sequence);
  int64_t wanted = ceilDivide(lengths[sequence] + tokens, model->page_tokens);
  while (heldPages[sequence] < wanted) {
    int32_t page = reusePage(sequence);
    pages[heldPages[sequence]++] = page < 0 ? takePage(/*zero=*/true) : page;
  }
}

/// Counts the free pages that steps of \p tokens more tokens can need: with a
/// window, no more than make a ring of the sequence's own.
int64_t hadal_rt_session::countReservedPages(int64_t sequence, int64_t tokens) {
  if (!model->window_tokens)
    return countNeededPages(sequence, tokens);
  int64_t held = heldPages[sequence], length = lengths[sequence];
  int64_t sinks = held < plan.sinkPages ? held : plan.sinkPages;
  int64_t missing = ceilDivide(length + tokens, model->page_tokens) - held;
  int64_t most = plan.ringPages - sinks -
                 countOwnPages(sequence, firstPages[sequence], held);
  missing = missing < most ? missing : most;
  // The copy of a shared page becomes one of the sequence's own.
  bool copies = sharesLastPage(sequence);
  missing -= copies && missing == most;
  return (missing < 0 ? 0 : missing) + copies;
}

//===----------------------------------------------------------------------===//
// Sessions
//===----------------------------------------------------------------------===//

hadal_rt_status_t
hadal_rt_session_memory_bytes(const hadal_rt_model_t *model,
                              const hadal_rt_session_options_t *options,
                              int64_t *bytes) {
  if (!bytes)
    return fail(HADAL_RT_INVALID_ARGUMENT, "bytes is null");
  Plan plan;
  if (hadal_rt_status_t status = makePlan(model, options, &plan))
    return status;
  *bytes = plan.totalBytes;
  return HADAL_RT_OK;
}

/// Takes \p bytes of zeros, a multiple of 4096 as is their address.
static hadal_rt_status_t takeMemory(int64_t bytes, void **memory) {
#ifdef HADAL_RT_BARE
  *memory = aligned_alloc(4096, size_t(bytes));
  if (!*memory)
    return fail(HADAL_RT_OUT_OF_MEMORY, "no memory for %lld bytes",
                (long long)bytes);
  memset(*memory, 0, size_t(bytes));
#else
  // Pages are committed when first touched; what a short run never reaches
  // costs nothing.
  *memory = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (*memory == MAP_FAILED)
    return fail(HADAL_RT_OUT_OF_MEMORY, "no memory for %lld bytes: %s",
                (long long)bytes, strerror(errno));
#ifdef MADV_HUGEPAGE
  madvise(*memory, size_t(bytes), MADV_HUGEPAGE);
#endif
#endif
  return HADAL_RT_OK;
}

static void giveMemory(void *memory, int64_t bytes) {
#ifdef HADAL_RT_BARE
  (void)bytes;
  free(memory);
#else
  munmap(memory, size_t(bytes));
#endif
}

hadal_rt_status_t hadal_rt_session_create(
    const hadal_rt_model_t *model, const hadal_rt_weights_t *weights,
    const hadal_rt_session_options_t *options, hadal_rt_session_t **out) {
  if (!out)
    return fail(HADAL_RT_INVALID_ARGUMENT, "out is null");
  *out = nullptr;
  if (hadal_rt_status_t status = hadal_rt_model_choose(model, &model))
    return status;
  if (!weights)
    return fail(HADAL_RT_INVALID_ARGUMENT, "weights is null");
  if (memcmp(weights->header.layout_hash, model->layout_hash,
             sizeof(model->layout_hash)) ||
      weights->model->weights_bytes != model->weights_bytes)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "the weights were opened for model '%s', not for '%s'",
                weights->model->name, model->name);
  Plan plan;
  if (hadal_rt_status_t status = makePlan(model, options, &plan))
    return status;
  int64_t limit = options ? options->memory_limit_bytes : 0;
  if (limit < 0)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "memory_limit_bytes is %lld, expected at least 0",
                (long long)limit);
  if (limit && plan.totalBytes > limit)
    return fail(HADAL_RT_MEMORY_LIMIT,
                "the session needs %lld bytes, but the limit is %lld",
                (long long)plan.totalBytes, (long long)limit);

  void *mapping;
  if (hadal_rt_status_t status = takeMemory(plan.mappingBytes, &mapping))
    return status;

  // The memory is zero, and so are all fields that are not set here.
  auto *base = static_cast<uint8_t *>(mapping);
  auto *session = new (mapping) hadal_rt_session();
  session->model = model;
  session->weights = weights->weights;
  session->plan = plan;
  session->lengths = reinterpret_cast<int64_t *>(base + plan.lengths);
  session->heldPages = reinterpret_cast<int64_t *>(base + plan.heldPages);
  session->firstPages = reinterpret_cast<int64_t *>(base + plan.firstPages);
  session->stepTokens = reinterpret_cast<int64_t *>(base + plan.stepTokens);
  session->touched = reinterpret_cast<int32_t *>(base + plan.touched);
  session->inUse = base + plan.inUse;
  session->positions = reinterpret_cast<int32_t *>(base + plan.positions);
  session->adapters = reinterpret_cast<int32_t *>(base + plan.adapters);
  session->stepAdapters = reinterpret_cast<int32_t *>(base + plan.stepAdapters);
  session->pageTable = reinterpret_cast<int32_t *>(base + plan.pageTable);
  session->freePages = reinterpret_cast<int32_t *>(base + plan.freePages);
  session->pageUses = reinterpret_cast<int32_t *>(base + plan.pageUses);
  if (!model->device) {
    session->arena = base + plan.arena;
    session->kv = base + plan.kv;
  } else if (hadal_rt_status_t status = session->deviceCalls().open(
                 model, session->weights, &plan.device, &session->device)) {
    giveMemory(mapping, plan.mappingBytes);
    return status;
  }
  if (!session->pool.start(plan.threads, reinterpret_cast<PoolThread *>(
                                             base + plan.poolThreads))) {
    if (session->device)
      session->deviceCalls().close(session->device);
    giveMemory(mapping, plan.mappingBytes);
    return fail(HADAL_RT_OUT_OF_MEMORY, "cannot start %lld threads",
                (long long)plan.threads);
  }
  *out = session;
  return HADAL_RT_OK;
}

void hadal_rt_session_free(hadal_rt_session_t *session) {
  if (!session)
    return;
  session->pool.shutDown();
  if (session->device)
    session->deviceCalls().close(session->device);
  giveMemory(session, session->plan.mappingBytes);
}

int64_t hadal_rt_session_threads(const hadal_rt_session_t *session) {
  return session ? session->plan.threads : 0;
}

int64_t hadal_rt_session_free_pages(const hadal_rt_session_t *session) {
  return session ? session->countFreePages() : 0;
}

hadal_rt_status_t hadal_rt_session_reserve(hadal_rt_session_t *session,
                                           int32_t sequence, int64_t tokens) {
  if (hadal_rt_status_t status = checkSequence(session, sequence))
    return status;
  if (tokens < 0)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "tokens is %lld, expected at least 0", (long long)tokens);
  if (hadal_rt_status_t status = checkContext(session, sequence, tokens))
    return status;
  if (!tokens)
    return HADAL_RT_OK;
  int64_t needed = session->countReservedPages(sequence, tokens);
  if (hadal_rt_status_t status = checkPages(session, needed))
    return status;
  needed -= session->sharesLastPage(sequence);
  session->copySharedPage(sequence);
  for (; needed > 0; --needed)
    session->pagesOf(sequence)[session->heldPages[sequence]++] =
        session->takePage(/*zero=*/true);
  return HADAL_RT_OK;
}

/// Called by generated code, through the step.
static void dispatch(void *pool, const hadal_rt_step_t *step,
                     hadal_rt_kernel_t kernel, const int64_t *params,
                     int64_t items) {
  static_cast<ThreadPool *>(pool)->run(step, kernel, params, items);
}

static hadal_rt_status_t checkToken(const hadal_rt_session_t *session,
                                    const int32_t *tokenIds, int64_t i) {
  if (tokenIds[i] >= 0 && tokenIds[i] < session->model->vocab)
    return HADAL_RT_OK;
  return fail(HADAL_RT_INVALID_ARGUMENT,
              "token_ids[%lld] is %d, expected 0 .. %lld", (long long)i,
              tokenIds[i], (long long)session->model->vocab - 1);
}

/// Checks the ids of a step and finds the position of each token. Leaves in
/// `stepTokens` and `touched` how many tokens each sequence gets.
static hadal_rt_status_t placeTokens(hadal_rt_session_t *session,
                                     const int32_t *tokenIds,
                                     const int32_t *sequenceIds, int64_t tokens,
                                     int64_t *touchedCount) {
  for (int64_t i = 0; i < tokens; ++i) {
    int32_t sequence = sequenceIds[i];
    if (hadal_rt_status_t status = checkToken(session, tokenIds, i))
      return status;
    if (hadal_rt_status_t status = checkSequence(session, sequence))
      return status;
    int64_t &count = session->stepTokens[sequence];
    if (hadal_rt_status_t status = checkContext(session, sequence, count + 1))
      return status;
    if (!count)
      session->touched[(*touchedCount)++] = sequence;
    session->positions[i] = int32_t(session->lengths[sequence] + count++);
    session->stepAdapters[i] = session->adapters[sequence];
  }
  return HADAL_RT_OK;
}

hadal_rt_status_t hadal_rt_session_step(hadal_rt_session_t *session,
                                        const int32_t *token_ids,
                                        const int32_t *sequence_ids,
                                        int64_t tokens,
                                        const int32_t *output_rows,
                                        int64_t outputs, float *logits) {
  if (!session || !token_ids || !sequence_ids)
    return fail(HADAL_RT_INVALID_ARGUMENT, "an argument is null");
  if (tokens < 1 || tokens > session->plan.maxStepTokens)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "a step has %lld tokens, expected 1 .. %lld", (long long)tokens,
                (long long)session->plan.maxStepTokens);
  if (outputs < 0 || outputs > tokens)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "outputs is %lld, expected 0 .. %lld", (long long)outputs,
                (long long)tokens);
  if (outputs && (!output_rows || !logits))
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "output_rows or logits is null, but outputs is %lld",
                (long long)outputs);
  for (int64_t i = 0; i < outputs; ++i)
    if (output_rows[i] < 0 || output_rows[i] >= tokens)
      return fail(HADAL_RT_INVALID_ARGUMENT,
                  "output_rows[%lld] is %d, expected 0 .. %lld", (long long)i,
                  output_rows[i], (long long)tokens - 1);

  int64_t touchedCount = 0;
  hadal_rt_status_t status =
      placeTokens(session, token_ids, sequence_ids, tokens, &touchedCount);
  if (!status) {
    int64_t needed = 0;
    for (int64_t i = 0; i < touchedCount; ++i) {
      int32_t sequence = session->touched[i];
      needed +=
          session->countNeededPages(sequence, session->stepTokens[sequence]);
    }
    status = checkPages(session, needed);
  }
  if (!status) {
    for (int64_t i = 0; i < touchedCount; ++i) {
      int32_t sequence = session->touched[i];
      session->takeNeededPages(sequence, session->stepTokens[sequence]);
    }
    hadal_rt_step_t step = {};
    step.page_table = session->pageTable;
    step.page_table_stride = session->plan.pageTableStride;
    step.token_ids = token_ids;
    step.positions = session->positions;
    step.sequences = sequence_ids;
    step.output_rows = output_rows;
    step.logits = logits;
    step.tokens = tokens;
    step.outputs = outputs;
    step.adapters = session->stepAdapters;
    if (session->device) {
      status = session->deviceCalls().step(session->device, &step);
    } else {
      step.dispatch = dispatch;
      step.pool = &session->pool;
      step.weights = session->weights;
      step.arena = session->arena;
      step.kv = session->kv;
      DefaultFloatMode mode;
      session->model->step(&step);
    }
  }
  for (int64_t i = 0; i < touchedCount; ++i) {
    int32_t sequence = session->touched[i];
    if (!status) {
      session->lengths[sequence] += session->stepTokens[sequence];
      session->dropUnseenPages(sequence);
    }
    session->stepTokens[sequence] = 0;
  }
  return status;
}

//===----------------------------------------------------------------------===//
// Sequences
//===----------------------------------------------------------------------===//

hadal_rt_status_t hadal_rt_sequence_create(hadal_rt_session_t *session,
                                           int32_t *sequence) {
  if (!session || !sequence)
    return fail(HADAL_RT_INVALID_ARGUMENT, "an argument is null");
  *sequence = -1;
  for (int64_t i = 0; i < session->plan.maxSequences; ++i) {
    if (session->inUse[i])
      continue;
    session->inUse[i] = 1;
    session->lengths[i] = 0;
    session->adapters[i] = 0;
    session->firstPages[i] = session->plan.sinkPages;
    *sequence = int32_t(i);
    return HADAL_RT_OK;
  }
  return fail(HADAL_RT_EXHAUSTED, "all %lld sequences are in use",
              (long long)session->plan.maxSequences);
}

hadal_rt_status_t hadal_rt_sequence_fork(hadal_rt_session_t *session,
                                         int32_t source, int32_t *sequence) {
  if (!sequence)
    return fail(HADAL_RT_INVALID_ARGUMENT, "sequence is null");
  *sequence = -1;
  if (hadal_rt_status_t status = checkSequence(session, source))
    return status;
  if (hadal_rt_status_t status = hadal_rt_sequence_create(session, sequence))
    return status;
  int64_t length = session->lengths[source];
  int64_t shared = ceilDivide(length, session->model->page_tokens);
  int64_t first = session->firstPages[source];
  session->firstPages[*sequence] = first;
  for (int64_t i = 0; i < shared; ++i) {
    if (i >= session->plan.sinkPages && i < first)
      continue;
    int32_t page = session->pagesOf(source)[i];
    session->pagesOf(*sequence)[i] = page;
    ++session->pageUses[page];
  }
  session->lengths[*sequence] = length;
  session->adapters[*sequence] = session->adapters[source];
  session->heldPages[*sequence] = shared;
  return HADAL_RT_OK;
}

hadal_rt_status_t hadal_rt_sequence_set_adapter(hadal_rt_session_t *session,
                                                int32_t sequence,
                                                int32_t adapter) {
  if (hadal_rt_status_t status = checkSequence(session, sequence))
    return status;
  if (adapter != -1 && !hadal_rt_model_adapter(session->model, adapter))
    return fail(HADAL_RT_INVALID_ARGUMENT, "model '%s' has no adapter %d",
                session->model->name, adapter);
  if (session->lengths[sequence] && session->adapters[sequence] != adapter + 1)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "sequence %d has %lld tokens, which are not of adapter %d",
                sequence, (long long)session->lengths[sequence], adapter);
  session->adapters[sequence] = adapter + 1;
  return HADAL_RT_OK;
}

hadal_rt_status_t hadal_rt_sequence_append(hadal_rt_session_t *session,
                                           int32_t sequence,
                                           const int32_t *token_ids,
                                           int64_t tokens, float *logits) {
  if (!session || !token_ids)
    return fail(HADAL_RT_INVALID_ARGUMENT, "an argument is null");
  if (tokens < 1)
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "tokens is %lld, expected at least 1", (long long)tokens);
  // All that a later step might lack is looked for before the first one.
  for (int64_t i = 0; i < tokens; ++i)
    if (hadal_rt_status_t status = checkToken(session, token_ids, i))
      return status;
  if (hadal_rt_status_t status =
          hadal_rt_session_reserve(session, sequence, tokens))
    return status;
  constexpr int64_t mostAtOnce = 512;
  int32_t sequences[mostAtOnce];
  for (int32_t &each : sequences)
    each = sequence;
  int64_t most = session->plan.maxStepTokens;
  if (most > mostAtOnce)
    most = mostAtOnce;
  for (int64_t done = 0, count; done < tokens; done += count) {
    count = tokens - done < most ? tokens - done : most;
    bool wantsLogits = logits && done + count == tokens;
    auto row = int32_t(count - 1);
    if (hadal_rt_status_t status =
            hadal_rt_session_step(session, token_ids + done, sequences, count,
                                  &row, wantsLogits, logits))
      return status;
  }
  return HADAL_RT_OK;
}

hadal_rt_status_t hadal_rt_sequence_free(hadal_rt_session_t *session,
                                         int32_t sequence) {
  if (hadal_rt_status_t status = checkSequence(session, sequence))
    return status;
  session->dropPages(sequence, 0);
  session->lengths[sequence] = 0;
  session->inUse[sequence] = 0;
  return HADAL_RT_OK;
}

hadal_rt_status_t hadal_rt_sequence_length(const hadal_rt_session_t *session,
                                           int32_t sequence, int64_t *length) {
  if (!length)
    return fail(HADAL_RT_INVALID_ARGUMENT, "length is null");
  if (hadal_rt_status_t status = checkSequence(session, sequence))
    return status;
  *length = session->lengths[sequence];
  return HADAL_RT_OK;
}

hadal_rt_status_t hadal_rt_sequence_truncate(hadal_rt_session_t *session,
                                             int32_t sequence, int64_t length) {
  if (hadal_rt_status_t status = checkSequence(session, sequence))
    return status;
  if (length < 0 || length > session->lengths[sequence])
    return fail(HADAL_RT_INVALID_ARGUMENT,
                "cannot truncate sequence %d to %lld tokens: it has %lld",
                sequence, (long long)length,
                (long long)session->lengths[sequence]);
  int64_t keep = ceilDivide(length, session->model->page_tokens);
  if (length < session->lengths[sequence] && keep > session->plan.sinkPages &&
      session->firstSeenPage(length) < session->firstPages[sequence])
    return fail(
        HADAL_RT_INVALID_ARGUMENT,
        "cannot truncate sequence %d to %lld tokens: the next one would "
        "see tokens from %lld on, and those before %lld are gone",
        sequence, (long long)length,
        (long long)(session->firstSeenPage(length) *
                    session->model->page_tokens),
        (long long)(session->firstPages[sequence] *
                    session->model->page_tokens));
  session->dropPages(sequence, keep);
  session->lengths[sequence] = length;
  return HADAL_RT_OK;
}
