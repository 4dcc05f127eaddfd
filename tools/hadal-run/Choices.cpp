// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads multiple-choice questions, and scores each choice after its context.

#include "Choices.h"

#include "Eval.h"
#include "LogProbabilities.h"
#include "Options.h"
#include "Product.h"
#include "TextSections.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace hadal;
using namespace hadal::run;
using Json = nlohmann::json;

namespace {

struct Choice {
  std::vector<int32_t> tokens; ///< One or more.
  int64_t bytes = 0, characters = 0;
  double logLikelihood = 0; ///< In nats.
};

struct Question {
  size_t line = 0;              ///< Of the file, from 1.
  std::vector<int32_t> context; ///< One or more.
  std::vector<Choice> choices;  ///< Two or more.
  size_t answer = 0;
};

class ChoicesEval {
public:
  ChoicesEval(const Weights &weights, const std::string &path)
      : weights(weights), path(path) {}

  ExitCode read();
  ExitCode score(int64_t threads);
  ExitCode print(bool json) const;

private:
  ExitCode refuse(const std::string &message) const;
  ExitCode readQuestion(std::string_view text);
  ExitCode encode(std::string_view text, std::vector<int32_t> &ids) const;
  ExitCode encodeQuestion(const std::string &context,
                          const std::vector<std::string> &texts);
  ExitCode makeSession(int64_t threads);
  template <typename Function>
  ExitCode runTokens(const int32_t *inputs, int64_t count, int64_t firstOutput,
                     Function &&take);
  ExitCode runContext(const Question &question);
  ExitCode scoreChoice(Choice &choice);
  ExitCode scoreQuestion(Question &question);

  const Weights &weights;
  const std::string &path;
  size_t line = 0; ///< That is read or scored, from 1.
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::vector<int32_t> prefix; ///< What a context begins with: bos, or none.
  std::vector<Question> questions;
  int64_t numChoices = 0;

  Session session;
  int32_t sequence = 0;
  int64_t stepTokens = 0;
  std::vector<int32_t> sequenceIds, rows;
  std::vector<float> logits;     ///< [stepTokens, vocab]
  std::vector<float> contextRow; ///< [vocab], after the context.

  RunningMean acc, accNorm, accBytes, chance;
};

} // namespace

/// Reports what is wrong with the line.
ExitCode ChoicesEval::refuse(const std::string &message) const {
  return reportError(BadInput, "%s:%zu: %s", path.c_str(), line,
                     message.c_str());
}

