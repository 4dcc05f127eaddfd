// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which experts become one, and how. Sums have a fixed order and no fused
// operations, so that every machine merges alike.

#include "dialects/DeepSeek/IR/ExpertMerging.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>
#include <limits>

#pragma STDC FP_CONTRACT OFF

using namespace hadal;
using namespace hadal::deepseek;

/// Made-up rows. A channel has as many numbers of each of its three weights,
/// which is enough to tell it from thousands of others.
static constexpr int64_t rowCount = 64;

/// The output function of SplitMix64 (Steele et al. 2014,
/// doi:10.1145/2660193.2660195).
static uint64_t mix(uint64_t index) {
  uint64_t z = (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

ExpertMerger::ExpertMerger(int64_t experts, int64_t inner, int64_t hidden,
                           llvm::ArrayRef<float> moments)
    : experts(experts), inner(inner), hidden(hidden),
      rows(size_t(hidden * rowCount)), signs(rows.size()),
      channels(size_t(experts)), outputs(size_t(experts)) {
  for (size_t i = 0; i < rows.size(); ++i) {
    uint64_t bits = mix(i);
    double unit = double(int64_t(bits >> 11)) * 0x1p-52 - 1;
    double moment = moments.empty() ? 1 : double(moments[i / size_t(rowCount)]);
    // Uniform, with the channel's mean square.
    rows[i] = float(unit * std::sqrt(3 * moment));
    signs[i] = bits & 1 ? 1.0f : -1.0f;
  }
}

/// to[i, j] += sum_k left[i, k] * right[k, j], in the order of k. Sums stay in
/// registers, whatever these are, and are the same.
[[gnu::always_inline]] static inline void
addProductBody(const float *left, int64_t count, int64_t depth,
               const float *right, float *to, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    float sums[rowCount] = {};
    for (int64_t k = 0; k < depth; ++k) {
      float factor = left[i * depth + k];
      const float *row = right + k * rowCount;
      for (int64_t j = 0; j < rowCount; ++j)
        sums[j] += factor * row[j];
    }
    for (int64_t j = 0; j < rowCount; ++j)
      to[i * stride + j] += sums[j];
  }
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void
addProductAvx512(const float *left, int64_t count, int64_t depth,
                 const float *right, float *to, int64_t stride) {
  addProductBody(left, count, depth, right, to, stride);
}

__attribute__((target("avx2"))) static void
addProductAvx2(const float *left, int64_t count, int64_t depth,
               const float *right, float *to, int64_t stride) {
  addProductBody(left, count, depth, right, to, stride);
}
#endif

static void addProduct(const float *left, int64_t count, int64_t depth,
                       const float *right, float *to, int64_t stride) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f"))
    return addProductAvx512(left, count, depth, right, to, stride);
  if (__builtin_cpu_supports("avx2"))
    return addProductAvx2(left, count, depth, right, to, stride);
#endif
  addProductBody(left, count, depth, right, to, stride);
}

void ExpertMerger::add(int64_t expert, const float *gate, const float *up,
                       const float *down) {
  constexpr int64_t stride = 3 * rowCount;
  std::vector<float> &features = channels[size_t(expert)];
  std::vector<float> &output = outputs[size_t(expert)];
  features.assign(size_t(inner * stride), 0);
  output.assign(size_t(hidden * rowCount), 0);
  addProduct(gate, inner, hidden, rows.data(), features.data(), stride);
  addProduct(up, inner, hidden, rows.data(), features.data() + rowCount,
             stride);
  for (int64_t h = 0; h < hidden; ++h)
    for (int64_t c = 0; c < inner; ++c) {
      float factor = down[h * inner + c];
      float *to = features.data() + c * stride + 2 * rowCount;
      for (int64_t j = 0; j < rowCount; ++j)
        to[j] += factor * signs[size_t(h * rowCount + j)];
    }
  std::vector<float> gated(size_t(inner * rowCount));
  for (int64_t c = 0; c < inner; ++c)
    for (int64_t j = 0; j < rowCount; ++j) {
      double x = features[size_t(c * stride + j)];
      double y = features[size_t(c * stride + rowCount + j)];
      gated[size_t(c * rowCount + j)] = float(x / (1 + std::exp(-x)) * y);
    }
  addProduct(down, hidden, inner, gated.data(), output.data(), rowCount);
}

/// Average linkage (Sokal and Michener 1958), the nearest two first.
void ExpertMerger::cluster(int64_t keep) {
  auto count = size_t(experts);
  std::vector<double> distances(count * count, 0.0), sizes(count, 1.0);
  for (size_t a = 0; a < count; ++a)
    for (size_t b = 0; b < a; ++b) {
      double sum = 0;
      for (size_t i = 0; i < outputs[a].size(); ++i) {
        double difference = double(outputs[a][i]) - double(outputs[b][i]);
        sum += difference * difference;
      }
      distances[a * count + b] = distances[b * count + a] = std::sqrt(sum);
    }
  // A cluster has the number of its first expert.
  map.resize(count);
  for (size_t i = 0; i < count; ++i)
    map[i] = int32_t(i);
  for (int64_t left = experts; left > keep; --left) {
    size_t first = 0, second = 0;
    double least = std::numeric_limits<double>::infinity();
    for (size_t a = 0; a < count; ++a)
      for (size_t b = a + 1; b < count; ++b)
        if (sizes[a] > 0 && sizes[b] > 0 &&
            (second == 0 || distances[a * count + b] < least)) {
          least = distances[a * count + b];
          first = a;
          second = b;
        }
    double total = sizes[first] + sizes[second];
    for (size_t i = 0; i < count; ++i) {
      double mean = (sizes[first] * distances[first * count + i] +
                     sizes[second] * distances[second * count + i]) /
                    total;
      distances[first * count + i] = distances[i * count + first] = mean;
    }
    sizes[first] = total;
    sizes[second] = 0;
    for (int32_t &of : map)
      if (of == int32_t(second))
        of = int32_t(first);
  }
  std::vector<int32_t> numbers(count, 0);
  int32_t next = 0;
  for (size_t i = 0; i < count; ++i)
    if (sizes[i] > 0)
      numbers[i] = next++;
  for (int32_t &of : map)
    of = numbers[size_t(of)];
}

/// For each channel of \p reference, the one of \p expert that is most like it,
/// so that all together are: a maximal matching, by shortest augmenting paths
/// (Jonker and Volgenant 1987, doi:10.1007/BF02278710).
std::vector<int32_t> ExpertMerger::align(int64_t reference,
                                         int64_t expert) const {
  constexpr int64_t stride = 3 * rowCount;
  const std::vector<float> &left = channels[size_t(reference)];
  const std::vector<float> &right = channels[size_t(expert)];
  // Each of the three weights counts by how large it is in the reference.
  float factors[3];
  for (int64_t part = 0; part < 3; ++part) {
    double sum = 0;
    for (int64_t c = 0; c < inner; ++c)
      for (int64_t j = 0; j < rowCount; ++j) {
        double x = left[size_t(c * stride + part * rowCount + j)];
        sum += x * x;
      }
    factors[part] = sum > 0 ? float(double(inner * rowCount) / sum) : 0;
  }
  auto n = size_t(inner);
  std::vector<float> costs(n * n);
  std::vector<float> scaled(static_cast<size_t>(stride));
  constexpr int64_t lanes = 16;
  for (size_t a = 0; a < n; ++a) {
    for (int64_t i = 0; i < stride; ++i)
      scaled[size_t(i)] =
          left[a * size_t(stride) + size_t(i)] * factors[i / rowCount];
    for (size_t b = 0; b < n; ++b) {
      const float *other = right.data() + b * size_t(stride);
      float sums[lanes] = {};
      for (int64_t i = 0; i < stride; i += lanes)
        for (int64_t j = 0; j < lanes; ++j)
          sums[j] += scaled[size_t(i + j)] * other[i + j];
      float sum = 0;
      for (float lane : sums)
        sum += lane;
      costs[a * n + b] = -sum;
    }
  }

  // Row 0 and column 0 are not real; potentials keep reduced costs >= 0.
  std::vector<double> rowPotential(n + 1, 0.0), potential(n + 1, 0.0);
  std::vector<double> least(n + 1);
  std::vector<size_t> rowOf(n + 1, 0), before(n + 1, 0);
  std::vector<char> isSeen(n + 1);
  for (size_t row = 1; row <= n; ++row) {
    rowOf[0] = row;
    size_t column = 0;
    std::fill(least.begin(), least.end(),
              std::numeric_limits<double>::infinity());
    std::fill(isSeen.begin(), isSeen.end(), 0);
    while (rowOf[column] != 0) {
      isSeen[column] = 1;
      size_t of = rowOf[column], next = 0;
      double delta = std::numeric_limits<double>::infinity();
      for (size_t j = 1; j <= n; ++j) {
        if (isSeen[j])
          continue;
        double cost = double(costs[(of - 1) * n + j - 1]) - rowPotential[of] -
                      potential[j];
        if (cost < least[j]) {
          least[j] = cost;
          before[j] = column;
        }
        if (next == 0 || least[j] < delta) {
          delta = least[j];
          next = j;
        }
      }
      for (size_t j = 0; j <= n; ++j)
        if (isSeen[j]) {
          rowPotential[rowOf[j]] += delta;
          potential[j] -= delta;
        } else {
          least[j] -= delta;
        }
      column = next;
    }
    for (; column != 0; column = before[column])
      rowOf[column] = rowOf[before[column]];
  }
  std::vector<int32_t> result(n);
  for (size_t j = 1; j <= n; ++j)
    result[rowOf[j] - 1] = int32_t(j - 1);
  return result;
}

static double cosine(const std::vector<float> &a, const std::vector<float> &b) {
  double product = 0, squares = 0, others = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += double(a[i]) * double(b[i]);
    squares += double(a[i]) * double(a[i]);
    others += double(b[i]) * double(b[i]);
  }
  return squares > 0 && others > 0
             ? product / (std::sqrt(squares) * std::sqrt(others))
             : 0;
}

