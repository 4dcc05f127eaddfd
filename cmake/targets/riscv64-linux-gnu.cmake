# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# CMake toolchain: clang for 64-bit RISC-V Linux (rv64gc, lp64d), with the C and
# C++ libraries of Debian's g++-riscv64-linux-gnu. Debian 12 has no more of this
# architecture, so programs come without PCRE2 and the tokenizers that need it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_C_COMPILER clang-22)
set(CMAKE_CXX_COMPILER clang++-22)
set(CMAKE_C_COMPILER_TARGET riscv64-linux-gnu)
set(CMAKE_CXX_COMPILER_TARGET riscv64-linux-gnu)
set(CMAKE_LIBRARY_ARCHITECTURE riscv64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_IGNORE_PREFIX_PATH /usr/local)
set(HADAL_WITHOUT_PCRE2 ON)
