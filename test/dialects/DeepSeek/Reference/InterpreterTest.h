// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What tests of the reference interpreter share: a module from text, and the
// diagnostics that running it emits.

#ifndef HADAL_TEST_DIALECTS_DEEPSEEK_REFERENCE_INTERPRETERTEST_H
#define HADAL_TEST_DIALECTS_DEEPSEEK_REFERENCE_INTERPRETERTEST_H

#include "dialects/DeepSeek/Reference/Reference.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

namespace hadal::deepseek {

class InterpreterTest : public ::testing::Test {
protected:
  InterpreterTest() {
    context.loadDialect<DeepSeekDialect, mlir::func::FuncDialect,
                        mlir::arith::ArithDialect>();
    context.getDiagEngine().registerHandler([this](mlir::Diagnostic &diag) {
      errors += diag.str() + "\n";
      return mlir::success();
    });
  }

  /// Parses \p text, and makes an interpreter of it.
  void load(llvm::StringRef text, std::string folder = "") {
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    ASSERT_TRUE(module) << errors;
    interpreter = std::make_unique<Interpreter>(
        *module, Interpreter::Options{std::move(folder)});
  }

  /// Calls @f, which must not fail.
  llvm::SmallVector<Tensor> call(llvm::ArrayRef<Tensor> arguments) {
    auto results = interpreter->call("f", arguments);
    EXPECT_TRUE(mlir::succeeded(results)) << errors;
    return mlir::succeeded(results) ? std::move(*results)
                                    : llvm::SmallVector<Tensor>();
  }

  /// Calls @f, which must fail with \p message.
  void expectError(llvm::ArrayRef<Tensor> arguments, llvm::StringRef message) {
    EXPECT_TRUE(mlir::failed(interpreter->call("f", arguments)));
    EXPECT_NE(errors.find(message.str()), std::string::npos) << errors;
  }

  mlir::MLIRContext context;
  std::string errors;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::unique_ptr<Interpreter> interpreter;
};

/// Expects the values of \p tensor, each to \p tolerance.
inline void expectValues(const Tensor &tensor, llvm::ArrayRef<double> expected,
                         double tolerance = 1e-14) {
  ASSERT_EQ(tensor.values.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(tensor.values[i], expected[i], tolerance) << "at " << i;
}

} // namespace hadal::deepseek

#endif // HADAL_TEST_DIALECTS_DEEPSEEK_REFERENCE_INTERPRETERTEST_H
