// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a body of /v1/completions or /v1/chat/completions asks for. A field that
// is not known, or asks for what is not done here, is refused by name: an
// answer that silently leaves it out would be wrong.

#include "ApiRequest.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

using namespace hadal;
using namespace hadal::serve;
using nlohmann::json;

/// Tokens of a completion that says nothing of it, as in OpenAI's API.
static constexpr int64_t defaultCompletionTokens = 16;

static constexpr int64_t maxTopLogprobs = 20;
static constexpr size_t maxStops = 16;
static constexpr size_t maxStopBytes = 1024;

static const char *typeOf(int status) {
  if (status == 429)
    return "rate_limit_error";
  if (status >= 500)
    return status == 503 ? "unavailable_error" : "server_error";
  return "invalid_request_error";
}

static std::string dump(const json &value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string ApiError::toJson() const {
  auto orNull = [](const std::string &text) {
    return text.empty() ? json(nullptr) : json(text);
  };
  return dump({{"error",
                {{"message", message},
                 {"type", typeOf(status)},
                 {"param", orNull(param)},
                 {"code", orNull(code)}}}});
}

namespace {

/// Reads the fields of an object one by one. After the first error, nothing.
class Fields {
public:
  Fields(const json &object, ApiError &error) : object(object), error(error) {}

  /// The field \p name; null if it is missing, null, or an error came before.
  const json *find(const char *name) {
    known.insert(name);
    auto it = object.find(name);
    return error.status || it == object.end() || it->is_null() ? nullptr : &*it;
  }

  /// Refuses \p value of the field \p name.
  void refuse(const std::string &name, const json &value,
              const std::string &expected) {
    if (error.status)
      return;
    std::string shown = value.is_structured() ? value.type_name() : dump(value);
    if (shown.size() > 60) {
      // Not within a character.
      size_t end = 57;
      while (end && (uint8_t(shown[end]) & 0xc0) == 0x80)
        --end;
      shown = shown.substr(0, end) + "...";
    }
    error = {400, name + " is " + shown + ", expected " + expected, name};
  }

  void read(const char *name, bool &value) {
    const json *field = find(name);
    if (field && field->is_boolean())
      value = field->get<bool>();
    else if (field)
      refuse(name, *field, "true or false");
  }

  void read(const char *name, int64_t min, int64_t max, int64_t &value) {
    const json *field = find(name);
    if (!field)
      return;
    // An unsigned number beyond int64 would become a negative one.
    bool fits = field->is_number_integer() &&
                (!field->is_number_unsigned() ||
                 field->get<uint64_t>() <= uint64_t(INT64_MAX));
    if (fits && field->get<int64_t>() >= min && field->get<int64_t>() <= max)
      value = field->get<int64_t>();
    else
      refuse(name, *field,
             "an integer, " + std::to_string(min) + " .. " +
                 std::to_string(max));
  }

  void read(const char *name, double min, double max, float &value) {
    const json *field = find(name);
    if (!field)
      return;
    if (field->is_number() && field->get<double>() >= min &&
        field->get<double>() <= max)
      value = field->get<float>();
    else
      refuse(name, *field,
             "a number, " + dump(json(min)) + " .. " + dump(json(max)));
  }

  /// A field that may only say what happens anyway.
  void expect(const char *name, const json &only) {
    const json *field = find(name);
    if (field && *field != only)
      refuse(name, *field, dump(only) + "; anything else is not supported");
  }

  /// Refuses what has not been asked for, but for \p ignored.
  void refuseOthers(const std::set<std::string> &ignored) {
    for (const auto &[name, value] : object.items())
      if (!error.status && !value.is_null() && !known.count(name) &&
          !ignored.count(name))
        error = {400,
                 "unknown or unsupported field '" + name.substr(0, 60) + "'",
                 name.substr(0, 60)};
  }

private:
  const json &object;
  ApiError &error;
  std::set<std::string> known;
};

class Parser {
public:
  Parser(const Product &product, const RequestLimits &limits,
         ApiRequest &request, ApiError &error)
      : product(product), limits(limits), request(request), error(error) {}
  void parse(const json &body, std::string_view text, const std::string &model);

private:
  void readModel(Fields &fields, const std::string &model);
  void readSampling(Fields &fields);
  void readStops(Fields &fields);
  void readStream(Fields &fields);
  void readLogprobs(Fields &fields);
  void readResponseFormat(Fields &fields, std::string_view body);
  void readMessages(Fields &fields);
  bool readContent(const std::string &where, const json &value,
                   std::string &content);
  void readPrompts(Fields &fields);
  void readPrompt(Fields &fields, const std::string &where, const json &value);
  void readLength(Fields &fields);
  void addPrompt(const char *lengthName, int64_t asked,
                 std::vector<int32_t> prompt);
  void encode(const std::string &text, bool addSpecial, const char *param);

  const Product &product;
  const RequestLimits &limits;
  ApiRequest &request;
  GenerationOptions generation; ///< What all of them have alike.
  std::vector<std::vector<int32_t>> prompts;
  ApiError &error;
};

} // namespace

std::string serve::nameModel(const std::string &model,
                             const hadal_rt_model_t &compiled,
                             int32_t adapter) {
  const char *name = hadal_rt_model_adapter(&compiled, adapter);
  return name ? model + ":" + name : model;
}

void Parser::readModel(Fields &fields, const std::string &model) {
  const json *field = fields.find("model");
  if (!field)
    return;
  if (!field->is_string())
    return fields.refuse("model", *field, "a string");
  std::string expected = "'" + model + "'";
  for (int32_t i = -1;; ++i) {
    const char *adapter = hadal_rt_model_adapter(product.model, i);
    if (i >= 0 && !adapter)
      break;
    std::string name = nameModel(model, *product.model, i);
    if (*field == name) {
      generation.adapter = i;
      return;
    }
    if (adapter)
      expected += " or '" + name + "'";
  }
  fields.refuse("model", *field, expected + ", which is served here");
  error.status = 404;
  error.code = "model_not_found";
}

void Parser::readSampling(Fields &fields) {
  text::SamplerOptions &sampler = generation.sampler;
  fields.read("temperature", 0, 2, sampler.temperature);
  fields.read("top_p", 0, 1, sampler.topP);
  fields.read("min_p", 0, 1, sampler.minP);
  fields.read("repetition_penalty", 0.01, 100, sampler.repetitionPenalty);
  int64_t topK = 0;
  // vLLM's way to say all is -1.
  fields.read("top_k", -1, INT32_MAX, topK);
  sampler.topK = int32_t(std::max<int64_t>(topK, 0));
  int64_t seed = -1;
  if (!fields.find("seed"))
    sampler.seed = std::random_device()() * 0x100000001ull;
  fields.read("seed", INT64_MIN, INT64_MAX, seed);
  if (fields.find("seed"))
    sampler.seed = uint64_t(seed);
  fields.read("n", 1, limits.generations, request.choices);
  fields.expect("frequency_penalty", 0);
  fields.expect("presence_penalty", 0);
  fields.expect("logit_bias", json::object());
  fields.read("ignore_eos", generation.ignoresEos);
  std::string reason;
  if (!error.status && !text::Sampler::validate(sampler, reason))
    error = {400, reason};
}

void Parser::readStops(Fields &fields) {
  const json *field = fields.find("stop");
  if (!field)
    return;
  const std::string expected = "a string or up to " + std::to_string(maxStops) +
                               " of them, of 1 .. " +
                               std::to_string(maxStopBytes) + " bytes each";
  json list = field->is_array() ? *field : json::array({*field});
  if (list.size() > maxStops)
    return fields.refuse("stop", *field, expected);
  for (const json &stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string &>().empty() ||
        stop.get_ref<const std::string &>().size() > maxStopBytes)
      return fields.refuse("stop", stop, expected);
    generation.stops.push_back(stop);
  }
}

