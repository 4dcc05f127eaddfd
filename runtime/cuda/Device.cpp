// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sessions on a GPU. All sessions of a model in a process share its module and
// one copy of its weights; each has an arena, pages, inputs and logits of its
// own, and one stream, on which everything happens in order. A step that comes
// with as many tokens and outputs as an earlier one is one launch of a graph.

#include "Driver.h"

#include "../src/Checked.h"
#include "hadal_rt/cuda_device.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

using namespace hadal_rt;
using namespace hadal_rt::cuda;

namespace {

/// Weights go to the device by so many bytes at a time, of which two parts are
/// on their way at once.
constexpr int64_t stagingBytes = 16 << 20;

/// Steps of so many kinds are remembered, the latest ones.
constexpr int maxGraphs = 32;

/// Kinds of input that a step has for each token or output.
constexpr int64_t inputKinds = 5;

/// Arrays of inputs start at multiples of so many.
constexpr int64_t inputAlignment = 16;

int64_t alignInputs(int64_t count) {
  return (count + inputAlignment - 1) & -inputAlignment;
}

/// A kernel, by the address that it is launched by.
struct Kernel {
  const hadal_cuda_kernel_t *key;
  Function function;
};

/// What sessions of one model on one device share.
struct Shared {
  Shared *next;
  const hadal_rt_device_t *model;
  const uint8_t *source; ///< The weights, in the processor's memory.
  int64_t users;
  const Driver *driver;
  int ordinal;
  DeviceNumber number;
  char name[64];
  Context context;
  Module module;
  Address weights;
  Kernel *kernels; ///< A hash table of `kernelMask` + 1 entries.
  size_t kernelMask;
};

struct GraphEntry {
  int64_t tokens, outputs; ///< Tokens are 0 where there is none.
  GraphExec exec;          ///< Null: such a step came once.
  int64_t lastUse;
};

struct Device {
  Shared *shared;
  const Driver *driver;
  const hadal_rt_model_t *model;
  hadal_rt_device_sizes_t sizes;
  Stream stream;
  Address arena, kv, table, inputs, logits;
  int32_t *hostTable;  ///< What `table` has.
  int32_t *hostInputs; ///< On their way to `inputs`.
  GraphEntry graphs[maxGraphs];
  int64_t steps;
  /// What failed, and how, since when no step can be trusted. "": nothing.
  char failure[512];

  bool check(Result result, const char *what);
  bool uploadTable(const hadal_rt_step_t &step);
  bool uploadInputs(const hadal_rt_step_t &given, hadal_rt_step_t *step);
  bool run(const hadal_rt_step_t &step);
  bool runOnce(const hadal_rt_step_t &step);
  GraphEntry &findGraph(int64_t tokens, int64_t outputs, bool *isNew);
  bool capture(const hadal_rt_step_t &step, GraphEntry &entry);
};

/// Makes a context current as long as it lives.
class CurrentContext {
public:
  CurrentContext(const Driver &driver, Context context) : driver(driver) {
    isPushed = driver.contextPush(context) == success;
  }
  ~CurrentContext() {
    Context ignored;
    if (isPushed)
      driver.contextPop(&ignored);
  }
  CurrentContext(const CurrentContext &) = delete;
  CurrentContext &operator=(const CurrentContext &) = delete;

private:
  const Driver &driver;
  bool isPushed;
};

pthread_mutex_t sharedMutex = PTHREAD_MUTEX_INITIALIZER;
Shared *firstShared = nullptr;

} // namespace

//===----------------------------------------------------------------------===//
// What sessions share
//===----------------------------------------------------------------------===//

static hadal_rt_status_t failOn(const Shared &shared, Result result,
                                const char *what) {
  return fail(result == outOfMemory ? HADAL_RT_OUT_OF_MEMORY
                                    : HADAL_RT_DEVICE_ERROR,
              "CUDA device %d, %s: %s: %s", shared.ordinal, shared.name, what,
              shared.driver->describe(result));
}

