// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lines are broken at the outermost comma or operator that fits, before what
// binds less.

#include "codegen/Cpp/CppWriter.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace hadal;

constexpr size_t columns = 80;

/// Columns that what goes on in another line is indented by.
constexpr unsigned continued = 4;

/// Where \p text, too long for \p width, is best broken: after a comma, before
/// an operator, as far out of parentheses, then before what binds least and
/// then as far right as possible; after "=" if what is left then fits a line.
/// 0: nowhere.
static size_t findBreak(StringRef text, size_t width) {
  size_t best = 0;
  int depth = 0, bestRank = INT_MAX;
  // What does not fit anyway ends as soon as it can.
  for (size_t i = 0; i < text.size() && (i < width || !best); ++i) {
    char c = text[i];
    if (c == '"')
      return best;
    if (llvm::StringRef("([{").contains(c))
      ++depth;
    if (llvm::StringRef(")]}").contains(c))
      --depth;
    if (c != ' ' || i == 0)
      continue;
    bool afterComma = text[i - 1] == ',' || text[i - 1] == ';';
    bool afterAssignment = text[i - 1] == '=';
    // Before a binary operator: "a + b" is broken before its +.
    bool isOperator = i + 2 < text.size() && !llvm::isAlnum(text[i + 1]) &&
                      llvm::StringRef("+-*/<>&|^?:=").contains(text[i + 1]) &&
                      text[i + 1] != '=' &&
                      text.slice(i + 1, i + 4).contains(' ');
    if (!afterComma && !afterAssignment && !isOperator)
      continue;
    bool isFactor = !afterComma && llvm::StringRef("*/").contains(text[i + 1]);
    bool leavesLine = text.size() - i - 1 + continued <= width - 1;
    int rank = 4 * depth + (afterAssignment ? (leavesLine ? -1 : 6)
                            : isFactor      ? 2
                            : afterComma    ? 0
                                            : 1);
    if (rank <= bestRank) {
      best = i;
      bestRank = rank;
    }
  }
  return best;
}

void CppWriter::put(unsigned indent, StringRef text) {
  // An empty line is not indented.
  os->indent(text.empty() ? 0 : indent) << text << '\n';
  ++lines;
}

void CppWriter::raw(const Twine &text) { put(0, text.str()); }

void CppWriter::captured(StringRef text) {
  *os << text;
  lines += text.count('\n');
}

std::string CppWriter::capture(llvm::function_ref<void()> body) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::SaveAndRestore savedStream(os, static_cast<raw_ostream *>(&stream));
  llvm::SaveAndRestore savedIndentation(indentation, 0u);
  llvm::SaveAndRestore savedLines(lines, 0u);
  body();
  return text;
}

void CppWriter::line(const Twine &twine) {
  std::string storage = twine.str();
  StringRef text = storage;
  unsigned indent = 2 * indentation;
  for (bool first = true; first || !text.empty(); first = false) {
    if (text.empty()) {
      put(0, "");
      break;
    }
    size_t width = columns > indent + 20 ? columns - indent : 20;
    size_t at = text.size() > width ? findBreak(text, width + 1) : 0;
    StringRef part = at ? text.take_front(at) : text;
    put(indent, part);
    text = at ? text.drop_front(at + 1) : StringRef();
    if (first)
      indent += continued;
  }
}

void CppWriter::comment(StringRef text) {
  SmallVector<StringRef> words;
  text.split(words, ' ', -1, /*KeepEmpty=*/false);
  std::string current;
  auto flush = [&] {
    if (!current.empty())
      put(2 * indentation, "///" + current);
    current.clear();
  };
  for (StringRef word : words) {
    if (2 * indentation + 3 + current.size() + 1 + word.size() > columns)
      flush();
    current += " ";
    current += word;
  }
  flush();
}

void CppWriter::open(const Twine &text) {
  line(text + " {");
  ++indentation;
}

void CppWriter::close(StringRef after) {
  --indentation;
  line("}" + after);
}

void CppWriter::reopen(StringRef text) {
  --indentation;
  open("} " + text);
}

