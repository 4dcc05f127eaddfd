// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Weights files, good and hostile.

#include "FakeModel.h"

#include "gtest/gtest.h"
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

using namespace fake;
using testing::TempDir;

/// Opens \p bytes where they lie and closes them again.
static hadal_rt_status_t tryOpenMemory(const std::vector<char> &bytes) {
  size_t room = (bytes.size() + 4096) / 4096 * 4096;
  std::unique_ptr<void, void (*)(void *)> data(aligned_alloc(4096, room), free);
  if (!bytes.empty())
    memcpy(data.get(), bytes.data(), bytes.size());
  hadal_rt_model_t model = makeModel();
  hadal_rt_weights_t *weights = nullptr;
  hadal_rt_status_t status =
      hadal_rt_weights_open_memory(&model, data.get(), bytes.size(), &weights);
  EXPECT_EQ(status == HADAL_RT_OK, weights != nullptr);
  hadal_rt_weights_close(weights);
  return status;
}

/// Opens a file of \p bytes and closes it again, after the same in memory.
static hadal_rt_status_t tryOpen(const std::vector<char> &bytes) {
  hadal_rt_status_t inMemory = tryOpenMemory(bytes);
  TemporaryFile file(bytes);
  hadal_rt_model_t model = makeModel();
  hadal_rt_weights_t *weights = nullptr;
  hadal_rt_status_t status =
      hadal_rt_weights_open(&model, file.path(), &weights);
  EXPECT_EQ(status, inMemory);
  EXPECT_EQ(status == HADAL_RT_OK, weights != nullptr);
  if (status)
    EXPECT_NE(strstr(hadal_rt_last_error(), file.path()), nullptr)
        << hadal_rt_last_error();
  hadal_rt_weights_close(weights);
  return status;
}

/// Expects that a file changed by \p change is refused with \p expected and
/// an error that contains \p text.
static void expectRefused(hadal_rt_status_t expected, const char *text,
                          const std::function<void(WeightsFile &)> &change) {
  WeightsFile file;
  change(file);
  EXPECT_EQ(tryOpen(file.bytes), expected);
  EXPECT_NE(strstr(hadal_rt_last_error(), text), nullptr)
      << "expected: " << text << "\ngot: " << hadal_rt_last_error();
}

TEST(Weights, OpensAndFindsSections) {
  TemporaryFile file(WeightsFile().bytes);
  hadal_rt_model_t model = makeModel();
  hadal_rt_weights_t *weights;
  ASSERT_EQ(hadal_rt_weights_open(&model, file.path(), &weights), HADAL_RT_OK)
      << hadal_rt_last_error();
  const void *data;
  uint64_t bytes;
  ASSERT_EQ(hadal_rt_weights_section(weights, "tokenizer.json", &data, &bytes),
            HADAL_RT_OK);
  EXPECT_EQ(std::string(static_cast<const char *>(data), bytes), "hello");
  EXPECT_EQ(hadal_rt_weights_section(weights, "chat.json", &data, &bytes),
            HADAL_RT_NOT_FOUND);
  EXPECT_EQ(data, nullptr);
  EXPECT_EQ(bytes, 0u);
  EXPECT_STREQ(hadal_rt_last_error(),
               "the weights have no section 'chat.json'");
  hadal_rt_weights_close(weights);
  hadal_rt_weights_close(nullptr);
}

TEST(Weights, RefusesNullArguments) {
  hadal_rt_model_t model = makeModel();
  hadal_rt_weights_t *weights;
  EXPECT_EQ(hadal_rt_weights_open(nullptr, "x", &weights),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_weights_open(&model, nullptr, &weights),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_weights_open(&model, "x", nullptr),
            HADAL_RT_INVALID_ARGUMENT);
}

