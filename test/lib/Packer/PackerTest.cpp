// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Packs small random tensors and compares with straightforward code, byte by
// byte; and holds the packer to its memory bound.

#include "lib/Packer/Packer.h"
#include "dialects/DeepSeek/IR/Rounding.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/IR/GGUFBlocks.h"
#include "dialects/DeepSeek/IR/RotaryTable.h"
#include "dialects/RT/IR/RTOps.h"
#include "lib/Packer/FloatConversion.h"
#include "runtime/include/hadal_rt/abi.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/InterleavedRange.h"

#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <random>
#include <sys/resource.h>
#include <unistd.h>

using namespace mlir;
using namespace hadal;

namespace {

using Bytes = std::vector<char>;

class PackerTest : public testing::Test {
protected:
  PackerTest() {
    context.loadDialect<deepseek::DeepSeekDialect, rt::RTDialect,
                        func::FuncDialect>();
    char name[] = "/tmp/hadal-packer-XXXXXX";
    folder = mkdtemp(name);
  }
  ~PackerTest() override {
    std::string command = "rm -r '" + folder + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }

  /// Writes random finite bf16 numbers; returns their bytes.
  Bytes writeBF16(const std::string &file, size_t count) {
    std::vector<uint16_t> data(count);
    for (uint16_t &element : data) {
      element = uint16_t(random());
      if ((element & 0x7f80) == 0x7f80)
        element = 0x3f80;
    }
    Bytes bytes(count * 2);
    std::memcpy(bytes.data(), data.data(), bytes.size());
    write(file, bytes);
    return bytes;
  }

  void write(const std::string &file, const Bytes &bytes) {
    std::ofstream(folder + "/" + file, std::ios::binary)
        .write(bytes.data(), std::streamsize(bytes.size()));
  }

  /// Packs \p weights into a section of \p totalBytes.
  absl::Status pack(const std::string &weights, int64_t totalBytes,
                    PackOptions options = {}) {
    std::string text = R"(
      func.func @main(%step: !rt.step) { return }
      rt.program @p entry @main {vocab = 1 : i64, hidden = 1 : i64,
        layers = 1 : i64, context_length = 1 : i64, page_tokens = 1 : i64,
        page_bytes = 1 : i64, info = {},
        layout_hash = "000102030405060708090a0b0c0d0eff", weights_bytes = )" +
                       std::to_string(totalBytes) + " : i64}\n" + weights;
    auto module = parseSourceString<ModuleOp>(text, &context);
    if (!module)
      return absl::InternalError("does not parse");
    AtomicFile output;
    std::string error;
    if (!output.open(folder + "/out", error))
      return absl::InternalError(error);
    absl::Status status = packWeights(*module, folder, output, options);
    if (status.ok() && !output.commit(error))
      return absl::InternalError(error);
    return status;
  }

  /// A weight at 0 whose recipe is \p recipe, ending with %r of type \p type.
  static std::string weight(const std::string &recipe,
                            const std::string &type) {
    return "deepseek.weight @w : " + type +
           " attributes {rt.offset = 0 : i64} {\n" + recipe +
           "\ndeepseek.yield %r : " + type + "\n}\n";
  }

  Bytes readOutput() {
    std::ifstream in(folder + "/out", std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(in), {});
  }

  /// The section "weights" after packing.
  Bytes packed(const std::string &weights, int64_t totalBytes,
               PackOptions options = {}) {
    absl::Status status = pack(weights, totalBytes, options);
    EXPECT_TRUE(status.ok()) << status.ToString();
    if (!status.ok())
      return {};
    Bytes file = readOutput();
    EXPECT_EQ(file.size() % 4096, 0u);
    return Bytes(file.begin() + 4096, file.begin() + 4096 + totalBytes);
  }

  MLIRContext context;
  std::string folder;
  std::mt19937 random{7};
};

/// The elements of a tensor, moved so that result[i] = data[index(i)].
template <typename T, typename F>
Bytes gather(const Bytes &data, int64_t count, F index) {
  Bytes result(size_t(count) * sizeof(T));
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(&result[size_t(i) * sizeof(T)],
                &data[size_t(index(i)) * sizeof(T)], sizeof(T));
  return result;
}

/// Straightforward tiles: [batch, n, k] to [batch, ceil(n / 16), k, 16].
template <typename T>
Bytes tile(const Bytes &data, int64_t batch, int64_t n, int64_t k) {
  int64_t tiles = (n + 15) / 16;
  Bytes result(size_t(batch * tiles * k * 16) * sizeof(T));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t row = 0; row < n; ++row)
      for (int64_t column = 0; column < k; ++column)
        std::memcpy(&result[size_t(((b * tiles + row / 16) * k + column) * 16 +
                                   row % 16) *
                            sizeof(T)],
                    &data[size_t((b * n + row) * k + column) * sizeof(T)],
                    sizeof(T));
  return result;
}

} // namespace

TEST_F(PackerTest, WritesHeaderAndSections) {
  Bytes source = writeBF16("m", 8);
  PackOptions options;
  options.sections = {{"manifest", "{}"}, {"tokenizer.json", "tokens"}};
  ASSERT_TRUE(pack(weight("%r = deepseek.source \"t\" in [\"m\"] at [0] : "
                          "tensor<8xbf16>",
                          "tensor<8xbf16>"),
                   200, options)
                  .ok());
  Bytes file = readOutput();
  ASSERT_EQ(file.size(), 4096u * 4);
  hadal_rt_weights_header_t header;
  std::memcpy(&header, file.data(), sizeof(header));
  EXPECT_EQ(std::memcmp(header.magic, "HADALWTS", 8), 0);
  EXPECT_EQ(header.version, 1u);
  EXPECT_EQ(header.file_bytes, file.size());
  EXPECT_EQ(header.layout_hash[1], 1);
  EXPECT_EQ(header.layout_hash[15], 0xff);
  ASSERT_EQ(header.section_count, 3u);
  EXPECT_STREQ(header.sections[0].name, "weights");
  EXPECT_EQ(header.sections[0].bytes, 200u);
  EXPECT_STREQ(header.sections[2].name, "tokenizer.json");
  EXPECT_EQ(header.sections[2].offset, 3 * 4096u);
  EXPECT_EQ(header.sections[2].bytes, 6u);
  EXPECT_EQ(std::memcmp(file.data() + 3 * 4096, "tokens", 6), 0);
  EXPECT_EQ(std::memcmp(file.data() + 4096, source.data(), 16), 0);
  EXPECT_TRUE(std::all_of(file.begin() + 4096 + 16, file.begin() + 2 * 4096,
                          [](char c) { return c == 0; }));
}

TEST_F(PackerTest, PlacesWeightsByOffset) {
  Bytes source = writeBF16("m", 40);
  std::string text;
  for (int i : {1, 0}) // Not in the order of the file.
    text += "deepseek.weight @w" + std::to_string(i) +
            " : tensor<20xbf16> attributes {rt.offset = " +
            std::to_string(i * 128) +
            " : i64} {\n%r = deepseek.source \"t\" in [\"m\"] at [" +
            std::to_string(i * 40) +
            "] : tensor<20xbf16>\ndeepseek.yield %r : tensor<20xbf16>\n}\n";
  Bytes expected(192);
  std::copy_n(source.begin(), 40, expected.begin());
  std::copy_n(source.begin() + 40, 40, expected.begin() + 128);
  EXPECT_EQ(packed(text, 192), expected);
  Bytes first = readOutput();
  EXPECT_EQ(packed(text, 192), expected);
  EXPECT_EQ(readOutput(), first);
}

// A chunk that ends within a weight of two bytes; UBSan checks the floats
// after.
TEST_F(PackerTest, KeepsElementsAlignedInChunks) {
  Bytes source = writeBF16("m", 2049 + 6000);
  for (size_t i = 2049 * 2; i < source.size(); ++i)
    source[i] &= 0x3f; // Finite as f32, too.
  write("m", source);
  std::string text = R"(
    deepseek.weight @a : tensor<2049xbf16> attributes {rt.offset = 0 : i64} {
      %0 = deepseek.source "a" in ["m"] at [0] : tensor<2049xbf16>
      deepseek.yield %0 : tensor<2049xbf16>
    }
    deepseek.weight @b : tensor<3000xf32> attributes {rt.offset = 4160 : i64} {
      %0 = deepseek.source "b" in ["m"] at [4098] : tensor<3000xf32>
      deepseek.yield %0 : tensor<3000xf32>
    })";
  Bytes expected(4160 + 12000);
  std::copy_n(source.begin(), 4098, expected.begin());
  std::copy_n(source.begin() + 4098, 12000, expected.begin() + 4160);
  PackOptions options;
  options.chunkBytes = 4096;
  EXPECT_EQ(packed(text, int64_t(expected.size()), options), expected);
}