void ExpertMerger::merge(int64_t keep, llvm::ArrayRef<float> masses) {
  cluster(keep);
  members.assign(size_t(keep), {});
  for (int64_t e = 0; e < experts; ++e)
    members[size_t(map[size_t(e)])].push_back({e, 0, {}});
  double all = 0;
  for (float mass : masses)
    all += double(mass);
  auto massOf = [&](const Member &member) {
    return masses.empty() ? 1.0 : double(masses[size_t(member.expert)]);
  };
  for (std::vector<Member> &group : members) {
    double total = 0;
    int64_t reference = group.front().expert;
    double most = massOf(group.front());
    for (const Member &member : group) {
      total += massOf(member);
      if (massOf(member) > most) {
        most = massOf(member);
        reference = member.expert;
      }
    }
    for (Member &member : group) {
      member.share =
          total > 0 ? massOf(member) / total : 1 / double(group.size());
      member.massShare = all > 0 ? massOf(member) / all : 0;
      if (member.expert != reference)
        member.similarity =
            cosine(outputs[size_t(reference)], outputs[size_t(member.expert)]);
      if (member.expert == reference) {
        member.channels.resize(size_t(inner));
        for (int64_t c = 0; c < inner; ++c)
          member.channels[size_t(c)] = int32_t(c);
      } else {
        member.channels = align(reference, member.expert);
      }
    }
  }
  // What is left is small, so that it can be kept for other weights.
  rows = signs = {};
  channels = outputs = {};
}

