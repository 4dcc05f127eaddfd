// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads the table of dispatches in a manifest.

#include "WorkTable.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

using namespace hadal::run;
using Json = nlohmann::json;

/// The deepest nesting of calls, and the most dispatches, that are read.
static constexpr int maxDepth = 8;
static constexpr size_t maxRows = 1 << 20;
/// The most arguments of a dispatch that counts.
static constexpr int64_t maxArguments = 16;

Work &Work::operator+=(const Work &other) {
  weightBytes += other.weightBytes;
  bufferBytes += other.bufferBytes;
  int8Ops += other.int8Ops;
  f32Ops += other.f32Ops;
  return *this;
}

Work Work::operator*(double factor) const {
  return {weightBytes * factor, bufferBytes * factor, int8Ops * factor,
          f32Ops * factor};
}

bool DispatchRow::isUsedIn(const StepShape &step) const {
  auto tokens = double(step.tokens);
  if (leastRows > 0)
    return tokens >= leastRows;
  return !isAlternative && (belowRows == 0 || tokens < belowRows);
}

Work DispatchRow::workIn(const StepShape &step) const {
  auto rowCount = double(outputs ? step.outputs : step.tokens);
  if (rowCount == 0)
    return {};
  auto tokens = double(step.tokens), depth = double(step.depth);
  // The first `growing` tokens see all before them, the others a window.
  double growing = tokens, context = depth + tokens;
  if (windowTokens > 0) {
    growing = std::clamp(windowTokens - depth, 0.0, tokens);
    context = std::min(context, windowTokens - 1 + tokens);
  }
  double pairs =
      growing * (depth + (growing + 1) / 2) + (tokens - growing) * windowTokens;
  double read = 1;
  // Of the experts, those that some row chose, if it chooses evenly.
  if (experts > 0)
    read -= std::pow(1 - expertsPerRow / experts, rowCount);
  return {weights * read + contextBytes * context, rowBytes * rowCount,
          rowInt8Ops * rowCount,
          rowF32Ops * rowCount + contextF32Ops * context + pairF32Ops * pairs};
}

Work WorkTable::workIn(const StepShape &step) const {
  Work sum;
  for (const DispatchRow &row : rows)
    if (row.isUsedIn(step))
      sum += row.workIn(step);
  return sum;
}

static std::string getString(const Json &object, const char *key) {
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>()
                                                     : std::string();
}

static double getNumber(const Json &object, const char *key) {
  auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

static bool getFlag(const Json &object, const char *key) {
  auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

/// Reads the results of a dispatch, [argument, columns, stride] each.
static bool readResults(const Json &item,
                        std::vector<DispatchRow::Result> &results) {
  auto list = item.find("results");
  if (list == item.end())
    return true;
  if (!list->is_array())
    return false;
  for (const Json &result : *list) {
    if (!result.is_array() || result.size() != 3)
      return false;
    for (const Json &number : result)
      if (!number.is_number_unsigned() ||
          number.get<uint64_t>() > uint64_t(INT32_MAX))
        return false;
    results.push_back({result[0].get<size_t>(), result[1].get<int64_t>(),
                       result[2].get<int64_t>()});
    if (results.back().columns < 1 ||
        results.back().stride < results.back().columns)
      return false;
  }
  return true;
}

/// Appends the dispatches of \p function and of those that it calls.
static bool appendFunction(const Json &functions, const std::string &function,
                           const std::string &prefix, int depth,
                           std::vector<DispatchRow> &rows) {
  auto found = functions.find(function);
  if (depth > maxDepth || found == functions.end() || !found->is_array())
    return false;
  for (const Json &item : *found) {
    if (!item.is_object() || rows.size() >= maxRows)
      return false;
    DispatchRow row;
    row.name = prefix + getString(item, "name");
    if (std::string callee = getString(item, "call"); !callee.empty()) {
      if (!appendFunction(functions, callee, row.name + ".", depth + 1, rows))
        return false;
      continue;
    }
    row.op = getString(item, "op");
    row.kernel = getString(item, "kernel");
    row.layer = prefix.substr(0, prefix.empty() ? 0 : prefix.size() - 1);
    if (!readResults(item, row.results))
      return false;
    row.outputs = getFlag(item, "outputs");
    row.selected = getFlag(item, "selected");
    if (item.contains("count")) {
      row.count = int64_t(getNumber(item, "count"));
      if (row.count < 0 || row.count > maxArguments)
        return false;
    }
    row.isAlternative = getFlag(item, "alternative");
    row.weights = getNumber(item, "weights");
    row.experts = getNumber(item, "experts");
    row.expertsPerRow = getNumber(item, "experts_per_row");
    row.rowBytes = getNumber(item, "row_bytes");
    row.contextBytes = getNumber(item, "context_bytes");
    row.windowTokens = getNumber(item, "window_tokens");
    row.rowF32Ops = getNumber(item, "row_f32_ops");
    row.rowInt8Ops = getNumber(item, "row_int8_ops");
    row.pairF32Ops = getNumber(item, "pair_f32_ops");
    row.contextF32Ops = getNumber(item, "context_f32_ops");
    row.leastRows = getNumber(item, "least_rows");
    row.belowRows = getNumber(item, "below_rows");
    rows.push_back(row);
  }
  return true;
}

bool WorkTable::read(std::string_view manifest, std::string &error) {
  Json json = Json::parse(manifest.begin(), manifest.end(), nullptr,
                          /*allow_exceptions=*/false);
  auto table = json.is_object() ? json.find("dispatches") : json.end();
  if (!json.is_object() || table == json.end() || !table->is_object()) {
    error = "the manifest in this program has no table of dispatches";
    return false;
  }
  auto functions = table->find("functions");
  rows.clear();
  if (functions != table->end() && functions->is_object() &&
      appendFunction(*functions, getString(*table, "entry"), "", 0, rows))
    return true;
  error = "the table of dispatches in this program's manifest is damaged";
  return false;
}
