// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A libcuda.so.1 without a GPU, for tests of what runs on one. Kernels are
// those of a model's source, compiled for the processor with
// -DHADAL_CUDA_EMULATE: the image that a module is loaded from is such a shared
// library, or, where it is a real one, HADAL_EMULATED_CUDA_KERNELS names the
// library. It is stricter than a driver is:
//
// - Memory of the device has no access but while kernels and copies run, ends
//   at a page without access, is full of NaNs when it is taken, and never has
//   the address of something that was given back.
// - What is asked of a stream happens when someone waits for it, not before.
// - Kernels are given addresses of the device only.
// - What is sent lies in pinned memory, which stays until it is.
//
// A violation ends the process with status 70 and one line. What was taken and
// not given back is said at the end, and ends it with 71.
//
//     HADAL_EMULATED_CUDA_DEVICES=2        how many there are (1)
//     HADAL_EMULATED_CUDA_BYTES=1000000    memory of each (64 GiB)
//     HADAL_EMULATED_CUDA_FAIL=cuLaunchKernel:5  the fifth call fails (none)
//     HADAL_EMULATED_CUDA_REPORT=FILE      counts of what happened, JSON

#include "hadal_rt/cuda_program.h"
#include "runtime/cuda/Driver.h"

#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <elf.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace hadal_rt::cuda;

extern "C" {
#define HADAL_CUDA_DECLARE(member, symbol, parameters) Result symbol parameters;
HADAL_CUDA_DRIVER(HADAL_CUDA_DECLARE)
#undef HADAL_CUDA_DECLARE
}

