// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text that follows a JSON schema: which tokens may come next.

#ifndef HADAL_TEXT_CONSTRAINT_H
#define HADAL_TEXT_CONSTRAINT_H

#include "hadal_text/tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hadal::text {

/// What a text may be: a pushdown automaton over bytes. Immutable.
class Grammar {
public:
  /// Reads a JSON schema (draft 2020-12). Whatever follows the grammar is valid
  /// under the schema; not all that is valid follows the grammar:
  /// - The members of an object come in the order of `properties`, and others
  ///   only where `additionalProperties` says so, or there are no `properties`.
  /// - Between tokens of JSON is nothing, a space, or a line feed and up to 16
  ///   spaces or tabs. Integers have up to 18 digits; other numbers up to 15,
  ///   and where they have no bounds, 15 more after the point and an exponent
  ///   of two digits.
  /// - A schema without `type` has the types that its keywords speak of.
  ///
  /// \param schema Untrusted; at most 1 MiB of UTF-8.
  /// \returns Null, and one line in \p error that begins with the JSON pointer
  /// of the place, if it is not a schema, has a keyword that is not supported
  /// or known, is too large, or no value follows it.
  static std::shared_ptr<const Grammar> fromJsonSchema(std::string_view schema,
                                                       std::string &error);

  ~Grammar();
  Grammar(const Grammar &) = delete;
  Grammar &operator=(const Grammar &) = delete;

  struct Impl;

private:
  friend class Constraint;
  explicit Grammar(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

/// The tokens of a vocabulary by their bytes; special tokens are left out. Any
/// number of constraints may share one.
class TokenTrie {
public:
  explicit TokenTrie(const Tokenizer &tokenizer);

private:
  friend class Constraint;
  /// In the order of their text, so that all that begin alike are in a row.
  struct Node {
    int32_t end;        ///< The first node that does not begin like this one.
    int32_t firstToken; ///< The node's tokens end where the next one's begin.
    uint16_t depth;     ///< Bytes; 0 for the first node, which has none.
    uint8_t byte;       ///< The last one.
  };
  std::vector<Node> nodes;
  std::vector<int32_t> tokens;
  std::vector<int32_t> ends; ///< Of the tokenizer, ascending.
  int32_t vocabSize;         ///< Of the tokenizer.
  size_t maxDepth = 0;
};

/// One text in the making. Keeps what it has found out of the grammar, in
/// bounded memory (at most about 32 MiB). For one thread at a time.
class Constraint {
public:
  /// \param grammar Not null.
  /// \param trie    Must outlive the constraint.
  Constraint(std::shared_ptr<const Grammar> grammar, const TokenTrie &trie);

  /// Sets the logits of tokens that may not come next to -infinity. Tokens that
  /// end a generation may come where the text can end.
  ///
  /// \param logits [vocabSize]
  /// \returns Whether any token is left.
  bool apply(float *logits, size_t vocabSize);

  /// Takes the bytes of a token that apply() left.
  /// \returns False if the text does not follow the grammar any more.
  bool accept(std::string_view bytes);

  /// Whether the text follows the grammar, and nothing more may come.
  bool isComplete() const;

private:
  /// Where the automaton may be: stacks, each by its top.
  struct State {
    std::vector<int32_t> stacks; ///< Ascending.
    bool canEnd = false;
    bool isDead = false;
    /// By byte; -1 where it was not looked for.
    std::vector<int32_t> next;
    /// A bit for each token; empty until it is asked for.
    std::vector<uint64_t> mask;
  };
  /// Where to go on after what is above has come to its end.
  struct Frame {
    int32_t below; ///< -1: the text ends.
    int32_t node;
    int32_t depth;
  };
  int32_t push(int32_t below, int32_t node);
  void see(int32_t stack);
  void expand(State &state);
  int32_t intern(State state);
  int32_t step(int32_t state, uint8_t byte);
  void findTokens(int32_t state);
  void forget();

  std::shared_ptr<const Grammar> grammar;
  const TokenTrie *trie; ///< Not null.
  std::vector<Frame> frames;
  std::unordered_map<uint64_t, int32_t> frameIds; ///< By below and node.
  std::vector<State> states;
  std::unordered_map<std::string, int32_t> stateIds;
  int32_t current = 0;
  size_t masks = 0;
  /// What the next state comes to without a byte, each stack once: that is
  /// where `seenIn` has the number of the state.
  std::vector<int32_t> seen;
  std::vector<uint32_t> seenIn; ///< By stack.
  uint32_t expansion = 0;
  std::vector<int32_t> path; ///< Of findTokens(): the state at each depth.
};

} // namespace hadal::text

#endif // HADAL_TEXT_CONSTRAINT_H
