// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which experts become one, and how: one choice for the reference interpreter
// and for the packer.

#ifndef HADAL_DIALECTS_DEEPSEEK_IR_EXPERTMERGING_H
#define HADAL_DIALECTS_DEEPSEEK_IR_EXPERTMERGING_H

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <vector>

namespace hadal::deepseek {

/// Merges the experts of a layer as `deepseek.merge_experts` says. Holds, of
/// each, what it makes of some made-up rows, and no weights.
class ExpertMerger {
public:
  /// An expert that becomes part of another.
  struct Member {
    int64_t expert;
    double share; ///< Of the merged expert; those of all members add up to 1.
    /// The channel that becomes channel i of the merged expert.
    std::vector<int32_t> channels;
    /// Of the mass of all experts of the layer; 0 if nothing says what each
    /// has.
    double massShare = 0;
    /// The cosine of what it makes of the rows and what the member with the
    /// largest mass makes of them; 0 if one makes nothing.
    double similarity = 1;
  };

  /// \param moments Mean squares of the input, `[hidden]`; empty: ones.
  ExpertMerger(int64_t experts, int64_t inner, int64_t hidden,
               llvm::ArrayRef<float> moments);

  /// Runs \p expert, whose \p gate and \p up are `[inner, hidden]` and whose
  /// \p down is `[hidden, inner]`, all finite.
  void add(int64_t expert, const float *gate, const float *up,
           const float *down);

  /// Forms \p keep of all experts, once, after each has been added. \p masses,
  /// `[experts]`, say how much each counts; empty: all alike.
  void merge(int64_t keep, llvm::ArrayRef<float> masses);

  /// The merged expert that each one is part of.
  llvm::ArrayRef<int32_t> getMap() const { return map; }
  /// How many experts are left.
  int64_t getCount() const { return int64_t(members.size()); }
  /// Of merged expert \p index, in the order of their numbers.
  llvm::ArrayRef<Member> getMembers(int64_t index) const {
    return members[size_t(index)];
  }

private:
  void cluster(int64_t keep);
  std::vector<int32_t> align(int64_t reference, int64_t expert) const;

  int64_t experts, inner, hidden;
  std::vector<float> rows;  ///< `[hidden, rows]`
  std::vector<float> signs; ///< `[hidden, rows]`, of ones and minus ones.
  /// Of each expert: what its gate, up and down make of the rows,
  /// `[inner, 3 * rows]`, and what it makes of them, `[hidden, rows]`.
  std::vector<std::vector<float>> channels, outputs;
  std::vector<int32_t> map;
  std::vector<std::vector<Member>> members;
};

/// How much each of \p members counts in what is known of the merged expert, by
/// \p counts, on how many rows each expert is: shares of all, or zeros.
std::vector<double> shareCounts(llvm::ArrayRef<ExpertMerger::Member> members,
                                llvm::ArrayRef<float> counts);

/// The mean over experts of \p moments, `[experts, hidden]`, of the rows that
/// chose each, by \p masses; empty if there are none.
std::vector<float> averageMoments(llvm::ArrayRef<float> moments,
                                  llvm::ArrayRef<float> masses,
                                  int64_t experts);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_IR_EXPERTMERGING_H
