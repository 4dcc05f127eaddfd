// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads the schemes of -deepseek-quantize.

#include "passes/Quantization/Scheme.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace hadal;
using llvm::StringRef;

static constexpr char typeNames[] =
    "int8, int8-g32, .., int6-g64, .., int4-g128 (8, 6, 5 or 4 bits, groups of "
    "32, 64 or 128) or none";

static std::optional<QuantizedType> parseType(StringRef name) {
  if (name == "none")
    return QuantizedType{0, 0};
  if (name == "int8")
    return QuantizedType{8, 0};
  auto [bits, group] = name.split("-g");
  QuantizedType type;
  type.bits = llvm::StringSwitch<int64_t>(bits)
                  .Case("int8", 8)
                  .Case("int6", 6)
                  .Case("int5", 5)
                  .Case("int4", 4)
                  .Default(0);
  type.group = llvm::StringSwitch<int64_t>(group)
                   .Case("32", 32)
                   .Case("64", 64)
                   .Case("128", 128)
                   .Default(0);
  return type.bits && type.group ? std::optional(type) : std::nullopt;
}

/// All classes as \p type, but those that only a name rounds: what has no
/// statistics, and is a small part of a large model.
static QuantizeScheme makeAll(QuantizedType type) {
  QuantizeScheme scheme;
  scheme.types.fill(type);
  for (WeightClass of : {WeightClass::Heads, WeightClass::Embedding})
    scheme.types[size_t(of)] = {};
  return scheme;
}

static std::optional<QuantizeScheme> parsePreset(StringRef name) {
  if (name == "int8")
    return makeAll({8, 128});
  if (name == "mixed") {
    QuantizeScheme scheme = makeAll({8, 128});
    scheme.types[size_t(WeightClass::Experts)] = {4, 32};
    return scheme;
  }
  std::optional<QuantizedType> type = parseType(name);
  if (!type)
    return std::nullopt;
  QuantizeScheme scheme = makeAll(*type);
  // Its rounding reaches the logits with no layer after it to even it out, and
  // it is a small part of a large model.
  if (type->bits && type->bits < 8)
    scheme.types[size_t(WeightClass::Head)] = {8, 128};
  return scheme;
}

std::optional<RoundingMethod> hadal::parseRoundingMethod(StringRef text,
                                                         std::string &error) {
  auto method = llvm::StringSwitch<std::optional<RoundingMethod>>(text)
                    .Case("rtn", RoundingMethod::Nearest)
                    .Case("imatrix", RoundingMethod::Importance)
                    .Case("awq", RoundingMethod::ActivationAware)
                    .Case("smoothquant", RoundingMethod::Smooth)
                    .Case("gptq", RoundingMethod::ErrorFeedback)
                    .Default(std::nullopt);
  if (!method)
    error = llvm::formatv("expects a method of rtn, imatrix, awq, smoothquant "
                          "or gptq, but got '{0}'",
                          text);
  return method;
}

std::optional<QuantizeScheme> hadal::parseQuantizeScheme(StringRef text,
                                                         std::string &error) {
  QuantizeScheme scheme;
  for (StringRef item : llvm::split(text, ',')) {
    if (!item.contains('=')) {
      std::optional<QuantizeScheme> preset = parsePreset(item);
      if (!preset) {
        error = llvm::formatv("expects a scheme like int8, int4-g32, mixed or "
                              "experts=int4-g32,attention=int8-g128, but got "
                              "'{0}'",
                              item);
        return std::nullopt;
      }
      scheme = *preset;
      continue;
    }
    auto [name, typeName] = item.split('=');
    const auto *found = llvm::find(weightClassNames, name);
    if (found == std::end(weightClassNames)) {
      error = llvm::formatv("expects a class of weights, {0}, but got '{1}'",
                            llvm::join(std::begin(weightClassNames),
                                       std::end(weightClassNames), ", "),
                            name);
      return std::nullopt;
    }
    std::optional<QuantizedType> type = parseType(typeName);
    if (!type) {
      error = llvm::formatv("expects {0} for {1}, but got '{2}'", typeNames,
                            name, typeName);
      return std::nullopt;
    }
    scheme.types[size_t(found - std::begin(weightClassNames))] = *type;
  }
  return scheme;
}
