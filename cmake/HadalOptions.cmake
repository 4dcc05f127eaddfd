# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compiler and linker settings that every target of the project shares.

set(HADAL_SANITIZE "" CACHE STRING
  "Sanitizers for every target, as -fsanitize= takes them: address,undefined")

if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  add_link_options(-fuse-ld=lld)
endif()
add_compile_options(-Wall -Wextra -Wno-unused-parameter
  -ffile-prefix-map=${PROJECT_SOURCE_DIR}=.)
# A precompiled header without times in it is the same bytes each time, so that
# ccache (with sloppiness = pch_defines,time_macros) finds what uses it.
add_compile_options("$<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>")

if(HADAL_SANITIZE)
  add_compile_options(-fsanitize=${HADAL_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  # vptr checks need the RTTI of every class that crosses into libMLIR.
  add_compile_options(-fno-sanitize=vptr)
  add_link_options(-fsanitize=${HADAL_SANITIZE} -fno-sanitize=vptr)
endif()

find_program(HADAL_CCACHE ccache)
if(HADAL_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${HADAL_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${HADAL_CCACHE})
endif()
