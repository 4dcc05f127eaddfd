// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lines, names and types of C++, which know nothing of a model.

#ifndef HADAL_CODEGEN_CPP_CPPWRITER_H
#define HADAL_CODEGEN_CPP_CPPWRITER_H

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

namespace hadal {

/// Writes lines of at most 80 columns where it can.
class CppWriter {
public:
  CppWriter(llvm::raw_ostream &os) : os(&os) {}

  /// Writes \p text, indented, on as many lines as it needs.
  void line(const llvm::Twine &text = "");
  /// Writes \p text as it is, and ends the line.
  void raw(const llvm::Twine &text);
  /// Writes what was captured.
  void captured(llvm::StringRef text);
  /// The same behind `///`, broken between words.
  void comment(llvm::StringRef text);
  /// Writes "text {" and indents what follows.
  void open(const llvm::Twine &text);
  void close(llvm::StringRef after = "");
  /// Writes "} text {".
  void reopen(llvm::StringRef text);

  /// What \p body writes, from the first column on, instead of writing it.
  std::string capture(llvm::function_ref<void()> body);
  /// Lines so far, of what is captured: since that began.
  unsigned lineCount() const { return lines; }

private:
  void put(unsigned indent, llvm::StringRef text);

  llvm::raw_ostream *os;
  unsigned indentation = 0, lines = 0;
};

/// Gives names that are not in use in one function. None is a word of C++ or of
/// `hadal_rt/kernels.h`.
class CppNames {
public:
  CppNames();
  /// \p hint, or else \p hint with a number after it.
  std::string get(llvm::StringRef hint);

private:
  llvm::StringMap<unsigned> used;
};

/// \p text as an identifier.
std::string toCppIdentifier(llvm::StringRef text);

/// The type of values of \p type: int64_t, f32x16, bool, ...; empty if there is
/// none. A lane of a mask is 32 bits of ones or zeros.
std::string getCppType(mlir::Type type);

/// The type of what is in memory: float, bf16, int8_t, ...
std::string getCppElement(mlir::Type element);

/// What a comment calls it: "[tokens, 256] f32".
std::string describeShape(mlir::Type type);

/// \p value, so that it is read as the same f32: 1.0f, 0.0883883461f.
std::string getCppFloat(const llvm::APFloat &value);

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_CPPWRITER_H
