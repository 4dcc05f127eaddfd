// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model on disk becomes a program, a library or an object, and a weights
// file.

#ifndef HADAL_COMPILER_H
#define HADAL_COMPILER_H

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace hadal {

/// What a compilation produces.
enum class Emit {
  Executable,
  Library,
  Object,
  Cpp,
  Cuda,
  MLIR,
  LLVMIR,
  Assembly
};

/// Where a compilation can stop, in order.
enum class Phase {
  Import,      ///< The model, in the deepseek dialect.
  Graph,       ///< The same, optimized.
  RT,          ///< A host program of dispatches, and kernels.
  Planned,     ///< The same, with every buffer's place in the arena.
  LLVMDialect, ///< A module of the llvm dialect alone.
  LLVMIR,      ///< LLVM IR, optimized.
  Object       ///< An object file.
};

/// To what the inputs of products with weights are rounded.
enum class Activations {
  F32,  ///< They are not.
  Int8, ///< Of integers: to 8 bits and a scale a group, which is lossy.
  BF16  ///< Of bf16, f16 and FP8: to bf16, which is lossy.
};

/// "f32", "int8" or "bf16".
const char *getActivationsName(Activations activations);

/// What has that name; nothing if nothing has it.
std::optional<Activations> parseActivations(std::string_view name);

/// How far a compilation is.
struct Progress {
  const char *phase; ///< "import", "optimize", "lower", "emit", "link", "pack".
  uint64_t doneBytes = 0;
  uint64_t totalBytes = 0; ///< 0 if the phase does not count bytes.
};

struct CompileOptions {
  /// A Hugging Face folder, or a .mlir file in the deepseek dialect.
  std::string model;
  /// What is written: itself, or with .a, .so, .cpp, .cu, .h and .weights after
  /// it, where the .o of an object is left out. Empty with `stopAfter`, or "-":
  /// the standard output. Empty without: nothing is written.
  std::string output;
  Emit emit = Emit::Executable;
  /// Print the module after this phase to `output`, and stop.
  std::optional<Phase> stopAfter;
  /// Triple of the machine that runs the product. Empty: that of this one.
  std::string target;
  /// As in clang's -mcpu: x86-64-v3, cortex-a76, native, ... Empty: that of
  /// this machine, or for another target what all its processors have. Several,
  /// with commas between them: code for each, of which the runtime chooses.
  std::string cpu;
  /// False: no file with tensors is opened and no weights file is written.
  bool packWeights = true;
  /// An executable carries its weights; there is no weights file.
  bool embedWeights = false;
  /// Tokens a sequence may have. 0: as many as the model says.
  int64_t contextTokens = 0;
  /// Keys that a GGUF file lacks, and their values, as `ImportOptions` has
  /// them.
  std::vector<std::pair<std::string, std::string>> ggufKeys;
  /// Sizes of the dimensions of an ONNX graph that have none, by their names,
  /// or by INPUT.AXIS. With any, the graph is compiled as one of tensors.
  std::vector<std::pair<std::string, int64_t>> dims;
  /// Folder of a LoRA adapter, as PEFT saves it, which is added to the weights.
  /// Empty: none.
  std::string lora;
  /// Adapters that are kept beside the weights for sequences to choose from:
  /// each one's name and its folder.
  std::vector<std::pair<std::string, std::string>> adapters;
  /// Experts of a token, fewer than the model has; lossy. 0: as many as it has.
  int64_t topK = 0;
  /// Experts of a layer that are left when those that do much the same become
  /// one; lossy. 0: all.
  int64_t mergeExperts = 0;
  /// Store the experts that a calibration's text chooses most first.
  bool orderExperts = false;
  /// What is taken away: items like layers:2, experts:25%, channels:10% and
  /// heads:1, with commas between them; lossy. Empty: nothing.
  std::string prune;
  /// So many layers get a gate, by which `skipPercent` percent of a
  /// calibration's tokens skip each; lossy. 0: none.
  int64_t skipLayers = 0, skipPercent = 0;
  /// Layers before which tokens leave for good, each with the percentage of a
  /// calibration's tokens that do; lossy.
  std::vector<std::pair<int64_t, int64_t>> exits;
  /// A .safetensors file of trained gates, by which tokens skip layers, or
  /// leave before one; lossy. Empty: none.
  std::string gates;
  /// Whether tokens may go through fewer layers than there are.
  bool hasGates() const {
    return skipLayers || !exits.empty() || !gates.empty();
  }
  /// A text that says what matters, UTF-8; or ids of its tokens, with commas
  /// between them, if it ends in .tokens; or statistics of one, if it ends in
  /// .safetensors. Empty: weights alone do.
  std::string calibration;
  /// Where statistics of that text are kept. Empty: nowhere.
  std::string saveStatistics;
  /// The path of hadal-eval. Empty: nothing is measured.
  std::string evaluator;
  /// Say in the report what is lost, if an executable is made for this machine,
  /// with a text to calibrate on.
  bool measuresLoss = false;
  /// Compile a program that can gather statistics: `hadal-run --eval` with
  /// --statistics=FILE; and second moments, for `rounding` "gptq".
  bool hasProbes = false, hasGramProbes = false;
  /// Which weights are stored as which integers, as -deepseek-quantize takes
  /// it, or `auto:4.5bpw`, with a text to calibrate on and an `evaluator`, for
  /// the mix that loses least with so many bits a weight; lossy. Empty: as the
  /// model has them.
  std::string quantize;
  /// How they are rounded: "rtn", to nearest, or by a calibration, "imatrix",
  /// "awq", "smoothquant" or "gptq"; see -deepseek-quantize. Empty: "imatrix"
  /// with a calibration, "rtn" without.
  std::string rounding;
  /// For "smoothquant": how much of the range of inputs moves to weights, from
  /// 0 to 1.
  double smoothing = 0.5;
  /// `rounding`, never empty.
  std::string getRounding() const {
    if (!rounding.empty())
      return rounding;
    return calibration.empty() ? "rtn" : "imatrix";
  }
  /// Tokens that a token sees, itself included, and of the first ones, which
  /// it sees, too; lossy. Nothing: what the model says.
  struct Window {
    int64_t tokens = 0, sink = 0;
  };
  std::optional<Window> window;
  /// What keys and values, or latents, are rounded to when they are cached:
  /// "f32", which is lossless, "bf16", "f16" or "int8".
  std::string cacheElement = "f32";
  /// What queries, and weights of the softmax, are rounded to where they are
  /// multiplied with latents: "f32", or "bf16" for a cache of bf16 or int8.
  std::string attentionElement = "f32";
  /// Nothing: Int8 with weights that become integers, F32 with others.
  std::optional<Activations> activations;
  /// Hold passes and kernels to the reference interpreter, on a tiny model of
  /// the same architecture, before anything else.
  bool verify = false;
  /// Sequences that the memory formula is worked out for. 0: one.
  int64_t maxBatch = 0;
  /// Of an object: its header, NAME.h, which names the model NAME_model. Empty:
  /// there is none, and it is hadal_model. A library has one anyway.
  std::string header;
  /// If not empty, gets a rule for make and ninja: what is written needs the
  /// files that were read.
  std::string depfile;
  /// Write the IR of host program and kernels beside the product, to `output`
  /// with .mlir after it, and give the code line numbers of that, for debuggers
  /// and profilers.
  bool debugInfo = false;
  /// Whether the result has the IR.
  bool listIR = false;
  /// If not empty, gets a numbered file of the IR after each pass.
  std::string dumpFolder;
  /// Folder of libhadal_rt.a, libhadal_text.a and libhadal_run_main.a.
  std::string libraryFolder;
  /// Folder of hadal_rt/abi.h, for source that is compiled.
  std::string includeFolder;
  /// The path of nvcc, for Emit::Cuda. "none": only source is made. Empty: that
  /// in PATH or in /usr/local/cuda, or else none.
  std::string nvcc;
  /// Called at the start of each phase, and while weights are packed.
  std::function<void(const Progress &)> progress;
};

/// What one function of a model, or all of the model, holds and does.
struct LayerReport {
  std::string name;
  int64_t count = 1; ///< Calls in one step.
  /// Of one call:
  int64_t parameters = 0;
  int64_t activeParameters = 0; ///< Without experts that a token does not use.
  int64_t flopsPerToken = 0;    ///< Of products with weights; a multiplication
                                ///< and an addition are two.
  int64_t attentionFlops = 0;   ///< Per token and token that it attends to, or
                                ///< that it scores to select some.
  int64_t selectedFlops = 0;    ///< Per token and token that it selects.
  int64_t selectedTokens = 0; ///< How many it selects at most; 0: it does not.
  int64_t weightBytes = 0;
  int64_t activeBytes = 0; ///< Weight bytes that one token reads.
};

/// Weights that are stored in one way.
struct StorageReport {
  std::string type; ///< "bf16", "fp8-128x128", "int4-g32": see --quantize.
  int64_t parameters = 0;
  int64_t bytes = 0; ///< With their scales.

  double bitsPerWeight() const {
    return parameters ? 8 * double(bytes) / double(parameters) : 0;
  }
};

/// A step of `tokens` tokens of one sequence, which has `depth` before them.
struct StepShape {
  int64_t tokens = 1;
  int64_t depth = 0;
  int64_t outputs = 1; ///< Tokens whose logits are wanted.
};

/// Bytes and operations, a multiplication and an addition being two.
struct WorkAmount {
  double bytes = 0;       ///< Of weights, cache and buffers.
  double bufferBytes = 0; ///< Of those, of buffers.
  double int8Ops = 0, f32Ops = 0;
  double exps = 0, rounded = 0; ///< Exponentials, and numbers made integers.
};

/// One dispatch of a step: the fields of `#rt.work`, and its place.
struct DispatchReport {
  std::string layer; ///< The function it is in.
  int64_t count = 1; ///< Calls of that in a step.
  std::string op, kernel;
  bool outputs = false, selected = false, isAlternative = false;
  int64_t weights = 0, experts = 0, expertsPerRow = 0;
  int64_t rowBytes = 0, contextBytes = 0, windowTokens = 0;
  int64_t rowF32Ops = 0, rowInt8Ops = 0, pairF32Ops = 0, contextF32Ops = 0;
  int64_t pairExps = 0, rowRounded = 0, leastRows = 0, belowRows = 0;
  /// Its items are the rows: threads have nothing to share of a single one.
  bool isByRow = false;

  /// Whether this is what does the work in \p step, not another of its kind.
  bool isUsedIn(const StepShape &step) const;
  /// What one call does in \p step.
  WorkAmount amountIn(const StepShape &step) const;
  /// Bits that the weight of a product takes for each element, with its scales;
  /// 0 if this is no product.
  double weightBits() const;
};

/// What a machine can do a second, for predictions.
struct Machine {
  /// A cache: of all threads together, where each has its own.
  struct Cache {
    double bytes = 0, bytesPerSecond = 0;
  };
  /// What products reach with weights of as many bits, measured by loops like
  /// those of kernels: of integers, or of 16 bits in f32.
  struct Products {
    double bits = 0; ///< With scales and offsets.
    /// Of one row: the share of `bytesPerSecond` at which weights come from
    /// memory, and bytes a second of those that are in a cache.
    double shareOfMemory = 1, rowBytesPerSecond = 0;
    double opsPerSecond = 0; ///< Of many rows.
  };

  double bytesPerSecond = 0, int8OpsPerSecond = 0, f32OpsPerSecond = 0;
  double dispatchSeconds = 0; ///< Start and end of one dispatch.
  /// That share the work; 0 if it is not known.
  double threads = 0;
  /// Exponentials, and numbers that are rounded to integers, a second; bytes of
  /// a row, and of many, that one dispatch wrote and the next reads. 0: as fast
  /// as anything.
  double expsPerSecond = 0, roundedPerSecond = 0, handoverBytesPerSecond = 0,
         rowsBytesPerSecond = 0;
  std::vector<Cache> caches; ///< Smaller ones first; none are known.
  /// By bits, fewer first. If there are none, products reach the peaks.
  std::vector<Products> products;
};

/// What a pass did to the module.
struct PassChange {
  std::string pass;                   ///< As hadal-opt takes it, no options.
  std::map<std::string, int64_t> ops; ///< More or fewer of each; never 0.
  bool isChanged = false; ///< In anything: also attributes, types, order.
};

/// The optimized model in words.
struct IRListing {
  /// Name and text of each function, in the deepseek dialect.
  std::vector<std::pair<std::string, std::string>> functions;
  std::vector<std::string> passes; ///< In order, as hadal-opt takes them.
  std::vector<PassChange> changes; ///< Of each of them.
};

/// What lossy options cost and save, on the text of the calibration.
struct LossReport {
  int64_t tokens = 0; ///< Of the text.
  double perplexity = 0, basePerplexity = 0;
  double klDivergence = 0; ///< To the model without them, in nats a token.
  double topAgreement = 0; ///< Share of tokens with the same first choice.
  /// Where layers have gates: the share of times that a token skipped one, and
  /// of operations that this saved.
  double skippedShare = 0, savedShare = 0;
  /// Of the model without them.
  int64_t baseParameters = 0, baseFlops = 0, baseWeightBytes = 0;
};

/// An expert of before that is part of a merged one.
struct MergedExpert {
  int64_t number = 0;
  /// Of the weights with which the text chose the layer's experts; 0 without.
  double massShare = 0;
  /// The cosine of what it makes of made-up rows, and what the member with the
  /// largest share does; see `deepseek.merge_experts`.
  double similarity = 0;
};

/// What the experts of a layer have become: the members of each that is left.
struct MergedLayer {
  std::string router; ///< The name of its weight.
  std::vector<std::vector<MergedExpert>> experts;
};

/// What a model needs and does. Bytes are those of stored weights without the
/// padding of tiles, and of the cache.
struct ModelReport {
  std::string name, type;
  std::string cacheElement; ///< "f32", "bf16", "f16", "int8-g64".
  LayerReport total;
  std::vector<LayerReport> layers; ///< Distinct ones, and what is around them.
  std::vector<StorageReport> storage; ///< The most parameters first.
  int64_t headFlops = 0;          ///< Of `flopsPerToken`, per row of logits.
  int64_t kvBytesPerToken = 0;    ///< All layers.
  int64_t indexBytesPerToken = 0; ///< Of those, keys by which tokens are
                                  ///< selected: all of them are read.
  int64_t contextTokens = 0;
  int64_t maxBatch = 1;
  /// Known after the RT phase; 0 before:
  int64_t weightsBytes = 0; ///< Of section "weights", padding included.
  int64_t pageTokens = 0, pageBytes = 0;
  int64_t arenaPerToken = 0, arenaFixed = 0;
  std::vector<DispatchReport> dispatches;
  /// Known if `CompileOptions::evaluator` has measured it.
  std::optional<LossReport> loss;
  /// Known where weights are packed; empty if no experts were merged.
  std::vector<MergedLayer> merged;
  /// If it is set, the report predicts the speed of this machine.
  std::optional<Machine> machine;
  /// Where every layer has a window: tokens that a token sees, itself included,
  /// at most, and of the first ones. 0: it sees all.
  int64_t windowTokens = 0, sinkTokens = 0;

  /// Tokens that the one after \p position others sees, itself included.
  int64_t seenTokens(int64_t position) const;
  /// Most KV pages that a sequence holds, with steps of \p tokens.
  int64_t pagesOfSequence(int64_t tokens) const;
  /// FLOPs of one token after \p position others, and of \p tokens at once.
  int64_t decodeFlops(int64_t position) const;
  int64_t prefillFlops(int64_t tokens) const;
  /// Bytes of weights and cache that these read.
  int64_t decodeBytes(int64_t position) const;
  int64_t prefillBytes(int64_t tokens) const;
  /// Most bytes besides the weights that a session of `maxBatch` sequences of
  /// `contextTokens` holds, with steps of \p tokens.
  int64_t peakBytes(int64_t tokens) const;
  /// How long \p step takes on `machine`, which is set.
  double predictSeconds(const StepShape &step) const;

  /// A table that fits 80 columns, and one JSON object on one line.
  std::string toText() const;
  std::string toJSON() const;
  /// A page for a browser, with \p ir, that needs no other file.
  std::string toHTML(const IRListing &ir) const;
};

/// What `CompileOptions::verify` found on a tiny model.
struct Verification {
  /// Errors are those of a logit, of the largest |logit|.
  struct Step {
    std::string name;     ///< Of the pass, or "program".
    double error = 0;     ///< To what was before it.
    double tolerance = 0; ///< 0: it is lossy, and changes what it is to change.
    /// Names of ops, and how many of each functions have then; of the program,
    /// nothing.
    std::map<std::string, int64_t> ops;
  };
  std::string model; ///< What the tiny model is.
  int64_t tokens = 0;
  std::vector<Step> steps;

  /// One line a step.
  std::string toText() const;
};

struct CompileResult {
  std::optional<Verification> verification;
  ModelReport report;
  IRListing ir;                   ///< If `CompileOptions::listIR`.
  std::vector<std::string> notes; ///< What the importer assumed.
  std::string shortfall; ///< What is not made, and why. Empty: nothing.
  /// Of a program with probes, what each is of.
  std::vector<std::string> probes;
  /// What passes say: weights that are not stored as the scheme says, what
  /// was pruned or merged, and why.
  std::vector<std::string> remarks;
};

/// Compiles a model.
///
/// Everything is written under temporary names and renamed at the end: after an
/// error, or a signal that ends the process, no output is left. The same
/// inputs and options give the same bytes. Each error is one line that names
/// the file, tensor or place in the IR.
///
/// \param result If not null, filled as far as the compilation comes.
///
/// - kInvalidArgument, kNotFound: the model, an option or a file is wrong, or a
///   step of the verification is out of tolerance.
/// - kUnimplemented: Hadal does not support what is asked.
/// - kInternal: a bug in Hadal.
absl::Status compile(const CompileOptions &options,
                     CompileResult *result = nullptr);

/// Reads a machine: `bandwidth=37GB/s,int8=2.0TOPS,f32=485GFLOPS,dispatch=3us`,
/// the last being optional, or the path of what `hadal-bench --json` printed,
/// which also has caches and what loops like those of kernels reach.
///
/// - kInvalidArgument: a part of \p text is not as above.
/// - kNotFound: there is no such file, or it lacks a number.
absl::StatusOr<Machine> parseMachine(const std::string &text);

/// Checks that \p scheme is one for `CompileOptions::quantize`.
///
/// - kInvalidArgument: it is not; the message says what is expected.
absl::Status checkQuantizeScheme(const std::string &scheme);

/// The same for \p method and `CompileOptions::rounding`.
absl::Status checkRounding(const std::string &method);

/// Checks that \p list is one for `CompileOptions::prune`.
///
/// - kInvalidArgument: it is not; the message says what is expected.
absl::Status checkPruneList(const std::string &list);

/// Returns the manifest, JSON, of the product at \p path: an executable, an
/// object, a library, or a weights file. If there is no such file, \p path
/// with .a, .so or .weights after it.
absl::StatusOr<std::string> readManifest(const std::string &path);

} // namespace hadal

#endif // HADAL_COMPILER_H
