// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recipes by value: steps on tensors, reads of files, and made-up sources.

#include "test/dialects/DeepSeek/Reference/InterpreterTest.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <cmath>

using namespace mlir;
using namespace hadal::deepseek;

namespace {

/// A folder with a file of the bytes 0, 1, .., 63, beside a folder with a file
/// that must not be read.
class ReferenceRecipeTest : public InterpreterTest {
protected:
  ReferenceRecipeTest() {
    EXPECT_FALSE(llvm::sys::fs::createUniqueDirectory("hadal-recipe", root));
    folder = root;
    llvm::sys::path::append(folder, "model");
    EXPECT_FALSE(llvm::sys::fs::create_directory(folder));
    std::string bytes;
    for (char i = 0; i < 64; ++i)
      bytes += i;
    writeFile(folder.str().str() + "/bytes", bytes);
    writeFile(root.str().str() + "/secret", bytes);
    EXPECT_FALSE(
        llvm::sys::fs::create_link(root + "/secret", folder + "/link"));
  }
  ~ReferenceRecipeTest() override {
    (void)llvm::sys::fs::remove_directories(root);
  }

  static void writeFile(StringRef path, StringRef bytes) {
    std::error_code error;
    llvm::raw_fd_ostream os(path, error);
    os << bytes;
  }

  /// The values of a weight of type \p type whose recipe is \p recipe.
  Tensor evaluate(const std::string &type, const std::string &recipe) {
    load("deepseek.weight @w : " + type + " {\n" + recipe + "\n}",
         folder.str().str());
    auto weight = interpreter->getWeight("w");
    EXPECT_TRUE(succeeded(weight)) << errors;
    return succeeded(weight) ? **weight : Tensor();
  }
  void expectRecipeError(const std::string &type, const std::string &recipe,
                         StringRef message) {
    load("deepseek.weight @w : " + type + " {\n" + recipe + "\n}",
         folder.str().str());
    EXPECT_TRUE(failed(interpreter->getWeight("w")));
    EXPECT_NE(errors.find(message.str()), std::string::npos) << errors;
  }

  llvm::SmallString<128> root, folder;
};

/// A source whose elements are 0, 1, .., 5 times `unit`: FP8 counts up from 0
/// in steps of its smallest number, as its bits do.
const char *const counting = R"(
  %0 = deepseek.source "w" in ["bytes"] at [0] : tensor<2x3xf8E4M3FN>
)";
constexpr double unit = 1.0 / 512;

TEST_F(ReferenceRecipeTest, SourceStack) {
  expectValues(evaluate("tensor<2x2xf8E4M3FN>", R"(
    %0 = deepseek.source "w.{}" in ["bytes"] at [4, 1] : tensor<2x2xf8E4M3FN>
    deepseek.yield %0 : tensor<2x2xf8E4M3FN>)"),
               {4 * unit, 5 * unit, unit, 2 * unit});
}

TEST_F(ReferenceRecipeTest, Unpack) {
  // Bytes 0x1b, 0x1c: the lowest bits of a byte come first.
  expectValues(evaluate("tensor<1x4xi4>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [27] : tensor<1x2xi8>
    %1 = deepseek.unpack %0 bits 4 plus 0 : tensor<1x2xi8> -> tensor<1x4xi4>
    deepseek.yield %1 : tensor<1x4xi4>)"),
               {0xb - 8, 1 - 8, 0xc - 8, 1 - 8});
  // One more, so that 15 would become 0.
  expectValues(evaluate("tensor<1x2xi8>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [47] : tensor<1x1xi8>
    %1 = deepseek.unpack %0 bits 4 plus 1 : tensor<1x1xi8> -> tensor<1x2xi8>
    deepseek.yield %1 : tensor<1x2xi8>)"),
               {0 - 8, 3 - 8});
}

