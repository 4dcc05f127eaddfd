# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Reference pages, made from the .td files and checked in: `hadal-docs` writes
# docs/reference/, and the test `docs` fails where a page is stale.
#
# Run with -P, this file writes the pages to OUT, or with CHECK=ON compares
# them with those there; it needs SOURCE, TBLGEN and INCLUDES then.

# page | generator | .td file | title, where the generator gives none
set(pages
  "deepseek-ops|-gen-dialect-doc -dialect=deepseek|dialects/DeepSeek/IR/DeepSeekOps.td|"
  "onnx-ops|-gen-dialect-doc -dialect=onnx|dialects/ONNX/IR/ONNXOps.td|"
  "rt-ops|-gen-dialect-doc -dialect=rt|dialects/RT/IR/RTOps.td|"
  "deepseek-passes|-gen-pass-doc|passes/Passes.td|Passes on the deepseek dialect"
  "compiler-passes|-gen-pass-doc|lib/Compiler/Passes.td|Passes that make files of a module"
  "onnx-passes|-gen-pass-doc|lib/Import/ONNX/Passes.td|Passes on the graph of an ONNX file"
  "reference-passes|-gen-pass-doc|dialects/DeepSeek/Reference/Passes.td|Passes of the reference interpreter"
  "codegen-passes|-gen-pass-doc|codegen/Passes.td|Passes of code generation")

if(NOT CMAKE_SCRIPT_MODE_FILE)
  find_program(HADAL_MLIR_TBLGEN mlir-tblgen REQUIRED
    HINTS ${LLVM_TOOLS_BINARY_DIR} NO_DEFAULT_PATH)
  set(HADAL_DOCS_COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR}
    -DTBLGEN=${HADAL_MLIR_TBLGEN} "-DINCLUDES=${MLIR_INCLUDE_DIRS}"
    -DOUT=${PROJECT_SOURCE_DIR}/docs/reference)
  set(HADAL_DOCS_SCRIPT -P ${CMAKE_CURRENT_LIST_FILE})
  if(NOT TARGET hadal-docs)
    add_custom_target(hadal-docs
      COMMAND ${HADAL_DOCS_COMMAND} ${HADAL_DOCS_SCRIPT}
      COMMENT "Writing docs/reference" VERBATIM)
  endif()
  return()
endif()

cmake_minimum_required(VERSION 3.25)
set(flags -I${SOURCE})
foreach(folder IN LISTS INCLUDES)
  list(APPEND flags -I${folder})
endforeach()
set(stale)
foreach(page IN LISTS pages)
  string(REPLACE "|" ";" page "${page};")
  list(GET page 0 name)
  list(GET page 1 generator)
  list(GET page 2 td)
  list(GET page 3 title)
  separate_arguments(generator)
  execute_process(COMMAND ${TBLGEN} ${generator} ${flags} ${td}
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE text
    COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "[TOC]\n\n" "" text "${text}")
  if(title)
    string(REPLACE "manually edit -->\n" "manually edit -->\n\n# ${title}\n"
      text "${text}")
  endif()
  string(REGEX REPLACE "[ \t]+\n" "\n" text "${text}")
  string(REGEX REPLACE "\n\n\n+" "\n\n" text "${text}")
  string(REGEX REPLACE "\n+$" "\n" text "${text}")
  if(NOT CHECK)
    file(WRITE ${OUT}/${name}.md "${text}")
    continue()
  endif()
  set(found "")
  if(EXISTS ${OUT}/${name}.md)
    file(READ ${OUT}/${name}.md found)
  endif()
  if(NOT found STREQUAL text)
    list(APPEND stale ${name}.md)
  endif()
endforeach()
if(stale)
  list(JOIN stale ", " stale)
  message(FATAL_ERROR "docs/reference is stale (${stale}): build hadal-docs")
endif()
