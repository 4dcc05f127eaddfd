# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The runtime libraries for other machines, into lib/TRIPLE beside those of this
# one, where `hadalc --target=TRIPLE` looks for them.
#
# HADAL_TARGETS names the triples; cmake/targets/TRIPLE.cmake is the toolchain of
# each. By default it holds those whose toolchain is installed, which
# `scripts/setup --cross` does. Android takes clang alone, and has only what a
# library of a model links.

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
find_program(HADAL_CLANG clang++-22)
find_program(HADAL_LLD ld.lld HINTS ${LLVM_TOOLS_BINARY_DIR})
mark_as_advanced(HADAL_CLANG HADAL_LLD)
if(HADAL_CLANG AND HADAL_LLD)
  list(APPEND installed_targets aarch64-linux-android)
endif()
# Not kept in the cache: a toolchain that is installed later is found then.
if(NOT DEFINED HADAL_TARGETS)
  set(HADAL_TARGETS "${installed_targets}")
endif()

foreach(triple IN LISTS HADAL_TARGETS)
  set(archives ${PROJECT_BINARY_DIR}/lib/${triple})
  if(triple MATCHES "android$")
    set(source ${PROJECT_SOURCE_DIR}/runtime)
    set(arguments -DCMAKE_ARCHIVE_OUTPUT_DIRECTORY=${archives})
    set(target all)
  else()
    set(source ${PROJECT_SOURCE_DIR})
    set(arguments -DHADAL_ARCHIVES=${archives} -DHADAL_RUNTIME_ONLY=ON
      -DHADAL_TESTS=OFF)
    set(target emitted-libraries)
  endif()
  ExternalProject_Add(runtime-${triple}
    SOURCE_DIR ${source}
    BINARY_DIR ${PROJECT_BINARY_DIR}/targets/${triple}
    CMAKE_ARGS
      -DCMAKE_TOOLCHAIN_FILE=${PROJECT_SOURCE_DIR}/cmake/targets/${triple}.cmake
      -DCMAKE_BUILD_TYPE=Release
      ${arguments}
    BUILD_COMMAND ${CMAKE_COMMAND} --build <BINARY_DIR> --target ${target}
    BUILD_ALWAYS ON
    INSTALL_COMMAND ""
    USES_TERMINAL_BUILD OFF
    EXCLUDE_FROM_ALL OFF)
  install(DIRECTORY ${archives} DESTINATION lib/hadal COMPONENT runtime)
endforeach()