TEST_F(PackerTest, ReadsStacks) {
  Bytes a = writeBF16("a", 12), b = writeBF16("b", 12);
  Bytes expected(b.begin(), b.begin() + 12);
  expected.insert(expected.end(), a.begin() + 8, a.begin() + 20);
  EXPECT_EQ(packed(weight("%r = deepseek.source \"t.{}.w\" in [\"b\", \"a\"] "
                          "at [0, 8] : tensor<2x2x3xbf16>",
                          "tensor<2x2x3xbf16>"),
                   24),
            expected);
}

TEST_F(PackerTest, ConcatenatesAndSlicesAnyAxis) {
  Bytes source = writeBF16("m", 2 * 3 * 4);
  for (int axis = 0; axis < 3; ++axis) {
    // The two slices that make up a tensor, in the other order.
    std::vector<int64_t> shape = {2, 3, 4};
    auto type = [](const std::vector<int64_t> &s) {
      return "tensor<" + std::to_string(s[0]) + "x" + std::to_string(s[1]) +
             "x" + std::to_string(s[2]) + "xbf16>";
    };
    std::vector<int64_t> head = shape, tail = shape;
    head[axis] = 1;
    tail[axis] = shape[axis] - 1;
    std::string whole = type(shape), a = std::to_string(axis);
    std::string recipe =
        "%0 = deepseek.source \"t\" in [\"m\"] at [0] : " + whole +
        "\n%1 = deepseek.slice %0 axis " + a + " from 0 to 1 : " + whole +
        " -> " + type(head) + "\n%2 = deepseek.slice %0 axis " + a +
        " from 1 to " + std::to_string(shape[axis]) + " : " + whole + " -> " +
        type(tail) + "\n%r = deepseek.concat %2, %1 axis " + a + " : (" +
        type(tail) + ", " + type(head) + ") -> " + whole;
    Bytes expected = gather<uint16_t>(source, 24, [&](int64_t i) {
      std::vector<int64_t> index = {i / 12, i / 4 % 3, i % 4};
      index[axis] = (index[axis] + 1) % shape[axis];
      return (index[0] * 3 + index[1]) * 4 + index[2];
    });
    EXPECT_EQ(packed(weight(recipe, whole), 48), expected) << axis;
  }
}

TEST_F(PackerTest, SelectsByImportance) {
  // [2, 3, 4], and per matrix a moment of 4 channels; the second is zero.
  std::vector<float> numbers(24), moments = {1, 8, 2, 0, 0, 0, 0, 0};
  for (size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = float(i % 7) - 3;
  Bytes source(24 * 4), moment(8 * 4);
  std::memcpy(source.data(), numbers.data(), source.size());
  std::memcpy(moment.data(), moments.data(), moment.size());
  write("m", source);
  write("moment", moment);
  const std::string importance =
      "%0 = deepseek.source \"t\" in [\"m\"] at [0] : tensor<2x3x4xf32>\n"
      "%1 = deepseek.source \"i\" in [\"moment\"] at [0] : tensor<2x4xf32>\n"
      "%2 = deepseek.importance %0 moment %1 : tensor<2x4xf32> group 1 : "
      "tensor<2x3x4xf32> -> tensor<2x4xf32>\n";
  std::vector<float> sums(8, 0);
  for (size_t i = 0; i < 24; ++i) {
    size_t at = i / 12 * 4 + i % 4;
    sums[at] += numbers[i] * numbers[i] * (i < 12 ? moments[at] : 1);
  }
  Bytes expected(sums.size() * 4);
  std::memcpy(expected.data(), sums.data(), expected.size());
  EXPECT_EQ(packed(weight(importance + "%r = deepseek.reshape %2 : "
                                       "tensor<2x4xf32> -> tensor<2x4xf32>",
                          "tensor<2x4xf32>"),
                   64),
            [&] {
              Bytes padded = expected;
              padded.resize(64);
              return padded;
            }());

  // Two of each half of the four channels, so one of each; the first of equal
  // ones.
  std::vector<int64_t> kept;
  for (size_t m = 0; m < 2; ++m)
    for (size_t half = 0; half < 2; ++half) {
      size_t at = m * 4 + half * 2;
      kept.push_back(int64_t(half * 2 + (sums[at + 1] > sums[at])));
    }
  Bytes selected = gather<float>(source, 12, [&](int64_t i) {
    return i / 2 * 4 + kept[size_t(i / 6 * 2 + i % 2)];
  });
  for (int64_t chunkBytes : {4096, 4097}) {
    PackOptions options;
    options.chunkBytes = chunkBytes;
    EXPECT_EQ(packed(weight(importance +
                                "%r = deepseek.select %0 by %2 axis 2 keep 2 "
                                "groups 2 : tensor<2x3x4xf32>, tensor<2x4xf32> "
                                "-> tensor<2x3x2xf32>",
                            "tensor<2x3x2xf32>"),
                     48, options),
              selected);
  }
}

TEST_F(PackerTest, TransposesByAnyPermutation) {
  constexpr int64_t sizes[] = {5, 40, 3, 37};
  int64_t count = 5 * 40 * 3 * 37;
  Bytes source = writeBF16("m", size_t(count));
  std::vector<int64_t> permutation = {0, 1, 2, 3};
  do {
    std::string to = "tensor<", list;
    for (int64_t p : permutation) {
      to += std::to_string(sizes[p]) + "x";
      list += (list.empty() ? "" : ", ") + std::to_string(p);
    }
    to += "bf16>";
    std::string recipe =
        "%0 = deepseek.source \"t\" in [\"m\"] at [0] : "
        "tensor<5x40x3x37xbf16>\n%r = deepseek.transpose %0 [" +
        list + "] : tensor<5x40x3x37xbf16> -> " + to;
    Bytes expected = gather<uint16_t>(source, count, [&](int64_t i) {
      int64_t index[4];
      for (int d = 4; d-- > 0;) {
        index[permutation[d]] = i % sizes[permutation[d]];
        i /= sizes[permutation[d]];
      }
      return ((index[0] * 40 + index[1]) * 3 + index[2]) * 37 + index[3];
    });
    EXPECT_EQ(packed(weight(recipe, to), count * 2), expected) << list;
  } while (std::next_permutation(permutation.begin(), permutation.end()));
}

// With many transposes in one recipe a block is smaller than a matrix, and
// smaller than a row.
TEST_F(PackerTest, TransposesInSmallBlocks) {
  constexpr int64_t parts = 1500, n = 70, k = 900;
  Bytes source = writeBF16("m", n * k);
  std::string recipe =
      "%s = deepseek.source \"t\" in [\"m\"] at [0] : tensor<70x900xbf16>\n";
  std::string names, types;
  for (int64_t i = 0; i < parts; ++i) {
    std::string name = "%t" + std::to_string(i);
    recipe += name + " = deepseek.transpose %s [1, 0] : tensor<70x900xbf16> "
                     "-> tensor<900x70xbf16>\n";
    names += (i ? ", " : "") + name;
    types += (i ? ", " : "") + std::string("tensor<900x70xbf16>");
  }
  recipe += "%c = deepseek.concat " + names + " axis 0 : (" + types +
            ") -> tensor<1350000x70xbf16>\n"
            "%r = deepseek.slice %c axis 0 from 1349000 to 1350000 : "
            "tensor<1350000x70xbf16> -> tensor<1000x70xbf16>";
  Bytes expected = gather<uint16_t>(source, 1000 * n, [&](int64_t i) {
    int64_t row = (i / n + 1349000) % k;
    return i % n * k + row;
  });
  EXPECT_EQ(packed(weight(recipe, "tensor<1000x70xbf16>"), 2000 * n), expected);
}

/// Blocks of Q8_0 whose scales are finite, and the numbers that they stand for.
std::pair<Bytes, Bytes> makeQ8Blocks(std::mt19937 &random, size_t blocks) {
  Bytes bytes(blocks * 34), numbers(blocks * 32 * sizeof(float));
  for (char &byte : bytes)
    byte = char(random());
  for (size_t i = 0; i < blocks; ++i)
    bytes[i * 34 + 1] &= 0xbf;
  deepseek::dequantizeGGUF(deepseek::GGUFFormat::Q8_0,
                           reinterpret_cast<const uint8_t *>(bytes.data()),
                           int64_t(blocks),
                           reinterpret_cast<float *>(numbers.data()));
  return {bytes, numbers};
}

// Chunks end within blocks, and one is longer than what is converted at a time.
TEST_F(PackerTest, DequantizesGGUFBlocks) {
  auto [bytes, numbers] = makeQ8Blocks(random, 5 * 11);
  write("m", bytes);
  std::string recipe = R"(
    %0 = deepseek.source "t" in ["m"] at [0] : tensor<5x374xi8>
    %1 = deepseek.dequantize_gguf q8_0 %0 : tensor<5x374xi8> -> tensor<5x352xf32>
    %r = deepseek.slice %1 axis 1 from 5 to 348 : tensor<5x352xf32> -> tensor<5x343xf32>)";
  Bytes expected = gather<uint32_t>(
      numbers, 5 * 343, [](int64_t i) { return i / 343 * 352 + 5 + i % 343; });
  EXPECT_EQ(packed(weight(recipe, "tensor<5x343xf32>"), 5 * 343 * 4), expected);

  auto [more, moreNumbers] = makeQ8Blocks(random, 4000);
  write("m", more);
  EXPECT_EQ(packed(weight(R"(
    %0 = deepseek.source "t" in ["m"] at [0] : tensor<136000xi8>
    %r = deepseek.dequantize_gguf q8_0 %0 : tensor<136000xi8> -> tensor<128000xf32>)",
                          "tensor<128000xf32>"),
                   512000),
            moreNumbers);
}

