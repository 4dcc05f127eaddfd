// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The owners of hadal_rt.hpp give back what they hold, once.

#include "FakeModel.h"

#include "hadal_rt/hadal_rt.hpp"

#include "gtest/gtest.h"

using namespace hadal;

TEST(WrapperTest, SequencesAreGivenBack) {
  fake::TemporaryFile file(fake::WeightsFile().bytes);
  hadal_rt_model_t model = fake::makeModel();
  rt::Weights weights;
  ASSERT_EQ(weights.open(model, file.path()), HADAL_RT_OK);
  EXPECT_EQ(weights.section("tokenizer.json"), "hello");
  EXPECT_EQ(weights.section("none"), "");
  hadal_rt_session_options_t options = {};
  options.max_sequences = 2;
  rt::Session session;
  ASSERT_EQ(session.create(model, weights, options), HADAL_RT_OK);
  int64_t pages = hadal_rt_session_free_pages(session.get());
  {
    rt::Sequence first, copy, third;
    ASSERT_EQ(first.create(session), HADAL_RT_OK);
    std::vector<int32_t> tokens(6, 1), ids(6, first.id());
    ASSERT_EQ(hadal_rt_session_step(session.get(), tokens.data(), ids.data(), 6,
                                    nullptr, 0, nullptr),
              HADAL_RT_OK);
    ASSERT_EQ(copy.fork(first), HADAL_RT_OK);
    ASSERT_EQ(copy.truncate(fake::pageTokens), HADAL_RT_OK);
    EXPECT_EQ(copy.length(), fake::pageTokens);
    EXPECT_EQ(hadal_rt_session_free_pages(session.get()), pages - 2);
    EXPECT_EQ(third.create(session), HADAL_RT_EXHAUSTED);
    EXPECT_FALSE(third);
    EXPECT_EQ(third.length(), 0);
    // What moves is not given back twice.
    first = std::move(copy);
    EXPECT_EQ(first.length(), fake::pageTokens);
    third = std::move(first);
    EXPECT_EQ(third.length(), fake::pageTokens);
    EXPECT_EQ(third.create(session), HADAL_RT_OK);
    EXPECT_EQ(third.length(), 0);
  }
  EXPECT_EQ(hadal_rt_session_free_pages(session.get()), pages);
}

TEST(WrapperTest, NothingIsLeftAfterAnError) {
  hadal_rt_model_t model = fake::makeModel();
  rt::Weights weights;
  EXPECT_EQ(weights.open(model, "/nowhere/x"), HADAL_RT_IO_ERROR);
  EXPECT_FALSE(weights);
  rt::Session session;
  EXPECT_EQ(session.create(model, weights), HADAL_RT_INVALID_ARGUMENT);
  EXPECT_FALSE(session);
}