/// Finds the device that the environment asks for.
static hadal_rt_status_t chooseDevice(const Driver &driver, int *ordinal) {
  int count = 0;
  if (Result result = driver.deviceGetCount(&count))
    return fail(HADAL_RT_DEVICE_ERROR, "cannot count CUDA devices: %s",
                driver.describe(result));
  if (count < 1)
    return fail(HADAL_RT_DEVICE_ERROR, "there is no CUDA device");
  *ordinal = 0;
  const char *text = getenv("HADAL_CUDA_DEVICE");
  if (!text || !*text)
    return HADAL_RT_OK;
  char *end;
  long number = strtol(text, &end, 10);
  if (*end || number < 0 || number >= count)
    return fail(HADAL_RT_DEVICE_ERROR,
                "HADAL_CUDA_DEVICE is '%s', expected 0 .. %d", text, count - 1);
  *ordinal = int(number);
  return HADAL_RT_OK;
}

static hadal_rt_status_t takeMemory(const Shared &shared, const char *what,
                                    int64_t bytes, Address *address) {
  // Nothing has no address.
  Result result = shared.driver->memoryTake(address, size_t(bytes ? bytes : 1));
  if (result != outOfMemory)
    return result ? failOn(shared, result, what) : HADAL_RT_OK;
  size_t free = 0, all = 0;
  shared.driver->memoryInfo(&free, &all);
  return fail(HADAL_RT_OUT_OF_MEMORY,
              "CUDA device %d, %s, has no %lld bytes for %s: %llu of %llu are "
              "free",
              shared.ordinal, shared.name, (long long)bytes, what,
              (unsigned long long)free, (unsigned long long)all);
}

static size_t hashAddress(const void *address) {
  return size_t(uintptr_t(address) >> 3) * size_t(0x9e3779b97f4a7c15) >> 20;
}

static Function findKernel(const Shared &shared,
                           const hadal_cuda_kernel_t *key) {
  size_t at = hashAddress(key) & shared.kernelMask;
  while (shared.kernels[at].key && shared.kernels[at].key != key)
    at = (at + 1) & shared.kernelMask;
  return shared.kernels[at].function;
}

static hadal_rt_status_t loadKernels(Shared &shared) {
  const Driver &driver = *shared.driver;
  if (Result result = driver.moduleLoad(&shared.module, shared.model->image)) {
    int major = 0, minor = 0;
    driver.deviceGetAttribute(&major, attributeCapabilityMajor, shared.number);
    driver.deviceGetAttribute(&minor, attributeCapabilityMinor, shared.number);
    return fail(HADAL_RT_DEVICE_ERROR,
                "CUDA device %d, %s, sm_%d%d, cannot run the model's kernels: "
                "%s",
                shared.ordinal, shared.name, major, minor,
                driver.describe(result));
  }
  auto *program =
      static_cast<const hadal_cuda_program_t *>(shared.model->program);
  size_t entries = 16;
  while (entries < 2 * size_t(program->kernel_count))
    entries *= 2;
  shared.kernels = static_cast<Kernel *>(calloc(entries, sizeof(Kernel)));
  if (!shared.kernels)
    return fail(HADAL_RT_OUT_OF_MEMORY, "no memory for %lld kernels",
                (long long)program->kernel_count);
  shared.kernelMask = entries - 1;
  for (int64_t i = 0; i < program->kernel_count; ++i) {
    const hadal_cuda_kernel_t *kernel = program->kernels[i];
    Function function;
    if (Result result =
            driver.moduleGetFunction(&function, shared.module, kernel->name))
      return failOn(shared, result, kernel->name);
    // More than what every device gives must be asked for.
    if (kernel->shared_bytes > 48 * 1024)
      if (Result result = driver.functionSetAttribute(
              function, attributeMaxDynamicSharedBytes, kernel->shared_bytes))
        return failOn(shared, result, kernel->name);
    size_t at = hashAddress(kernel) & shared.kernelMask;
    while (shared.kernels[at].key)
      at = (at + 1) & shared.kernelMask;
    shared.kernels[at] = {kernel, function};
  }
  return HADAL_RT_OK;
}

