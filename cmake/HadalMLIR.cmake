# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# How a library of the compiler is built: against the one shared libMLIR, with
# a precompiled header of the MLIR headers that every file includes.

separate_arguments(HADAL_LLVM_DEFINITIONS NATIVE_COMMAND "${LLVM_DEFINITIONS}")

# hadal_add_compiler_library(NAME SOURCES... [DEPENDS target...] [LINK lib...])
function(hadal_add_compiler_library name)
  cmake_parse_arguments(arg "" "" "DEPENDS;LINK" ${ARGN})
  add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  hadal_compiler_target(${name})
  target_link_libraries(${name} PUBLIC ${arg_LINK})
  if(arg_DEPENDS)
    add_dependencies(${name} ${arg_DEPENDS})
  endif()
endfunction()

# hadal_add_compiler_tool(NAME SOURCES... [LINK lib...])
function(hadal_add_compiler_tool name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  if(HADAL_SANITIZE)
    target_sources(${name} PRIVATE
      ${PROJECT_SOURCE_DIR}/lib/Support/SanitizerOptions.cpp)
  endif()
  hadal_compiler_target(${name})
  target_link_libraries(${name} PRIVATE ${arg_LINK})
  # Libraries of LLVM are where its own package has them.
  set_target_properties(${name} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
endfunction()

function(hadal_compiler_target name)
  target_compile_definitions(${name} PRIVATE ${HADAL_LLVM_DEFINITIONS})
  target_compile_options(${name} PRIVATE -fno-exceptions
    $<$<NOT:$<BOOL:${LLVM_ENABLE_RTTI}>>:-fno-rtti>)
  target_include_directories(${name} PUBLIC
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_include_directories(${name} SYSTEM PUBLIC
    ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
  target_link_libraries(${name} PUBLIC MLIR LLVM)
  get_target_property(type ${name} TYPE)
  # An executable is compiled as PIE, which a header compiled as PIC is not.
  if(type STREQUAL "STATIC_LIBRARY" AND NOT name STREQUAL "HadalSupport")
    target_precompile_headers(${name} REUSE_FROM HadalSupport)
  endif()
endfunction()

# hadal_tablegen(TARGET td-file (out-file generator-flags...)...)
# One .td file, several generated .inc files beside its binary folder.
function(hadal_tablegen target td)
  set(LLVM_TARGET_DEFINITIONS ${td})
  set(pairs ${ARGN})
  foreach(pair IN LISTS pairs)
    string(REPLACE "|" ";" parts "${pair}")
    list(POP_FRONT parts out)
    mlir_tablegen(${out} ${parts} -I${PROJECT_SOURCE_DIR}
      EXTRA_INCLUDES ${MLIR_INCLUDE_DIRS})
  endforeach()
  add_public_tablegen_target(${target})
endfunction()
