// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// BPE tokenizers, byte-level ones and those of SentencePiece, as Hugging Face
// tokenizer.json files describe them, and a detokenizer for text that arrives a
// token at a time.

#ifndef HADAL_TEXT_TOKENIZER_H
#define HADAL_TEXT_TOKENIZER_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::text {

/// Turns text into token ids and back. Immutable after the `apply` calls, so
/// any number of threads may share one.
///
/// Agrees with the `tokenizers` library of Hugging Face id by id. Text that is
/// not UTF-8 is taken as Python's `bytes.decode('utf-8', 'replace')` takes it:
/// each maximal subpart of an ill-formed sequence becomes one U+FFFD.
class Tokenizer {
public:
  /// Reads the text of a tokenizer.json. The text is untrusted; nothing of it
  /// is kept by reference. `truncation` and `padding` are ignored, being
  /// settings of one training run.
  ///
  /// \returns Null, and one line in \p error that names the key at fault, if
  /// the text is not JSON, contradicts itself, or asks for a model, normalizer,
  /// pre-tokenizer, post-processor or decoder that is not supported.
  static std::unique_ptr<Tokenizer> fromJson(std::string_view json,
                                             std::string &error);

  /// Takes `bos_token`, `eos_token`, `add_bos_token` and `add_eos_token` from
  /// the text of a tokenizer_config.json. The last two, where present, replace
  /// what tokenizer.json's post-processor says, as in `transformers` 4; its
  /// Llama classes add a bos token unless told otherwise. Release 5 writes
  /// neither, and a `backend`: the post-processor says it all.
  ///
  /// \returns False, one line in \p error and no change, if the text is not a
  /// JSON object or names a token that the vocabulary lacks.
  bool applyTokenizerConfig(std::string_view json, std::string &error);

  /// Takes `bos_token_id` and `eos_token_id`, a number or a list, from the text
  /// of a generation_config.json (or config.json). A list of eos ids is kept
  /// whole and extends that of tokenizer_config.json.
  ///
  /// \returns False, one line in \p error and no change, if the text is not a
  /// JSON object or an id is outside of the vocabulary.
  bool applyGenerationConfig(std::string_view json, std::string &error);

  /// Says what `encode` adds with `addSpecial`. An id that is not known is not
  /// added.
  void setAddSpecial(bool addBos, bool addEos);

  /// Encodes \p text.
  ///
  /// \param addSpecial   Whether to add what the post-processor adds, mostly
  ///                     the bos token. False for a text that `renderChat`
  ///                     made, since that has its bos already.
  /// \param parseSpecial Whether the text of a special token, such as
  ///                     `<｜User｜>`, becomes that token. False for text that
  ///                     is not trusted to hold any. Added tokens that are not
  ///                     special are always found, as in `tokenizers`.
  ///
  /// \returns Nothing, and one line in \p error, if the text is 2 GiB or more,
  /// or a regular expression of the tokenizer gave up on it, or its normalizer
  /// makes it many times as long.
  std::optional<std::vector<int32_t>> encode(std::string_view text,
                                             bool addSpecial, bool parseSpecial,
                                             std::string &error) const;

  /// Decodes \p ids to UTF-8. Bytes that are not UTF-8 become U+FFFD as in
  /// Rust's `from_utf8_lossy`; ids outside of the vocabulary give nothing. The
  /// blank that SentencePiece puts before a text is taken away.
  ///
  /// \param skipSpecial Whether special tokens are left out.
  std::string decode(const std::vector<int32_t> &ids,
                     bool skipSpecial = false) const;

  /// The bytes that the token stands for; they need not be UTF-8. Empty for an
  /// id without a token. Valid as long as the tokenizer.
  std::string_view tokenBytes(int32_t id) const;

  /// Whether \p id is a token that was added as special, like bos.
  bool isSpecial(int32_t id) const;

  /// The largest id plus one. Some ids below may have no token, and a model may
  /// have more logits than this.
  int32_t vocabSize() const;

  /// The id of the token that tokenizer.json spells \p token (as in `Ġthe` in
  /// byte-level spelling, or `▁the` in SentencePiece's), or -1.
  int32_t idOf(std::string_view token) const;

  /// The id of the begin-of-sentence token, or -1 where none is known.
  int32_t bosId() const;

  /// The id of the end-of-sentence token, or -1 where none is known.
  int32_t eosId() const;

  /// Every id that ends a generation, ascending; with `eosId`, if known.
  const std::vector<int32_t> &eosIds() const;

  ~Tokenizer();
  Tokenizer(const Tokenizer &) = delete;
  Tokenizer &operator=(const Tokenizer &) = delete;

  struct Impl;

private:
  friend class Detokenizer;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  /// How many blanks at the start of a text the decoder takes away.
  int strippedBlanks() const;
  /// The blanks at the start of \p text, of which \p most count.
  static size_t countStrippedBlanks(std::string_view text, int most);
  std::unique_ptr<Impl> impl;
};

/// Decodes tokens one at a time into text that can be shown at once: what it
/// returns always ends at the end of a character. All that it returns, joined,
/// is what `Tokenizer::decode` returns for all tokens at once.
class Detokenizer {
public:
  /// \param tokenizer   Must outlive the detokenizer.
  /// \param skipSpecial Whether special tokens are left out.
  explicit Detokenizer(const Tokenizer &tokenizer, bool skipSpecial = false)
      : tokenizer(tokenizer), skipSpecial(skipSpecial),
        blanksToStrip(tokenizer.strippedBlanks()) {}

  /// Takes one token; returns the text that is complete now, maybe none.
  std::string push(int32_t id);

  /// Ends the text: what was held back becomes U+FFFD. The detokenizer is then
  /// as new.
  std::string flush();

private:
  /// Takes from the start of \p text what is still to be taken.
  void strip(std::string &text);

  const Tokenizer &tokenizer;
  bool skipSpecial;
  int blanksToStrip;
  /// The start of a character whose other bytes are still to come; 0..3 bytes.
  std::string pending;
};

} // namespace hadal::text

#endif // HADAL_TEXT_TOKENIZER_H