/// \p value as an error shows it. Of a list or an object no more than its size,
/// since they may be nested as deeply as a file wants.
static std::string show(const Json &value) {
  if (value.is_structured())
    return std::string("an ") + value.type_name() + " of " +
           std::to_string(value.size());
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true,
                                Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

static bool isBlank(std::string_view text) {
  return text.find_first_not_of(" \t\r") == std::string_view::npos;
}

ExitCode ChoicesEval::read() {
  std::string contents, error;
  if (!readFile(path.c_str(), contents))
    return reportError(BadInput, "%s: cannot read: %s", path.c_str(),
                       strerror(errno));
  tokenizer = loadTokenizer(weights, error);
  if (!tokenizer)
    return reportError(BadInput, "%s; choices are text", error.c_str());
  prefix = findTextPrefix(*tokenizer);
  for (size_t begin = 0; begin < contents.size();) {
    size_t end = std::min(contents.find('\n', begin), contents.size());
    ++line;
    auto text = std::string_view(contents).substr(begin, end - begin);
    if (!isBlank(text))
      if (ExitCode code = readQuestion(text))
        return code;
    begin = end + 1;
  }
  if (questions.empty())
    return reportError(BadInput, "%s: there is no question", path.c_str());
  return Done;
}

ExitCode ChoicesEval::readQuestion(std::string_view text) {
  Json json = Json::parse(text.begin(), text.end(), /*cb=*/nullptr,
                          /*allow_exceptions=*/false);
  if (json.is_discarded())
    return refuse("not valid JSON: " + std::string(text.substr(0, 60)));
  if (!json.is_object())
    return refuse("the question is " + show(json) + ", expected an object");
  const Json missing;
  auto find = [&](const char *key) -> const Json & {
    auto found = json.find(key);
    return found == json.end() ? missing : *found;
  };
  const Json &context = find("context"), &choices = find("choices"),
             &answer = find("answer");
  if (!context.is_string())
    return refuse("\"context\" is " + show(context) + ", expected a string");
  if (!choices.is_array() || choices.size() < 2)
    return refuse("\"choices\" is " + show(choices) +
                  ", expected a list of two strings or more");
  std::vector<std::string> texts;
  for (const Json &choice : choices) {
    if (!choice.is_string() || choice.get_ref<const std::string &>().empty())
      return refuse("choice " + std::to_string(texts.size()) + " is " +
                    show(choice) + ", expected a string that is not empty");
    texts.push_back(choice.get<std::string>());
  }
  // Unsigned is what the parser makes of an integer without a sign.
  if (!answer.is_number_unsigned() || answer.get<uint64_t>() >= choices.size())
    return refuse("\"answer\" is " + show(answer) + ", expected 0 .. " +
                  std::to_string(choices.size() - 1));
  questions.emplace_back();
  questions.back().line = line;
  questions.back().answer = size_t(answer.get<uint64_t>());
  return encodeQuestion(context.get<std::string>(), texts);
}

/// Bytes of \p text, valid UTF-8, without the white space that ends it: the
/// characters that Python's str.rstrip() takes away.
static size_t lengthWithoutSpace(std::string_view text) {
  static constexpr std::string_view spaces[] = {
      " ",      "\t",     "\n",     "\v",     "\f",     "\r",
      "\x1c",   "\x1d",   "\x1e",   "\x1f",   "\u0085", "\u00a0",
      "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004",
      "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
      "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  for (;;) {
    auto endsText = [&](std::string_view space) {
      return text.size() >= space.size() &&
             text.substr(text.size() - space.size()) == space;
    };
    const auto *space =
        std::find_if(std::begin(spaces), std::end(spaces), endsText);
    if (space == std::end(spaces))
      return text.size();
    text.remove_suffix(space->size());
  }
}

/// Characters of \p text, which is valid UTF-8.
static int64_t countCharacters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) {
    return (uint8_t(byte) & 0xc0) != 0x80;
  });
}

/// Encodes \p text. As in the harness, the text of a special token is that
/// token, so that a context may be a chat.
ExitCode ChoicesEval::encode(std::string_view text,
                             std::vector<int32_t> &ids) const {
  std::string error;
  auto encoded = tokenizer->encode(text, /*addSpecial=*/false,
                                   /*parseSpecial=*/true, error);
  if (!encoded)
    return refuse(error);
  ids = std::move(*encoded);
  for (int32_t id : ids)
    if (id < 0 || id >= hadal_model.vocab)
      return refuse("the text has token " + std::to_string(id) +
                    ", but the model has " + std::to_string(hadal_model.vocab));
  return Done;
}

