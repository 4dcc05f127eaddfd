// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How fast the products of CUDA kernels are, beside those of cuBLASLt, which
// multiplies inputs that were rounded to bf16, and beside the bandwidth of a
// copy, in one run:
//
//     nvcc -std=c++17 -O3 -fmad=false -arch=native -I runtime/include \
//       bench/products.cu -lcublasLt -o products && ./products
//
// Prints a line a shape: milliseconds of each, and shares of cuBLASLt's speed
// and of the bandwidth with which weights are read. Exit status 1: no GPU, or
// a product that is off.

#include "device.cuh"
#include "hadal_rt/kernels.cuh"

#include <cublasLt.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace hadal_cuda;

namespace {

constexpr int sharedBytes = 72 * 1024;

/// As kernels have it that hadalc makes: out[rows, 16 * tiles].
template <int inner>
__global__ void __launch_bounds__(team_threads)
    multiply(int64_t items, const float *x, const uint16_t *weight, float *out,
             int64_t rows, int64_t tiles, int64_t tiles_per_item) {
  int64_t blocks = (rows + 63) / 64;
  for (int64_t item = first_item(items); item < last_item(items); ++item) {
    int64_t tile = item / blocks * tiles_per_item, row = item % blocks * 64;
    products<stored::bf16, 1, inner> product(
        shared_scratch(sharedBytes), row, min(row + 64, rows), tile,
        min(tile + tiles_per_item, tiles), input_rows{x, inner},
        weight_tiles{weight});
    while (product.next())
      for (int i = product.first_product(); i < product.product_count();
           i += product.groups)
        store(out + product.entry_of(i) * tiles * 16 + product.tile_of(i) * 16,
              product.sums(0, i));
  }
}

template <typename T> void send(T *to, const std::vector<T> &from) {
  CHECK(cudaMemcpy(to, from.data(), from.size() * sizeof(T),
                   cudaMemcpyHostToDevice));
}

/// A row-major product of bf16 by cuBLASLt: out[rows, outputs] = x weight^T.
class Library {
public:
  Library(int64_t rows, int64_t outputs, int64_t inner) {
    CHECK(cublasLtCreate(&handle));
    CHECK(cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    cublasOperation_t transposed = CUBLAS_OP_T;
    CHECK(cublasLtMatmulDescSetAttribute(matmul, CUBLASLT_MATMUL_DESC_TRANSA,
                                         &transposed, sizeof(transposed)));
    // Columns first, as it has matrices: its left one is the weight.
    CHECK(cublasLtMatrixLayoutCreate(&a, CUDA_R_16BF, inner, outputs, inner));
    CHECK(cublasLtMatrixLayoutCreate(&b, CUDA_R_16BF, inner, rows, inner));
    CHECK(cublasLtMatrixLayoutCreate(&c, CUDA_R_32F, outputs, rows, outputs));
    CHECK(cublasLtMatmulPreferenceCreate(&preference));
    CHECK(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspaceBytes,
        sizeof(workspaceBytes)));
    workspace = allocate<uint8_t>(workspaceBytes);
    int found = 0;
    CHECK(cublasLtMatmulAlgoGetHeuristic(handle, matmul, a, b, c, c, preference,
                                         1, &algorithm, &found));
    check(found == 1, "cublasLtMatmulAlgoGetHeuristic");
  }

  ~Library() {
    CHECK(cublasLtMatmulPreferenceDestroy(preference));
    CHECK(cublasLtMatrixLayoutDestroy(a));
    CHECK(cublasLtMatrixLayoutDestroy(b));
    CHECK(cublasLtMatrixLayoutDestroy(c));
    CHECK(cublasLtMatmulDescDestroy(matmul));
    CHECK(cublasLtDestroy(handle));
    CHECK(cudaFree(workspace));
  }

