// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sums up what probes see. Only one thread calls them.

#include "Statistics.h"

#include "hadal_rt/probe.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

using namespace hadal;
using namespace hadal::run;

namespace {

/// Sums of one probe in one layer.
struct Sums {
  int64_t kind = 0;
  int64_t columns = 0;
  bool isGram = false;
  std::vector<double> values; ///< [columns], or [experts, columns]; of grams
                              ///< [.., columns, columns].
  std::vector<double> counts; ///< [1], or [experts].
  std::vector<float> largest; ///< Magnitudes, as `values`; of moments alone.
  std::vector<float> each;    ///< Of states alone: of each token.
};

/// All that was seen, by probe and layer.
struct Seen {
  std::map<std::pair<int64_t, int64_t>, Sums> sums;
  std::vector<float> state; ///< What the layer before this one made.
  int64_t stateColumns = 0;
};

} // namespace

static Seen *seen = nullptr;

void run::startStatistics() {
  delete seen;
  seen = new Seen;
}

/// Adds the squares of \p row to those of the columns, and takes note of the
/// largest.
static void addSquares(const float *row, int64_t columns, int64_t expert,
                       Sums &sums) {
  double *squares = sums.values.data() + expert * columns;
  float *largest = sums.largest.data() + expert * columns;
  for (int64_t i = 0; i < columns; ++i) {
    squares[i] += double(row[i]) * double(row[i]);
    largest[i] = std::fmax(largest[i], std::fabs(row[i]));
  }
}

//===----------------------------------------------------------------------===//
// Products of columns
//===----------------------------------------------------------------------===//

/// Columns that a tile of products has; rows of the tile.
static constexpr int64_t tileColumns = 16;
static constexpr int64_t tileRows = 4;

// The product of two floats is exact in f64, so that fused operations, where
// there are some, give the same sums.

/// sums[i][j] += row[i] * row[j] for all rows, and j from the tile of i on.
[[gnu::always_inline]] static inline void
addProductsBody(const std::vector<const float *> &rows, int64_t columns,
                double *sums) {
  int64_t whole = columns - columns % tileColumns;
  for (int64_t i = 0; i < whole; i += tileRows)
    for (int64_t j = i - i % tileColumns; j < whole; j += tileColumns) {
      double tile[tileRows][tileColumns];
      for (int64_t r = 0; r < tileRows; ++r)
        for (int64_t c = 0; c < tileColumns; ++c)
          tile[r][c] = sums[(i + r) * columns + j + c];
      for (const float *row : rows) {
        double right[tileColumns];
        for (int64_t c = 0; c < tileColumns; ++c)
          right[c] = double(row[j + c]);
        for (int64_t r = 0; r < tileRows; ++r)
          for (int64_t c = 0; c < tileColumns; ++c)
            tile[r][c] += double(row[i + r]) * right[c];
      }
      for (int64_t r = 0; r < tileRows; ++r)
        for (int64_t c = 0; c < tileColumns; ++c)
          sums[(i + r) * columns + j + c] = tile[r][c];
    }
  for (const float *row : rows)
    for (int64_t j = whole; j < columns; ++j)
      for (int64_t i = 0; i <= j; ++i)
        sums[i * columns + j] += double(row[i]) * double(row[j]);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void
addProductsAvx512(const std::vector<const float *> &rows, int64_t columns,
                  double *sums) {
  addProductsBody(rows, columns, sums);
}

__attribute__((target("avx2,fma"))) static void
addProductsAvx2(const std::vector<const float *> &rows, int64_t columns,
                double *sums) {
  addProductsBody(rows, columns, sums);
}
#endif

/// Adds the products of each two columns of \p rows to \p sums, of which the
/// part above the diagonal counts.
static void addProducts(const std::vector<const float *> &rows, int64_t columns,
                        double *sums) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f"))
    return addProductsAvx512(rows, columns, sums);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return addProductsAvx2(rows, columns, sums);
#endif
  addProductsBody(rows, columns, sums);
}