namespace {

constexpr Result invalidValue = 1, invalidDevice = 101, invalidImage = 200,
                 invalidContext = 201, noBinary = 209, notFound = 500,
                 captureUnsupported = 900, unknown = 999;

constexpr size_t pageBytes = 4096;
/// What cuMemAlloc() promises.
constexpr size_t alignment = 256;
constexpr size_t regionBytes = size_t(1) << 40;
/// After what was asked for, up to a multiple of the alignment.
constexpr uint8_t canary = 0xc5;

using Run = void (*)(const hadal_cuda_kernel_t *, unsigned, const void *);

struct Allocation {
  size_t bytes;
  uint8_t *pages; ///< With access while the device works.
  size_t pageCount;
  bool isFree;
};

struct EmulatedModule {
  void *handle;
  const hadal_cuda_program_t *program;
  Run run;
  std::deque<std::pair<EmulatedModule *, const hadal_cuda_kernel_t *>>
      functions;
};
using EmulatedFunction =
    std::pair<EmulatedModule *, const hadal_cuda_kernel_t *>;

/// What a stream does, and the pinned memory that it then reads, if any.
struct Work {
  std::function<void()> run;
  const uint8_t *from = nullptr;
};

struct EmulatedGraph {
  std::vector<Work> works;
};

struct EmulatedStream {
  std::deque<Work> queue;
  uint64_t done = 0; ///< Works that have left the queue.
  std::unique_ptr<EmulatedGraph> captured;
};

struct EmulatedEvent {
  EmulatedStream *stream = nullptr;
  uint64_t place = 0; ///< Works before it.
};

struct Counts {
  int64_t allocations = 0, hostAllocations = 0, modules = 0, streams = 0,
          events = 0, graphs = 0, graphExecs = 0, contexts = 0;
};

/// All of the driver; one lock.
struct State {
  std::recursive_mutex mutex;
  uint8_t *region = nullptr;
  size_t used = 0; ///< Of the region, never less.
  size_t liveBytes = 0, peakBytes = 0;
  std::map<uint8_t *, Allocation> allocations; ///< By address.
  std::map<uint8_t *, size_t> pinned;
  std::map<std::string, int64_t> calls;
  std::vector<EmulatedStream *> streams;
  Counts live;
  int64_t kernelRuns = 0, graphLaunches = 0, sentBytes = 0, receivedBytes = 0;
  bool isWorking = false;
  const char *running = nullptr; ///< The kernel.
};

State &state() {
  static auto *made = new State; // Lives as long as the process.
  return *made;
}

thread_local std::vector<Context> contexts;

[[noreturn]] __attribute__((format(printf, 1, 2))) void
violation(const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int length = snprintf(line, sizeof(line), "emulated CUDA: ");
  length += vsnprintf(line + length, sizeof(line) - size_t(length) - 1, format,
                      arguments);
  va_end(arguments);
  line[length++] = '\n';
  ssize_t ignored = write(STDERR_FILENO, line, size_t(length));
  (void)ignored;
  _exit(70);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

bool isInRegion(uint64_t address) {
  State &s = state();
  auto begin = uint64_t(reinterpret_cast<uintptr_t>(s.region));
  return s.region && address >= begin && address < begin + regionBytes;
}

/// The allocation at or before \p address, or null.
std::pair<uint8_t *const, Allocation> *findAllocation(uint64_t address) {
  State &s = state();
  auto after = s.allocations.upper_bound(
      reinterpret_cast<uint8_t *>(uintptr_t(address)));
  return after == s.allocations.begin() ? nullptr : &*std::prev(after);
}

/// Says what is wrong with \p bytes bytes at \p address; exits if anything is.
void checkRange(const char *what, uint64_t address, uint64_t bytes) {
  if (!isInRegion(address))
    violation("%s: 0x%llx is no address of the device", what,
              (unsigned long long)address);
  auto *found = findAllocation(address);
  if (!found)
    violation("%s: nothing is at 0x%llx", what, (unsigned long long)address);
  if (found->second.isFree)
    violation("%s: 0x%llx was given back", what, (unsigned long long)address);
  uint64_t offset = address - uint64_t(uintptr_t(found->first));
  if (offset > found->second.bytes || bytes > found->second.bytes - offset)
    violation("%s: %llu bytes at %llu of an allocation of %zu", what,
              (unsigned long long)bytes, (unsigned long long)offset,
              found->second.bytes);
}

void checkCanary(uint8_t *address, const Allocation &allocation) {
  uint8_t *end = allocation.pages + allocation.pageCount * pageBytes;
  for (uint8_t *at = address + allocation.bytes; at < end; ++at)
    if (*at != canary)
      violation("something has written %td bytes past the end of an "
                "allocation of %zu",
                at - (address + allocation.bytes) + 1, allocation.bytes);
}

void explainFault(int, siginfo_t *info, void *) {
  State &s = state();
  auto address = uint64_t(uintptr_t(info->si_addr));
  const char *who = s.running ? s.running : "the program";
  if (isInRegion(address)) {
    auto *found = findAllocation(address);
    if (!found)
      violation("%s touches 0x%llx, before all memory", who,
                (unsigned long long)address);
    uint64_t offset = address - uint64_t(uintptr_t(found->first));
    if (found->second.isFree)
      violation("%s touches memory that was given back", who);
    if (!s.isWorking)
      violation("%s touches memory of the device, which is the device's", who);
    violation("%s touches byte %llu of an allocation of %zu", who,
              (unsigned long long)offset, found->second.bytes);
  }
  if (s.running)
    violation("%s touches 0x%llx, which is no address of the device", who,
              (unsigned long long)address);
  signal(SIGSEGV, SIG_DFL); // Not ours: happens again.
}

/// Gives access to all memory of the device, or takes it.
void setAccess(bool isWorking) {
  State &s = state();
  s.isWorking = isWorking;
  for (auto &[address, allocation] : s.allocations) {
    if (allocation.isFree)
      continue;
    if (!isWorking)
      checkCanary(address, allocation);
    mprotect(allocation.pages, allocation.pageCount * pageBytes,
             isWorking ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
}

//===----------------------------------------------------------------------===//
// Streams
//===----------------------------------------------------------------------===//

/// Does what was asked of \p stream before \p place.
void flush(EmulatedStream &stream, uint64_t place = UINT64_MAX) {
  if (stream.done >= place || stream.queue.empty())
    return;
  setAccess(true);
  while (!stream.queue.empty() && stream.done < place) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.done;
    work.run();
  }
  setAccess(false);
}

void flushAll() {
  for (EmulatedStream *stream : state().streams)
    flush(*stream);
}

void enqueue(Stream handle, Work work) {
  auto *stream = reinterpret_cast<EmulatedStream *>(handle);
  if (stream->captured)
    stream->captured->works.push_back(std::move(work));
  else
    stream->queue.push_back(std::move(work));
}

void enqueue(Stream handle, std::function<void()> run) {
  enqueue(handle, Work{std::move(run)});
}

void runKernel(const EmulatedFunction &function, unsigned grid,
               const hadal_cuda_parameters_t &parameters) {
  State &s = state();
  s.running = function.second->name;
  ++s.kernelRuns;
  function.first->run(function.second, grid, &parameters);
  s.running = nullptr;
}

/// Checks that \p word, an argument of \p kernel, can be one.
void checkWord(const hadal_cuda_kernel_t *kernel, int index, int64_t word) {
  auto address = uint64_t(word);
  // Counts are small, and no address of a processor is.
  bool isCount = word > -(int64_t(1) << 32) && word < (int64_t(1) << 32);
  if (isCount)
    return;
  char what[128];
  snprintf(what, sizeof(what), "argument %d of %s", index, kernel->name);
  checkRange(what, address, 0);
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

/// Counts a call, and says if it is to fail.
Result enter(const char *name, bool needsContext) {
  int64_t count = ++state().calls[name];
  if (const char *text = getenv("HADAL_EMULATED_CUDA_FAIL")) {
    size_t length = strlen(name);
    if (!strncmp(text, name, length) && text[length] == ':' &&
        atoll(text + length + 1) == count)
      return !strncmp(name, "cuMemAlloc", 10) ? outOfMemory : unknown;
  }
  return needsContext && contexts.empty() ? invalidContext : success;
}

int64_t readNumber(const char *name, int64_t byDefault) {
  const char *text = getenv(name);
  return text ? atoll(text) : byDefault;
}

/// The end of the shared library that begins at \p image: its section headers
/// are last.
size_t libraryBytes(const void *image) {
  Elf64_Ehdr header;
  memcpy(&header, image, sizeof(header));
  return size_t(header.e_shoff) +
         size_t(header.e_shnum) * size_t(header.e_shentsize);
}

struct AtExit {
  ~AtExit() {
    State &s = state();
    const Counts &live = s.live;
    if (const char *path = getenv("HADAL_EMULATED_CUDA_REPORT"))
      if (FILE *file = fopen(path, "w")) {
        fprintf(file,
                "{\"kernel_runs\": %lld, \"kernel_launches\": %lld, "
                "\"graph_launches\": %lld, \"graphs\": %lld, "
                "\"peak_bytes\": %zu, \"sent_bytes\": %lld, "
                "\"received_bytes\": %lld}\n",
                (long long)s.kernelRuns, (long long)s.calls["cuLaunchKernel"],
                (long long)s.graphLaunches,
                (long long)s.calls["cuGraphInstantiateWithFlags"], s.peakBytes,
                (long long)s.sentBytes, (long long)s.receivedBytes);
        fclose(file);
      }
    const std::pair<const char *, int64_t> kinds[] = {
        {"allocations", live.allocations},
        {"pinned allocations", live.hostAllocations},
        {"modules", live.modules},
        {"streams", live.streams},
        {"events", live.events},
        {"graphs", live.graphs},
        {"executable graphs", live.graphExecs},
        {"contexts", live.contexts}};
    bool leaks = false;
    for (auto [what, count] : kinds)
      if (count) {
        fprintf(stderr, "emulated CUDA: %lld %s were not given back\n",
                (long long)count, what);
        leaks = true;
      }
    fflush(nullptr);
    if (leaks)
      _exit(71);
  }
} atExit;

} // namespace

#define ENTER(needsContext)                                                    \
  std::lock_guard<std::recursive_mutex> lock(state().mutex);                   \
  if (Result entered = enter(__func__, needsContext))                          \
    return entered;

Result cuGetErrorString(Result result, const char **text) {
  switch (result) {
  case outOfMemory:
    *text = "out of memory";
    return success;
  case noBinary:
    *text = "no kernel image is available for execution on the device";
    return success;
  case invalidContext:
    *text = "invalid device context";
    return success;
  case invalidImage:
    *text = "device kernel image is invalid";
    return success;
  case notFound:
    *text = "named symbol not found";
    return success;
  case captureUnsupported:
    *text = "operation not permitted when stream is capturing";
    return success;
  case unknown:
    *text = "unknown error";
    return success;
  }
  return invalidValue;
}

Result cuInit(unsigned) {
  ENTER(false);
  State &s = state();
  if (s.region)
    return success;
  void *region = mmap(nullptr, regionBytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED)
    return outOfMemory;
  s.region = static_cast<uint8_t *>(region);
  s.used = pageBytes;
  struct sigaction action = {};
  action.sa_sigaction = explainFault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  return success;
}

Result cuDeviceGetCount(int *count) {
  ENTER(false);
  *count = int(readNumber("HADAL_EMULATED_CUDA_DEVICES", 1));
  return success;
}

Result cuDeviceGet(DeviceNumber *device, int ordinal) {
  ENTER(false);
  *device = 100 + ordinal;
  return success;
}

Result cuDeviceGetName(char *name, int bytes, DeviceNumber device) {
  ENTER(false);
  snprintf(name, size_t(bytes), "emulated GPU %d", device - 100);
  return success;
}

Result cuDeviceGetAttribute(int *value, int attribute, DeviceNumber) {
  ENTER(false);
  *value = attribute == attributeCapabilityMajor ? 9 : 0;
  return success;
}

Result cuDevicePrimaryCtxRetain(Context *context, DeviceNumber device) {
  ENTER(false);
  if (device < 100)
    return invalidDevice;
  ++state().live.contexts;
  *context = reinterpret_cast<Context>(intptr_t(device));
  return success;
}

Result cuDevicePrimaryCtxRelease_v2(DeviceNumber) {
  ENTER(false);
  --state().live.contexts;
  return success;
}

Result cuCtxPushCurrent_v2(Context context) {
  ENTER(false);
  contexts.push_back(context);
  return success;
}

Result cuCtxPopCurrent_v2(Context *context) {
  ENTER(true);
  *context = contexts.back();
  contexts.pop_back();
  return success;
}

Result cuMemGetInfo_v2(size_t *free, size_t *all) {
  ENTER(true);
  *all = size_t(readNumber("HADAL_EMULATED_CUDA_BYTES", int64_t(1) << 36));
  *free = *all - state().liveBytes;
  return success;
}

Result cuModuleLoadData(Module *out, const void *image) {
  ENTER(true);
  std::string path;
  int descriptor = -1;
  if (!memcmp(image, ELFMAG, SELFMAG)) {
    descriptor = memfd_create("kernels", 0);
    auto *bytes = static_cast<const char *>(image);
    for (size_t left = libraryBytes(image); left;) {
      ssize_t now = write(descriptor, bytes, left);
      if (now <= 0)
        return outOfMemory;
      bytes += now;
      left -= size_t(now);
    }
    path = "/proc/self/fd/" + std::to_string(descriptor);
  } else if (const char *named = getenv("HADAL_EMULATED_CUDA_KERNELS")) {
    path = named;
  } else {
    return noBinary;
  }
  auto module = std::make_unique<EmulatedModule>();
  module->handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module->handle)
    fprintf(stderr, "emulated CUDA: %s\n", dlerror());
  if (descriptor >= 0)
    close(descriptor);
  if (!module->handle)
    return invalidImage;
  module->program = static_cast<const hadal_cuda_program_t *>(
      dlsym(module->handle, "hadal_model_cuda"));
  module->run = reinterpret_cast<Run>(dlsym(module->handle, "hadal_cuda_run"));
  if (!module->program || !module->run) {
    dlclose(module->handle);
    return invalidImage;
  }
  ++state().live.modules;
  *out = reinterpret_cast<Module>(module.release());
  return success;
}

Result cuModuleUnload(Module handle) {
  ENTER(true);
  flushAll();
  auto *module = reinterpret_cast<EmulatedModule *>(handle);
  dlclose(module->handle);
  delete module;
  --state().live.modules;
  return success;
}

Result cuModuleGetFunction(Function *out, Module handle, const char *name) {
  ENTER(true);
  auto *module = reinterpret_cast<EmulatedModule *>(handle);
  for (int64_t i = 0; i < module->program->kernel_count; ++i) {
    const hadal_cuda_kernel_t *kernel = module->program->kernels[i];
    if (strcmp(kernel->name, name) != 0)
      continue;
    module->functions.emplace_back(module, kernel);
    *out = reinterpret_cast<Function>(&module->functions.back());
    return success;
  }
  return notFound;
}

Result cuFuncSetAttribute(Function handle, int attribute, int value) {
  ENTER(true);
  auto *function = reinterpret_cast<EmulatedFunction *>(handle);
  return attribute == attributeMaxDynamicSharedBytes &&
                 value == function->second->shared_bytes
             ? success
             : invalidValue;
}

Result cuMemAlloc_v2(Address *out, size_t bytes) {
  ENTER(true);
  State &s = state();
  size_t all =
      size_t(readNumber("HADAL_EMULATED_CUDA_BYTES", int64_t(1) << 36));
  if (!bytes)
    return invalidValue;
  // Its end is that of its last page, but for the alignment of its start.
  size_t aligned = (bytes + alignment - 1) & -alignment;
  size_t pages = (aligned + pageBytes - 1) / pageBytes;
  if (bytes > all - s.liveBytes ||
      (pages + 1) * pageBytes > regionBytes - s.used)
    return outOfMemory;
  uint8_t *start = s.region + s.used;
  s.used += (pages + 1) * pageBytes; // And one without access.
  mprotect(start, pages * pageBytes, PROT_READ | PROT_WRITE);
  uint8_t *address = start + pages * pageBytes - aligned;
  memset(start, 0xff, pages * pageBytes);
  memset(address + bytes, canary, aligned - bytes);
  mprotect(start, pages * pageBytes, PROT_NONE);
  s.allocations[address] = {bytes, start, pages, false};
  s.liveBytes += bytes;
  s.peakBytes = std::max(s.peakBytes, s.liveBytes);
  ++s.live.allocations;
  *out = Address(uintptr_t(address));
  return success;
}

Result cuMemFree_v2(Address address) {
  ENTER(true);
  checkRange("cuMemFree", address, 0);
  flushAll();
  State &s = state();
  auto found =
      s.allocations.find(reinterpret_cast<uint8_t *>(uintptr_t(address)));
  if (found == s.allocations.end())
    violation("cuMemFree: no allocation begins there");
  Allocation &allocation = found->second;
  mprotect(allocation.pages, allocation.pageCount * pageBytes,
           PROT_READ | PROT_WRITE);
  checkCanary(found->first, allocation);
  madvise(allocation.pages, allocation.pageCount * pageBytes, MADV_DONTNEED);
  mprotect(allocation.pages, allocation.pageCount * pageBytes, PROT_NONE);
  allocation.isFree = true;
  s.liveBytes -= allocation.bytes;
  --s.live.allocations;
  return success;
}

Result cuMemAllocHost_v2(void **out, size_t bytes) {
  ENTER(true);
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory)
    return outOfMemory;
  memset(memory, 0xff, bytes);
  state().pinned[static_cast<uint8_t *>(memory)] = bytes;
  ++state().live.hostAllocations;
  *out = memory;
  return success;
}

Result cuMemFreeHost(void *memory) {
  ENTER(true);
  State &s = state();
  auto found = s.pinned.find(static_cast<uint8_t *>(memory));
  if (found == s.pinned.end())
    violation("cuMemFreeHost: that is no pinned memory");
  // Others may have work: it is not theirs.
  for (EmulatedStream *stream : s.streams)
    for (const Work &work : stream->queue)
      if (work.from >= found->first && work.from < found->first + found->second)
        violation("pinned memory is given back while a stream still sends it");
  s.pinned.erase(found);
  free(memory);
  --s.live.hostAllocations;
  return success;
}

Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes,
                            Stream stream) {
  ENTER(true);
  State &s = state();
  checkRange("cuMemcpyHtoDAsync", to, bytes);
  auto *begin = static_cast<uint8_t *>(const_cast<void *>(from));
  auto after = s.pinned.upper_bound(begin);
  if (after == s.pinned.begin() ||
      begin + bytes > std::prev(after)->first + std::prev(after)->second)
    violation("cuMemcpyHtoDAsync: what is sent is not in pinned memory");
  s.sentBytes += int64_t(bytes);
  auto send = [=] {
    memcpy(reinterpret_cast<void *>(uintptr_t(to)), from, bytes);
  };
  enqueue(stream, Work{send, begin});
  return success;
}

Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes,
                            Stream stream) {
  ENTER(true);
  checkRange("cuMemcpyDtoHAsync", from, bytes);
  state().receivedBytes += int64_t(bytes);
  enqueue(stream, [=] {
    memcpy(to, reinterpret_cast<const void *>(uintptr_t(from)), bytes);
  });
  return success;
}

Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes,
                            Stream stream) {
  ENTER(true);
  checkRange("cuMemcpyDtoDAsync", to, bytes);
  checkRange("cuMemcpyDtoDAsync", from, bytes);
  enqueue(stream, [=] {
    memcpy(reinterpret_cast<void *>(uintptr_t(to)),
           reinterpret_cast<const void *>(uintptr_t(from)), bytes);
  });
  return success;
}

Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes,
                       Stream stream) {
  ENTER(true);
  checkRange("cuMemsetD8Async", to, bytes);
  enqueue(stream, [=] {
    memset(reinterpret_cast<void *>(uintptr_t(to)), value, bytes);
  });
  return success;
}