// Rows of blocks change places before they are numbers.
TEST_F(PackerTest, TransposesRowsOfBlocks) {
  auto [bytes, numbers] = makeQ8Blocks(random, 6 * 2);
  write("m", bytes);
  std::string recipe = R"(
    %0 = deepseek.source "t" in ["m"] at [0] : tensor<3x2x68xi8>
    %1 = deepseek.transpose %0 [1, 0, 2] : tensor<3x2x68xi8> -> tensor<2x3x68xi8>
    %r = deepseek.dequantize_gguf q8_0 %1 : tensor<2x3x68xi8> -> tensor<2x3x64xf32>)";
  Bytes expected = gather<uint32_t>(numbers, 6 * 64, [](int64_t i) {
    int64_t row = i / 64;
    return (row % 3 * 2 + row / 3) * 64 + i % 64;
  });
  EXPECT_EQ(packed(weight(recipe, "tensor<2x3x64xf32>"), 6 * 64 * 4), expected);
}

/// The bits of an integer of \p bits in a tile, as `#deepseek.tiled` has them.
static int codeInTile(const Bytes &tile, int64_t bits, int64_t row,
                      int64_t column) {
  // 32 over the lowest power of two in the bits.
  int64_t columns = 32;
  while (columns * bits % 64 == 0)
    columns /= 2;
  int64_t word = column / columns * (columns * bits / 32);
  int64_t lane = column % columns / 4, position = 0;
  int code = 0;
  for (int64_t plane : {8, 4, 2, 1}) {
    if (!(bits & plane))
      continue;
    int64_t perWord = 8 / plane;
    auto byte = uint8_t(
        tile[size_t(((word + lane / perWord) * 16 + row) * 4 + column % 4)]);
    code |= (byte >> lane % perWord * plane & ((1 << plane) - 1)) << position;
    word += columns / 4 / perWord;
    position += plane;
  }
  return code;
}

// codes * scale - offset, rounded once, is the number of `dequantizeGGUF`, bit
// for bit, in every format, as tiles store them; rows past the last are zeros.
// Blocks are random but for scales that are finite.
TEST_F(PackerTest, SplitsGGUFBlocks) {
  using deepseek::GGUFFormat, deepseek::GGUFPart;
  for (uint32_t f = 0; f <= deepseek::getMaxEnumValForGGUFFormat(); ++f) {
    auto format = *deepseek::symbolizeGGUFFormat(f);
    deepseek::GGUFBlock block = deepseek::getGGUFBlock(format);
    deepseek::GGUFParts parts = deepseek::getGGUFParts(format);
    const int64_t blocks = 45, count = blocks * block.elements;
    Bytes bytes(size_t(blocks * block.bytes));
    std::vector<float> expected(static_cast<size_t>(count));
    auto dequantize = [&](int64_t i) {
      deepseek::dequantizeGGUF(
          format, reinterpret_cast<uint8_t *>(bytes.data()) + i * block.bytes,
          1, expected.data() + i * block.elements);
      return llvm::all_of(
          llvm::ArrayRef(expected).slice(size_t(i * block.elements),
                                         size_t(block.elements)),
          [](float value) { return std::isfinite(value); });
    };
    for (int64_t i = 0; i < blocks; ++i)
      do
        for (int64_t j = 0; j < block.bytes; ++j)
          bytes[size_t(i * block.bytes + j)] = char(random());
      while (!dequantize(i));
    write("m", bytes);

    std::string name = deepseek::stringifyGGUFFormat(format).str();
    std::string input = "tensor<5x" + std::to_string(9 * block.bytes) + "xi8>";
    auto part = [&](GGUFPart which, int64_t columns, int64_t tileColumns,
                    int64_t bytes) {
      std::string type;
      llvm::raw_string_ostream(type)
          << "tensor<5x" << columns << "x" << parts.getType(&context, which);
      std::string table;
      if (which == GGUFPart::Codes && !parts.codebook.empty())
        llvm::raw_string_ostream(table)
            << "<[" << llvm::interleaved(parts.codebook) << "]>";
      std::string tiled = type + ", #deepseek.tiled<rows = 16, columns = " +
                          std::to_string(tileColumns) +
                          (table.empty() ? "" : ", codebook = " + table) + ">>";
      type += table.empty() ? ">" : ", #deepseek.codebook" + table + ">";
      return packed(
          weight("%0 = deepseek.source \"t\" in [\"m\"] at [0] : " + input +
                     "\n%1 = deepseek.gguf_part " +
                     deepseek::stringifyGGUFPart(which).str() + " of " + name +
                     " %0 : " + input + " -> " + type +
                     "\n%r = deepseek.pack %1 : " + type + " to " + tiled,
                 tiled),
          bytes);
    };
    int64_t columns = 9 * block.elements, groups = columns / parts.group;
    Bytes codes =
        part(GGUFPart::Codes, columns, deepseek::getTileColumns(parts.bits),
             16 * columns * parts.bits / 8);
    auto numbersOf = [&](GGUFPart which) {
      std::vector<float> numbers(size_t(16 * groups));
      if (parts.storage != deepseek::GGUFParts::TwoLevels) {
        ElementKind kind = parts.storage == deepseek::GGUFParts::F16
                               ? ElementKind::F16
                               : ElementKind::BF16;
        widen(kind, part(which, groups, 1, 16 * groups * 2).data(), 16 * groups,
              numbers.data());
        return numbers;
      }
      // Of each block, the factors of its groups and then an f16.
      int64_t each = 256 / parts.group;
      Bytes stored = part(which, 9 * (each + 2), 1, 16 * 9 * (each + 2));
      for (int64_t group = 0; group < groups; ++group)
        for (int64_t row = 0; row < 16; ++row) {
          const char *begin =
              stored.data() + group / each * (each + 2) * 16 + row;
          const char half[] = {begin[each * 16], begin[(each + 1) * 16]};
          float unit;
          widen(ElementKind::F16, half, 1, &unit);
          numbers[size_t(group * 16 + row)] =
              unit * float(int8_t(begin[group % each * 16]));
        }
      return numbers;
    };
    std::vector<float> scales = numbersOf(GGUFPart::Scales);
    std::vector<float> offsets(scales.size());
    if (parts.hasOffsets)
      offsets = numbersOf(GGUFPart::Offsets);
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t column = 0; column < columns; ++column) {
        int code = codeInTile(codes, parts.bits, row, column);
        if (!parts.isUnsigned)
          code =
              parts.bits == 8 ? int8_t(code) : code - (1 << (parts.bits - 1));
        if (row >= 5) {
          ASSERT_EQ(code, 0) << name << " " << row << " " << column;
          continue;
        }
        auto group = size_t(column / parts.group * 16 + row);
        double number =
            double(parts.numberOf(int8_t(code))) * double(scales[group]) -
            double(offsets[group]);
        ASSERT_EQ(float(number), expected[size_t(row * columns + column)])
            << name << " " << row << " " << column;
      }
  }
}

