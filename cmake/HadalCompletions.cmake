# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Shell completions and man pages, made from what each tool's --help says when
# the tools are built, into build/share.

find_program(HADAL_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(HADAL_PYTHON python3)
if(NOT HADAL_PYTHON)
  message(STATUS "no completions and man pages: there is no python3")
  return()
endif()

set(tools)
foreach(tool hadalc hadal-run hadal-bench hadal-eval hadal-diff hadal-serve
             hadal-advise hadal-translate hadal-opt hadal-reduce
             hadal-lsp-server)
  if(TARGET ${tool})
    list(APPEND tools ${tool})
  endif()
endforeach()
set(share ${PROJECT_BINARY_DIR}/share)
set(files)
foreach(tool IN LISTS tools)
  list(APPEND files $<TARGET_FILE:${tool}>)
endforeach()
add_custom_command(OUTPUT ${share}/made
  COMMAND ${HADAL_PYTHON} ${PROJECT_SOURCE_DIR}/scripts/make-completions
    --version ${PROJECT_VERSION} --out ${share} ${files}
  COMMAND ${CMAKE_COMMAND} -E touch ${share}/made
  DEPENDS ${tools} ${PROJECT_SOURCE_DIR}/scripts/make-completions
  COMMENT "Making completions and man pages" VERBATIM)
add_custom_target(hadal-completions ALL DEPENDS ${share}/made)

foreach(pair bash|bash-completion/completions zsh|zsh/site-functions
             fish|fish/vendor_completions.d man|man/man1)
  string(REPLACE "|" ";" pair ${pair})
  list(GET pair 0 from)
  list(GET pair 1 to)
  install(DIRECTORY ${share}/${from}/ DESTINATION share/${to}
    COMPONENT compiler)
endforeach()
