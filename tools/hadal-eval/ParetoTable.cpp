// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Prints executables side by side.

#include "ParetoTable.h"

#include "../hadal-run/Report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

using namespace hadal;
using namespace hadal::run;
using Json = nlohmann::json;

/// Reads the number \p key of \p object. \returns False if there is none.
static bool readNumber(const Json &object, const char *key, double &value) {
  auto found = object.find(key);
  if (found == object.end() || !found->is_number())
    return false;
  value = found->get<double>();
  return std::isfinite(value);
}

bool run::readBench(std::string_view text, ParetoRow &row) {
  Json json = Json::parse(text.begin(), text.end(), /*cb=*/nullptr,
                          /*allow_exceptions=*/false);
  if (!json.is_object() || !readNumber(json, "weights_bytes", row.weightsBytes))
    return false;
  auto runs = json.find("runs");
  if (runs == json.end() || !runs->is_array())
    return false;
  for (const Json &run : *runs) {
    if (!run.is_object() || !run.contains("kind") || run["kind"] != "decode")
      continue;
    auto speed = run.find("tokens_per_s");
    double int8 = 0, f32 = 0;
    if (speed == run.end() || !speed->is_object() ||
        !readNumber(*speed, "median", row.tokensPerSecond) ||
        !readNumber(run, "int8_operations_per_token", int8) ||
        !readNumber(run, "f32_operations_per_token", f32))
      return false;
    row.operationsPerToken = int8 + f32;
    return true;
  }
  return false;
}

/// Whether \p a is as good as \p b in all that is measured, and better in one.
static bool dominates(const ParetoRow &a, const ParetoRow &b) {
  const double pairs[][2] = {{a.divergence, b.divergence},
                             {a.weightsBytes, b.weightsBytes},
                             {a.operationsPerToken, b.operationsPerToken},
                             {b.tokensPerSecond, a.tokensPerSecond}};
  bool isBetter = false;
  for (auto [x, y] : pairs) {
    if (x > y)
      return false;
    isBetter |= x < y;
  }
  return isBetter;
}

void run::markFront(std::vector<ParetoRow> &rows) {
  for (ParetoRow &row : rows)
    row.isOnFront =
        std::none_of(rows.begin(), rows.end(), [&](const ParetoRow &other) {
          return dominates(other, row);
        });
}

static std::string nameOf(const ParetoRow &row) {
  return row.path.substr(row.path.find_last_of('/') + 1);
}

std::string run::makeParetoText(const std::vector<ParetoRow> &rows) {
  size_t width = 0;
  for (const ParetoRow &row : rows)
    width = std::max(width, row.path.size());
  std::string out;
  appendFormat(out, "  %-*s %10s %10s %10s %11s %13s %9s\n", int(width), "",
               "weights MB", "tokens/s", "Mop/token", "perplexity",
               "KL divergence", "same top");
  for (const ParetoRow &row : rows)
    appendFormat(out, "%s %-*s %10.2f %10.2f %10.2f %11.4f %13.6f %8.2f%%\n",
                 row.isOnFront ? "*" : " ", int(width), row.path.c_str(),
                 row.weightsBytes / 1e6, row.tokensPerSecond,
                 row.operationsPerToken / 1e6, row.perplexity, row.divergence,
                 100 * row.agreement);
  out += "* none of the others is as good in size, speed, operations and "
         "divergence\n";
  return out;
}

std::string run::makeParetoJson(const std::vector<ParetoRow> &rows) {
  std::string out = "{\"executables\":[";
  for (const ParetoRow &row : rows) {
    out += &row == rows.data() ? "{\"path\":" : ",{\"path\":";
    appendJsonString(out, row.path);
    appendFormat(out,
                 ",\"weights_bytes\":%.0f,\"tokens_per_s\":%.6g,"
                 "\"operations_per_token\":%.0f,\"perplexity\":%.9g,"
                 "\"kl_divergence\":%.9g,\"top_1_agreement\":%.9g,"
                 "\"is_on_front\":%s}",
                 row.weightsBytes, row.tokensPerSecond, row.operationsPerToken,
                 row.perplexity, row.divergence, row.agreement,
                 row.isOnFront ? "true" : "false");
  }
  return out + "]}\n";
}

