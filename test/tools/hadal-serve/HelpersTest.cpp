// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each item is done once, whatever the number of threads and items.

#include "Helpers.h"

#include "gtest/gtest.h"
#include <vector>

using namespace hadal::serve;

TEST(Helpers, EachItemOnce) {
  for (size_t threads : {1, 2, 5}) {
    Helpers helpers(threads);
    for (size_t count : {0, 1, 2, 3, 100}) {
      std::vector<int> done(count);
      for (int round = 1; round <= 50; ++round) {
        helpers.forEach(count, [&](size_t i) { ++done[i]; });
        EXPECT_EQ(done, std::vector<int>(count, round));
      }
    }
  }
}