Result cuStreamCreate(Stream *out, unsigned) {
  ENTER(true);
  auto *stream = new EmulatedStream;
  state().streams.push_back(stream);
  ++state().live.streams;
  *out = reinterpret_cast<Stream>(stream);
  return success;
}

Result cuStreamDestroy_v2(Stream handle) {
  ENTER(true);
  auto *stream = reinterpret_cast<EmulatedStream *>(handle);
  flush(*stream);
  auto &streams = state().streams;
  streams.erase(std::find(streams.begin(), streams.end(), stream));
  delete stream;
  --state().live.streams;
  return success;
}

Result cuStreamSynchronize(Stream handle) {
  ENTER(true);
  auto *stream = reinterpret_cast<EmulatedStream *>(handle);
  if (stream->captured)
    return captureUnsupported;
  flush(*stream);
  return success;
}

Result cuEventCreate(Event *out, unsigned) {
  ENTER(true);
  ++state().live.events;
  *out = reinterpret_cast<Event>(new EmulatedEvent);
  return success;
}

Result cuEventDestroy_v2(Event event) {
  ENTER(true);
  delete reinterpret_cast<EmulatedEvent *>(event);
  --state().live.events;
  return success;
}

Result cuEventRecord(Event handle, Stream streamHandle) {
  ENTER(true);
  auto *event = reinterpret_cast<EmulatedEvent *>(handle);
  event->stream = reinterpret_cast<EmulatedStream *>(streamHandle);
  event->place = event->stream->done + event->stream->queue.size();
  return success;
}