static void appendXmlText(std::string &out, const std::string &text) {
  for (char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else
      out += uint8_t(c) < 0x20 ? '?' : c; // No control character is XML.
  }
}

namespace {

/// One axis of the plot, from 0.
struct Axis {
  /// \p most is the largest value; it is drawn at \p last or before.
  Axis(double most, double first, double last) : first(first), last(last) {
    if (!(most > 0))
      most = 1;
    // Of 1, 2 and 5 times a power of ten, the step that gives 4 to 10 ticks.
    step = std::pow(10, std::floor(std::log10(most)));
    if (most / step < 1.5)
      step /= 5;
    else if (most / step < 3.5)
      step /= 2;
    ticks = int(std::ceil(most / step));
  }
  double at(double value) const {
    return first + (last - first) * value / (step * ticks);
  }

  double first, last, step;
  int ticks;
};

} // namespace

std::string run::makeParetoSvg(const std::vector<ParetoRow> &rows) {
  double mostBytes = 0, mostDivergence = 0;
  for (const ParetoRow &row : rows) {
    mostBytes = std::max(mostBytes, row.weightsBytes);
    mostDivergence = std::max(mostDivergence, row.divergence);
  }
  Axis x(mostBytes / 1e6, 80, 700), y(mostDivergence, 380, 30);
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 440\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"760\" height=\"440\" fill=\"#fff\"/>\n";
  for (int i = 0; i <= x.ticks; ++i) {
    double at = x.at(i * x.step);
    appendFormat(
        out,
        "<path d=\"M%.1f 30V380\" stroke=\"#ddd\"/>"
        "<text x=\"%.1f\" y=\"398\" text-anchor=\"middle\">%g</text>\n",
        at, at, i * x.step);
  }
  for (int i = 0; i <= y.ticks; ++i) {
    double at = y.at(i * y.step);
    appendFormat(out,
                 "<path d=\"M80 %.1fH700\" stroke=\"#ddd\"/>"
                 "<text x=\"74\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                 at, at + 4, i * y.step);
  }
  out += "<text x=\"390\" y=\"424\" text-anchor=\"middle\">weights, MB</text>\n"
         "<text transform=\"translate(20 205)rotate(-90)\" "
         "text-anchor=\"middle\">KL divergence, nats a token</text>\n";
  // The front of these two: each larger one that is closer than all before.
  std::vector<const ParetoRow *> sorted;
  sorted.reserve(rows.size());
  for (const ParetoRow &row : rows)
    sorted.push_back(&row);
  std::sort(sorted.begin(), sorted.end(),
            [](const ParetoRow *a, const ParetoRow *b) {
              return a->weightsBytes != b->weightsBytes
                         ? a->weightsBytes < b->weightsBytes
                         : a->divergence < b->divergence;
            });
  std::string line;
  double least = INFINITY;
  for (const ParetoRow *row : sorted)
    if (row->divergence < least) {
      least = row->divergence;
      appendFormat(line, "%s%.1f %.1f", line.empty() ? "M" : "L",
                   x.at(row->weightsBytes / 1e6), y.at(row->divergence));
    }
  out += "<path d=\"" + line + "\" fill=\"none\" stroke=\"#27c\"/>\n";
  for (const ParetoRow &row : rows) {
    double atX = x.at(row.weightsBytes / 1e6), atY = y.at(row.divergence);
    bool isRight = atX > 500;
    appendFormat(out,
                 "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#27c\"/>"
                 "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
                 atX, atY, atX + (isRight ? -8 : 8), atY - 6,
                 isRight ? "end" : "start");
    appendXmlText(out, nameOf(row));
    appendFormat(out, ", %.*f tokens/s</text>\n",
                 row.tokensPerSecond < 100 ? 1 : 0, row.tokensPerSecond);
  }
  return out + "</svg>\n";
}