void Parser::readStream(Fields &fields) {
  fields.read("stream", request.streams);
  const json *field = fields.find("stream_options");
  if (!field)
    return;
  if (!field->is_object() || !request.streams)
    return fields.refuse("stream_options", *field,
                         "an object, and only with \"stream\": true");
  Fields options(*field, error);
  options.read("include_usage", request.includesUsage);
  options.refuseOthers({"include_obfuscation"});
}

void Parser::readLogprobs(Fields &fields) {
  int64_t top = -1;
  if (!request.isChat) {
    fields.read("logprobs", 0, maxTopLogprobs, top);
  } else {
    bool wanted = false;
    fields.read("logprobs", wanted);
    fields.read("top_logprobs", 0, maxTopLogprobs, top);
    if (const json *field = fields.find("top_logprobs"); field && !wanted)
      fields.refuse("top_logprobs", *field, "it only with \"logprobs\": true");
    if (wanted)
      top = std::max<int64_t>(top, 0);
  }
  generation.topLogprobs = int32_t(top);
}

/// Finds the member \p key of \p object, which is valid JSON. \returns Its
/// text, in which keys have their order; empty if there is none.
static std::string_view findText(std::string_view object, const char *key) {
  size_t at = 0;
  // To the end of what begins at `at`: a string, or something up to a comma or
  // bracket that is not its own.
  auto skip = [&] {
    for (int depth = 0; at < object.size(); ++at) {
      char c = object[at];
      if (c == '"')
        while (object[++at] != '"')
          at += object[at] == '\\';
      else if (c == '{' || c == '[')
        ++depth;
      else if (depth && (c == '}' || c == ']'))
        --depth;
      else if (!depth && (c == ',' || c == ':' || c == '}' || c == ']'))
        return;
    }
  };
  std::string_view found;
  for (at = object.find('{') + 1; at && at < object.size(); ++at) {
    size_t start = at;
    skip();
    json name =
        json::parse(object.substr(start, at - start), nullptr, false, false);
    start = ++at;
    skip();
    if (name == key) // The last counts, as in nlohmann's objects.
      found = object.substr(start, std::min(at, object.size()) - start);
  }
  return found;
}