TEST_F(ReferenceRecipeTest, DequantizeIntegers) {
  // Codes -4, -3, -2, -1 less -5 and -6, by the bytes 0x3c, 0x3d as bf16.
  double scale = std::ldexp(1 + 60.0 / 128, 122 - 127);
  expectValues(evaluate("tensor<1x4xf32>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [4] : tensor<1x4xi8>
    %1 = deepseek.source "z" in ["bytes"] at [2] : tensor<1x1xi8>
    %2 = deepseek.source "s" in ["bytes"] at [60] : tensor<1x1xbf16>
    %3 = deepseek.dequantize %0, %2 zeros %1 : tensor<1x1xi8> block 1 x 4
      : tensor<1x4xi8>, tensor<1x1xbf16> -> tensor<1x4xf32>
    deepseek.yield %3 : tensor<1x4xf32>)"),
               {2 * scale, 3 * scale, 4 * scale, 5 * scale});
}

TEST_F(ReferenceRecipeTest, GatherOutOfRange) {
  expectRecipeError("tensor<1x1xf16>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [0] : tensor<1x3xf16>
    %1 = deepseek.source "g" in ["bytes"] at [1] : tensor<1x4xi8>
    %2 = deepseek.gather %0, %1
      : tensor<1x3xf16>, tensor<1x4xi8> -> tensor<1x1xf16>
    deepseek.yield %2 : tensor<1x1xf16>)",
                    "expects indices below 3, but got 67305985 at 0");
}

TEST_F(ReferenceRecipeTest, SourceIsLittleEndian) {
  // Bytes 0x3c, 0x3d.
  expectValues(evaluate("tensor<1xbf16>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [60] : tensor<1xbf16>
    deepseek.yield %0 : tensor<1xbf16>)"),
               {std::ldexp(1 + 60.0 / 128, 122 - 127)});
}

TEST_F(ReferenceRecipeTest, SourcePastTheEndOfTheFile) {
  expectRecipeError("tensor<4xf32>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [52] : tensor<4xf32>
    deepseek.yield %0 : tensor<4xf32>)",
                    "has 64 bytes, but bytes 52 to 68 are needed");
}

TEST_F(ReferenceRecipeTest, SourceOutsideOfTheFolder) {
  for (const char *name : {"../secret", "link"})
    expectRecipeError("tensor<4xf32>",
                      "%0 = deepseek.source \"w\" in [\"" + std::string(name) +
                          "\"] at [0] : tensor<4xf32>\n"
                          "deepseek.yield %0 : tensor<4xf32>",
                      "expects a file inside the model folder, but got '" +
                          std::string(name) + "'");
}

TEST_F(ReferenceRecipeTest, SourceThatIsNotThere) {
  expectRecipeError("tensor<4xf32>", R"(
    %0 = deepseek.source "w" in ["none"] at [0] : tensor<4xf32>
    deepseek.yield %0 : tensor<4xf32>)",
                    "none': No such file or directory");
}

TEST_F(ReferenceRecipeTest, SliceConcatTranspose) {
  expectValues(evaluate("tensor<3x2xf8E4M3FN>", std::string(counting) + R"(
    %1 = deepseek.slice %0 axis 1 from 1 to 3 : tensor<2x3xf8E4M3FN> -> tensor<2x2xf8E4M3FN>
    %2 = deepseek.slice %0 axis 1 from 0 to 1 : tensor<2x3xf8E4M3FN> -> tensor<2x1xf8E4M3FN>
    %3 = deepseek.concat %1, %2 axis 1 : (tensor<2x2xf8E4M3FN>, tensor<2x1xf8E4M3FN>) -> tensor<2x3xf8E4M3FN>
    %4 = deepseek.transpose %3 [1, 0] : tensor<2x3xf8E4M3FN> -> tensor<3x2xf8E4M3FN>
    deepseek.yield %4 : tensor<3x2xf8E4M3FN>)"),
               {unit, 4 * unit, 2 * unit, 5 * unit, 0, 3 * unit});
}

