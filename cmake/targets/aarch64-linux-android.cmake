# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# CMake toolchain: clang for Android on 64-bit ARM, with what runtime/android
# has in place of an NDK. API 29 is the first whose linker knows thread_local.
set(CMAKE_SYSTEM_NAME Linux) # CMake's own Android asks for an NDK.
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER clang++-22)
set(CMAKE_CXX_COMPILER_TARGET aarch64-linux-android29)
# There is nothing to link a program with.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(HADAL_RT_BIONIC ON)
