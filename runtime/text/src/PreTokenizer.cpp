// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pre-tokenizers of `tokenizers` that BPE models use.

#include "PreTokenizer.h"

#include <algorithm>

namespace hadal::text {

namespace {

/// The expression of GPT-2, which ByteLevel applies unless told otherwise.
constexpr const char *gpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

} // namespace

bool PreTokenizer::readStep(const Json &json, const std::string &where,
                            std::string &error) {
  std::optional<std::string> type = stringMember(json, "type");
  if (!type) {
    error = where + ": expected an object with a string 'type', but got " +
            json.type_name();
    return false;
  }
  if (hasByteLevel) {
    error = where + ": " + quote(*type) +
            " after ByteLevel is not supported; it would see spelled bytes";
    return false;
  }
  Step step;
  std::string regexError;
  if (*type == "Split") {
    const Json *pattern = findMember(json, "pattern");
    std::optional<std::string> regex, literal, behavior;
    if (pattern) {
      regex = stringMember(*pattern, "Regex");
      literal = stringMember(*pattern, "String");
    }
    if (!regex && !literal) {
      error = where + ".pattern: expected {\"Regex\": string} or "
                      "{\"String\": string}";
      return false;
    }
    step.regex = Regex::compile(regex ? *regex : *literal, !regex, regexError);
    if (!step.regex) {
      error = where + ".pattern: " + regexError;
      return false;
    }
    behavior = stringMember(json, "behavior");
    bool isKnown = false;
    for (auto [name, value] :
         {std::pair{"Isolated", Behavior::Isolated},
          {"Removed", Behavior::Removed},
          {"MergedWithPrevious", Behavior::MergedWithPrevious},
          {"MergedWithNext", Behavior::MergedWithNext},
          {"Contiguous", Behavior::Contiguous}}) {
      if (behavior != name)
        continue;
      step.behavior = value;
      isKnown = true;
    }
    if (!isKnown) {
      error = where +
              ".behavior: expected Isolated, Removed, "
              "MergedWithPrevious, MergedWithNext or Contiguous, but "
              "got " +
              (behavior ? quote(*behavior) : std::string("none"));
      return false;
    }
    if (!readBool(json, "invert", where, step.isInverted, error))
      return false;
  } else if (*type == "Digits") {
    bool isIndividual = false;
    if (!readBool(json, "individual_digits", where, isIndividual, error))
      return false;
    step.regex = Regex::compile("\\p{N}", /*literal=*/false, regexError);
    step.behavior = isIndividual ? Behavior::Isolated : Behavior::Contiguous;
  } else if (*type == "ByteLevel") {
    bool usesRegex = true;
    step.addsPrefixSpace = true;
    if (!readBool(json, "add_prefix_space", where, step.addsPrefixSpace,
                  error) ||
        !readBool(json, "use_regex", where, usesRegex, error))
      return false;
    if (usesRegex)
      step.regex = Regex::compile(gpt2Pattern, /*literal=*/false, regexError);
    hasByteLevel = true;
  } else {
    error = where + ": pre-tokenizer " + quote(*type) +
            " is not supported (Sequence, Split, Digits and ByteLevel are)";
    return false;
  }
  if (!regexError.empty()) {
    error = where + ": " + regexError;
    return false;
  }
  steps.push_back(std::move(step));
  return true;
}

bool PreTokenizer::readMetaspace(const Json &json, std::string &error) {
  const std::string where = "tokenizer.json: pre_tokenizer";
  std::optional<std::string> type = stringMember(json, "type");
  if (type != "Metaspace") {
    error = where + ": " + (type ? quote(*type) : json.type_name()) +
            " is not supported (null and Metaspace are) in BPE that is not "
            "byte-level";
    return false;
  }
  Metaspace read;
  read.replacement = stringMember(json, "replacement").value_or("");
  if (read.replacement.empty() || read.replacement.size() > 4) {
    error = where + ".replacement: expected a character";
    return false;
  }
  bool addsPrefix = true;
  if (!readBool(json, "add_prefix_space", where, addsPrefix, error) ||
      !readBool(json, "split", where, read.isSplit, error))
    return false;
  std::string scheme = stringMember(json, "prepend_scheme")
                           .value_or(addsPrefix ? "always" : "never");
  if (scheme == "never") {
    read.scheme = Metaspace::Scheme::Never;
  } else if (scheme == "first") {
    read.scheme = Metaspace::Scheme::First;
  } else if (scheme != "always") {
    error = where +
            ".prepend_scheme: expected always, first or never, but "
            "got " +
            quote(scheme);
    return false;
  }
  metaspace = std::move(read);
  return true;
}

bool PreTokenizer::read(const Json *json, bool isByteLevel,
                        std::string &error) {
  if (!isByteLevel)
    return !json || readMetaspace(*json, error);
  if (!json) {
    error = "tokenizer.json: no pre_tokenizer";
    return false;
  }
  std::string where = "tokenizer.json: pre_tokenizer";
  if (stringMember(*json, "type") == "Sequence") {
    const Json *list = findMember(*json, "pretokenizers");
    if (!list || !list->is_array()) {
      error = where + ".pretokenizers: expected an array";
      return false;
    }
    for (size_t i = 0; i < list->size(); ++i)
      if (!readStep((*list)[i],
                    where + ".pretokenizers[" + std::to_string(i) + "]", error))
        return false;
  } else if (!readStep(*json, where, error)) {
    return false;
  }
  if (!hasByteLevel) {
    error = where + ": expected ByteLevel as the last step, as the decoder is "
                    "ByteLevel";
    return false;
  }
  return true;
}

void PreTokenizer::arrange(Behavior behavior,
                           std::vector<std::pair<Piece, bool>> &parts,
                           std::vector<Piece> &pieces) {
  size_t first = pieces.size();
  bool wasMatch = false;
  switch (behavior) {
  case Behavior::Isolated:
    for (auto &[piece, isMatch] : parts)
      pieces.push_back(piece);
    break;
  case Behavior::Removed:
    for (auto &[piece, isMatch] : parts)
      if (!isMatch)
        pieces.push_back(piece);
    break;
  case Behavior::Contiguous:
    for (auto &[piece, isMatch] : parts) {
      if (isMatch == wasMatch && pieces.size() > first)
        pieces.back().end = piece.end;
      else
        pieces.push_back(piece);
      wasMatch = isMatch;
    }
    break;
  case Behavior::MergedWithPrevious:
    for (auto &[piece, isMatch] : parts) {
      if (isMatch && !wasMatch && pieces.size() > first)
        pieces.back().end = piece.end;
      else
        pieces.push_back(piece);
      wasMatch = isMatch;
    }
    break;
  case Behavior::MergedWithNext: {
    std::vector<Piece> reversed;
    for (size_t i = parts.size(); i-- > 0;) {
      auto &[piece, isMatch] = parts[i];
      if (isMatch && !wasMatch && !reversed.empty())
        reversed.back().begin = piece.begin;
      else
        reversed.push_back(piece);
      wasMatch = isMatch;
    }
    pieces.insert(pieces.end(), reversed.rbegin(), reversed.rend());
    break;
  }
  }
}

void PreTokenizer::splitMetaspace(std::string &text, bool isFirst,
                                  std::vector<Piece> &pieces) const {
  const std::string &replacement = metaspace->replacement;
  std::string replaced;
  for (char c : text)
    if (c == ' ')
      replaced += replacement;
    else
      replaced += c;
  using Scheme = Metaspace::Scheme;
  bool isPrefixed = metaspace->scheme == Scheme::Always ||
                    (metaspace->scheme == Scheme::First && isFirst);
  if (isPrefixed && replaced.compare(0, replacement.size(), replacement) != 0)
    replaced.insert(0, replacement);
  text = std::move(replaced);
  pieces.clear();
  for (size_t begin = 0; begin < text.size();) {
    size_t end = metaspace->isSplit
                     ? text.find(replacement, begin + replacement.size())
                     : std::string::npos;
    end = std::min(end, text.size());
    pieces.push_back({begin, end});
    begin = end;
  }
}

bool PreTokenizer::split(std::string &text, bool isFirst,
                         std::vector<Piece> &pieces, std::string &error) const {
  if (metaspace) {
    splitMetaspace(text, isFirst, pieces);
    return true;
  }
  pieces.assign(1, {0, text.size()});
  std::vector<Piece> next;
  std::vector<std::pair<Piece, bool>> parts;
  for (size_t index = 0; index < steps.size(); ++index) {
    const Step &step = steps[index];
    if (step.addsPrefixSpace) {
      std::string prefixed;
      for (Piece &piece : pieces) {
        size_t begin = prefixed.size();
        if (text[piece.begin] != ' ')
          prefixed += ' ';
        prefixed.append(text, piece.begin, piece.end - piece.begin);
        piece = {begin, prefixed.size()};
      }
      text = std::move(prefixed);
    }
    if (!step.regex)
      continue;
    Regex::Matcher matcher(*step.regex);
    next.clear();
    for (const Piece &piece : pieces) {
      matcher.reset(
          std::string_view(text).substr(piece.begin, piece.end - piece.begin));
      parts.clear();
      size_t done = 0, begin, end, size = piece.end - piece.begin;
      auto add = [&](size_t from, size_t to, bool isMatch) {
        parts.push_back({{piece.begin + from, piece.begin + to},
                         isMatch != step.isInverted});
      };
      while (matcher.next(begin, end)) {
        if (done != begin)
          add(done, begin, false);
        add(begin, end, true);
        done = end;
      }
      if (matcher.failed()) {
        error = "pre_tokenizer step " + std::to_string(index) +
                " takes too many steps on a piece of " + std::to_string(size) +
                " bytes";
        return false;
      }
      if (done != size)
        add(done, size, false);
      size_t kept = next.size();
      arrange(step.behavior, parts, next);
      // As in `tokenizers`, empty pieces take part in the arranging.
      size_t write = kept;
      for (size_t read = kept; read < next.size(); ++read)
        if (next[read].begin != next[read].end)
          next[write++] = next[read];
      next.resize(write);
    }
    pieces.swap(next);
  }
  return true;
}

} // namespace hadal::text