TEST_F(ReferenceRecipeTest, TransposeOfThree) {
  Tensor tensor = evaluate("tensor<4x2x3xf8E4M3FN>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [0] : tensor<2x3x4xf8E4M3FN>
    %1 = deepseek.transpose %0 [2, 0, 1] : tensor<2x3x4xf8E4M3FN> -> tensor<4x2x3xf8E4M3FN>
    deepseek.yield %1 : tensor<4x2x3xf8E4M3FN>)");
  ASSERT_EQ(tensor.values.size(), 24u);
  // Element [3, 1, 2] is [1, 2, 3] of the input, byte 23: 2^-5 * 1.875.
  EXPECT_EQ(tensor.values[3 * 6 + 1 * 3 + 2], std::ldexp(1.875, -5));
}

TEST_F(ReferenceRecipeTest, ConvertRounds) {
  // The bits 0x3f3e3d3c are cut to 0x3f3e: what is cut is less than half.
  expectValues(evaluate("tensor<1xbf16>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [60] : tensor<1xf32>
    %1 = deepseek.convert %0 : tensor<1xf32> to tensor<1xbf16>
    deepseek.yield %1 : tensor<1xbf16>)"),
               {1.484375 / 2});
}

TEST_F(ReferenceRecipeTest, Dequantize) {
  // Scales are bytes 0x3f3e3d3c and 0x33323130, in blocks of two columns.
  Tensor scales = evaluate("tensor<1x2xf32>", R"(
    %0 = deepseek.source "s" in ["bytes"] at [48] : tensor<1x2xf32>
    deepseek.yield %0 : tensor<1x2xf32>)");
  Tensor tensor = evaluate("tensor<2x3xf32>", std::string(counting) + R"(
    %1 = deepseek.source "s" in ["bytes"] at [48] : tensor<1x2xf32>
    %2 = deepseek.dequantize %0, %1 block 2 x 2 unchecked : tensor<2x3xf8E4M3FN>, tensor<1x2xf32> -> tensor<2x3xf32>
    deepseek.yield %2 : tensor<2x3xf32>)");
  double a = scales.values[0] * unit, b = scales.values[1] * unit;
  EXPECT_EQ(tensor.values,
            (std::vector<double>{0, double(float(a)), double(float(2 * b)),
                                 double(float(3 * a)), double(float(4 * a)),
                                 double(float(5 * b))}));
}

/// Two groups; the largest of them are 15 / 128 and 15 / 8, the last of each.
const char *const groups = R"(
  %0 = deepseek.source "w" in ["bytes"] at [0] : tensor<1x64xf8E4M3FN>
  %1 = deepseek.convert %0 : tensor<1x64xf8E4M3FN> to tensor<1x64xf32>
)";