TEST(Weights, OpensMemoryWithoutACopy) {
  WeightsFile file;
  alignas(4096) static char data[16384];
  ASSERT_LT(file.bytes.size(), sizeof(data));
  memcpy(data, file.bytes.data(), file.bytes.size());
  hadal_rt_model_t model = makeModel();
  hadal_rt_weights_t *weights;
  ASSERT_EQ(
      hadal_rt_weights_open_memory(&model, data, file.bytes.size(), &weights),
      HADAL_RT_OK)
      << hadal_rt_last_error();
  const void *section;
  uint64_t bytes;
  ASSERT_EQ(
      hadal_rt_weights_section(weights, "tokenizer.json", &section, &bytes),
      HADAL_RT_OK);
  EXPECT_EQ(std::string(static_cast<const char *>(section), bytes), "hello");
  EXPECT_GE(section, data);
  EXPECT_LT(section, data + file.bytes.size());
  hadal_rt_weights_close(weights);

  EXPECT_EQ(hadal_rt_weights_open_memory(&model, data + 64, 8192, &weights),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_NE(strstr(hadal_rt_last_error(), "multiple of 4096"), nullptr);
  EXPECT_EQ(hadal_rt_weights_open_memory(&model, nullptr, 8192, &weights),
            HADAL_RT_INVALID_ARGUMENT);
  EXPECT_EQ(hadal_rt_weights_open_memory(nullptr, data, 8192, &weights),
            HADAL_RT_INVALID_ARGUMENT);
}

TEST(Weights, RefusesWhatIsNoRegularFile) {
  hadal_rt_model_t model = makeModel();
  hadal_rt_weights_t *weights;
  EXPECT_EQ(hadal_rt_weights_open(&model, "/nonexistent/w", &weights),
            HADAL_RT_IO_ERROR);
  EXPECT_EQ(hadal_rt_weights_open(&model, "/", &weights), HADAL_RT_IO_ERROR);
  EXPECT_EQ(hadal_rt_weights_open(&model, "/dev/zero", &weights),
            HADAL_RT_IO_ERROR);
  std::string pipe = TempDir() + "hadal-pipe-" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(hadal_rt_weights_open(&model, pipe.c_str(), &weights),
            HADAL_RT_IO_ERROR);
  unlink(pipe.c_str());
}

TEST(Weights, RefusesAnotherAbi) {
  TemporaryFile file(WeightsFile().bytes);
  hadal_rt_model_t model = makeModel();
  model.abi_version = 7;
  hadal_rt_weights_t *weights;
  EXPECT_EQ(hadal_rt_weights_open(&model, file.path(), &weights),
            HADAL_RT_UNSUPPORTED_ABI);
  EXPECT_STREQ(hadal_rt_last_error(),
               "the model has ABI version 7, this runtime has 4");
}

TEST(Weights, RefusesEachDamagedField) {
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "HADALWTS",
                [](WeightsFile &f) { f.bytes[3] = 'x'; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "version is 2, expected 1",
                [](WeightsFile &f) { f.header().version = 2; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "33 sections, expected at most 32",
                [](WeightsFile &f) { f.header().section_count = 33; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "4294967295 sections",
                [](WeightsFile &f) { f.header().section_count = ~0u; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "expected a name of 1 to 31 bytes",
                [](WeightsFile &f) { f.header().section_count = 4; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "no section 'weights'",
                [](WeightsFile &f) { f.header().section_count = 0; });
  expectRefused(HADAL_RT_WEIGHTS_MISMATCH,
                "layout is 0102ff04050607080000000000000000, but model 'fake' "
                "expects 01020304050607080000000000000000",
                [](WeightsFile &f) { f.header().layout_hash[2] = 255; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "says 12294 bytes, but there are",
                [](WeightsFile &f) { f.header().file_bytes += 1; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "18446744073709551615 bytes",
                [](WeightsFile &f) { f.header().file_bytes = ~0ull; });
  expectRefused(
      HADAL_RT_INVALID_WEIGHTS, "name of 1 to 31",
      [](WeightsFile &f) { memset(f.header().sections[0].name, 'x', 32); });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "byte 0x1b",
                [](WeightsFile &f) { f.header().sections[1].name[2] = 27; });
  expectRefused(
      HADAL_RT_INVALID_WEIGHTS, "0 and 1 are both called 'weights'",
      [](WeightsFile &f) { strcpy(f.header().sections[1].name, "weights"); });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "offset 4097, expected",
                [](WeightsFile &f) { f.header().sections[0].offset = 4097; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "offset 0, expected",
                [](WeightsFile &f) { f.header().sections[0].offset = 0; });
  // Offset plus size wraps to a small number.
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "18446744073709551615 bytes at",
                [](WeightsFile &f) { f.header().sections[1].bytes = ~0ull; });
  expectRefused(
      HADAL_RT_INVALID_WEIGHTS, "at offset 18446744073709547520",
      [](WeightsFile &f) { f.header().sections[1].offset = ~0ull - 4095; });
  expectRefused(HADAL_RT_INVALID_WEIGHTS, "6 bytes at offset 12288",
                [](WeightsFile &f) { f.header().sections[2].bytes = 6; });
  expectRefused(HADAL_RT_WEIGHTS_MISMATCH, "has 40 bytes, but model 'fake'",
                [](WeightsFile &f) { f.header().sections[0].bytes = 40; });
}

TEST(Weights, RefusesEveryLength) {
  WeightsFile good;
  for (size_t bytes : {0, 1, 8, 100, 1600, 4095, 4096, 8192, 12288, 12292}) {
    WeightsFile file;
    file.bytes.resize(bytes);
    EXPECT_EQ(tryOpen(file.bytes), HADAL_RT_INVALID_WEIGHTS) << bytes;
    // Also when the header agrees that it is short.
    if (bytes < sizeof(hadal_rt_weights_header_t))
      continue;
    file.header().file_bytes = bytes;
    EXPECT_EQ(tryOpen(file.bytes), HADAL_RT_INVALID_WEIGHTS) << bytes;
  }
}

TEST(Weights, SurvivesRandomHeaders) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    WeightsFile file;
    for (int flips = 1 + int(random() % 4); flips; --flips)
      file.bytes[random() % 200] = char(random());
    tryOpen(file.bytes);
  }
}

/// An executable of \p programBytes bytes that carries the weights.
static std::vector<char> embed(size_t programBytes,
                               hadal_rt_trailer_t trailer) {
  std::vector<char> bytes(programBytes, 'E');
  WeightsFile file;
  bytes.insert(bytes.end(), file.bytes.begin(), file.bytes.end());
  auto *raw = reinterpret_cast<const char *>(&trailer);
  bytes.insert(bytes.end(), raw, raw + sizeof(trailer));
  return bytes;
}

static hadal_rt_status_t tryOpenEmbedded(const std::vector<char> &bytes) {
  TemporaryFile file(bytes);
  hadal_rt_model_t model = makeModel();
  hadal_rt_weights_t *weights;
  hadal_rt_status_t status =
      hadal_rt_weights_open_embedded(&model, file.path(), &weights);
  if (!status) {
    const void *data;
    uint64_t size;
    EXPECT_EQ(hadal_rt_weights_section(weights, "tokenizer.json", &data, &size),
              HADAL_RT_OK);
    EXPECT_EQ(std::string(static_cast<const char *>(data), size), "hello");
  }
  hadal_rt_weights_close(weights);
  return status;
}

TEST(Weights, OpensEmbedded) {
  uint64_t bytes = WeightsFile().bytes.size();
  EXPECT_EQ(tryOpenEmbedded(embed(
                8192, {8192, bytes, {'H', 'A', 'D', 'A', 'L', 'E', 'M', 'B'}})),
            HADAL_RT_OK)
      << hadal_rt_last_error();
}

TEST(Weights, RefusesDamagedTrailers) {
  uint64_t bytes = WeightsFile().bytes.size();
  auto expect = [&](hadal_rt_status_t expected, uint64_t offset, uint64_t size,
                    char last = 'B') {
    EXPECT_EQ(
        tryOpenEmbedded(embed(
            8192, {offset, size, {'H', 'A', 'D', 'A', 'L', 'E', 'M', last}})),
        expected)
        << hadal_rt_last_error();
  };
  expect(HADAL_RT_NOT_FOUND, 8192, bytes, 'X');
  expect(HADAL_RT_INVALID_WEIGHTS, 8193, bytes);
  expect(HADAL_RT_INVALID_WEIGHTS, 4096, bytes);
  expect(HADAL_RT_INVALID_WEIGHTS, 8192, bytes + 1);
  expect(HADAL_RT_INVALID_WEIGHTS, 8192, bytes - 1);
  expect(HADAL_RT_INVALID_WEIGHTS, 8192, ~0ull);
  expect(HADAL_RT_INVALID_WEIGHTS, ~0ull - 4095, 8192);
  EXPECT_EQ(tryOpenEmbedded({}), HADAL_RT_NOT_FOUND);
  EXPECT_EQ(tryOpenEmbedded({'x'}), HADAL_RT_NOT_FOUND);
}