CppNames::CppNames() {
  for (StringRef word :
       {"alignas",   "asm",       "auto",   "bool",     "break",    "case",
        "catch",     "char",      "class",  "const",    "continue", "default",
        "delete",    "do",        "double", "else",     "enum",     "explicit",
        "export",    "extern",    "false",  "float",    "for",      "friend",
        "goto",      "if",        "inline", "int",      "long",     "mutable",
        "namespace", "new",       "not",    "operator", "or",       "and",
        "private",   "protected", "public", "register", "return",   "short",
        "signed",    "sizeof",    "static", "struct",   "switch",   "template",
        "this",      "throw",     "true",   "try",      "typedef",  "typename",
        "union",     "unsigned",  "using",  "virtual",  "void",     "volatile",
        "while",     "xor"})
    used.try_emplace(word, 0);
  for (StringRef word : {"dot4",
                         "dot4_nonnegative",
                         "abs",
                         "address_of",
                         "add_dot2_bf16",
                         "add_dot4",
                         "add_dot4_bf16_pairs",
                         "add_dot4_nonnegative",
                         "add_dot8_pairs",
                         "arena",
                         "bf16",
                         "bit_cast",
                         "buffer",
                         "convert",
                         "dispatch",
                         "every",
                         "exp",
                         "f16",
                         "first",
                         "floor",
                         "fma",
                         "high",
                         "interleave",
                         "input_rows",
                         "items",
                         "join",
                         "lane",
                         "lanes",
                         "load",
                         "low",
                         "manifest",
                         "max",
                         "max_lane",
                         "min",
                         "page",
                         "params",
                         "put",
                         "scratch_memory",
                         "prefetch",
                         "probe",
                         "products",
                         "last",
                         "round_even",
                         "select",
                         "shift_right",
                         "shuffle",
                         "sigmoid",
                         "slice",
                         "softplus",
                         "splat",
                         "sqrt",
                         "step",
                         "store",
                         "store_first",
                         "stream",
                         "sum_lanes",
                         "tiles",
                         "tokens",
                         "to_index",
                         "udiv",
                         "uless",
                         "uless_equal",
                         "umax",
                         "umin",
                         "urem",
                         "vector",
                         "weight",
                         "weight_tiles",
                         "word",
                         "zero_extend"})
    used.try_emplace(word, 0);
}

std::string CppNames::get(StringRef hint) {
  std::string base = hint.empty() ? "t" : hint.str();
  std::string name = base;
  while (!used.try_emplace(name, 0).second)
    name = base + (llvm::isDigit(base.back()) ? "_" : "") +
           std::to_string(++used[base]);
  return name;
}

std::string hadal::toCppIdentifier(StringRef text) {
  std::string identifier;
  for (char c : text)
    identifier += llvm::isAlnum(c) ? c : '_';
  if (identifier.empty() || llvm::isDigit(identifier.front()))
    identifier.insert(0, "_");
  return identifier;
}

std::string hadal::getCppElement(Type element) {
  if (element.isF32())
    return "float";
  if (element.isBF16())
    return "bf16";
  if (element.isF16())
    return "f16";
  if (auto integer = dyn_cast<IntegerType>(element))
    if (llvm::is_contained({8u, 16u, 32u, 64u}, integer.getWidth()))
      return "int" + std::to_string(integer.getWidth()) + "_t";
  return "";
}

std::string hadal::getCppType(Type type) {
  if (isa<IndexType>(type))
    return "int64_t";
  if (type.isInteger(1))
    return "bool";
  auto vector = dyn_cast<VectorType>(type);
  if (!vector)
    return getCppElement(type);
  if (vector.getRank() != 1 || vector.isScalable() ||
      !llvm::isPowerOf2_64(vector.getDimSize(0)) || vector.getDimSize(0) > 64)
    return "";
  std::string lanes = "x" + std::to_string(vector.getDimSize(0));
  Type element = vector.getElementType();
  if (element.isInteger(1))
    return "i32" + lanes;
  if (getCppElement(element).empty())
    return "";
  std::string name;
  llvm::raw_string_ostream(name) << element;
  return name + lanes;
}

std::string hadal::describeShape(Type type) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (auto memref = dyn_cast<MemRefType>(type)) {
    os << '[';
    llvm::interleaveComma(memref.getShape(), os, [&](int64_t size) {
      if (ShapedType::isDynamic(size))
        os << "rows";
      else
        os << size;
    });
    os << "] " << memref.getElementType();
    return text;
  }
  os << type;
  return text;
}

std::string hadal::getCppFloat(const llvm::APFloat &value) {
  if (value.isNaN())
    return "__builtin_nanf(\"\")";
  if (value.isInfinity())
    return value.isNegative() ? "-__builtin_inff()" : "__builtin_inff()";
  float number = value.convertToFloat();
  std::string text;
  // The shortest of those that are read as the same number.
  for (int digits = 1; digits <= 9; ++digits) {
    char buffer[32];
    snprintf(buffer, sizeof(buffer), "%.*g", digits, double(number));
    text = buffer;
    if (std::strtof(buffer, nullptr) == number)
      break;
  }
  if (text.find_first_of(".e") == std::string::npos)
    text += ".0";
  return text + "f";
}