std::vector<float> deepseek::averageMoments(llvm::ArrayRef<float> moments,
                                            llvm::ArrayRef<float> masses,
                                            int64_t experts) {
  if (moments.empty())
    return {};
  size_t hidden = moments.size() / size_t(experts);
  std::vector<double> sums(hidden, 0.0);
  double total = 0;
  for (size_t e = 0; e < size_t(experts); ++e) {
    double mass = masses.empty() ? 1.0 : double(masses[e]);
    total += mass;
    for (size_t i = 0; i < hidden; ++i)
      sums[i] += mass * double(moments[e * hidden + i]);
  }
  // A text without a token says nothing.
  if (!llvm::any_of(sums, [](double sum) { return sum > 0; }))
    return {};
  std::vector<float> result(hidden);
  for (size_t i = 0; i < hidden; ++i)
    result[i] = float(sums[i] / total);
  return result;
}

std::vector<double>
hadal::deepseek::shareCounts(llvm::ArrayRef<ExpertMerger::Member> members,
                             llvm::ArrayRef<float> counts) {
  double sum = 0;
  for (const ExpertMerger::Member &member : members)
    sum += double(counts[size_t(member.expert)]);
  std::vector<double> shares;
  for (const ExpertMerger::Member &member : members)
    shares.push_back(sum > 0 ? double(counts[size_t(member.expert)]) / sum : 0);
  return shares;
}