/// Copies the weights by way of two parts of pinned memory: while one is read
/// from the file, the other is sent.
static Result sendWeights(Shared &shared, int64_t bytes, Stream stream,
                          uint8_t *staging, Event *events) {
  const Driver &driver = *shared.driver;
  int part = 0;
  for (int64_t done = 0; done < bytes; done += stagingBytes, part ^= 1) {
    int64_t now = bytes - done < stagingBytes ? bytes - done : stagingBytes;
    uint8_t *buffer = staging + part * stagingBytes;
    // An event that was not recorded yet is over.
    if (Result result = driver.eventSynchronize(events[part]))
      return result;
    memcpy(buffer, shared.source + done, size_t(now));
    if (Result result = driver.copyToDevice(shared.weights + Address(done),
                                            buffer, size_t(now), stream))
      return result;
    if (Result result = driver.eventRecord(events[part], stream))
      return result;
  }
  return driver.streamSynchronize(stream);
}

static hadal_rt_status_t loadWeights(Shared &shared, int64_t bytes) {
  const Driver &driver = *shared.driver;
  if (hadal_rt_status_t status =
          takeMemory(shared, "weights", bytes, &shared.weights))
    return status;
  Stream stream = nullptr;
  void *staging = nullptr;
  Event events[2] = {nullptr, nullptr};
  Result result = driver.streamCreate(&stream, streamNonBlocking);
  if (!result)
    result = driver.hostTake(&staging, size_t(2 * stagingBytes));
  for (Event &event : events)
    if (!result)
      result = driver.eventCreate(&event, eventDisableTiming);
  if (!result)
    result = sendWeights(shared, bytes, stream, static_cast<uint8_t *>(staging),
                         events);
  if (result && stream)
    driver.streamSynchronize(stream); // What was sent still reads `staging`.
  for (Event event : events)
    if (event)
      driver.eventDestroy(event);
  if (staging)
    driver.hostGive(staging);
  if (stream)
    driver.streamDestroy(stream);
  return result ? failOn(shared, result, "weights") : HADAL_RT_OK;
}

/// Gives back what \p shared has, as far as it has come.
static void freeShared(Shared *shared) {
  if (shared->context) {
    {
      CurrentContext current(*shared->driver, shared->context);
      if (shared->weights)
        shared->driver->memoryGive(shared->weights);
      if (shared->module)
        shared->driver->moduleUnload(shared->module);
    }
    shared->driver->contextRelease(shared->number);
  }
  free(shared->kernels);
  free(shared);
}

static hadal_rt_status_t makeShared(Shared &shared, int64_t weightsBytes) {
  const Driver &driver = *shared.driver;
  strcpy(shared.name, "without a name");
  if (Result result = driver.deviceGet(&shared.number, shared.ordinal))
    return failOn(shared, result, "it cannot be used");
  driver.deviceGetName(shared.name, int(sizeof(shared.name)), shared.number);
  if (Result result = driver.contextRetain(&shared.context, shared.number))
    return failOn(shared, result, "it cannot be used");
  CurrentContext current(driver, shared.context);
  if (hadal_rt_status_t status = loadKernels(shared))
    return status;
  return loadWeights(shared, weightsBytes);
}

/// Finds or makes what sessions of \p model share. The mutex is held.
static hadal_rt_status_t useShared(const hadal_rt_model_t *model,
                                   const uint8_t *weights, Shared **out) {
  const Driver *driver;
  int ordinal;
  if (hadal_rt_status_t status = loadDriver(&driver))
    return status;
  if (hadal_rt_status_t status = chooseDevice(*driver, &ordinal))
    return status;
  for (Shared *shared = firstShared; shared; shared = shared->next)
    if (shared->model == model->device && shared->source == weights &&
        shared->ordinal == ordinal) {
      ++shared->users;
      *out = shared;
      return HADAL_RT_OK;
    }
  auto *shared = static_cast<Shared *>(calloc(1, sizeof(Shared)));
  if (!shared)
    return fail(HADAL_RT_OUT_OF_MEMORY, "no memory for a device");
  shared->model = model->device;
  shared->source = weights;
  shared->users = 1;
  shared->driver = driver;
  shared->ordinal = ordinal;
  if (hadal_rt_status_t status = makeShared(*shared, model->weights_bytes)) {
    freeShared(shared);
    return status;
  }
  shared->next = firstShared;
  firstShared = shared;
  *out = shared;
  return HADAL_RT_OK;
}

static void dropShared(Shared *shared) {
  pthread_mutex_lock(&sharedMutex);
  if (--shared->users == 0) {
    Shared **at = &firstShared;
    while (*at != shared)
      at = &(*at)->next;
    *at = shared->next;
    freeShared(shared);
  }
  pthread_mutex_unlock(&sharedMutex);
}

