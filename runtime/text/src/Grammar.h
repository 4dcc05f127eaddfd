// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A pushdown automaton over bytes, and how it is put together.

#ifndef HADAL_TEXT_SRC_GRAMMAR_H
#define HADAL_TEXT_SRC_GRAMMAR_H

#include "hadal_text/constraint.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace hadal::text {

/// Nodes and edges. A rule is a part that edges can call: it is entered at its
/// start, and left at a node that ends it.
struct Grammar::Impl {
  /// A byte takes one from `first` to `last`; a call, what a rule allows; a
  /// jump, nothing.
  struct Edge {
    enum Kind : uint8_t { Byte, Call, Jump } kind;
    uint8_t first = 0, last = 0;
    int32_t rule = 0;
    int32_t to = 0;
  };
  struct Node {
    std::vector<Edge> edges;
    bool ends = false; ///< The rule.
    /// Deepest stack that the shortest way to an end takes; see finish().
    int32_t depth = 0;
  };

  /// Nested deeper than this, a text cannot get.
  static constexpr int32_t maxDepth = 256;
  static constexpr size_t maxNodes = 100000;

  int32_t addNode() {
    nodes.emplace_back();
    return int32_t(nodes.size()) - 1;
  }
  /// Adds a rule that is empty so far. \returns Its number.
  int32_t addRule();
  /// The node where \p rule ends.
  int32_t endOf(int32_t rule) const { return starts[size_t(rule)] + 1; }

  // Each adds an edge or a path between two nodes.
  void addByte(int32_t from, int32_t to, uint8_t first, uint8_t last);
  void addJump(int32_t from, int32_t to);
  void addCall(int32_t from, int32_t to, int32_t rule);
  /// All of \p text.
  void addText(int32_t from, int32_t to, std::string_view text);
  /// One character from \p first to \p last in UTF-8.
  void addCharacter(int32_t from, int32_t to, uint32_t first, uint32_t last);
  /// \p rule, \p min times, or up to \p max; -1: any number.
  void addRepeated(int32_t from, int32_t to, int32_t rule, int64_t min,
                   int64_t max);

  bool isTooLarge() const { return nodes.size() > maxNodes; }

  /// Drops what leads to no end. \returns Whether rule 0 has one.
  bool finish();

  std::vector<Node> nodes;
  std::vector<int32_t> starts; ///< Of rules.
};

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_GRAMMAR_H
