// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The main program of executables of graphs that are no language models: reads
// inputs, runs, writes outputs.

#include "NpyReader.h"
#include "NpyWriter.h"
#include "OwnPath.h"
#include "Report.h"

#include "hadal_rt/graph.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

using namespace hadal;
using namespace hadal::run;

/// Comes from the object that the compiler made.
extern "C" const hadal_rt_graph_t hadal_graph;

static const char helpText[] =
    R"(usage: %s [--input NAME=FILE.npy].. [--output NAME=FILE.npy]..

  %s --input x=x.npy --output y=y.npy

  --input NAME=FILE.npy   the elements of an input; each of them is needed
  --output NAME=FILE.npy  where those of an output go (nowhere)
  --list                  names, types and shapes of inputs and outputs
  --weights FILE          the weights (this program's name and .weights)
  --help                  this text
)";

namespace {
struct Element {
  int32_t number;
  const char *name;
  const char *descr; ///< As NumPy has it; bf16 is bytes to it.
  uint64_t bytes;
};
constexpr Element elements[] = {
    {HADAL_RT_ELEMENT_F32, "f32", "<f4", 4},
    {HADAL_RT_ELEMENT_U8, "u8", "|u1", 1},
    {HADAL_RT_ELEMENT_I8, "i8", "|i1", 1},
    {HADAL_RT_ELEMENT_U16, "u16", "<u2", 2},
    {HADAL_RT_ELEMENT_I16, "i16", "<i2", 2},
    {HADAL_RT_ELEMENT_I32, "i32", "<i4", 4},
    {HADAL_RT_ELEMENT_I64, "i64", "<i8", 8},
    {HADAL_RT_ELEMENT_BOOL, "bool", "|b1", 1},
    {HADAL_RT_ELEMENT_F16, "f16", "<f2", 2},
    {HADAL_RT_ELEMENT_F64, "f64", "<f8", 8},
    {HADAL_RT_ELEMENT_U32, "u32", "<u4", 4},
    {HADAL_RT_ELEMENT_U64, "u64", "<u8", 8},
    {HADAL_RT_ELEMENT_BF16, "bf16", "<V2", 2},
};

/// 64-byte aligned memory, at least a byte.
class Buffer {
public:
  bool reserve(uint64_t bytes) {
    data.reset(aligned_alloc(64, (bytes / 64 + 1) * 64));
    return bool(data);
  }
  void *get() const { return data.get(); }

private:
  struct Free {
    void operator()(void *pointer) const { free(pointer); }
  };
  std::unique_ptr<void, Free> data;
};

/// An input or output, and what the command line says of it.
struct Slot {
  const hadal_rt_graph_tensor_t *tensor;
  const Element *element;
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
  std::string path;
  Buffer buffer;
};

class GraphRunner {
public:
  ExitCode main(int argc, char **argv);

private:
  ExitCode describe(const hadal_rt_graph_tensor_t *tensors, int64_t count,
                    std::vector<Slot> &slots);
  ExitCode parse(int argc, char **argv);
  ExitCode takePath(std::vector<Slot> &slots, const char *flag,
                    const std::string &value);
  ExitCode list();
  ExitCode readInputs();
  ExitCode openWeights(const void *&weights);
  ExitCode run();
  ExitCode writeOutputs();

  std::vector<Slot> inputs, outputs;
  std::string weightsPath;
  bool showsHelp = false, showsList = false;
  hadal_rt_weights_t *handle = nullptr;
};
} // namespace

ExitCode GraphRunner::describe(const hadal_rt_graph_tensor_t *tensors,
                               int64_t count, std::vector<Slot> &slots) {
  for (int64_t i = 0; i < count; ++i) {
    Slot slot;
    slot.tensor = &tensors[i];
    slot.element = nullptr;
    for (const Element &element : elements)
      if (element.number == tensors[i].element)
        slot.element = &element;
    if (!slot.element)
      return reportError(InternalError, "'%s' has elements of type %d",
                         tensors[i].name, tensors[i].element);
    slot.shape.assign(tensors[i].shape, tensors[i].shape + tensors[i].rank);
    slot.bytes = slot.element->bytes;
    for (int64_t size : slot.shape)
      slot.bytes *= uint64_t(size);
    slots.push_back(std::move(slot));
  }
  return Done;
}

ExitCode GraphRunner::takePath(std::vector<Slot> &slots, const char *flag,
                               const std::string &value) {
  // Names may have = in them, paths too: the longest name that fits.
  Slot *found = nullptr;
  for (Slot &slot : slots) {
    std::string start = std::string(slot.tensor->name) + "=";
    if (!value.compare(0, start.size(), start) &&
        (!found || start.size() > strlen(found->tensor->name) + 1))
      found = &slot;
  }
  if (!found)
    return reportError(BadInput,
                       "%s %s: expected NAME=FILE.npy, and a name that --list "
                       "shows",
                       flag, value.c_str());
  if (!found->path.empty())
    return reportUsage("%s '%s' is given twice", flag, found->tensor->name);
  found->path = value.substr(strlen(found->tensor->name) + 1);
  if (found->path.empty())
    return reportUsage("%s '%s' has no file", flag, found->tensor->name);
  return Done;
}

