// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text that follows a grammar: the automaton is made deterministic as far as
// the text comes, and the vocabulary is walked by its bytes.

#include "Grammar.h"

#include <algorithm>
#include <limits>

namespace hadal::text {

using Impl = Grammar::Impl;

/// Beyond these, what was found out is forgotten: 1 KiB a state, 13 KiB a mask
/// of 100,000 tokens.
static constexpr size_t maxStates = 16384;
static constexpr size_t maxMasks = 1024;
static constexpr size_t maxStacks = 4096;

static constexpr int32_t deadState = 0;

//===----------------------------------------------------------------------===//
// TokenTrie
//===----------------------------------------------------------------------===//

TokenTrie::TokenTrie(const Tokenizer &tokenizer)
    : ends(tokenizer.eosIds()), vocabSize(tokenizer.vocabSize()) {
  std::vector<std::pair<std::string_view, int32_t>> sorted;
  for (int32_t id = 0; id < tokenizer.vocabSize(); ++id) {
    std::string_view bytes = tokenizer.tokenBytes(id);
    if (!bytes.empty() &&
        bytes.size() <= std::numeric_limits<uint16_t>::max() &&
        !tokenizer.isSpecial(id) &&
        !std::binary_search(ends.begin(), ends.end(), id))
      sorted.emplace_back(bytes, id);
  }
  std::sort(sorted.begin(), sorted.end());
  nodes.push_back({0, 0, 0, 0});
  std::vector<size_t> open = {0}; // The nodes of the last token's bytes.
  std::string_view last;
  auto close = [&](size_t depth) {
    for (; open.size() > depth + 1; open.pop_back())
      nodes[open.back()].end = int32_t(nodes.size());
  };
  for (auto [bytes, id] : sorted) {
    size_t same = 0;
    while (same < last.size() && same < bytes.size() &&
           last[same] == bytes[same])
      ++same;
    close(same);
    for (size_t i = same; i < bytes.size(); ++i) {
      open.push_back(nodes.size());
      nodes.push_back(
          {0, int32_t(tokens.size()), uint16_t(i + 1), uint8_t(bytes[i])});
    }
    tokens.push_back(id);
    maxDepth = std::max(maxDepth, bytes.size());
    last = bytes;
  }
  close(0);
  nodes[0].end = int32_t(nodes.size());
  nodes.push_back({0, int32_t(tokens.size()), 0, 0}); // Ends the last tokens.
}

//===----------------------------------------------------------------------===//
// Constraint
//===----------------------------------------------------------------------===//

Constraint::Constraint(std::shared_ptr<const Grammar> grammar,
                       const TokenTrie &trie)
    : grammar(std::move(grammar)), trie(&trie), path(trie.maxDepth + 1) {
  State dead;
  dead.isDead = true;
  intern(std::move(dead));
  State first;
  see(push(-1, this->grammar->impl->starts[0]));
  expand(first);
  current = intern(std::move(first));
}

int32_t Constraint::push(int32_t below, int32_t node) {
  uint64_t key = uint64_t(uint32_t(below)) << 32 | uint32_t(node);
  auto [it, isNew] = frameIds.try_emplace(key, int32_t(frames.size()));
  if (isNew)
    frames.push_back(
        {below, node, below < 0 ? 0 : frames[size_t(below)].depth + 1});
  return it->second;
}

/// Adds \p stack to what the next state comes to.
void Constraint::see(int32_t stack) {
  if (seenIn.size() < frames.size())
    seenIn.resize(2 * frames.size(), UINT32_MAX);
  // Each stack comes to an end, so that leaving some out does not cut a text
  // off. Schemas that somebody wants have no more than this.
  if (seenIn[size_t(stack)] == expansion || seen.size() == maxStacks)
    return;
  seenIn[size_t(stack)] = expansion;
  seen.push_back(stack);
}

/// Adds to \p state what was seen, and what that comes to without a byte.
void Constraint::expand(State &state) {
  const Impl &rules = *grammar->impl;
  for (size_t i = 0; i < seen.size(); ++i) {
    int32_t top = seen[i];
    auto [below, at, depth] = frames[size_t(top)];
    const Impl::Node &node = rules.nodes[size_t(at)];
    if (depth + node.depth > Impl::maxDepth)
      continue; // It would come to no end.
    bool takesByte = false;
    for (const Impl::Edge &edge : node.edges) {
      if (edge.kind == Impl::Edge::Byte) {
        takesByte = true;
        continue;
      }
      if (edge.kind == Impl::Edge::Jump) {
        see(push(below, edge.to));
        continue;
      }
      int32_t start = rules.starts[size_t(edge.rule)];
      // A call that nothing comes after needs no frame: schemas that are
      // nothing but a reference to each other come to an end by that.
      const Impl::Node &after = rules.nodes[size_t(edge.to)];
      if (after.ends && after.edges.empty())
        see(push(below, start));
      else if (depth + after.depth <= Impl::maxDepth)
        see(push(push(below, edge.to), start));
    }
    if (takesByte)
      state.stacks.push_back(top);
    if (node.ends && below >= 0)
      see(below);
    state.canEnd |= node.ends && below < 0;
  }
  seen.clear();
  ++expansion;
}

int32_t Constraint::intern(State state) {
  std::sort(state.stacks.begin(), state.stacks.end());
  std::string key(reinterpret_cast<const char *>(state.stacks.data()),
                  state.stacks.size() * sizeof(int32_t));
  key += state.canEnd ? 'e' : state.isDead ? 'd' : '-';
  auto [it, isNew] =
      stateIds.try_emplace(std::move(key), int32_t(states.size()));
  if (isNew)
    states.push_back(std::move(state));
  return it->second;
}

int32_t Constraint::step(int32_t id, uint8_t byte) {
  if (states[size_t(id)].next.empty())
    states[size_t(id)].next.assign(256, -1);
  if (int32_t next = states[size_t(id)].next[byte]; next >= 0)
    return next;
  // By index: frames grow.
  for (size_t i = 0; i < states[size_t(id)].stacks.size(); ++i) {
    auto [below, at, depth] = frames[size_t(states[size_t(id)].stacks[i])];
    for (const Impl::Edge &edge : grammar->impl->nodes[size_t(at)].edges)
      if (edge.kind == Impl::Edge::Byte && edge.first <= byte &&
          byte <= edge.last)
        see(push(below, edge.to));
  }
  State after;
  expand(after);
  int32_t next = deadState;
  if (!after.stacks.empty() || after.canEnd)
    next = intern(std::move(after));
  states[size_t(id)].next[byte] = next;
  return next;
}

/// Finds the tokens that may come in the state \p id.
void Constraint::findTokens(int32_t id) {
  std::vector<uint64_t> mask(size_t(trie->vocabSize) / 64 + 1);
  auto allow = [&](int32_t token) {
    mask[size_t(token) / 64] |= uint64_t(1) << (token % 64);
  };
  path[0] = id;
  auto count = size_t(trie->nodes[0].end);
  for (size_t i = 1; i < count;) {
    const TokenTrie::Node &node = trie->nodes[i];
    int32_t state = path[node.depth - 1];
    const std::vector<int32_t> &known = states[size_t(state)].next;
    int32_t next = known.empty() ? -1 : known[node.byte];
    if (next < 0)
      next = step(state, node.byte);
    if (next == deadState) {
      i = size_t(node.end);
      continue;
    }
    path[node.depth] = next;
    ++i;
    for (int32_t t = node.firstToken; t < trie->nodes[i].firstToken; ++t)
      allow(trie->tokens[size_t(t)]);
  }
  if (states[size_t(id)].canEnd)
    for (int32_t token : trie->ends)
      allow(token);
  states[size_t(id)].mask = std::move(mask);
  ++masks;
}

/// Drops all states but the current one.
void Constraint::forget() {
  State kept;
  kept.canEnd = states[size_t(current)].canEnd;
  std::vector<Frame> old = std::move(frames);
  std::vector<int32_t> tops = std::move(states[size_t(current)].stacks);
  frames.clear();
  frameIds.clear();
  states.clear();
  stateIds.clear();
  seenIn.clear();
  masks = 0;
  for (int32_t top : tops) {
    std::vector<int32_t> nodes;
    for (int32_t at = top; at >= 0; at = old[size_t(at)].below)
      nodes.push_back(old[size_t(at)].node);
    int32_t stack = -1;
    for (size_t i = nodes.size(); i--;)
      stack = push(stack, nodes[i]);
    kept.stacks.push_back(stack);
  }
  State dead;
  dead.isDead = true;
  intern(std::move(dead));
  current = intern(std::move(kept));
}

bool Constraint::apply(float *logits, size_t vocabSize) {
  if (states.size() > maxStates || masks > maxMasks)
    forget();
  if (states[size_t(current)].mask.empty())
    findTokens(current);
  const State &state = states[size_t(current)];
  constexpr float never = -std::numeric_limits<float>::infinity();
  auto isAllowed = [&](size_t id) {
    return id / 64 < state.mask.size() && state.mask[id / 64] >> (id % 64) & 1;
  };
  bool hasAny = false;
  for (size_t id = 0; id < vocabSize; ++id) {
    if (isAllowed(id))
      hasAny = true;
    else
      logits[id] = never;
  }
  return hasAny;
}

bool Constraint::accept(std::string_view bytes) {
  for (char byte : bytes)
    current = step(current, uint8_t(byte));
  return current != deadState;
}

bool Constraint::isComplete() const {
  return states[size_t(current)].canEnd &&
         states[size_t(current)].stacks.empty();
}

} // namespace hadal::text
