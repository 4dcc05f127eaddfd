// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Holds a compilation to the reference interpreter, on a tiny model of the same
// architecture with made-up weights.

#ifndef HADAL_COMPILER_VERIFY_H
#define HADAL_COMPILER_VERIFY_H

#include "hadal/Compiler.h"
#include "lib/Compiler/Diagnostics.h"
#include "lib/Compiler/Outputs.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassInstrumentation.h"

namespace hadal {

/// Runs the module of a compilation, before and after each pass on the deepseek
/// dialect, in the reference interpreter, and compares logits.
class Verifier {
public:
  /// \param folder Where the files of sources are.
  /// \param tokens Ids to run.
  Verifier(std::string folder, std::vector<int32_t> tokens)
      : folder(std::move(folder)), tokens(std::move(tokens)) {}

  /// Runs \p module, which no pass has changed.
  void begin(mlir::ModuleOp module);
  /// The same, after \p pass, unless the module is none of the dialect now.
  void afterPass(llvm::StringRef pass, mlir::ModuleOp module);
  std::unique_ptr<mlir::PassInstrumentation> getInstrumentation();

  /// Adds a step whose result is \p logits, [tokens, vocab], of \p ops.
  void add(const std::string &name, std::vector<double> logits,
           double tolerance, std::map<std::string, int64_t> ops = {});

  const std::vector<Verification::Step> &getSteps() const { return steps; }
  /// The first step that could not be run, or nothing.
  const std::string &getFailure() const { return failure; }
  /// How far a program may be from the last module that was run.
  double getProgramTolerance() const { return programTolerance; }
  int64_t getVocab() const {
    return int64_t(logits.size() / std::max<size_t>(tokens.size(), 1));
  }

private:
  bool run(mlir::ModuleOp module, std::vector<double> &result);

  std::string folder, failure;
  std::vector<int32_t> tokens;
  std::vector<double> logits; ///< Of the last step.
  std::vector<Verification::Step> steps;
  double programTolerance = 0;
  bool isDone = false;
};

/// Parses the file \p path, a module with a `deepseek.model`. \p capture is
/// that of \p context.
///
/// kInvalidArgument: the file cannot be read, or is none.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
parseModel(mlir::MLIRContext &context, DiagnosticCapture &capture,
           const std::string &path);

/// Compiles as `compile` does, and shows \p verifier what passes make.
absl::Status compileWith(const CompileOptions &options, CompileResult &result,
                         Verifier &verifier);

/// Makes a tiny model like that of \p options, or takes a module as it is, with
/// made-up weights, compiles it with the same options, runs the program, and
/// says in \p result how far each step is from the one before it. \p outputs
/// has temporary files.
///
/// kInvalidArgument: a step is out of tolerance. kUnimplemented: the model is
/// a module that is too large to be interpreted.
absl::Status verify(const CompileOptions &options, Outputs &outputs,
                    Verification &result);

} // namespace hadal

#endif // HADAL_COMPILER_VERIFY_H