/// Reads `response_format`, of which \p body has the text.
void Parser::readResponseFormat(Fields &fields, std::string_view body) {
  static constexpr const char *name = "response_format";
  const json *field = fields.find(name);
  if (!field)
    return;
  if (!field->is_object())
    return fields.refuse(name, *field, "an object");
  Fields format(*field, error);
  const json *type = format.find("type");
  if (type && *type == "text")
    return format.refuseOthers({});
  std::string_view schema = R"({"type": "object"})";
  std::string param = name;
  if (type && *type == "json_schema") {
    const json *wrapper = format.find("json_schema");
    param += ".json_schema";
    if (!wrapper || !wrapper->is_object())
      return fields.refuse(param, wrapper ? *wrapper : json(nullptr),
                           "an object with name and schema");
    Fields parts(*wrapper, error);
    const json *title = parts.find("name");
    if (!title || !title->is_string())
      return fields.refuse(param + ".name", title ? *title : json(nullptr),
                           "a string");
    bool isStrict = false; // It always is.
    parts.read("strict", isStrict);
    const json *given = parts.find("schema");
    if (!given)
      return fields.refuse(param + ".schema", json(nullptr), "a JSON schema");
    parts.refuseOthers({"description"});
    schema = findText(findText(findText(body, name), "json_schema"), "schema");
    param += ".schema";
  } else if (!type || *type != "json_object") {
    return fields.refuse("response_format.type", type ? *type : json(nullptr),
                         R"("text", "json_object" or "json_schema")");
  }
  format.refuseOthers({});
  if (error.status)
    return;
  std::string reason;
  generation.grammar = text::Grammar::fromJsonSchema(schema, reason);
  if (!generation.grammar)
    error = {400, param + ": " + reason, param};
}

/// Reads the content of a message: a string, or a list of parts of text.
bool Parser::readContent(const std::string &where, const json &value,
                         std::string &content) {
  auto refuse = [&](const std::string &name, const std::string &expected) {
    if (!error.status)
      error = {400, name + ": expected " + expected, "messages"};
    return false;
  };
  if (value.is_string()) {
    content = value.get_ref<const std::string &>();
    return true;
  }
  if (!value.is_array())
    return refuse(where, "a string or a list of parts");
  for (const json &part : value) {
    if (!part.is_object() || part.value("type", json()) != "text" ||
        !part.value("text", json()).is_string())
      return refuse(where, "parts with type \"text\" and a string in text; "
                           "others are not supported");
    content += part["text"].get_ref<const std::string &>();
  }
  return true;
}