Result cuEventSynchronize(Event handle) {
  ENTER(true);
  auto *event = reinterpret_cast<EmulatedEvent *>(handle);
  if (event->stream)
    flush(*event->stream, event->place);
  return success;
}

Result cuLaunchKernel(Function handle, unsigned gridX, unsigned gridY,
                      unsigned gridZ, unsigned blockX, unsigned blockY,
                      unsigned blockZ, unsigned sharedBytes, Stream stream,
                      void **parameters, void **extra) {
  ENTER(true);
  auto *function = reinterpret_cast<EmulatedFunction *>(handle);
  if (!function || !parameters || extra)
    return invalidValue;
  const hadal_cuda_kernel_t *kernel = function->second;
  hadal_cuda_parameters_t given = {};
  memcpy(&given.step, parameters[0], sizeof(given.step));
  memcpy(&given.items, parameters[1], sizeof(given.items));
  for (int i = 0; i < kernel->params; ++i) {
    memcpy(&given.words[i], parameters[i + 2], sizeof(int64_t));
    checkWord(kernel, i, given.words[i]);
  }
  if (gridX != hadal_cuda_host::grid(*kernel, given.items) || gridY != 1 ||
      gridZ != 1 || blockX != unsigned(kernel->block_threads) || blockY != 1 ||
      blockZ != 1 || sharedBytes != unsigned(kernel->shared_bytes))
    violation("%s: %u blocks of %u threads for %lld items", kernel->name, gridX,
              blockX, (long long)given.items);
  const hadal_rt_step_t &step = given.step;
  for (const void *address : {static_cast<const void *>(step.weights),
                              static_cast<const void *>(step.arena),
                              static_cast<const void *>(step.kv),
                              static_cast<const void *>(step.page_table),
                              static_cast<const void *>(step.token_ids),
                              static_cast<const void *>(step.positions),
                              static_cast<const void *>(step.sequences),
                              static_cast<const void *>(step.output_rows),
                              static_cast<const void *>(step.adapters),
                              static_cast<const void *>(step.logits)})
    if (address)
      checkRange(kernel->name, uint64_t(uintptr_t(address)), 0);
  // The processor's are not for kernels.
  given.step.dispatch = nullptr;
  given.step.pool = nullptr;
  enqueue(stream,
          [function, gridX, given] { runKernel(*function, gridX, given); });
  return success;
}

