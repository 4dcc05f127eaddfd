// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A pushdown automaton over bytes, and how it is put together.

#include "Grammar.h"

#include <algorithm>

namespace hadal::text {

using Impl = Grammar::Impl;

Grammar::Grammar(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Grammar::~Grammar() = default;

int32_t Impl::addRule() {
  starts.push_back(addNode());
  nodes[size_t(addNode())].ends = true;
  return int32_t(starts.size()) - 1;
}

void Impl::addByte(int32_t from, int32_t to, uint8_t first, uint8_t last) {
  nodes[size_t(from)].edges.push_back({Edge::Byte, first, last, 0, to});
}

void Impl::addJump(int32_t from, int32_t to) {
  nodes[size_t(from)].edges.push_back({Edge::Jump, 0, 0, 0, to});
}

void Impl::addCall(int32_t from, int32_t to, int32_t rule) {
  nodes[size_t(from)].edges.push_back({Edge::Call, 0, 0, rule, to});
}

void Impl::addText(int32_t from, int32_t to, std::string_view text) {
  if (text.empty())
    return addJump(from, to);
  for (size_t i = 0; i < text.size(); ++i) {
    int32_t next = i + 1 == text.size() ? to : addNode();
    addByte(from, next, uint8_t(text[i]), uint8_t(text[i]));
    from = next;
  }
}

/// Writes \p character, at least 0x80, in UTF-8. \returns The bytes.
static size_t encodeLong(uint32_t character, uint8_t *bytes) {
  size_t size = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
  for (size_t i = size; --i; character >>= 6)
    bytes[i] = uint8_t(0x80 | (character & 0x3f));
  bytes[0] = uint8_t((0xf00 >> size) | character);
  return size;
}

void Impl::addCharacter(int32_t from, int32_t to, uint32_t first,
                        uint32_t last) {
  if (first > last)
    return;
  // Parts of one length each.
  for (uint32_t limit : {0x7fu, 0x7ffu, 0xffffu})
    if (first <= limit && last > limit) {
      addCharacter(from, to, first, limit);
      return addCharacter(from, to, limit + 1, last);
    }
  if (last < 0x80)
    return addByte(from, to, uint8_t(first), uint8_t(last));
  // Parts whose bytes each have a range of their own.
  for (uint32_t bits : {6, 12, 18}) {
    uint32_t mask = (1u << bits) - 1;
    if ((first & ~mask) == (last & ~mask))
      continue;
    if (first & mask) {
      addCharacter(from, to, first, first | mask);
      return addCharacter(from, to, (first | mask) + 1, last);
    }
    if ((last & mask) != mask) {
      addCharacter(from, to, first, (last & ~mask) - 1);
      return addCharacter(from, to, last & ~mask, last);
    }
  }
  uint8_t firstBytes[4], lastBytes[4];
  size_t size = encodeLong(first, firstBytes);
  encodeLong(last, lastBytes);
  for (size_t i = 0; i < size; ++i) {
    int32_t next = i + 1 == size ? to : addNode();
    addByte(from, next, firstBytes[i], lastBytes[i]);
    from = next;
  }
}

void Impl::addRepeated(int32_t from, int32_t to, int32_t rule, int64_t min,
                       int64_t max) {
  for (int64_t i = 0; i < min && !isTooLarge(); ++i) {
    int32_t next = addNode();
    addCall(from, next, rule);
    from = next;
  }
  if (max < 0) {
    int32_t loop = addNode();
    addJump(from, loop);
    addCall(loop, loop, rule);
    return addJump(loop, to);
  }
  for (int64_t i = std::max<int64_t>(min, 0); i < max && !isTooLarge(); ++i) {
    int32_t next = addNode();
    addJump(from, to);
    addCall(from, next, rule);
    from = next;
  }
  addJump(from, to);
}

bool Impl::finish() {
  constexpr int32_t none = maxDepth + 1;
  for (Node &node : nodes)
    node.depth = node.ends ? 0 : none;
  auto depthOf = [&](const Edge &edge) {
    int32_t depth = nodes[size_t(edge.to)].depth;
    if (edge.kind == Edge::Call)
      depth =
          std::max(depth, nodes[size_t(starts[size_t(edge.rule)])].depth + 1);
    return depth;
  };
  // The least fixed point. Backwards, since most edges lead forwards.
  for (bool changes = true; changes;) {
    changes = false;
    for (size_t i = nodes.size(); i--;)
      for (const Edge &edge : nodes[i].edges)
        if (int32_t depth = depthOf(edge); depth < nodes[i].depth) {
          nodes[i].depth = depth;
          changes = true;
        }
  }
  for (Node &node : nodes)
    node.edges.erase(
        std::remove_if(node.edges.begin(), node.edges.end(),
                       [&](const Edge &edge) { return depthOf(edge) >= none; }),
        node.edges.end());
  return nodes[size_t(starts[0])].depth < none;
}

} // namespace hadal::text
