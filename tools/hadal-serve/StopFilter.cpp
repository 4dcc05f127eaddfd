// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ends a text where one of some strings begins.

#include "StopFilter.h"

#include <algorithm>

using namespace hadal::serve;

/// Length of the longest end of \p text that \p stop begins with, but is not.
static size_t countPartial(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length; --length)
    if (text.substr(text.size() - length) == stop.substr(0, length))
      return length;
  return 0;
}

std::string StopFilter::push(std::string_view piece) {
  if (stopped)
    return {};
  held += piece;
  size_t end = std::string::npos, partial = 0;
  for (const std::string &stop : stops) {
    end = std::min(end, held.find(stop));
    partial = std::max(partial, countPartial(held, stop));
  }
  stopped = end != std::string::npos;
  std::string shown = held.substr(0, stopped ? end : held.size() - partial);
  held.erase(0, stopped ? held.size() : shown.size());
  return shown;
}