ExitCode GraphRunner::parse(int argc, char **argv) {
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      showsHelp = true;
      continue;
    }
    if (argument == "--list") {
      showsList = true;
      continue;
    }
    std::optional<std::string> value;
    size_t equals = argument.find('=');
    std::string flag = argument.substr(0, equals);
    if (flag != "--input" && flag != "--output" && flag != "--weights")
      return reportUsage("unknown argument '%s'", argv[i]);
    if (equals != std::string::npos)
      value = argument.substr(equals + 1);
    else if (i + 1 < argc)
      value = argv[++i];
    else
      return reportUsage("'%s' needs a value", argv[i]);
    ExitCode code = Done;
    if (flag == "--weights")
      weightsPath = *value;
    else
      code =
          takePath(flag == "--input" ? inputs : outputs, flag.c_str(), *value);
    if (code)
      return code;
  }
  return Done;
}

ExitCode GraphRunner::list() {
  std::string text;
  for (const auto &[what, slots] :
       {std::pair("input", &inputs), std::pair("output", &outputs)})
    for (const Slot &slot : *slots) {
      text += std::string(what) + " " + slot.tensor->name + " " +
              slot.element->name + "[";
      for (size_t i = 0; i < slot.shape.size(); ++i)
        text += (i ? "," : "") + std::to_string(slot.shape[i]);
      text += "]\n";
    }
  return printOutput(text);
}

ExitCode GraphRunner::readInputs() {
  for (Slot &slot : inputs) {
    const char *name = slot.tensor->name;
    if (slot.path.empty())
      return reportUsage("input '%s' is missing: --input '%s=FILE.npy'", name,
                         name);
    NpyArray array;
    std::string error = readNpy(slot.path, slot.element->descr,
                                slot.element->bytes, slot.shape, array);
    if (!error.empty())
      return reportError(BadInput, "input '%s': %s", name, error.c_str());
    if (slot.element->number == HADAL_RT_ELEMENT_BOOL)
      for (char &byte : array.data)
        byte = byte != 0;
    if (!slot.buffer.reserve(slot.bytes))
      return reportError(BadInput, "input '%s': no memory for %llu bytes", name,
                         (unsigned long long)slot.bytes);
    memcpy(slot.buffer.get(), array.data.data(), array.data.size());
  }
  return Done;
}

ExitCode GraphRunner::openWeights(const void *&weights) {
  weights = nullptr;
  if (!hadal_graph.weights_bytes)
    return Done;
  std::string path = weightsPath;
  if (path.empty()) {
    if (ExitCode code = findOwnPath(path))
      return code;
    path += ".weights";
  }
  uint64_t bytes;
  if (hadal_rt_graph_weights_open(&hadal_graph, path.c_str(), &handle) ||
      hadal_rt_weights_section(handle, "weights", &weights, &bytes))
    return reportError(BadInput, "%s", hadal_rt_last_error());
  return Done;
}

ExitCode GraphRunner::run() {
  const void *weights;
  if (ExitCode code = openWeights(weights))
    return code;
  Buffer arena;
  if (!arena.reserve(uint64_t(hadal_graph.arena_bytes)))
    return reportError(BadInput, "no memory for %lld bytes",
                       (long long)hadal_graph.arena_bytes);
  std::vector<const void *> from;
  std::vector<void *> to;
  for (Slot &slot : inputs)
    from.push_back(slot.buffer.get());
  for (Slot &slot : outputs) {
    if (!slot.buffer.reserve(slot.bytes))
      return reportError(BadInput, "output '%s': no memory for %llu bytes",
                         slot.tensor->name, (unsigned long long)slot.bytes);
    to.push_back(slot.buffer.get());
  }
  if (hadal_graph.run(from.data(), to.data(), weights, arena.get()))
    return reportError(BadInput,
                       "an index is out of range, or an integer is divided by "
                       "zero");
  return Done;
}

ExitCode GraphRunner::writeOutputs() {
  for (Slot &slot : outputs) {
    if (slot.path.empty())
      continue;
    NpyWriter writer;
    if (!writer.open(slot.path, slot.element->descr, slot.shape) ||
        !writer.append(slot.buffer.get(), slot.bytes) || !writer.commit())
      return reportError(BadInput, "output '%s': cannot write '%s': %s",
                         slot.tensor->name, slot.path.c_str(), strerror(errno));
  }
  return Done;
}

ExitCode GraphRunner::main(int argc, char **argv) {
  setProgramName(argv[0]);
  ExitCode code = describe(hadal_graph.inputs, hadal_graph.input_count, inputs);
  if (!code)
    code = describe(hadal_graph.outputs, hadal_graph.output_count, outputs);
  if (!code)
    code = parse(argc, argv);
  if (code)
    return code;
  if (showsHelp) {
    std::string text;
    appendFormat(text, helpText, programName(), programName());
    return printOutput(text);
  }
  if (showsList)
    return list();
  if (hadal_rt_graph_check(&hadal_graph))
    return reportError(BadInput, "%s", hadal_rt_last_error());
  for (auto step : {&GraphRunner::readInputs, &GraphRunner::run,
                    &GraphRunner::writeOutputs})
    if (!code)
      code = (this->*step)();
  hadal_rt_weights_close(handle);
  return code;
}

int main(int argc, char **argv) { return GraphRunner().main(argc, argv); }