TEST_F(PackerTest, RefusesBlocksThatAreNotFinite) {
  auto [bytes, numbers] = makeQ8Blocks(random, 3);
  bytes[2 * 34 + 1] = 0x7c;
  bytes[2 * 34] = 1;
  write("m", bytes);
  absl::Status status = pack(weight(R"(
    %0 = deepseek.source "t" in ["m"] at [0] : tensor<3x34xi8>
    %r = deepseek.dequantize_gguf q8_0 %0 : tensor<3x34xi8> -> tensor<3x32xf32>)",
                                    "tensor<3x32xf32>"),
                             384);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "weight 'w': 'm': tensor 't' has NaN at [2, 0] once "
            "dequantized from q8_0");
  status = pack(weight(R"(
    %0 = deepseek.source "t" in ["m"] at [0] : tensor<3x34xi8>
    %r = deepseek.gguf_part scales of q8_0 %0 : tensor<3x34xi8> -> tensor<3x1xf16>)",
                       "tensor<3x1xf16>"),
                6);
  EXPECT_EQ(status.message(), "weight 'w': 'm': tensor 't' has NaN at [2, 0] "
                              "of its scales in q8_0");
}

TEST_F(PackerTest, InterleavesRows) {
  for (int64_t n : {1, 16, 33})
    for (int64_t k : {1, 15, 16, 50, 3000}) {
      Bytes source = writeBF16("m", size_t(3 * n * k));
      std::string shape =
          "tensor<3x" + std::to_string(n) + "x" + std::to_string(k) + "xbf16";
      std::string tiled = shape + ", #deepseek.tiled<rows = 16>>";
      std::string text =
          weight("%0 = deepseek.source \"t\" in [\"m\"] at [0] : " + shape +
                     ">\n%r = deepseek.pack %0 : " + shape + "> to " + tiled,
                 tiled);
      Bytes expected = tile<uint16_t>(source, 3, n, k);
      PackOptions options;
      for (int64_t chunk : {4096, 4 << 20}) {
        options.chunkBytes = chunk;
        EXPECT_EQ(packed(text, int64_t(expected.size()), options), expected)
            << n << " " << k << " " << chunk;
      }
    }
}

/// Weights [3, 40, k] in bf16 that share records: of each of two products, two
/// columns of one and four of another.
TEST_F(PackerTest, SharesRecords) {
  constexpr int64_t batch = 3, n = 40, tiles = 9, recordBytes = 64 + 128;
  for (int64_t records : {4, 40}) {
    std::string text;
    Bytes sources[4], expected;
    for (int64_t i = 0; i < 4; ++i) {
      int64_t columns = i % 2 ? 4 : 2, k = records * columns;
      std::string name(1, char('a' + i));
      sources[i] =
          tile<uint16_t>(writeBF16(name, size_t(batch * n * k)), batch, n, k);
      std::string shape = "tensor<3x40x" + std::to_string(k) + "xbf16";
      std::string tiled =
          shape + ", #deepseek.tiled<rows = 16, record = <columns = " +
          std::to_string(columns) + ", bytes = 192, tiles = 2>>>";
      int64_t at = i / 2 * records * recordBytes + i % 2 * 64;
      text += "deepseek.weight @" + name + " : " + tiled +
              (i ? " beside @a at " + std::to_string(at) : "") +
              " attributes {rt.offset = " + std::to_string(at) +
              " : i64} {\n%0 = deepseek.source \"" + name + "\" in [\"" + name +
              "\"] at [0] : " + shape + ">\n%r = deepseek.pack %0 : " + shape +
              "> to " + tiled + "\ndeepseek.yield %r : " + tiled + "\n}\n";
    }
    for (int64_t t = 0; t < tiles; ++t)
      for (int64_t product : {0, 1})
        for (int64_t record = t * records; record < (t + 1) * records; ++record)
          for (int64_t part : {0, 1}) {
            int64_t bytes = part ? 128 : 64;
            const char *from =
                &sources[2 * product + part][size_t(record * bytes)];
            expected.insert(expected.end(), from, from + bytes);
          }
    for (int64_t chunk : {4096, 4097, 20000, 4 << 20}) {
      PackOptions options;
      options.chunkBytes = chunk;
      EXPECT_EQ(packed(text, int64_t(expected.size()), options), expected)
          << records << " " << chunk;
    }
  }
}

TEST_F(PackerTest, InterleavesBytesAndWords) {
  Bytes source = writeBF16("m", 40 * 18 * 2);
  for (char &byte : source)
    byte &= 0x3f; // Finite in each type.
  write("m", source);
  for (std::string type : {"f8E4M3FN", "f32"}) {
    std::string shape = "tensor<40x18x" + type;
    std::string tiled = shape + ", #deepseek.tiled<rows = 16>>";
    std::string text =
        weight("%0 = deepseek.source \"t\" in [\"m\"] at [0] : " + shape +
                   ">\n%r = deepseek.pack %0 : " + shape + "> to " + tiled,
               tiled);
    Bytes expected = type == "f32" ? tile<uint32_t>(source, 1, 40, 18)
                                   : tile<uint8_t>(source, 1, 40, 18);
    EXPECT_EQ(packed(text, int64_t(expected.size())), expected) << type;
  }
}

TEST_F(PackerTest, ConvertsAndDequantizes) {
  constexpr int64_t n = 300, k = 260, count = 2 * n * k;
  Bytes codes(count);
  for (char &code : codes) {
    code = char(random());
    if ((code & 0x7f) == 0x7f)
      code = 1;
  }
  write("codes", codes);
  std::vector<float> scales(2 * 3 * 3);
  for (float &scale : scales)
    scale = std::ldexp(float(random() % 1000 + 1), -14);
  Bytes scaleBytes(scales.size() * 4);
  std::memcpy(scaleBytes.data(), scales.data(), scaleBytes.size());
  write("scales", scaleBytes);
  std::string recipe = R"(
    %0 = deepseek.source "w" in ["codes"] at [0]
      : tensor<2x300x260xf8E4M3FN>
    %1 = deepseek.source "s" in ["scales"] at [0] : tensor<2x3x3xf32>
    %2 = deepseek.dequantize %0, %1 block 128 x 128
      : tensor<2x300x260xf8E4M3FN>, tensor<2x3x3xf32>
      -> tensor<2x300x260xbf16>
    %r = deepseek.convert %2
      : tensor<2x300x260xbf16> to tensor<2x300x260xf16>)";
  Bytes expected(count * 2);
  for (int64_t i = 0; i < count; ++i) {
    float value;
    widen(ElementKind::F8E4M3FN, &codes[size_t(i)], 1, &value);
    value *=
        scales[size_t((i / (n * k) * 3 + i / k % n / 128) * 3 + i % k / 128)];
    uint16_t rounded;
    narrow(ElementKind::BF16, &value, 1, &rounded);
    widen(ElementKind::BF16, &rounded, 1, &value);
    narrow(ElementKind::F16, &value, 1, &expected[size_t(i) * 2]);
  }
  EXPECT_EQ(packed(weight(recipe, "tensor<2x300x260xf16>"), count * 2),
            expected);
}