Result cuStreamBeginCapture_v2(Stream handle, int) {
  ENTER(true);
  auto *stream = reinterpret_cast<EmulatedStream *>(handle);
  if (stream->captured)
    return captureUnsupported;
  stream->captured = std::make_unique<EmulatedGraph>();
  return success;
}

Result cuStreamEndCapture(Stream handle, Graph *out) {
  ENTER(true);
  auto *stream = reinterpret_cast<EmulatedStream *>(handle);
  if (!stream->captured)
    return captureUnsupported;
  ++state().live.graphs;
  *out = reinterpret_cast<Graph>(stream->captured.release());
  return success;
}

Result cuGraphInstantiateWithFlags(GraphExec *out, Graph graph,
                                   unsigned long long) {
  ENTER(true);
  ++state().live.graphExecs;
  *out = reinterpret_cast<GraphExec>(
      new EmulatedGraph(*reinterpret_cast<EmulatedGraph *>(graph)));
  return success;
}

Result cuGraphDestroy(Graph graph) {
  ENTER(true);
  delete reinterpret_cast<EmulatedGraph *>(graph);
  --state().live.graphs;
  return success;
}

Result cuGraphExecDestroy(GraphExec graph) {
  ENTER(true);
  delete reinterpret_cast<EmulatedGraph *>(graph);
  --state().live.graphExecs;
  return success;
}

Result cuGraphLaunch(GraphExec graph, Stream stream) {
  ENTER(true);
  ++state().graphLaunches;
  for (const Work &work : reinterpret_cast<EmulatedGraph *>(graph)->works)
    enqueue(stream, work);
  return success;
}
