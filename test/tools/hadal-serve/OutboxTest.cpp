// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// When what generations hand over is there for who waits.

#include "Outbox.h"

#include "gtest/gtest.h"

using namespace hadal::serve;
using namespace std::chrono_literals;

namespace {

TEST(OutboxTest, HandsOverPieces) {
  Outbox outbox(2, /*inPieces=*/true);
  EXPECT_TRUE(outbox.wait(0ms).empty());
  outbox.add(1, {"a", {}, {}, {}});
  outbox.add(1, {"b", {{7, -1.0, {}}}, {}, {}});
  outbox.add(0, {"", {}, Finish::Stop, {}});
  std::vector<Delta> deltas = outbox.wait(0ms);
  ASSERT_EQ(deltas.size(), 2u);
  EXPECT_EQ(deltas[0].text, "");
  EXPECT_EQ(deltas[0].finish, Finish::Stop);
  EXPECT_EQ(deltas[1].text, "ab");
  EXPECT_EQ(deltas[1].logprobs.size(), 1u);
  EXPECT_FALSE(deltas[1].finish);
  EXPECT_TRUE(outbox.wait(0ms).empty());
}

// A token may have no text yet.
TEST(OutboxTest, WakesForNoEmptyPiece) {
  Outbox outbox(1, /*inPieces=*/true);
  outbox.add(0, {});
  EXPECT_TRUE(outbox.wait(0ms).empty());
}

TEST(OutboxTest, WaitsForAllIfAsked) {
  Outbox outbox(2, /*inPieces=*/false);
  outbox.add(0, {"a", {}, Finish::Length, {}});
  outbox.add(1, {"b", {}, {}, {}});
  EXPECT_TRUE(outbox.wait(0ms).empty());
  outbox.add(1, {"c", {}, Finish::Stop, {}});
  std::vector<Delta> deltas = outbox.wait(0ms);
  ASSERT_EQ(deltas.size(), 2u);
  EXPECT_EQ(deltas[0].text, "a");
  EXPECT_EQ(deltas[1].text, "bc");
}

// Nobody waits for the others of a request that has failed.
TEST(OutboxTest, WaitsForTheFirstThatFails) {
  for (Finish finish : {Finish::Failed, Finish::Timeout, Finish::Cancelled}) {
    Outbox outbox(2, /*inPieces=*/false);
    outbox.add(1, {"", {}, finish, "why"});
    std::vector<Delta> deltas = outbox.wait(0ms);
    ASSERT_EQ(deltas.size(), 2u);
    EXPECT_EQ(deltas[1].finish, finish);
    EXPECT_EQ(deltas[1].error, "why");
  }
}

} // namespace