/// GPTQ: codes of \p bits packed along the inputs, zero points along the
/// outputs and one too small, scales `[groups, outputs]`, and a group for each
/// input.
static void checkGPTQ(int64_t bits, std::mt19937 &random,
                      std::function<void(const std::string &, Bytes)> write,
                      std::function<Bytes(const std::string &, int64_t)> pack) {
  constexpr int64_t n = 32, k = 96, groups = 3;
  auto code = [&](const Bytes &words, int64_t stride, int64_t column,
                  int64_t i) {
    int64_t value = 0;
    for (int64_t b = 0; b < bits; ++b) {
      int64_t bit = i * bits + b, word = bit / 32 * stride + column;
      auto byte = uint8_t(words[size_t(word * 4 + bit % 32 / 8)]);
      value |= int64_t(byte >> bit % 8 & 1) << b;
    }
    return value;
  };
  Bytes codes(size_t(k * n * bits / 8)), zeros(size_t(groups * n * bits / 8));
  for (Bytes *bytes : {&codes, &zeros})
    for (char &byte : *bytes)
      byte = char(random());
  Bytes scales(groups * n * 2), indices;
  for (int64_t i = 0; i < groups * n; ++i) {
    auto scale = uint16_t(random() % 0x7c00);
    std::memcpy(&scales[size_t(i) * 2], &scale, 2);
  }
  for (int64_t i = 0; i < k; ++i)
    indices.insert(indices.end(), {char(random() % groups), 0, 0, 0});
  write("codes", codes);
  write("zeros", zeros);
  write("scales", scales);
  write("indices", indices);

  auto shape = [](std::initializer_list<int64_t> sizes, const char *type) {
    std::string text = "tensor<";
    for (int64_t size : sizes)
      text += std::to_string(size) + "x";
    return text + type + ">";
  };
  std::string number = std::to_string(bits), element = bits > 4 ? "i8" : "i4";
  int64_t rows = k * bits / 32;
  std::string packed = shape({rows, n, 4}, "i8"),
              turned = shape({n, rows, 4}, "i8"),
              flat = shape({n, rows * 4}, "i8"),
              whole = shape({n, k}, element.c_str()),
              zeroBytes = shape({groups, n * bits / 8}, "i8"),
              zeroRows = shape({groups, n}, "i8");
  std::string recipe =
      "%0 = deepseek.source \"q\" in [\"codes\"] at [0] : " + packed +
      "%1 = deepseek.transpose %0 [1, 0, 2] : " + packed + " -> " + turned +
      "%2 = deepseek.reshape %1 : " + turned + " -> " + flat +
      "%3 = deepseek.unpack %2 bits " + number + " plus 0 : " + flat + " -> " +
      whole +
      "%4 = deepseek.source \"z\" in [\"zeros\"] at [0] : " + zeroBytes +
      "%5 = deepseek.unpack %4 bits " + number + " plus 1 : " + zeroBytes +
      " -> " + zeroRows + R"(
    %6 = deepseek.transpose %5 [1, 0] : tensor<3x32xi8> -> tensor<32x3xi8>
    %7 = deepseek.source "s" in ["scales"] at [0] : tensor<3x32xf16>
    %8 = deepseek.transpose %7 [1, 0] : tensor<3x32xf16> -> tensor<32x3xf16>
    %9 = deepseek.source "g" in ["indices"] at [0] : tensor<96x4xi8>
    %10 = deepseek.gather %8, %9
      : tensor<32x3xf16>, tensor<96x4xi8> -> tensor<32x96xf16>
    %11 = deepseek.gather %6, %9
      : tensor<32x3xi8>, tensor<96x4xi8> -> tensor<32x96xi8>
    %r = deepseek.dequantize %3, %10 zeros %11 : tensor<32x96xi8> block 1 x 1
      : )" +
      whole + ", tensor<32x96xf16> -> tensor<32x96xf32>";
  Bytes expected(n * k * 4);
  for (int64_t o = 0; o < n; ++o)
    for (int64_t i = 0; i < k; ++i) {
      int64_t group = indices[size_t(i) * 4];
      int64_t zero = code(Bytes(zeros.begin() + group * n * bits / 8,
                                zeros.begin() + (group + 1) * n * bits / 8),
                          1, 0, o);
      float scale;
      widen(ElementKind::F16, &scales[size_t(group * n + o) * 2], 1, &scale);
      float value =
          float(code(codes, n, o, i) - (zero + 1) % (1 << bits)) * scale;
      std::memcpy(&expected[size_t(o * k + i) * 4], &value, 4);
    }
  EXPECT_EQ(pack(recipe, n * k * 4), expected) << bits << " bits";
}

TEST_F(PackerTest, UnpacksGPTQ) {
  for (int64_t bits : {2, 3, 4, 8})
    checkGPTQ(
        bits, random,
        [&](const std::string &file, Bytes bytes) { write(file, bytes); },
        [&](const std::string &recipe, int64_t bytes) {
          return packed(weight(recipe, "tensor<32x96xf32>"), bytes);
        });
}

TEST_F(PackerTest, RefusesIndicesThatAreNone) {
  write("data", Bytes(64));
  Bytes indices(8);
  indices[4] = 3;
  write("indices", indices);
  absl::Status status = pack(weight(R"(
    %0 = deepseek.source "w" in ["data"] at [0] : tensor<4x3xf16>
    %1 = deepseek.source "g" in ["indices"] at [0] : tensor<2x4xi8>
    %r = deepseek.gather %0, %1
      : tensor<4x3xf16>, tensor<2x4xi8> -> tensor<4x2xf16>)",
                                    "tensor<4x2xf16>"),
                             64);
  EXPECT_NE(status.message().find("the indices by which 'w' is gathered have 3 "
                                  "at 1, expected 0 to 2"),
            std::string::npos)
      << status;
}

TEST_F(PackerTest, MakesRotaryTables) {
  std::string rotary = "<dim = 6, theta = 1.0e4 : f64, layout = half_split>";
  Bytes table = packed(
      weight("%r = deepseek.rotary_table " + rotary + " : tensor<9x6xf32>",
             "tensor<9x6xf32>"),
      216);
  ASSERT_EQ(table.size(), 216u);
  for (int p = 0; p < 9; ++p)
    for (int i = 0; i < 3; ++i) {
      double angle = p * std::pow(1e4, -2.0 * i / 6);
      float cosine, sine;
      std::memcpy(&cosine, &table[size_t(p * 6 + i) * 4], 4);
      std::memcpy(&sine, &table[size_t(p * 6 + 3 + i) * 4], 4);
      EXPECT_EQ(cosine, float(std::cos(angle)));
      EXPECT_EQ(sine, float(std::sin(angle)));
    }
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

/// Straightforward rounding of groups: f16 scales, and integers by row.
struct Quantized {
  std::vector<uint16_t> scales;
  std::vector<int> integers;
};

static Quantized quantizePlainly(const std::vector<float> &numbers,
                                 int64_t group, int bits) {
  Quantized result;
  for (size_t begin = 0; begin < numbers.size(); begin += size_t(group)) {
    float largest = 0;
    for (size_t i = begin; i < begin + size_t(group); ++i)
      if (std::fabs(numbers[i]) > std::fabs(largest))
        largest = numbers[i];
    float scale = bits == 8 ? std::fabs(largest) / 127 : largest / -8;
    uint16_t rounded;
    narrow(ElementKind::F16, &scale, 1, &rounded);
    widen(ElementKind::F16, &rounded, 1, &scale);
    result.scales.push_back(rounded);
    for (size_t i = begin; i < begin + size_t(group); ++i) {
      float value = scale == 0 ? 0 : std::nearbyint(numbers[i] / scale);
      float most = bits == 8 ? 127 : 7, least = bits == 8 ? -127 : -8;
      result.integers.push_back(int(std::fmin(std::fmax(value, least), most)));
    }
  }
  return result;
}

/// [batch, n, k] integers as the packer should store them, one at a time.
static Bytes tileIntegers(const std::vector<int> &integers, int64_t batch,
                          int64_t n, int64_t k, int bits) {
  int64_t tiles = (n + 15) / 16, columns = bits == 8 ? 4 : 8;
  Bytes result(size_t(batch * tiles * 16 * k * bits / 8),
               bits == 8 ? char(0) : char(0x88));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t row = 0; row < n; ++row)
      for (int64_t column = 0; column < k; ++column) {
        int value = integers[size_t((b * n + row) * k + column)];
        int64_t block =
            (b * tiles + row / 16) * (k / columns) + column / columns;
        char &byte = result[size_t(block * 64 + row % 16 * 4 + column % 4)];
        if (bits == 8) {
          byte = char(value);
        } else {
          int shift = column % 8 < 4 ? 0 : 4;
          byte = char((byte & ~(0xf << shift)) | (value + 8) << shift);
        }
      }
  return result;
}