//===----------------------------------------------------------------------===//
// Sessions
//===----------------------------------------------------------------------===//

/// Bytes of the page table, of inputs and of logits.
static CheckedBytes tableBytes(const hadal_rt_device_sizes_t &sizes) {
  return (CheckedBytes(sizes.max_sequences) *= sizes.page_table_stride) *= 4;
}
static CheckedBytes inputBytes(const hadal_rt_device_sizes_t &sizes) {
  return CheckedBytes(alignInputs(sizes.max_step_tokens)) *= inputKinds * 4;
}
static CheckedBytes logitsBytes(const hadal_rt_model_t *model,
                                const hadal_rt_device_sizes_t &sizes) {
  return (CheckedBytes(sizes.max_step_tokens) *= model->vocab) *= 4;
}

static int64_t countMemory(const hadal_rt_model_t *model,
                           const hadal_rt_device_sizes_t *sizes) {
  // The table and the inputs are in the processor's memory, too.
  CheckedBytes total = tableBytes(*sizes) += inputBytes(*sizes);
  total *= 2;
  total += logitsBytes(model, *sizes);
  total += sizes->arena_bytes;
  total += CheckedBytes(sizes->pages) *= model->page_bytes;
  return total.isValid() ? total.get() : -1;
}

/// Keeps the first error.
bool Device::check(Result result, const char *what) {
  if (!result)
    return true;
  if (!failure[0]) {
    failOn(*shared, result, what);
    strncpy(failure, hadal_rt_last_error(), sizeof(failure) - 1);
  }
  return false;
}

static void closeDevice(void *device) {
  auto *self = static_cast<Device *>(device);
  const Driver &driver = *self->driver;
  {
    CurrentContext current(driver, self->shared->context);
    if (self->stream)
      driver.streamSynchronize(self->stream);
    for (GraphEntry &entry : self->graphs)
      if (entry.exec)
        driver.graphExecDestroy(entry.exec);
    const Address parts[] = {self->arena, self->kv, self->table, self->inputs,
                             self->logits};
    for (Address address : parts)
      if (address)
        driver.memoryGive(address);
    if (self->hostTable)
      driver.hostGive(self->hostTable);
    if (self->hostInputs)
      driver.hostGive(self->hostInputs);
    if (self->stream)
      driver.streamDestroy(self->stream);
  }
  dropShared(self->shared);
  free(self);
}

/// Takes what a session needs of its own.
static hadal_rt_status_t makeDevice(Device &self) {
  const Driver &driver = *self.driver;
  Shared &shared = *self.shared;
  int64_t kvBytes = self.sizes.pages * self.model->page_bytes;
  int64_t table = tableBytes(self.sizes).get();
  int64_t inputs = inputBytes(self.sizes).get();
  struct {
    const char *what;
    int64_t bytes;
    Address *address;
  } const parts[] = {
      {"the arena", self.sizes.arena_bytes, &self.arena},
      {"KV pages", kvBytes, &self.kv},
      {"the page table", table, &self.table},
      {"inputs", inputs, &self.inputs},
      {"logits", logitsBytes(self.model, self.sizes).get(), &self.logits}};
  for (auto &part : parts)
    if (hadal_rt_status_t status =
            takeMemory(shared, part.what, part.bytes, part.address))
      return status;
  if (Result result = driver.streamCreate(&self.stream, streamNonBlocking))
    return failOn(shared, result, "no stream");
  void *memory;
  if (Result result = driver.hostTake(&memory, size_t(table)))
    return failOn(shared, result, "pinned memory");
  self.hostTable = static_cast<int32_t *>(memory);
  memset(self.hostTable, 0, size_t(table));
  if (Result result = driver.hostTake(&memory, size_t(inputs)))
    return failOn(shared, result, "pinned memory");
  self.hostInputs = static_cast<int32_t *>(memory);
  memset(self.hostInputs, 0, size_t(inputs));
  // Pages that were never used are zero, and entries are those of page 0.
  if (kvBytes)
    if (Result result = driver.set(self.kv, 0, size_t(kvBytes), self.stream))
      return failOn(shared, result, "KV pages");
  if (Result result = driver.set(self.table, 0, size_t(table), self.stream))
    return failOn(shared, result, "the page table");
  if (Result result = driver.streamSynchronize(self.stream))
    return failOn(shared, result, "KV pages");
  return HADAL_RT_OK;
}

