// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a config.json says of a model's graph, checked and with defaults filled
// in. One structure for all generations; a new one adds a row, not a reader.

#ifndef HADAL_IMPORT_CONFIG_H
#define HADAL_IMPORT_CONFIG_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "lib/Import/HuggingFace/PackedConfig.h"

#include "absl/status/statusor.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/JSON.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hadal::huggingface {

/// Element types of a checkpoint that `torch_dtype` may name.
enum class TorchDType { BFloat16, Float16, Float32 };

struct RopeConfig {
  enum class Type { Default, Linear, Llama3, Yarn };
  Type type = Type::Default;
  double theta = 0;
  double factor = 1;
  int64_t originalTokens = 0;
  /// Llama3.
  double lowFreqFactor = 0, highFreqFactor = 0;
  /// Yarn.
  double betaFast = 0, betaSlow = 0;
  /// Multiplies cosine and sine.
  double attentionFactor = 1;
  /// Multiplies the softmax scale of MLA: g(factor, mscale_all_dim)^2.
  double softmaxFactor = 1;
  bool truncate = true;
};

/// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).
struct LatentConfig {
  std::optional<int64_t> queryRank; // q_lora_rank; none: one q_proj.
  int64_t rank = 0;                 // kv_lora_rank
  int64_t nopeDim = 0;              // qk_nope_head_dim
  int64_t ropeDim = 0;              // qk_rope_head_dim
  int64_t valueDim = 0;             // v_head_dim
};

/// Attention over a window and compressed entries (DeepSeek-V4).
struct CompressedConfig {
  /// Layers of this ratio have overlapping windows and an indexer.
  static constexpr int64_t overlappingRatio = 4;

  int64_t queryRank = 0;    // q_lora_rank
  int64_t ropeDim = 0;      // qk_rope_head_dim
  int64_t outputRank = 0;   // o_lora_rank
  int64_t outputGroups = 0; // o_groups
  int64_t window = 0;       // sliding_window
  /// Tokens of an entry, for each layer; 0: it has none. compress_ratios
  /// without what it says of layers for multi-token prediction.
  std::vector<int64_t> ratios;
  int64_t indexHeads = 0, indexDim = 0, indexTopK = 0;
  /// Of layers that have entries; `Config::rope` is that of the others.
  RopeConfig rope;
};

/// Residual streams (DeepSeek-V4).
struct HyperConfig {
  int64_t streams = 0;    // hc_mult
  int64_t iterations = 0; // hc_sinkhorn_iters
  double epsilon = 0;     // hc_eps
};

/// The lightning indexer of sparse attention (DeepSeek-V3.2-Exp, section 1).
struct IndexerConfig {
  int64_t heads = 0;          // index_n_heads
  int64_t dim = 0;            // index_head_dim
  int64_t topK = 0;           // index_topk
  bool isInterleaved = false; // indexer_rope_interleave, of GLM-5
};

struct MoEConfig {
  int64_t experts = 0, sharedExperts = 0, topK = 0;
  int64_t groups = 1, topGroups = 1;
  int64_t intermediate = 0;
  int64_t firstDense = 0, layerFreq = 1;
  deepseek::Scoring scoring = deepseek::Scoring::Softmax;
  deepseek::TopKMethod method = deepseek::TopKMethod::Greedy;
  bool normalize = false;
  double scale = 1;
  /// The first layers, which choose experts by the token alone.
  int64_t hashLayers = 0;
  /// Cuts off what is between the matrices of experts.
  std::optional<double> limit;
  /// Whether experts are stored in 4 bits, groups of 32 with one exponent.
  bool isFP4 = false;
};

struct Config {
  /// The file that says all this.
  std::string path;
  std::string modelType;
  int64_t vocab = 0, hidden = 0, layers = 0, intermediate = 0;
  int64_t heads = 0, kvHeads = 0, headDim = 0;
  int64_t maxPositions = 0;
  double normEpsilon = 0;
  RopeConfig rope;
  std::optional<LatentConfig> latent;
  std::optional<CompressedConfig> compressed;
  std::optional<HyperConfig> hyper;
  std::optional<IndexerConfig> indexer;
  std::optional<MoEConfig> moe;
  /// Which projections have a bias: q, k and v; the first projections of MLA
  /// (q_a and kv_a); o; gate, up and down.
  bool qkvBias = false, latentBias = false, outputBias = false, mlpBias = false;
  bool tiedEmbeddings = false;
  /// Tokens that a token sees, itself included, in layers that have a window;
  /// none: all before it.
  std::optional<int64_t> windowTokens;
  std::vector<bool> windowedLayers; ///< Of each layer, if there are tokens.
  bool isFP8 = false;
  /// How quantized matrices are stored, if not as DeepSeek's own FP8.
  std::optional<PackedConfig> packed;
  TorchDType dtype = TorchDType::BFloat16;
  /// Layers stored after the last one, for multi-token prediction.
  int64_t mtpLayers = 0;
  std::optional<int64_t> bosToken;
  std::vector<int64_t> eosTokens;

  bool isMoELayer(int64_t layer) const {
    return moe && layer >= moe->firstDense && layer % moe->layerFreq == 0;
  }
};

/// How much YaRN raises the softmax temperature: g of arXiv:2309.00071,
/// eq. 22, with DeepSeek's `mscale`.
double yarnMScale(double factor, double mscale);

/// No published model comes near; far enough below 2^63 that products of two
/// dimensions cannot overflow.
constexpr int64_t maxDimension = int64_t(1) << 24;
constexpr int64_t maxLayers = 4096;
constexpr int64_t maxExperts = int64_t(1) << 16;
/// Positions are i32.
constexpr int64_t maxTokens = (int64_t(1) << 31) - 1;

/// Checks \p json, which came from the file \p path, key by key; a key that is
/// neither used nor known not to matter is an error. Adds to \p notes.
absl::StatusOr<Config> readConfig(const llvm::json::Object &json,
                                  llvm::StringRef path,
                                  std::vector<std::string> &notes);

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_CONFIG_H