/// Adds the rows of \p probe, to those of the experts that they chose.
static void addGram(const hadal_rt_probe_t &probe) {
  Sums &sums = seen->sums[{probe.id, probe.layer}];
  int64_t experts = probe.experts ? probe.expert_count : 1;
  int64_t size = probe.columns * probe.columns;
  sums.kind = probe.kind;
  sums.columns = probe.columns;
  sums.isGram = true;
  sums.values.resize(size_t(experts * size));
  sums.counts.resize(size_t(experts));
  std::vector<std::vector<const float *>> rows(static_cast<size_t>(experts));
  for (int64_t row = 0; row < probe.rows; ++row) {
    if (!probe.experts) {
      rows[0].push_back(probe.data + row * probe.stride);
      continue;
    }
    for (int64_t slot = 0; slot < probe.top_k; ++slot) {
      int64_t expert = probe.experts[row * probe.experts_stride + slot];
      if (expert < 0 || expert >= experts)
        continue;
      bool isInner = probe.kind == HADAL_RT_PROBE_INNER_GRAM;
      rows[size_t(expert)].push_back(
          probe.data +
          (isInner ? row * probe.top_k + slot : row) * probe.stride);
    }
  }
  for (int64_t i = 0; i < experts; ++i) {
    sums.counts[size_t(i)] += double(rows[size_t(i)].size());
    addProducts(rows[size_t(i)], probe.columns, sums.values.data() + i * size);
  }
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

/// Adds 1 - cos of what a layer reads and what it makes.
static void addState(const hadal_rt_probe_t &probe) {
  bool follows = probe.layer > 0 &&
                 seen->state.size() == size_t(probe.rows * probe.columns);
  for (int64_t row = 0; follows && row < probe.rows; ++row) {
    const float *after = probe.data + row * probe.stride;
    const float *before = seen->state.data() + row * probe.columns;
    double product = 0, left = 0, right = 0;
    for (int64_t i = 0; i < probe.columns; ++i) {
      product += double(before[i]) * double(after[i]);
      left += double(before[i]) * double(before[i]);
      right += double(after[i]) * double(after[i]);
    }
    Sums &sums = seen->sums[{probe.id, probe.layer - 1}];
    sums.kind = probe.kind;
    sums.columns = 1;
    sums.values.resize(1);
    sums.counts.resize(1);
    // A state of zeros has no direction; nothing is known of it.
    if (left > 0 && right > 0) {
      double influence = 1 - product / std::sqrt(left * right);
      sums.values[0] += influence;
      sums.counts[0] += 1;
      sums.each.push_back(float(influence));
    }
  }
  seen->state.resize(size_t(probe.rows * probe.columns));
  for (int64_t row = 0; row < probe.rows; ++row)
    memcpy(seen->state.data() + row * probe.columns,
           probe.data + row * probe.stride,
           size_t(probe.columns) * sizeof(float));
}

extern "C" void hadal_rt_probe(const hadal_rt_probe_t *words) {
  if (!seen)
    return;
  const hadal_rt_probe_t &probe = *words;
  if (probe.kind == HADAL_RT_PROBE_STATE)
    return addState(probe);
  if (probe.kind == HADAL_RT_PROBE_GRAM ||
      probe.kind == HADAL_RT_PROBE_INNER_GRAM)
    return addGram(probe);
  Sums &sums = seen->sums[{probe.id, probe.layer}];
  int64_t experts = probe.experts ? probe.expert_count : 1;
  int64_t columns = probe.kind == HADAL_RT_PROBE_MASS ? 1 : probe.columns;
  sums.kind = probe.kind;
  sums.columns = columns;
  sums.values.resize(size_t(experts * columns));
  sums.counts.resize(size_t(experts));
  if (probe.kind != HADAL_RT_PROBE_MASS)
    sums.largest.resize(sums.values.size());
  for (int64_t row = 0; row < probe.rows; ++row) {
    if (!probe.experts) {
      addSquares(probe.data + row * probe.stride, columns, 0, sums);
      sums.counts[0] += 1;
      continue;
    }
    for (int64_t slot = 0; slot < probe.top_k; ++slot) {
      int64_t expert = probe.experts[row * probe.experts_stride + slot];
      if (expert < 0 || expert >= experts)
        continue;
      sums.counts[size_t(expert)] += 1;
      if (probe.kind == HADAL_RT_PROBE_MASS)
        sums.values[size_t(expert)] +=
            double(probe.data[row * probe.stride + slot]);
      else if (probe.kind == HADAL_RT_PROBE_INNER_MOMENT)
        addSquares(probe.data + (row * probe.top_k + slot) * probe.stride,
                   columns, expert, sums);
      else
        addSquares(probe.data + row * probe.stride, columns, expert, sums);
    }
  }
}

/// For each percentage, a number that as many of \p values are below, between
/// two of them, so that roundings do not matter: [101].
static std::vector<float> findPercentiles(std::vector<float> values) {
  std::sort(values.begin(), values.end());
  std::vector<float> percentiles;
  for (size_t percent = 0; percent <= 100; ++percent) {
    size_t below = (values.size() * percent + 50) / 100;
    // Influence is 0 to 2.
    float left = below ? values[below - 1] : -1;
    float right = below < values.size() ? values[below] : 3;
    percentiles.push_back(percent == 0     ? -1.0f
                          : percent == 100 ? 3.0f
                                           : (left + right) / 2);
  }
  return percentiles;
}

ExitCode run::writeStatistics(const std::string &path) {
  std::string header = "{";
  std::vector<float> data;
  auto add = [&](const std::string &name, const std::string &shape,
                 const std::vector<float> &values) {
    if (header.size() > 1)
      header += ',';
    appendFormat(header,
                 "\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],"
                 "\"data_offsets\":[%zu,%zu]}",
                 name.c_str(), shape.c_str(), data.size() * sizeof(float),
                 (data.size() + values.size()) * sizeof(float));
    data.insert(data.end(), values.begin(), values.end());
  };
  for (auto &[key, sums] : seen->sums) {
    std::string name =
        std::to_string(key.first) + "." + std::to_string(key.second);
    size_t experts = sums.counts.size(), columns = size_t(sums.columns);
    size_t size = sums.isGram ? columns * columns : columns;
    std::vector<float> values(sums.values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      // A mass is a sum over the text, all else a mean of what was seen.
      double count = sums.counts[i / size];
      size_t at = i;
      if (sums.isGram) {
        // The part below the diagonal is that above it.
        size_t row = i % size / columns, column = i % columns;
        at += row > column ? (column - row) * columns + row - column : 0;
      }
      double value = sums.values[at];
      if (sums.kind != HADAL_RT_PROBE_MASS)
        value = count > 0 ? value / count : 0;
      values[i] = float(value);
      if (!std::isfinite(values[i]))
        return reportError(BadInput,
                           "the model computes numbers that are not finite on "
                           "this text");
    }
    std::string shape = std::to_string(columns);
    if (sums.isGram)
      shape += "," + shape;
    if (experts > 1)
      shape = size > 1 ? std::to_string(experts) + "," + shape
                       : std::to_string(experts);
    add(name, shape, values);
    if (!sums.largest.empty())
      add(name + ".max", shape, sums.largest);
    if (sums.kind == HADAL_RT_PROBE_STATE)
      add(name + ".percentiles", "101", findPercentiles(sums.each));
    add(name + ".count", std::to_string(experts),
        std::vector<float>(sums.counts.begin(), sums.counts.end()));
  }
  header += '}';
  // Data begins at a multiple of 8 bytes.
  header.append((8 - header.size() % 8) % 8, ' ');
  uint64_t length = header.size();
  FILE *file = fopen(path.c_str(), "wb");
  bool good =
      file && fwrite(&length, sizeof(length), 1, file) == 1 &&
      fwrite(header.data(), header.size(), 1, file) == 1 &&
      fwrite(data.data(), sizeof(float), data.size(), file) == data.size();
  int error = errno;
  if (file && fclose(file))
    good = false;
  return good ? Done
              : reportError(BadInput, "cannot write '%s': %s", path.c_str(),
                            strerror(error));
}