static int32_t openDevice(const hadal_rt_model_t *model, const uint8_t *weights,
                          const hadal_rt_device_sizes_t *sizes, void **out) {
  *out = nullptr;
  auto *self = static_cast<Device *>(calloc(1, sizeof(Device)));
  if (!self)
    return fail(HADAL_RT_OUT_OF_MEMORY, "no memory for a device");
  self->model = model;
  self->sizes = *sizes;
  pthread_mutex_lock(&sharedMutex);
  hadal_rt_status_t status = useShared(model, weights, &self->shared);
  pthread_mutex_unlock(&sharedMutex);
  if (!self->shared) {
    free(self);
    return status;
  }
  self->driver = self->shared->driver;
  {
    CurrentContext current(*self->driver, self->shared->context);
    status = makeDevice(*self);
  }
  if (status) {
    closeDevice(self);
    return status;
  }
  *out = self;
  return HADAL_RT_OK;
}

static void zeroPage(void *device, int64_t page) {
  auto *self = static_cast<Device *>(device);
  CurrentContext current(*self->driver, self->shared->context);
  int64_t bytes = self->model->page_bytes;
  if (bytes)
    self->check(self->driver->set(self->kv + Address(page * bytes), 0,
                                  size_t(bytes), self->stream),
                "zeroing a KV page");
}