  void multiply(const uint16_t *x, const uint16_t *weight, float *out) {
    float one = 1, zero = 0;
    CHECK(cublasLtMatmul(handle, matmul, &one, weight, a, x, b, &zero, out, c,
                         out, c, &algorithm.algo, workspace, workspaceBytes,
                         /*stream=*/nullptr));
  }

private:
  size_t workspaceBytes = 32 << 20;
  uint8_t *workspace;
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t matmul;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulPreference_t preference;
  cublasLtMatmulHeuristicResult_t algorithm;
};

template <int inner>
void compare(int64_t rows, int64_t outputs, double bandwidth) {
  int64_t tiles = outputs / 16;
  std::vector<float> x(size_t(rows * inner));
  std::vector<uint16_t> rounded, packed(size_t(outputs * inner)), plain;
  for (float &value : x)
    value = float(rand()) / float(RAND_MAX) - 0.5f;
  for (float value : x)
    rounded.push_back(toBf16(value));
  for (int64_t i = 0; i < outputs * inner; ++i)
    plain.push_back(toBf16(float(rand()) / float(RAND_MAX) - 0.5f));
  for (int64_t n = 0; n < outputs; ++n)
    for (int64_t k = 0; k < inner; ++k)
      packed[size_t((n / 16 * inner + k) * 16 + n % 16)] =
          plain[size_t(n * inner + k)];
  float *input = allocate<float>(x.size());
  auto *roundedInput = allocate<uint16_t>(rounded.size());
  auto *weight = allocate<uint16_t>(packed.size());
  auto *plainWeight = allocate<uint16_t>(plain.size());
  float *out = allocate<float>(size_t(rows * outputs));
  send(input, x);
  send(roundedInput, rounded);
  send(weight, packed);
  send(plainWeight, plain);

  // As `BlockProduct` shares them out.
  int64_t perItem = rows <= 8 ? 1 : rows <= 64 ? 2 : 8;
  int64_t items = (tiles + perItem - 1) / perItem * ((rows + 63) / 64);
  CHECK(cudaFuncSetAttribute(multiply<inner>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             sharedBytes));
  float mine = measure([&] {
    multiply<inner><<<unsigned(items), team_threads, sharedBytes>>>(
        items, input, weight, out, rows, tiles, perItem);
  });
  CHECK(cudaGetLastError());
  std::vector<float> found(size_t(rows * outputs));
  CHECK(cudaMemcpy(found.data(), out, found.size() * sizeof(float),
                   cudaMemcpyDeviceToHost));
  for (int64_t i = 0; i < 1000; ++i) {
    int64_t row = rand() % rows, n = rand() % outputs;
    double sum = 0;
    for (int64_t k = 0; k < inner; ++k)
      sum += double(x[size_t(row * inner + k)]) *
             fromBf16(plain[size_t(n * inner + k)]);
    check(std::abs(found[size_t(row * outputs + n)] - sum) < 1e-4, "a product");
  }

  Library library(rows, outputs, inner);
  float other =
      measure([&] { library.multiply(roundedInput, plainWeight, out); });
  double operations = 2e-9 * double(rows) * double(outputs) * inner;
  printf("%5d rows  %5d x %5d  %8.4f ms  %7.1f TFLOPS  cuBLASLt %8.4f ms, "
         "%3.0f %%  weights at %3.0f %% of the bandwidth\n",
         int(rows), int(outputs), inner, mine, operations / mine, other,
         100 * other / mine,
         100 * double(outputs) * inner * 2 / mine / bandwidth);
  CHECK(cudaFree(input));
  CHECK(cudaFree(roundedInput));
  CHECK(cudaFree(weight));
  CHECK(cudaFree(plainWeight));
  CHECK(cudaFree(out));
}

} // namespace

int main() {
  cudaDeviceProp device;
  CHECK(cudaGetDeviceProperties(&device, 0));
  double bandwidth = measureBandwidth();
  printf("%s, %.0f GB/s\n", device.name, bandwidth * 1e-6);
  for (int64_t rows : {1, 8, 64, 512, 4096}) {
    compare<2048>(rows, 10944, bandwidth);
    compare<7168>(rows, 2048, bandwidth);
    compare<7168>(rows, 18432, bandwidth);
  }
  return 0;
}