namespace {

class QuantizeTest : public PackerTest {
protected:
  void writeNumbers(const std::vector<float> &numbers) {
    Bytes bytes(numbers.size() * 4);
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
    write("m", bytes);
  }

  /// Packs \p numbers of shape \p shape ("3x16x64"), whose last two sizes are n
  /// and k, and compares integers and scales with straightforward code.
  void check(const std::vector<float> &numbers, const std::string &shape,
             int64_t n, int64_t k, int64_t group, int bits,
             int64_t chunk = 4 << 20) {
    writeNumbers(numbers);
    int64_t batch = int64_t(numbers.size()) / n / k;
    Quantized expected = quantizePlainly(numbers, group, bits);
    std::string input = "tensor<" + shape + "xf32>", b = std::to_string(bits);
    std::string source =
        "%0 = deepseek.source \"t\" in [\"m\"] at [0] : " + input + "\n";
    std::string integers = "tensor<" + shape + "xi" + b;
    std::string tiled = integers + ", #deepseek.tiled<rows = 16, columns = " +
                        (bits == 8 ? "4" : "8") + ">>";
    PackOptions options;
    options.chunkBytes = chunk;
    Bytes bytes = tileIntegers(expected.integers, batch, n, k, bits);
    EXPECT_EQ(packed(weight(source + "%1 = deepseek.quantize %0 group " +
                                std::to_string(group) + " : " + input + " -> " +
                                integers + ">\n%r = deepseek.pack %1 : " +
                                integers + "> to " + tiled,
                            tiled),
                     int64_t(bytes.size()), options),
              bytes)
        << shape << " " << group << " " << bits << " " << chunk;

    // The scales have n rows, too, of k / group columns.
    std::string scales = "tensor<" + shape.substr(0, shape.rfind('x') + 1) +
                         std::to_string(k / group) + "xf16";
    std::string tiledScales = scales + ", #deepseek.tiled<rows = 16>>";
    Bytes plain(expected.scales.size() * 2);
    std::memcpy(plain.data(), expected.scales.data(), plain.size());
    bytes = tile<uint16_t>(plain, batch, n, k / group);
    EXPECT_EQ(packed(weight(source + "%1 = deepseek.quantize_scales %0 bits " +
                                b + " : " + input + " -> " + scales +
                                ">\n%r = deepseek.pack %1 : " + scales +
                                "> to " + tiledScales,
                            tiledScales),
                     int64_t(bytes.size()), options),
              bytes)
        << shape << " " << group << " " << bits << " " << chunk;
  }

  std::vector<float> randomNumbers(int64_t count, float scale = 1) {
    std::vector<float> numbers;
    std::normal_distribution<float> normal(0, scale);
    for (int64_t i = 0; i < count; ++i)
      numbers.push_back(normal(random));
    return numbers;
  }
};

} // namespace

TEST_F(QuantizeTest, RandomMatrices) {
  for (int bits : {8, 4})
    for (int64_t n : {1, 15, 16, 33})
      for (int64_t group : {32, 64, 192}) {
        int64_t k = 192;
        std::string shape = std::to_string(n) + "x" + std::to_string(k);
        for (int64_t chunk : {4096, 5000, 4 << 20})
          check(randomNumbers(n * k), shape, n, k, group, bits, chunk);
      }
}

TEST_F(QuantizeTest, StacksOfExperts) {
  for (int bits : {8, 4})
    for (int64_t chunk : {4096, 4 << 20})
      check(randomNumbers(3 * 20 * 96), "3x20x96", 20, 96, 32, bits, chunk);
}

// By moments and grams of each matrix of a stack, or of one for all, as a whole
// and in pieces.
TEST_F(QuantizeTest, ByStatistics) {
  constexpr int64_t e = 3, n = 20, k = 64, group = 32;
  std::vector<float> numbers = randomNumbers(e * n * k);
  std::vector<float> moments = randomNumbers(e * k), grams(e * k * k);
  for (float &moment : moments)
    moment *= moment;
  for (int64_t i = 0; i < e * k; ++i)
    for (int64_t j = 0; j < k; ++j)
      grams[size_t(i * k + j)] =
          moments[size_t(i)] * 0.5f * moments[size_t(i - i % k + j)] +
          (i % k == j ? 1.0f : 0.0f);
  std::vector<float> all = numbers;
  all.insert(all.end(), moments.begin(), moments.end());
  all.insert(all.end(), grams.begin(), grams.end());
  writeNumbers(all);
  for (bool isStack : {true, false})
    for (bool hasGram : {true, false})
      for (int bits : {8, 4})
        for (int64_t chunk : {4096, 4 << 20}) {
          std::vector<int> integers;
          std::vector<uint16_t> halves;
          for (int64_t of = 0; of < e; ++of) {
            int64_t statistic = isStack ? of : 0;
            const float *w = numbers.data() + of * n * k;
            std::vector<float> scales;
            for (int64_t i = 0; i < n * k; i += group) {
              float largest = 0;
              for (int64_t j = i; j < i + group; ++j)
                if (std::fabs(w[j]) > std::fabs(largest))
                  largest = w[j];
              float scale = deepseek::findScale(
                  w + i, moments.data() + statistic * k + i % k, group,
                  unsigned(bits),
                  bits == 8 ? std::fabs(largest) / 127 : largest / -8);
              uint16_t rounded;
              narrow(ElementKind::F16, &scale, 1, &rounded);
              widen(ElementKind::F16, &rounded, 1, &scale);
              halves.push_back(rounded);
              scales.push_back(scale);
            }
            std::vector<int8_t> rounded(n * k);
            if (hasGram)
              deepseek::ErrorFeedback(grams.data() + statistic * k * k, k, 0.25)
                  .round(w, scales.data(), n, group, unsigned(bits),
                         rounded.data());
            else
              for (int64_t i = 0; i < n * k; ++i) {
                float value = std::nearbyint(w[i] / scales[size_t(i / group)]);
                float most = bits == 8 ? 127 : 7, least = bits == 8 ? -127 : -8;
                rounded[size_t(i)] =
                    int8_t(std::fmin(std::fmax(value, least), most));
              }
            integers.insert(integers.end(), rounded.begin(), rounded.end());
          }
          std::string stack = isStack ? "3x" : "", b = std::to_string(bits);
          std::string recipe = R"(
    %0 = deepseek.source "t" in ["m"] at [0] : tensor<3x20x64xf32>
    %1 = deepseek.source "moment" in ["m"] at [15360] : tensor<)" +
                               stack + "64xf32>\n";
          std::string moment = " moment %1 : tensor<" + stack + "64xf32>";
          std::string integer = "tensor<3x20x64xi" + b;
          std::string tiled = integer +
                              ", #deepseek.tiled<rows = 16, columns = " +
                              (bits == 8 ? "4" : "8") + ">>";
          std::string gram;
          if (hasGram) {
            recipe += "%2 = deepseek.source \"gram\" in [\"m\"] at [16128] : "
                      "tensor<" +
                      stack + "64x64xf32>\n";
            gram = " gram %2 : tensor<" + stack + "64x64xf32>";
          }
          PackOptions options;
          options.chunkBytes = chunk;
          Bytes expected = tileIntegers(integers, e, n, k, bits);
          EXPECT_EQ(packed(weight(recipe + "%3 = deepseek.quantize %0" +
                                      moment + gram + " group 32" +
                                      (hasGram ? " damping 2.5e-1" : "") +
                                      " : tensor<3x20x64xf32> -> " + integer +
                                      ">\n%r = deepseek.pack %3 : " + integer +
                                      "> to " + tiled,
                                  tiled),
                           int64_t(expected.size()), options),
                    expected)
              << isStack << hasGram << bits << " " << chunk;
          if (hasGram)
            continue;
          Bytes plain(halves.size() * 2);
          std::memcpy(plain.data(), halves.data(), plain.size());
          EXPECT_EQ(packed(weight(recipe + "%r = deepseek.quantize_scales %0" +
                                      moment + " bits " + b +
                                      " : tensor<3x20x64xf32> -> "
                                      "tensor<3x20x2xf16>",
                                  "tensor<3x20x2xf16>"),
                           int64_t(plain.size()), options),
                    plain);
        }
}