ExitCode ChoicesEval::encodeQuestion(const std::string &context,
                                     const std::vector<std::string> &texts) {
  Question &question = questions.back();
  std::vector<int32_t> alone, whole;
  if (ExitCode code =
          encode(context.substr(0, lengthWithoutSpace(context)), alone))
    return code;
  question.context = alone;
  // A chat may have its bos already.
  if (alone.empty() || prefix.empty() || alone.front() != prefix.front())
    question.context.insert(question.context.begin(), prefix.begin(),
                            prefix.end());
  // Something must come before the first token that is guessed.
  if (question.context.empty()) {
    int32_t first =
        tokenizer->bosId() >= 0 ? tokenizer->bosId() : tokenizer->eosId();
    if (first < 0 || first >= hadal_model.vocab)
      return refuse("\"context\" is empty, and the model has no token that "
                    "begins a text");
    question.context.push_back(first);
  }
  for (const std::string &text : texts) {
    auto where = [&] {
      return "choice " + std::to_string(question.choices.size()) + ", " +
             show(text) + ",";
    };
    if (ExitCode code = encode(context + text, whole))
      return code;
    if (whole.size() <= alone.size())
      return refuse(where() + " adds no token to the context");
    Choice choice;
    choice.tokens.assign(whole.begin() + int64_t(alone.size()), whole.end());
    choice.bytes = int64_t(text.size());
    choice.characters = countCharacters(text);
    // The last token is guessed, but nothing is guessed from it.
    size_t needed = question.context.size() + choice.tokens.size() - 1;
    if (needed > size_t(hadal_model.context))
      return refuse(where() + " and its context need " +
                    std::to_string(needed) +
                    " tokens, but the model has a context of " +
                    std::to_string(hadal_model.context));
    question.choices.push_back(std::move(choice));
  }
  numChoices += int64_t(question.choices.size());
  return Done;
}

ExitCode ChoicesEval::makeSession(int64_t threads) {
  size_t longest = 0;
  for (const Question &question : questions)
    for (const Choice &choice : question.choices)
      longest =
          std::max(longest, question.context.size() + choice.tokens.size() - 1);
  stepTokens = chooseStepTokens(int64_t(longest));
  hadal_rt_session_options_t sizes = {};
  sizes.threads = threads;
  sizes.max_step_tokens = stepTokens;
  sizes.kv_tokens = int64_t(longest);
  if (ExitCode code =
          startSession(hadal_model, weights, sizes, session, sequence))
    return code;
  sequenceIds.assign(size_t(stepTokens), sequence);
  rows.resize(size_t(stepTokens));
  logits.resize(size_t(stepTokens * hadal_model.vocab));
  contextRow.resize(size_t(hadal_model.vocab));
  return Done;
}

/// Appends \p count tokens to the sequence, and gives \p take the index and the
/// logits of each from \p firstOutput on.
template <typename Function>
ExitCode ChoicesEval::runTokens(const int32_t *inputs, int64_t count,
                                int64_t firstOutput, Function &&take) {
  for (int64_t done = 0; done < count; done += stepTokens) {
    int64_t now = std::min(stepTokens, count - done), outputs = 0;
    for (int64_t i = std::max<int64_t>(firstOutput - done, 0); i < now; ++i)
      rows[size_t(outputs++)] = int32_t(i);
    if (hadal_rt_status_t status = hadal_rt_session_step(
            session.get(), inputs + done, sequenceIds.data(), now, rows.data(),
            outputs, logits.data()))
      return reportStatus(status);
    for (int64_t i = 0; i < outputs; ++i)
      take(done + rows[size_t(i)], logits.data() + i * hadal_model.vocab);
  }
  return Done;
}

/// Runs the context from an empty cache, and keeps the logits after it.
ExitCode ChoicesEval::runContext(const Question &question) {
  if (hadal_rt_status_t status =
          hadal_rt_sequence_truncate(session.get(), sequence, 0))
    return reportStatus(status);
  auto count = int64_t(question.context.size());
  return runTokens(question.context.data(), count, count - 1,
                   [&](int64_t, const float *row) {
                     std::copy_n(row, hadal_model.vocab, contextRow.begin());
                   });
}

/// Scores \p choice, with its context in the sequence.
ExitCode ChoicesEval::scoreChoice(Choice &choice) {
  auto add = [&](size_t token, const float *row) {
    choice.logLikelihood +=
        double(row[choice.tokens[token]]) - logSumExp(row, hadal_model.vocab);
  };
  add(0, contextRow.data());
  return runTokens(
      choice.tokens.data(), int64_t(choice.tokens.size()) - 1, 0,
      [&](int64_t input, const float *row) { add(size_t(input) + 1, row); });
}