TEST_F(ReferenceRecipeTest, Quantize) {
  Tensor wide = evaluate("tensor<1x64xi8>", std::string(groups) + R"(
    %2 = deepseek.quantize %1 group 32 : tensor<1x64xf32> -> tensor<1x64xi8>
    deepseek.yield %2 : tensor<1x64xi8>)");
  Tensor narrow =
      evaluate("tensor<1x64xi4, #deepseek.tiled<rows = 16, columns = 8>>",
               std::string(groups) + R"(
    %2 = deepseek.quantize %1 group 32 : tensor<1x64xf32> -> tensor<1x64xi4>
    %3 = deepseek.pack %2 : tensor<1x64xi4> to tensor<1x64xi4, #deepseek.tiled<rows = 16, columns = 8>>
    deepseek.yield %3 : tensor<1x64xi4, #deepseek.tiled<rows = 16, columns = 8>>)");
  ASSERT_EQ(wide.values.size(), 64u);
  ASSERT_EQ(narrow.values.size(), 64u);
  auto expectAt = [&](size_t i, double expectedWide, double expectedNarrow) {
    EXPECT_EQ(wide.values[i], expectedWide) << i;
    EXPECT_EQ(narrow.values[i], expectedNarrow) << i;
  };
  expectAt(0, 0, 0);
  expectAt(3, 6, 0);   // 6.35 and -0.4
  expectAt(4, 8, -1);  // 8.47 and -0.53
  expectAt(8, 17, -1); // 16.93 and -1.07
  expectAt(31, 127, -8);
  expectAt(32, 8, -1);  // 8.47 and -0.53
  expectAt(56, 68, -4); // 67.73 and -4.27
  expectAt(63, 127, -8);
}

TEST_F(ReferenceRecipeTest, QuantizeScales) {
  // 15 / 1016 is 2^-7 (1 + 911.1 / 1024).
  expectValues(evaluate("tensor<1x2xf16>", std::string(groups) + R"(
    %2 = deepseek.quantize_scales %1 bits 8 : tensor<1x64xf32> -> tensor<1x2xf16>
    deepseek.yield %2 : tensor<1x2xf16>)"),
               {std::ldexp(1935, -21), std::ldexp(1935, -17)}, 0);
  expectValues(evaluate("tensor<1x1xf16>", std::string(groups) + R"(
    %2 = deepseek.quantize_scales %1 bits 4 : tensor<1x64xf32> -> tensor<1x1xf16>
    deepseek.yield %2 : tensor<1x1xf16>)"),
               {-15.0 / 64}, 0);
}

TEST_F(ReferenceRecipeTest, ScalesThatDoNotFit) {
  // Numbers of the bits 0x7e7e7e7e, about 8e37.
  writeFile(folder.str().str() + "/huge", std::string(128, '~'));
  expectRecipeError("tensor<1x32xi8>", R"(
    %0 = deepseek.source "w" in ["huge"] at [0] : tensor<1x32xf32>
    %1 = deepseek.quantize %0 group 32 : tensor<1x32xf32> -> tensor<1x32xi8>
    deepseek.yield %1 : tensor<1x32xi8>)",
                    "expects scales that fit f16");
}

TEST_F(ReferenceRecipeTest, RotaryTable) {
  Tensor tensor = evaluate("tensor<3x4xf32>", R"(
    %0 = deepseek.rotary_table <dim = 4, theta = 1.0e4 : f64, layout = half_split> : tensor<3x4xf32>
    deepseek.yield %0 : tensor<3x4xf32>)");
  auto f32 = [](double value) { return double(float(value)); };
  EXPECT_EQ(tensor.values,
            (std::vector<double>{
                1, 1, 0, 0, f32(std::cos(1)), f32(std::cos(0.01)),
                f32(std::sin(1)), f32(std::sin(0.01)), f32(std::cos(2)),
                f32(std::cos(0.02)), f32(std::sin(2)), f32(std::sin(0.02))}));
}

// The file's bytes are 0, 1, ..: the scale is 2^-24 times 256, then come 2, 3,
// ..
TEST_F(ReferenceRecipeTest, DequantizeGGUF) {
  Tensor tensor = evaluate("tensor<32xf32>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [0] : tensor<34xi8>
    %1 = deepseek.dequantize_gguf q8_0 %0 : tensor<34xi8> -> tensor<32xf32>
    deepseek.yield %1 : tensor<32xf32>)");
  ASSERT_EQ(tensor.values.size(), 32u);
  for (size_t i = 0; i < 32; ++i)
    EXPECT_EQ(tensor.values[i], double(i + 2) / 65536);
}

// Rows of two blocks trade places before they are numbers.
TEST_F(ReferenceRecipeTest, TransposeRowsOfBlocks) {
  Tensor tensor = evaluate("tensor<2x32xf32>", R"(
    %0 = deepseek.source "w.{}" in ["bytes"] at [0, 18] : tensor<2x18xi8>
    %1 = deepseek.reshape %0 : tensor<2x18xi8> -> tensor<1x2x18xi8>
    %2 = deepseek.slice %1 axis 1 from 0 to 1 : tensor<1x2x18xi8> -> tensor<1x1x18xi8>
    %3 = deepseek.slice %1 axis 1 from 1 to 2 : tensor<1x2x18xi8> -> tensor<1x1x18xi8>
    %4 = deepseek.concat %3, %2 axis 1 : (tensor<1x1x18xi8>, tensor<1x1x18xi8>) -> tensor<1x2x18xi8>
    %5 = deepseek.reshape %4 : tensor<1x2x18xi8> -> tensor<2x18xi8>
    %6 = deepseek.dequantize_gguf q4_0 %5 : tensor<2x18xi8> -> tensor<2x32xf32>
    deepseek.yield %6 : tensor<2x32xf32>)");
  ASSERT_EQ(tensor.values.size(), 64u);
  // Byte 2 is 0x02; the other row starts at 18, its first byte is 20, 0x14.
  EXPECT_EQ(tensor.values[32], (2 - 8) / 65536.0);
  EXPECT_EQ(tensor.values[48], (0 - 8) / 65536.0);
  EXPECT_LT(tensor.values[0], 0);
}