// More than is held at a time: of groups, and in a group.
TEST_F(QuantizeTest, LongRowsAndLargeGroups) {
  int64_t k = 90112;
  for (int bits : {8, 4})
    for (int64_t group : {int64_t(1024), k / 2, k})
      check(randomNumbers(17 * k), "17x" + std::to_string(k), 17, k, group,
            bits);
  check(randomNumbers(2 * k), "2x" + std::to_string(k), 2, k, k, 8, 65536);
}

// Zeros, one outlier, the largest at both signs and in both orders, ties
// between integers, and scales that are subnormal or zero in f16.
TEST_F(QuantizeTest, EdgesOfGroups) {
  constexpr int64_t group = 32, n = 12;
  std::vector<float> numbers(n * group);
  auto row = [&](int64_t i) { return &numbers[size_t(i * group)]; };
  row(1)[31] = 1000;
  row(2)[0] = -1000;
  row(3)[5] = -2, row(3)[6] = 2;
  row(4)[5] = 2, row(4)[6] = -2;
  for (int i = 0; i < group; ++i) {
    row(5)[i] = float(i - 16) / 2;         // Ties, if the scale is 1.
    row(6)[i] = float(i - 16) * 0x1p-24f;  // Subnormal for 4 bits.
    row(7)[i] = float(i + 1) * 0x1.8p-20f; // Subnormal for 8 bits.
    row(8)[i] = float(i - 3) * 0x1p-30f;   // Rounds to 0.
    row(9)[i] = -0.0f;
    row(10)[i] = float(i - 16) * 0x1.13p-22f; // Far from its own scale.
    row(11)[i] = float(i) * 0x1p-149f;
  }
  row(5)[0] = -127, row(5)[1] = 8;
  for (int bits : {8, 4})
    check(numbers, "12x32", n, group, group, bits);
  // Scales of exactly 1: ties go to even integers.
  for (int i = 0; i < group; ++i)
    row(0)[i] = float(i - 16) / 2;
  row(0)[1] = -7.5f;
  check(numbers, "12x32", n, group, group, 4);
}

TEST_F(QuantizeTest, FromHalfPrecisionAndFP8) {
  constexpr int64_t n = 20, k = 256;
  std::vector<float> numbers = randomNumbers(n * k);
  for (ElementKind kind :
       {ElementKind::BF16, ElementKind::F16, ElementKind::F8E4M3FN}) {
    Bytes source(size_t(n * k * sizeBytes(kind)));
    narrow(kind, numbers.data(), n * k, source.data());
    write("m", source);
    std::vector<float> widened(numbers.size());
    widen(kind, source.data(), n * k, widened.data());
    bool isFP8 = kind == ElementKind::F8E4M3FN;
    if (isFP8) {
      float scales[4] = {1, 2, 3, 4};
      Bytes bytes(16);
      std::memcpy(bytes.data(), scales, 16);
      write("s", bytes);
      for (int64_t i = 0; i < n * k; ++i)
        widened[size_t(i)] *= scales[i % k / 128];
    }
    std::string input = std::string("tensor<20x256x") + getName(kind) + ">";
    std::string recipe =
        "%0 = deepseek.source \"t\" in [\"m\"] at [0] : " + input + "\n";
    if (isFP8)
      recipe += R"(
        %s = deepseek.source "s" in ["s"] at [0] : tensor<1x2xf32>
        %1 = deepseek.dequantize %0, %s block 128 x 128
          : tensor<20x256xf8E4M3FN>, tensor<1x2xf32> -> tensor<20x256xf32>
        %2 = deepseek.quantize %1 group 64
          : tensor<20x256xf32> -> tensor<20x256xi8>)";
    else
      recipe += "%2 = deepseek.quantize %0 group 64 : " + input +
                " -> tensor<20x256xi8>";
    std::string tiled =
        "tensor<20x256xi8, #deepseek.tiled<rows = 16, columns = 4>>";
    recipe += "\n%r = deepseek.pack %2 : tensor<20x256xi8> to " + tiled;
    EXPECT_EQ(
        packed(weight(recipe, tiled), 32 * k),
        tileIntegers(quantizePlainly(widened, 64, 8).integers, 1, n, k, 8))
        << getName(kind);
  }
}

TEST_F(QuantizeTest, MovesIntegers) {
  std::vector<float> numbers = randomNumbers(2 * 16 * 32);
  writeNumbers(numbers);
  Bytes packedBytes = packed(
      weight(R"(
        %0 = deepseek.source "t" in ["m"] at [0] : tensor<32x32xf32>
        %1 = deepseek.quantize %0 group 32 : tensor<32x32xf32> -> tensor<32x32xi4>
        %2 = deepseek.slice %1 axis 0 from 16 to 32
          : tensor<32x32xi4> -> tensor<16x32xi4>
        %3 = deepseek.slice %1 axis 0 from 0 to 16
          : tensor<32x32xi4> -> tensor<16x32xi4>
        %4 = deepseek.concat %2, %3 axis 0
          : (tensor<16x32xi4>, tensor<16x32xi4>) -> tensor<32x32xi4>
        %r = deepseek.pack %4 : tensor<32x32xi4>
          to tensor<32x32xi4, #deepseek.tiled<rows = 16, columns = 8>>)",
             "tensor<32x32xi4, #deepseek.tiled<rows = 16, columns = 8>>"),
      512);
  std::rotate(numbers.begin(), numbers.begin() + 16 * 32, numbers.end());
  EXPECT_EQ(packedBytes, tileIntegers(quantizePlainly(numbers, 32, 4).integers,
                                      1, 32, 32, 4));
}

//===----------------------------------------------------------------------===//
// Bad input
//===----------------------------------------------------------------------===//

static std::string messageOf(const absl::Status &status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST_F(PackerTest, NamesTensorAndIndexOfNaN) {
  Bytes source = writeBF16("m", 24);
  // Element 13 of the file is element 5 of the second tensor.
  source[2 * 13] = char(0xc0);
  source[2 * 13 + 1] = 0x7f;
  write("m", source);
  EXPECT_EQ(messageOf(pack(
                weight("%r = deepseek.source \"e.{}.w\" in [\"m\"] at [0, 16] "
                       ": tensor<2x2x4xbf16>",
                       "tensor<2x2x4xbf16>"),
                64)),
            "weight 'w': 'm': tensor 'e.1.w' has NaN at [1, 1]");
}

// Columns 5 to 66 of rows of 96: of all three groups, the first of an odd
// column.
TEST_F(PackerTest, DequantizesMXFP4) {
  static constexpr float magnitudes[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  Bytes codes(2 * 48), scales = {126, 127, 120, char(130), 127, 0};
  for (char &code : codes)
    code = char(random());
  write("codes", codes);
  write("scales", scales);
  Bytes expected(2 * 62 * 4);
  for (int i = 0; i < 2 * 62; ++i) {
    int row = i / 62, column = 5 + i % 62;
    int code =
        uint8_t(codes[size_t(row * 48 + column / 2)]) >> (column % 2 * 4) & 15;
    float value =
        std::ldexp(magnitudes[code & 7],
                   uint8_t(scales[size_t(row * 3 + column / 32)]) - 127);
    value = code & 8 ? -value : value;
    std::memcpy(expected.data() + i * 4, &value, 4);
  }
  std::string recipe = R"(
    %0 = deepseek.source "w" in ["codes"] at [0] : tensor<2x48xi8>
    %1 = deepseek.source "s" in ["scales"] at [0] : tensor<2x3xf8E8M0FNU>
    %2 = deepseek.dequantize_mxfp4 %0, %1
      : tensor<2x48xi8>, tensor<2x3xf8E8M0FNU> -> tensor<2x96xbf16>
    %3 = deepseek.slice %2 axis 1 from 5 to 67
      : tensor<2x96xbf16> -> tensor<2x62xbf16>
    %r = deepseek.convert %3 : tensor<2x62xbf16> to tensor<2x62xf32>)";
  EXPECT_EQ(packed(weight(recipe, "tensor<2x62xf32>"), 2 * 62 * 4), expected);

  scales[3] = char(255);
  write("scales", scales);
  EXPECT_EQ(messageOf(pack(weight(recipe, "tensor<2x62xf32>"), 2 * 62 * 4)),
            "weight 'w': 'scales': tensor 's' has NaN at [1, 0]");
}

TEST_F(PackerTest, ChecksNumbersOfExperts) {
  int64_t ids[4] = {0, 5, 2, 3};
  Bytes bytes(sizeof(ids));
  std::memcpy(bytes.data(), ids, sizeof(ids));
  write("ids", bytes);
  std::string recipe = R"(
    %0 = deepseek.source "t" in ["ids"] at [0] : tensor<2x2xi64>
    %r = deepseek.expert_ids %0 of 6 : tensor<2x2xi64> -> tensor<2x2xi32>)";
  Bytes expected(16);
  for (int i = 0; i < 4; ++i)
    expected[size_t(i) * 4] = char(ids[i]);
  EXPECT_EQ(packed(weight(recipe, "tensor<2x2xi32>"), 16), expected);
  for (int64_t bad : {int64_t(6), int64_t(-1), int64_t(1) << 32}) {
    std::memcpy(bytes.data() + 24, &bad, 8);
    write("ids", bytes);
    EXPECT_EQ(messageOf(pack(weight(recipe, "tensor<2x2xi32>"), 16)),
              "weight 'w': tensor 't' has " + std::to_string(bad) +
                  " at [1, 1], expected an expert from 0 to 5");
  }
}