static void copyPage(void *device, int64_t to, int64_t from) {
  auto *self = static_cast<Device *>(device);
  CurrentContext current(*self->driver, self->shared->context);
  int64_t bytes = self->model->page_bytes;
  if (bytes)
    self->check(self->driver->copyOnDevice(self->kv + Address(to * bytes),
                                           self->kv + Address(from * bytes),
                                           size_t(bytes), self->stream),
                "copying a KV page");
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

/// Called by the model's step, for each kernel.
static void launch(void *pool, const hadal_rt_step_t *step,
                   hadal_rt_kernel_t called, const int64_t *params,
                   int64_t items) {
  auto *self = static_cast<Device *>(pool);
  if (self->failure[0])
    return;
  auto *kernel = reinterpret_cast<const hadal_cuda_kernel_t *>(
      reinterpret_cast<intptr_t>(called));
  void *parameters[HADAL_CUDA_MAX_PARAMS + 2] = {
      const_cast<hadal_rt_step_t *>(step), &items};
  for (int32_t i = 0; i < kernel->params; ++i)
    parameters[i + 2] = const_cast<int64_t *>(params + i);
  self->check(
      self->driver->launch(findKernel(*self->shared, kernel),
                           unsigned(hadal_cuda_host::grid(*kernel, items)), 1,
                           1, unsigned(kernel->block_threads), 1, 1,
                           unsigned(kernel->shared_bytes), self->stream,
                           parameters, nullptr),
      kernel->name);
}

/// Sends what has changed of the rows of the page table that \p step reads.
bool Device::uploadTable(const hadal_rt_step_t &step) {
  int64_t stride = sizes.page_table_stride;
  for (int64_t i = 0; i < step.tokens; ++i) {
    int64_t row = step.sequences[i];
    // The last token of a run sees the most pages.
    if (i + 1 < step.tokens && step.sequences[i + 1] == row)
      continue;
    int64_t seen = step.positions[i] / model->page_tokens + 1;
    const int32_t *now = step.page_table + row * stride;
    int32_t *known = hostTable + row * stride;
    int64_t first = 0;
    while (first < seen && known[first] == now[first])
      ++first;
    while (seen > first && known[seen - 1] == now[seen - 1])
      --seen;
    if (first == seen)
      continue;
    memcpy(known + first, now + first, size_t(seen - first) * 4);
    if (!check(driver->copyToDevice(table + Address(row * stride + first) * 4,
                                    known + first, size_t(seen - first) * 4,
                                    stream),
               "sending the page table"))
      return false;
  }
  return true;
}

/// Sends the inputs in one piece, and fills \p step with where they are. That
/// depends on the numbers of tokens and outputs only.
bool Device::uploadInputs(const hadal_rt_step_t &given, hadal_rt_step_t *step) {
  int64_t stride = alignInputs(given.tokens), count = 0;
  auto add = [&](const int32_t *values, int64_t length, const int32_t **out) {
    memcpy(hostInputs + count, values, size_t(length) * 4);
    *out = reinterpret_cast<const int32_t *>(
        uintptr_t(inputs + Address(count) * 4));
    count += stride;
  };
  add(given.token_ids, given.tokens, &step->token_ids);
  add(given.positions, given.tokens, &step->positions);
  add(given.sequences, given.tokens, &step->sequences);
  if (given.outputs)
    add(given.output_rows, given.outputs, &step->output_rows);
  add(given.adapters, given.tokens, &step->adapters);
  step->dispatch = launch;
  step->pool = this;
  step->weights = reinterpret_cast<const uint8_t *>(uintptr_t(shared->weights));
  step->arena = reinterpret_cast<uint8_t *>(uintptr_t(arena));
  step->kv = reinterpret_cast<uint8_t *>(uintptr_t(kv));
  step->page_table = reinterpret_cast<const int32_t *>(uintptr_t(table));
  step->page_table_stride = sizes.page_table_stride;
  step->logits = reinterpret_cast<float *>(uintptr_t(logits));
  step->tokens = given.tokens;
  step->outputs = given.outputs;
  return check(
      driver->copyToDevice(inputs, hostInputs, size_t(count) * 4, stream),
      "sending inputs");
}

/// Launches all kernels of \p step.
bool Device::runOnce(const hadal_rt_step_t &step) {
  model->step(&step);
  return !failure[0];
}

/// The entry of such steps; \p isNew: none was there, and another was given up
/// for it.
GraphEntry &Device::findGraph(int64_t tokens, int64_t outputs, bool *isNew) {
  GraphEntry *oldest = graphs;
  *isNew = false;
  for (GraphEntry &entry : graphs) {
    if (entry.tokens == tokens && entry.outputs == outputs)
      return entry;
    if (entry.lastUse < oldest->lastUse)
      oldest = &entry;
  }
  if (oldest->exec)
    driver->graphExecDestroy(oldest->exec);
  *oldest = {tokens, outputs, nullptr, 0};
  *isNew = true;
  return *oldest;
}

bool Device::capture(const hadal_rt_step_t &step, GraphEntry &entry) {
  if (!check(driver->captureBegin(stream, captureThreadLocal), "a graph"))
    return false;
  runOnce(step);
  Graph graph = nullptr;
  bool isDone =
      check(driver->captureEnd(stream, &graph), "a graph") && !failure[0] &&
      check(driver->graphInstantiate(&entry.exec, graph, 0), "a graph");
  if (graph)
    driver->graphDestroy(graph);
  return isDone;
}

/// Runs \p step: the first of its kind by single launches, which also load the
/// kernels, later ones by a graph.
bool Device::run(const hadal_rt_step_t &step) {
  bool isNew;
  GraphEntry &entry = findGraph(step.tokens, step.outputs, &isNew);
  entry.lastUse = ++steps;
  if (isNew)
    return runOnce(step);
  if (!entry.exec && !capture(step, entry))
    return false;
  return check(driver->graphLaunch(entry.exec, stream), "a graph");
}

static int32_t runStep(void *device, const hadal_rt_step_t *given) {
  auto *self = static_cast<Device *>(device);
  const Driver &driver = *self->driver;
  CurrentContext current(driver, self->shared->context);
  hadal_rt_step_t step = {};
  bool isDone = !self->failure[0] && self->uploadTable(*given) &&
                self->uploadInputs(*given, &step) && self->run(step);
  if (isDone && given->outputs)
    isDone = self->check(
        driver.copyToHost(given->logits, self->logits,
                          size_t(given->outputs * self->model->vocab) * 4,
                          self->stream),
        "receiving logits");
  // The next step writes where this one's inputs are.
  if (isDone && self->check(driver.streamSynchronize(self->stream), "a step"))
    return HADAL_RT_OK;
  // What may still be on its way to the caller's logits arrives before they go.
  driver.streamSynchronize(self->stream);
  return fail(HADAL_RT_DEVICE_ERROR, "%s", self->failure);
}

const hadal_rt_device_calls_t hadal_rt_cuda_calls = {
    countMemory, openDevice, closeDevice, zeroPage, copyPage, runStep};