// Bytes that nobody wrote are those of small numbers in every format.
TEST_F(ReferenceRecipeTest, MadeUpBlocksAreSmall) {
  for (auto [format, bytes] :
       {std::pair<std::string, std::string>("q5_k", "176"),
        {"q3_k", "110"},
        {"iq4_xs", "136"}}) {
    Tensor tensor = evaluate(
        "tensor<256xf32>", "%0 = deepseek.source \"w\" in [] at [] : tensor<" +
                               bytes + "xi8>\n%1 = deepseek.dequantize_gguf " +
                               format + " %0 : tensor<" + bytes +
                               "xi8> -> tensor<256xf32>\n"
                               "deepseek.yield %1 : tensor<256xf32>");
    for (double value : tensor.values)
      EXPECT_LT(std::abs(value), 256);
  }
}

TEST_F(ReferenceRecipeTest, BytesAreNoNumbers) {
  expectRecipeError("tensor<4xi8>", R"(
    %0 = deepseek.source "w" in ["bytes"] at [0] : tensor<4xi8>
    %1 = deepseek.convert %0 : tensor<4xi8> to tensor<4xi8>
    deepseek.yield %1 : tensor<4xi8>)",
                    "expects floating point in the reference, but got "
                    "'tensor<4xi8>'");
}

// A stack has the made-up values of its tensors, so that a pass may stack them.
TEST_F(ReferenceRecipeTest, MadeUpStack) {
  Tensor stack = evaluate("tensor<3x4x5xbf16>", R"(
    %0 = deepseek.source "e.{}.w" in [] at [] : tensor<3x4x5xbf16>
    deepseek.yield %0 : tensor<3x4x5xbf16>)");
  Tensor second = evaluate("tensor<4x5xbf16>", R"(
    %0 = deepseek.source "e.1.w" in [] at [] : tensor<4x5xbf16>
    deepseek.yield %0 : tensor<4x5xbf16>)");
  EXPECT_EQ(
      std::vector<double>(stack.values.begin() + 20, stack.values.begin() + 40),
      second.values);
}

TEST_F(ReferenceRecipeTest, MadeUpValuesAreUniform) {
  Tensor tensor = evaluate("tensor<100x300xf32>", R"(
    %0 = deepseek.source "w" in [] at [] : tensor<100x300xf32>
    deepseek.yield %0 : tensor<100x300xf32>)");
  double sum = 0, squares = 0;
  for (double value : tensor.values) {
    EXPECT_LE(std::abs(value), 0.1000001);
    sum += value;
    squares += value * value;
  }
  // A standard deviation is 0.1 / sqrt(3 * 30000) of the mean: four of them.
  EXPECT_LT(std::abs(sum / 30000), 1.4e-3);
  EXPECT_NEAR(squares / 30000, 1.0 / 300, 1e-4);
}

TEST_F(ReferenceRecipeTest, TooLarge) {
  expectRecipeError("tensor<1000000x1000000xf32>", R"(
    %0 = deepseek.source "w" in [] at [] : tensor<1000000x1000000xf32>
    deepseek.yield %0 : tensor<1000000x1000000xf32>)",
                    "expects at most 268435456 elements in the reference");
}

} // namespace