TEST_F(PackerTest, RefusesNumbersThatDoNotFit) {
  uint32_t bits[2] = {0, 0x7f000000};
  Bytes source(8);
  std::memcpy(source.data(), bits, 8);
  write("m", source);
  EXPECT_EQ(
      messageOf(pack(weight("%0 = deepseek.source \"t\" in [\"m\"] at [0] : "
                            "tensor<1x2xf32>\n%r = deepseek.convert %0 : "
                            "tensor<1x2xf32> to tensor<1x2xf16>",
                            "tensor<1x2xf16>"),
                     64)),
      "weight 'w': tensor 't': 1.70141e+38 at [0, 1] does not fit f16");
}

TEST_F(PackerTest, RefusesFilesOutsideTheFolder) {
  writeBF16("m", 8);
  auto message = [&](const std::string &file) {
    return messageOf(pack(weight("%r = deepseek.source \"t\" in [\"" + file +
                                     "\"] at [0] : tensor<8xbf16>",
                                 "tensor<8xbf16>"),
                          64));
  };
  EXPECT_EQ(message("../m"), "weight 'w': tensor 't': '../m' is not a file of "
                             "the model's folder");
  EXPECT_EQ(message("/etc/passwd"), "weight 'w': tensor 't': '/etc/passwd' is "
                                    "not a file of the model's folder");
  ASSERT_EQ(symlink("/etc/passwd", (folder + "/link").c_str()), 0);
  EXPECT_EQ(message("link"), "weight 'w': tensor 't': 'link' is a link that "
                             "leaves the model's folder");
  EXPECT_EQ(message("none"), "weight 'w': tensor 't': cannot open '" + folder +
                                 "/none': No such file or directory");
}

TEST_F(PackerTest, RefusesShortFilesAndOverlaps) {
  writeBF16("m", 8);
  auto at = [&](const std::string &offset) {
    return weight("%r = deepseek.source \"t\" in [\"m\"] at [" + offset +
                      "] : tensor<8xbf16>",
                  "tensor<8xbf16>");
  };
  EXPECT_EQ(messageOf(pack(at("2"), 64)),
            "weight 'w': tensor 't': '" + folder +
                "/m' has 16 bytes, but bytes 2 to 18 are needed");
  EXPECT_NE(messageOf(pack(at("9223372036854775800"), 64)).find("16 bytes"),
            std::string::npos);
  EXPECT_EQ(messageOf(pack(at("0"), 10)),
            "weight 'w': expects a place of 16 bytes from 0 to 10, aligned to "
            "64, but got 0");
}

TEST_F(QuantizeTest, RefusesScalesThatDoNotFit) {
  std::vector<float> numbers(4 * 64);
  numbers[2 * 64 + 40] = -1e7f;
  writeNumbers(numbers);
  auto message = [&](const std::string &op, const std::string &type) {
    return messageOf(
        pack(weight("%0 = deepseek.source \"t\" in [\"m\"] at [0] : "
                    "tensor<4x64xf32>\n%r = deepseek." +
                        op + " : tensor<4x64xf32> -> " + type,
                    type),
             256));
  };
  EXPECT_EQ(message("quantize %0 group 32", "tensor<4x64xi8>"),
            "weight 'w': tensor 't': the scale 78740.2 of the 32 elements at "
            "[2, 32] does not fit f16");
  EXPECT_EQ(message("quantize_scales %0 bits 4", "tensor<4x1xf16>"),
            "weight 'w': tensor 't': the scale 1.25e+06 of the 64 elements at "
            "[2, 0] does not fit f16");
  numbers[2 * 64 + 40] = NAN;
  writeNumbers(numbers);
  EXPECT_EQ(message("quantize %0 group 32", "tensor<4x64xi8>"),
            "weight 'w': 'm': tensor 't' has NaN at [2, 40]");
}

TEST_F(QuantizeTest, RefusesFourBitsWithoutTiles) {
  EXPECT_EQ(messageOf(pack(
                weight("%0 = deepseek.source \"t\" in [\"m\"] at [0] : "
                       "tensor<4x64xf32>\n%r = deepseek.quantize %0 group 32 : "
                       "tensor<4x64xf32> -> tensor<4x64xi4>",
                       "tensor<4x64xi4>"),
                256)),
            "weight 'w': a weight of type tensor<4x64xi4> cannot be stored");
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

// Parts of 6 GiB of zeros go through every op that holds elements, in much less
// memory than any of them would have as a whole.
TEST_F(PackerTest, MemoryIsBounded) {
  int file = ::open((folder + "/big").c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(ftruncate(file, off_t(6) << 30), 0);
  close(file);
  std::string recipe = R"(
    %0 = deepseek.source "t" in ["big"] at [0] : tensor<3x65536x16384xbf16>
    %1 = deepseek.slice %0 axis 1 from 57344 to 65536
      : tensor<3x65536x16384xbf16> -> tensor<3x8192x16384xbf16>
    %2 = deepseek.transpose %1 [0, 2, 1]
      : tensor<3x8192x16384xbf16> -> tensor<3x16384x8192xbf16>
    %3 = deepseek.convert %2
      : tensor<3x16384x8192xbf16> to tensor<3x16384x8192xf16>
    %4 = deepseek.slice %3 axis 1 from 0 to 2048
      : tensor<3x16384x8192xf16> -> tensor<3x2048x8192xf16>
    %5 = deepseek.slice %3 axis 1 from 4096 to 8192
      : tensor<3x16384x8192xf16> -> tensor<3x4096x8192xf16>
    %6 = deepseek.concat %4, %5 axis 1
      : (tensor<3x2048x8192xf16>, tensor<3x4096x8192xf16>)
      -> tensor<3x6144x8192xf16>
    %r = deepseek.pack %6 : tensor<3x6144x8192xf16>
      to tensor<3x6144x8192xf16, #deepseek.tiled<rows = 16>>)";
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  absl::Status status = pack(
      weight(recipe, "tensor<3x6144x8192xf16, #deepseek.tiled<rows = 16>>"),
      int64_t(3) * 6144 * 8192 * 2);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_TRUE(status.ok()) << status.ToString();
#if __has_feature(address_sanitizer)
  constexpr int64_t mostKiB = 512 << 10; // It keeps freed memory for a while.
#else
  constexpr int64_t mostKiB = 128 << 10;
#endif
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, mostKiB);
}

// 384 MiB of zeros become integers, by groups and by whole rows.
TEST_F(PackerTest, MemoryOfIntegersIsBounded) {
  int file = ::open((folder + "/big").c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(ftruncate(file, off_t(3) << 27), 0);
  close(file);
  std::string tiled =
      "tensor<3x1024x65536xi4, #deepseek.tiled<rows = 16, columns = 8>>";
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (std::string group : {"128", "65536"}) {
    absl::Status status = pack(
        weight("%0 = deepseek.source \"t\" in [\"big\"] at [0] : "
               "tensor<3x1024x65536xbf16>\n%1 = deepseek.quantize %0 group " +
                   group +
                   " : tensor<3x1024x65536xbf16> -> tensor<3x1024x65536xi4>\n"
                   "%r = deepseek.pack %1 : tensor<3x1024x65536xi4> to " +
                   tiled,
               tiled),
        int64_t(3) * 1024 * 65536 / 2);
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 << 10);
}
