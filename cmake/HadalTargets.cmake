# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The runtime libraries for other machines, into lib/TRIPLE beside those of this
# one, where `hadalc --target=TRIPLE` looks for them.
#
# HADAL_TARGETS names the triples; cmake/targets/TRIPLE.cmake is the toolchain of
# each. By default it holds those whose toolchain is installed, which
# `scripts/setup --cross` does.

include(ExternalProject)

set(known_targets aarch64-linux-gnu riscv64-linux-gnu)
set(targets_without_pcre2 riscv64-linux-gnu)
set(installed_targets)
foreach(triple IN LISTS known_targets)
  string(MAKE_C_IDENTIFIER HADAL_CROSS_${triple} compiler)
  find_program(${compiler} ${triple}-g++)
  string(MAKE_C_IDENTIFIER HADAL_PCRE2_${triple} pcre2)
  find_file(${pcre2} libpcre2-8.a PATHS /usr/lib/${triple} NO_DEFAULT_PATH)
  mark_as_advanced(${compiler} ${pcre2})
  if(triple IN_LIST targets_without_pcre2)
    set(${pcre2} "not needed")
  endif()
  if(${compiler} AND ${pcre2} AND NOT triple STREQUAL CMAKE_LIBRARY_ARCHITECTURE)
    list(APPEND installed_targets ${triple})
  endif()
endforeach()
# Not kept in the cache: a toolchain that is installed later is found then.
if(NOT DEFINED HADAL_TARGETS)
  set(HADAL_TARGETS "${installed_targets}")
endif()

foreach(triple IN LISTS HADAL_TARGETS)
  ExternalProject_Add(runtime-${triple}
    SOURCE_DIR ${PROJECT_SOURCE_DIR}
    BINARY_DIR ${PROJECT_BINARY_DIR}/targets/${triple}
    CMAKE_ARGS
      -DCMAKE_TOOLCHAIN_FILE=${PROJECT_SOURCE_DIR}/cmake/targets/${triple}.cmake
      -DCMAKE_BUILD_TYPE=Release
      -DHADAL_ARCHIVES=${PROJECT_BINARY_DIR}/lib/${triple}
      -DHADAL_RUNTIME_ONLY=ON -DHADAL_TESTS=OFF
    BUILD_COMMAND ${CMAKE_COMMAND} --build <BINARY_DIR> --target emitted-libraries
    BUILD_ALWAYS ON
    INSTALL_COMMAND ""
    USES_TERMINAL_BUILD OFF
    EXCLUDE_FROM_ALL OFF)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/lib/${triple} DESTINATION lib/hadal
    COMPONENT runtime)
endforeach()
