// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Calls of the onnx library that throw: its parser of text and its checker of
// nodes. Exceptions end here, in a status.

#include "lib/Import/ONNX/ModelMessage.h"

#include "lib/Import/JSON.h"

#include <onnx/checker.h>
#include <onnx/defs/parser.h>

#include <algorithm>
#include <exception>
#include <string>

using namespace hadal;
using llvm::StringRef;
using llvm::Twine;

/// What a person writes is shorter.
constexpr uint64_t maxTextBytes = 1 << 20;
/// The parser calls itself for graphs in attributes and for types in types.
constexpr unsigned maxTextDepth = 32;

/// The deepest nesting of brackets in \p text, whose strings and comments are
/// those of the parser.
static unsigned findDepth(StringRef text) {
  unsigned depth = 0, deepest = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '"' || c == '#')
      i = std::min(text.find(c == '"' ? '"' : '\n', i + 1), text.size());
    else if (c == '(' || c == '{')
      deepest = std::max(deepest, ++depth);
    else if ((c == ')' || c == '}') && depth)
      --depth;
  }
  return deepest;
}

absl::Status hadal::onnx::parseModelText(StringRef path,
                                         ::onnx::ModelProto &model) {
  absl::StatusOr<std::string> text =
      readText(path, maxTextBytes, "bytes of text");
  if (!text.ok())
    return text.status();
  if (text->find('\0') != std::string::npos)
    return invalid(path + ": has a byte of zero, which is no text");
  if (findDepth(*text) > maxTextDepth)
    return invalid(path + ": has brackets in more than " + Twine(maxTextDepth) +
                   " others");
  std::string found;
  try {
    ::onnx::Common::Status status =
        ::onnx::OnnxParser::Parse(model, text->c_str());
    if (status.IsOK())
      return absl::OkStatus();
    found = status.ErrorMessage();
  } catch (const std::exception &exception) {
    found = std::string("has a number that is none: ") + exception.what();
  }
  std::replace(found.begin(), found.end(), '\n', ' ');
  return invalid(path + ": " + found);
}

absl::Status hadal::onnx::checkNodes(StringRef path,
                                     const ::onnx::ModelProto &model) {
  namespace checker = ::onnx::checker;
  const auto &known =
      ::onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map();
  std::unordered_map<std::string, int> opsets;
  for (const ::onnx::OperatorSetIdProto &opset : model.opset_import()) {
    auto range = known.find(opset.domain());
    if (range != known.end() && (opset.version() < range->second.first ||
                                 opset.version() > range->second.second))
      return absl::OkStatus();
    opsets[opset.domain()] = int(opset.version());
  }
  checker::CheckerContext context;
  context.set_ir_version(int(model.ir_version()));
  context.set_opset_imports(opsets);
  for (const ::onnx::NodeProto &node : model.graph().node()) {
    // What has no rule in the compiler is named later, with all others. ONNX
    // Runtime has operators of its own in the standard's domain, too.
    auto opset = opsets.find(node.domain());
    if (checker::check_is_experimental_op(node.op_type()) ||
        (opset != opsets.end() &&
         !::onnx::OpSchemaRegistry::Schema(node.op_type(), opset->second,
                                           node.domain())))
      continue;
    try {
      checker::check_node(node, context, checker::LexicalScopeContext());
    } catch (const std::exception &exception) {
      StringRef found = exception.what();
      // What else to call it.
      bool isNamed = !node.name().empty() || node.output().empty();
      return invalid(path + ": node " +
                     quote(isNamed ? node.name() : node.output(0)) + " (" +
                     quote(node.op_type()) +
                     "): " + quote(found.trim().split('\n').first));
    }
  }
  return absl::OkStatus();
}