/// Index of the choice that is likeliest by \p score, the first of equal ones.
template <typename Function>
static size_t findLikeliest(const std::vector<Choice> &choices,
                            Function &&score) {
  return size_t(std::max_element(choices.begin(), choices.end(),
                                 [&](const Choice &a, const Choice &b) {
                                   return score(a) < score(b);
                                 }) -
                choices.begin());
}

ExitCode ChoicesEval::scoreQuestion(Question &question) {
  line = question.line;
  if (ExitCode code = runContext(question))
    return code;
  for (Choice &choice : question.choices) {
    // A window may have dropped what comes before a choice.
    if (&choice != question.choices.data() &&
        hadal_rt_sequence_truncate(session.get(), sequence,
                                   int64_t(question.context.size())))
      if (ExitCode code = runContext(question))
        return code;
    if (ExitCode code = scoreChoice(choice))
      return code;
    if (!std::isfinite(choice.logLikelihood))
      return refuse("the logits for choice " +
                    std::to_string(&choice - question.choices.data()) +
                    " are not finite");
  }
  auto isRight = [&](auto score) {
    return findLikeliest(question.choices, score) == question.answer;
  };
  acc.add(isRight([](const Choice &c) { return c.logLikelihood; }));
  accNorm.add(isRight(
      [](const Choice &c) { return c.logLikelihood / double(c.characters); }));
  accBytes.add(isRight(
      [](const Choice &c) { return c.logLikelihood / double(c.bytes); }));
  chance.add(1 / double(question.choices.size()));
  return Done;
}

ExitCode ChoicesEval::score(int64_t threads) {
  if (ExitCode code = makeSession(threads))
    return code;
  bool isShown = isatty(STDERR_FILENO);
  for (Question &question : questions) {
    if (ExitCode code = scoreQuestion(question))
      return code;
    if (isShown)
      fprintf(stderr, "\r%lld of %zu questions, acc %.2f%% ",
              static_cast<long long>(acc.count()), questions.size(),
              100 * acc.mean());
  }
  if (isShown)
    fputc('\n', stderr);
  return Done;
}

ExitCode ChoicesEval::print(bool json) const {
  const std::pair<const char *, const RunningMean *> measures[] = {
      {"acc", &acc}, {"acc_norm", &accNorm}, {"acc_bytes", &accBytes}};
  std::string out;
  if (json) {
    out = "{\"model\":";
    appendJsonString(out, hadal_model.name);
    appendFormat(out, ",\"questions\":%zu,\"choices\":%lld,\"chance\":%.9g",
                 questions.size(), static_cast<long long>(numChoices),
                 chance.mean());
    for (auto [name, mean] : measures)
      appendFormat(out, ",\"%s\":%.9g,\"%s_standard_error\":%.6g", name,
                   mean->mean(), name, mean->standardError());
    out += ",\"log_likelihoods\":[";
    for (const Question &question : questions) {
      out += &question == questions.data() ? "[" : ",[";
      for (const Choice &choice : question.choices)
        appendFormat(out, "%s%.9g",
                     &choice == question.choices.data() ? "" : ",",
                     choice.logLikelihood);
      out += ']';
    }
    out += "]}\n";
  } else {
    appendFormat(out, "%.200s, %zu questions with %lld choices\n",
                 hadal_model.name, questions.size(),
                 static_cast<long long>(numChoices));
    for (auto [name, mean] : measures)
      appendFormat(out, "%-10s %.2f%% +- %.2f%%\n", name, 100 * mean->mean(),
                   100 * mean->standardError());
    appendFormat(out, "by chance  %.2f%%\n", 100 * chance.mean());
  }
  return printOutput(out);
}

ExitCode run::runChoices(const Weights &weights, const std::string &path,
                         int64_t threads, bool json) {
  ChoicesEval eval(weights, path);
  if (ExitCode code = eval.read())
    return code;
  if (ExitCode code = eval.score(threads))
    return code;
  return eval.print(json);
}
