// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ends a text where one of some strings begins.

#ifndef HADAL_TOOLS_HADAL_SERVE_STOPFILTER_H
#define HADAL_TOOLS_HADAL_SERVE_STOPFILTER_H

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hadal::serve {

/// Lets a text through until it has one of some strings in it, which may come
/// in pieces: what may be the start of one is held back.
class StopFilter {
public:
  /// \p stops has no empty string.
  explicit StopFilter(std::vector<std::string> stops)
      : stops(std::move(stops)) {}

  /// Takes the next piece; returns what can be shown of all so far.
  std::string push(std::string_view piece);

  /// Returns what was held back, at the end of the text.
  std::string flush() { return std::exchange(held, {}); }

  /// Whether one of the strings has come. Nothing comes after it.
  bool hasStopped() const { return stopped; }

private:
  std::vector<std::string> stops;
  std::string held;
  bool stopped = false;
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_STOPFILTER_H
