// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A LoRA adapter as PEFT saves it: adapter_config.json beside
// adapter_model.safetensors.

#ifndef HADAL_IMPORT_LORA_ADAPTER_H
#define HADAL_IMPORT_LORA_ADAPTER_H

#include "lib/Import/Safetensors/Safetensors.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Support/JSON.h"

#include <map>

namespace hadal::lora {

/// What an adapter adds to a matrix: scale * B A (Hu et al. 2021,
/// arXiv:2106.09685, section 4.1). Of an embedding, the transpose of it.
///
/// Of a stack of experts, as PEFT's `target_parameters` has it, one pair is of
/// all: A is `[experts * rank, inputs]`, B `[outputs, rank * experts]`, with
/// the ranks of an expert next to each other in A and the experts of a rank in
/// B. Gate and up are one matrix then, and each has half of the rows of B.
struct LowRank {
  const safetensors::Tensor *a = nullptr; ///< `[rank, inputs]`
  const safetensors::Tensor *b = nullptr; ///< `[outputs, rank]`
  std::string aName, bName;               ///< In the adapter's file.
  bool isEmbedding = false;
  bool isStack = false;
  int64_t halves = 1; ///< Weights that share B, one after the other.
  int64_t half = 0;   ///< Which of them this is of.
  /// What patterns of the configuration are matched with.
  std::string module;
  int64_t rank = 0; ///< As the configuration says it.
  /// alpha / rank, or alpha / sqrt(rank) with `use_rslora`.
  double scale = 0;
};

/// A tensor that takes the place of one of the model.
struct Replacement {
  const safetensors::Tensor *tensor;
  std::string name; ///< In the adapter's file.
  /// It is of the base, as PEFT saves embeddings and biases beside matrices of
  /// low rank, which then change it.
  bool isBase;
};

class Adapter {
public:
  // Not copied: what it finds points into it.
  Adapter(Adapter &&) = default;
  Adapter &operator=(Adapter &&) = default;

  /// Reads the configuration in \p folder and the header of the tensors'
  /// file, and checks that they agree. Adds to \p notes.
  ///
  /// - kInvalidArgument: a file is not there or wrong.
  /// - kUnimplemented: a variant of LoRA that Hadal does not merge.
  static absl::StatusOr<Adapter> open(llvm::StringRef folder,
                                      std::vector<std::string> &notes);

  /// What the adapter adds to the tensor that Hugging Face calls \p name,
  /// "model.layers.0.mlp.up_proj.weight", or to the stack of all tensors that
  /// it means with a number in place of `{}`, or null; counts it as used.
  const LowRank *findLowRank(llvm::StringRef name);

  /// What the adapter adds to some tensor whose name is \p name but for the
  /// numbers in it, or null.
  const LowRank *findLike(llvm::StringRef name) const;

  /// Whether `findLowRank` finds something.
  bool changes(llvm::StringRef name) const {
    return lowRanks.count(name.str());
  }

  /// The tensor that takes the place of \p name, or null; counts it as used.
  const Replacement *findReplacement(llvm::StringRef name);

  /// Checks that \p change is one of a matrix, or a stack, of \p shape.
  ///
  /// kInvalidArgument: it is not; the message has the tensor and both shapes.
  absl::Status checkShapes(const LowRank &change,
                           llvm::ArrayRef<int64_t> shape) const;

  /// kUnimplemented: the adapter has whole tensors, too.
  absl::Status checkLowRank() const;

  /// An error if a tensor was not asked for. \p model ends its message: what
  /// it is no part of.
  absl::Status checkUnused(const llvm::Twine &model) const;

  const safetensors::Checkpoint &getCheckpoint() const { return checkpoint; }
  /// How names in the file begin.
  static std::string getTensorName(llvm::StringRef name);

private:
  explicit Adapter(safetensors::Checkpoint checkpoint)
      : checkpoint(std::move(checkpoint)) {}

  absl::Status readConfig(const llvm::json::Object &json, llvm::StringRef path,
                          std::vector<std::string> &notes);
  absl::Status addTensors();
  absl::Status addStacks(std::map<std::string, LowRank> pairs);
  absl::StatusOr<double>
  valueFor(llvm::StringRef module, double fallback,
           const std::vector<std::pair<std::string, double>> &pattern) const;

  safetensors::Checkpoint checkpoint;
  std::string configPath;
  int64_t rank = 0;
  double alpha = 0;
  bool isRankStabilized = false;
  bool hasBiases = false;
  /// Last words of the modules that it says it is for; empty: it does not.
  std::vector<std::string> targets, saved;
  /// Last words of the parameters that it says it is for.
  std::vector<std::string> parameters;
  /// Ranks and alphas of single modules, by regular expressions.
  std::vector<std::pair<std::string, double>> rankPattern, alphaPattern;

  /// By the name of the tensor that they change.
  std::map<std::string, LowRank> lowRanks;
  std::map<std::string, Replacement> replacements;
  llvm::StringSet<> used;
};

} // namespace hadal::lora

#endif // HADAL_IMPORT_LORA_ADAPTER_H
