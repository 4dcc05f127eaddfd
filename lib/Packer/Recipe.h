// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Evaluates the recipe of a weight piece by piece. A node stands for a value of
// the recipe and computes any range of its elements on demand, so that memory
// does not grow with the size of the weight.

#ifndef HADAL_PACKER_RECIPE_H
#define HADAL_PACKER_RECIPE_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "lib/Packer/FloatConversion.h"
#include "lib/Support/FileIO.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "llvm/ADT/StringMap.h"

namespace hadal {

namespace deepseek {
class ExpertMerger;
} // namespace deepseek

/// The files of a checkpoint, opened when first read. None is mapped.
class SourceFiles {
public:
  /// \param folder Files are named relative to it and must lie within it.
  /// \param adapterFolder The same for files whose names start with
  /// `deepseek::adapterFolderPrefix`, less that. Empty: there are none.
  explicit SourceFiles(llvm::StringRef folder,
                       llvm::StringRef adapterFolder = {})
      : folder(folder.str()), adapterFolder(adapterFolder.str()) {}

  /// Lets \p name stand for the file at \p path, wherever it is.
  void add(llvm::StringRef name, llvm::StringRef path) {
    paths[name] = path.str();
  }

  /// Reads \p bytes at \p offset of \p file.
  ///
  /// kInvalidArgument: the name leaves the folder, by itself or through a
  /// symbolic link; the file cannot be read; or it is too short.
  absl::Status read(llvm::StringRef file, uint64_t offset, void *data,
                    uint64_t bytes);

  /// Opens \p file, or finds it open; valid until the next call. Errors as for
  /// `read`.
  absl::StatusOr<InputFile *> open(llvm::StringRef file);

  /// How experts are merged, which the recipes of several weights have in
  /// common, by what it is computed from; null until one of them needs it.
  std::shared_ptr<const deepseek::ExpertMerger> &
  getMerger(const std::string &key) {
    return mergers[key];
  }
  /// Lets \p layer be the name of the experts that the one of \p key merges.
  void nameMerger(llvm::StringRef layer, const std::string &key) {
    mergedLayers.emplace_back(layer.str(), key);
  }
  /// Calls \p visit with each that has a name and has merged something, in the
  /// order in which they got it.
  void forEachMerger(
      llvm::function_ref<void(llvm::StringRef, const deepseek::ExpertMerger &)>
          visit) const {
    for (const auto &[layer, key] : mergedLayers)
      if (auto merger = mergers.lookup(key))
        visit(layer, *merger);
  }

private:
  std::string folder, adapterFolder;
  llvm::StringMap<std::string> paths; ///< Of files that are not in it.
  llvm::StringMap<std::unique_ptr<InputFile>> files;
  llvm::StringMap<std::shared_ptr<const deepseek::ExpertMerger>> mergers;
  /// Names of layers, and keys of their mergers.
  std::vector<std::pair<std::string, std::string>> mergedLayers;
};

/// Computes ranges of the elements of one value, in row-major order.
class RecipeNode {
public:
  virtual ~RecipeNode() = default;

  /// Computes elements [first, first + count) into \p out.
  ///
  /// kInvalidArgument: a source cannot be read, or an element is not finite or
  /// does not fit its type; names tensor and index.
  virtual absl::Status evaluate(int64_t first, int64_t count, void *out) = 0;

  /// Ranges that are multiples of this many elements are the fastest.
  virtual int64_t getGranule() const { return 1; }

  ElementKind getKind() const { return kind; }
  int64_t getElementBytes() const { return sizeBytes(kind); }
  /// Elements as they are stored, padding included.
  int64_t getCount() const { return count; }

protected:
  RecipeNode(ElementKind kind, int64_t count) : kind(kind), count(count) {}

  ElementKind kind;
  int64_t count;
};

/// A node that computes as much at a time as suits it.
class PiecewiseNode : public RecipeNode {
public:
  absl::Status evaluate(int64_t first, int64_t count, void *out) final;

protected:
  using RecipeNode::RecipeNode;

  /// Computes elements from \p first on, at most \p count, into \p out.
  /// \returns How many, at least 1; errors are those of evaluate().
  virtual absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                                void *out) = 0;

  /// Evaluates elements [first, first + count) of \p node, widened to f32, into
  /// \p to.
  absl::Status read(RecipeNode &node, int64_t first, int64_t count,
                    std::vector<float> &to);

private:
  std::vector<char> readElements; ///< As the node that was read has them.
};

/// Nodes of a recipe, which keep each other alive.
struct Recipe {
  std::vector<std::unique_ptr<RecipeNode>> nodes;
  /// The value that the weight stores.
  RecipeNode *result = nullptr;
};

/// Prepares the recipe of \p weight; reads nothing yet.
///
/// kInvalidArgument: a source has no file. kUnimplemented: an op that the
/// packer does not know.
absl::StatusOr<Recipe> makeRecipe(deepseek::WeightOp weight,
                                  SourceFiles &files);

} // namespace hadal

#endif // HADAL_PACKER_RECIPE_H
