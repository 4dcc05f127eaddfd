// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// nvcc, where there is one: CUDA source becomes code for several GPUs.

#ifndef HADAL_COMPILER_CUDATOOLKIT_H
#define HADAL_COMPILER_CUDATOOLKIT_H

#include "lib/Compiler/Outputs.h"

#include "absl/status/statusor.h"

#include <optional>
#include <string>
#include <vector>

namespace hadal {

struct CudaToolkit {
  std::string nvcc;    ///< Its path.
  std::string version; ///< As "13.0.88".
  /// What code is made for: sm_80 and others that this nvcc knows, and at the
  /// end compute_80, which a driver translates for GPUs that are none of them.
  std::vector<std::string> architectures;
};

/// Looks for nvcc: at \p path or, if that is empty, in PATH and in
/// /usr/local/cuda/bin. Nothing: there is none.
///
/// - kNotFound: there is none at \p path.
/// - kInvalidArgument: it says of itself what cannot be understood.
absl::StatusOr<std::optional<CudaToolkit>> findCuda(const std::string &path,
                                                    Outputs &outputs);

/// Compiles \p source, a .cu file whose headers are in \p includeFolder, to
/// \p output, a fatbin. `kInvalidArgument` has the first error of nvcc.
absl::Status compileCuda(const CudaToolkit &toolkit, const std::string &source,
                         const std::string &includeFolder,
                         const std::string &output, Outputs &outputs);

} // namespace hadal

#endif // HADAL_COMPILER_CUDATOOLKIT_H