void Parser::readMessages(Fields &fields) {
  const json *field = fields.find("messages");
  if (!product.chatFormat && !error.status)
    error = {400, "this model does not chat: " + product.chatError, "messages"};
  if (!field || !field->is_array() || field->empty())
    return fields.refuse("messages", field ? *field : json(nullptr),
                         "a list of at least one message");
  std::vector<text::ChatMessage> messages;
  for (const json &message : *field) {
    std::string where = "messages[" + std::to_string(messages.size()) + "]";
    if (!message.is_object())
      return fields.refuse(where, message, "an object");
    Fields parts(message, error);
    const json *role = parts.find("role");
    if (!role || !role->is_string() ||
        (*role != "system" && *role != "developer" && *role != "user" &&
         *role != "assistant"))
      return fields.refuse(where + ".role", role ? *role : json(nullptr),
                           "\"system\", \"user\" or \"assistant\"");
    text::ChatMessage &added = messages.emplace_back();
    added.role = *role == "developer" ? "system" : role->get<std::string>();
    const json *content = parts.find("content");
    if (!readContent(where + ".content", content ? *content : json(nullptr),
                     added.content))
      return;
    parts.refuseOthers({"name", "refusal", "annotations"});
    if (error.status)
      return;
    // It would become the token, and end the message where it stands.
    std::string reason;
    auto ids = product.tokenizer->encode(added.content, /*addSpecial=*/false,
                                         /*parseSpecial=*/true, reason);
    if (!ids) {
      error = {400, where + ".content: " + reason, "messages"};
      return;
    }
    for (int32_t id : *ids)
      if (product.tokenizer->isSpecial(id)) {
        error = {400,
                 where + ".content has the special token '" +
                     std::string(product.tokenizer->tokenBytes(id)) +
                     "', expected plain text",
                 "messages"};
        return;
      }
  }
  text::ChatOptions options;
  std::string reason;
  if (const json *kwargs = fields.find("chat_template_kwargs")) {
    if (!kwargs->is_object())
      return fields.refuse("chat_template_kwargs", *kwargs, "an object");
    Fields chat(*kwargs, error);
    chat.read("thinking", options.thinking);
    chat.refuseOthers({});
    if (options.thinking && generation.grammar)
      return fields.refuse("response_format", *fields.find("response_format"),
                           "none with thinking: the reasoning follows no "
                           "schema");
  }
  if (error.status)
    return;
  auto rendered =
      text::renderChat(*product.chatFormat, messages, options, reason);
  if (!rendered)
    error = {400, reason, "messages"};
  else
    encode(*rendered, /*addSpecial=*/false, "messages");
}

/// Reads one prompt, or a list of them.
void Parser::readPrompts(Fields &fields) {
  const json *field = fields.find("prompt");
  fields.expect("best_of", request.choices);
  fields.expect("echo", false);
  fields.expect("suffix", "");
  if (error.status)
    return;
  bool isList = field && field->is_array() && !field->empty() &&
                !field->front().is_number();
  if (!isList)
    return readPrompt(fields, "prompt", field ? *field : json(nullptr));
  if (int64_t(field->size()) > limits.generations / request.choices)
    return fields.refuse(
        "prompt", *field,
        "at most " + std::to_string(limits.generations / request.choices) +
            " prompts with n " + std::to_string(request.choices));
  for (const json &prompt : *field)
    readPrompt(fields, "prompt[" + std::to_string(prompts.size()) + "]",
               prompt);
}

void Parser::readPrompt(Fields &fields, const std::string &where,
                        const json &value) {
  if (value.is_string())
    return encode(value.get_ref<const std::string &>(), /*addSpecial=*/true,
                  "prompt");
  if (!value.is_array() || value.empty())
    return fields.refuse(where, value, "a string, or a list of token ids");
  std::vector<int32_t> &prompt = prompts.emplace_back();
  for (const json &id : value) {
    if (!id.is_number_unsigned() ||
        id.get<uint64_t>() >= uint64_t(product.model->vocab))
      return fields.refuse(
          where + "[" + std::to_string(prompt.size()) + "]", id,
          "a token id, 0 .. " + std::to_string(product.model->vocab - 1));
    prompt.push_back(id.get<int32_t>());
  }
}

void Parser::encode(const std::string &text, bool addSpecial,
                    const char *param) {
  std::string reason;
  auto ids = product.tokenizer->encode(text, addSpecial, /*parseSpecial=*/true,
                                       reason);
  if (!ids)
    error = {400, std::string(param) + ": " + reason, param};
  else
    prompts.push_back(std::move(*ids));
}

/// Fits prompts and answers into the context.
void Parser::readLength(Fields &fields) {
  int64_t asked = -1;
  fields.read("max_tokens", 1, INT32_MAX, asked);
  const char *name = "max_tokens";
  if (request.isChat && fields.find("max_completion_tokens")) {
    name = "max_completion_tokens";
    fields.read(name, 1, INT32_MAX, asked);
  }
  for (std::vector<int32_t> &prompt : prompts)
    if (!error.status)
      addPrompt(name, asked, std::move(prompt));
}

/// Adds the generations of \p prompt. \p asked is the field \p lengthName, or
/// less than zero without one.
void Parser::addPrompt(const char *lengthName, int64_t asked,
                       std::vector<int32_t> prompt) {
  auto count = int64_t(prompt.size());
  const char *param = request.isChat ? "messages" : "prompt";
  if (!count) {
    error = {400, "the prompt has no tokens", param};
    return;
  }
  std::string context = std::to_string(limits.contextTokens);
  if (count > limits.contextTokens) {
    error = {400,
             "the prompt has " + std::to_string(count) +
                 " tokens, but the context has " + context,
             param, "context_length_exceeded"};
    return;
  }
  // The last token that is generated is not fed back.
  int64_t room = limits.contextTokens - count + 1;
  if (asked > room) {
    error = {400,
             std::string(lengthName) + " is " + std::to_string(asked) +
                 ", but after " + std::to_string(count) +
                 " prompt tokens the context of " + context + " has room for " +
                 std::to_string(room),
             lengthName, "context_length_exceeded"};
    return;
  }
  if (asked < 0)
    asked = request.isChat ? room : std::min(room, defaultCompletionTokens);
  GenerationOptions added = generation;
  added.prompt = std::move(prompt);
  added.maxTokens = asked;
  // A choice is what a request with a seed of so much more gets.
  for (int64_t i = 0; i < request.choices; ++i, ++added.sampler.seed)
    request.generations.push_back(added);
}

void Parser::parse(const json &body, std::string_view text,
                   const std::string &model) {
  Fields fields(body, error);
  readModel(fields, model);
  readSampling(fields);
  readStops(fields);
  readStream(fields);
  readLogprobs(fields);
  readResponseFormat(fields, text);
  if (request.isChat)
    readMessages(fields);
  else
    readPrompts(fields);
  readLength(fields);
  // What says nothing of the answer's text.
  fields.refuseOthers({"metadata", "parallel_tool_calls", "prompt_cache_key",
                       "prompt_cache_retention", "safety_identifier",
                       "service_tier", "store", "user"});
}

ApiError serve::parseRequest(const std::string &body, bool isChat,
                             const std::string &model, const Product &product,
                             const RequestLimits &limits, ApiRequest &request) {
  ApiError error;
  request.isChat = isChat;
  json parsed;
  // A reader that throws is the only one that says where.
  try {
    parsed = json::parse(body);
  } catch (const json::parse_error &fault) {
    return {400, "the body is not JSON in UTF-8: wrong at byte " +
                     std::to_string(fault.byte)};
  } catch (const json::exception &) {
    return {400, "the body has a number that is out of range"};
  }
  if (!parsed.is_object())
    return {400, std::string("the body is ") + parsed.type_name() +
                     ", expected an object"};
  Parser(product, limits, request, error).parse(parsed, body, model);
  return error;
}
