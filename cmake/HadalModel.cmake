# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Models as targets: hadal_add_model() and hadal_install_model(). Works with an
# installed Hadal (find_package) and with one in a subdirectory; both define
# Hadal::hadalc, Hadal::rt and, where their parts are there, Hadal::text and
# Hadal::run_main.

# The machine that CMake builds for, as Debian names its folders.
function(hadal_target_triple result)
  set(machine ${CMAKE_SYSTEM_PROCESSOR})
  if(machine MATCHES "^(arm64|ARM64)$")
    set(machine aarch64)
  elseif(machine MATCHES "^(amd64|AMD64)$")
    set(machine x86_64)
  endif()
  set(${result} ${machine}-linux-gnu PARENT_SCOPE)
endfunction()

# hadal_add_model(<name> SOURCE <folder|file> [EMIT lib|exe|obj]
#   [STATIC|SHARED] [EXCLUDE_FROM_ALL] [TARGET <triple>] [CPU <name>]
#   [QUANTIZE <scheme>] [OPTIONS <hadalc option>...])
#
# Compiles a model to the target <name>:
#   lib  a library, STATIC or SHARED as given or as BUILD_SHARED_LIBS says, whose
#        header <name>.h declares <name>_model (default)
#   obj  an interface library that gives the object to who links it
#   exe  a program that takes the options of hadal-run
# Where C++ names want something else than <name> has, - and . become _.
#
# SOURCE is relative to the current source folder. TARGET is by default what
# CMake builds for. What hadalc reads of SOURCE, and hadalc itself, are
# dependencies of the target; other files of the folder are not.
#
# Properties of the target:
#   HADAL_WEIGHTS  path of the weights file, in the build tree
#   HADAL_HEADER   path of the header; not of an exe
function(hadal_add_model name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "STATIC;SHARED;EXCLUDE_FROM_ALL"
    "SOURCE;EMIT;TARGET;CPU;QUANTIZE" "OPTIONS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR
      "hadal_add_model(${name}): unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_SOURCE)
    message(FATAL_ERROR "hadal_add_model(${name}): expected SOURCE")
  endif()
  if(arg_STATIC AND arg_SHARED)
    message(FATAL_ERROR "hadal_add_model(${name}): both STATIC and SHARED")
  endif()
  get_filename_component(source "${arg_SOURCE}" ABSOLUTE
    BASE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  if(NOT arg_EMIT)
    set(arg_EMIT lib)
  endif()
  if(NOT arg_EMIT MATCHES "^(lib|exe|obj)$")
    message(FATAL_ERROR
      "hadal_add_model(${name}): EMIT is '${arg_EMIT}', expected lib, exe or obj")
  endif()
  if(NOT arg_EMIT STREQUAL "lib" AND (arg_STATIC OR arg_SHARED))
    message(FATAL_ERROR
      "hadal_add_model(${name}): STATIC and SHARED go with EMIT lib")
  endif()

  set(folder ${CMAKE_CURRENT_BINARY_DIR}/hadal/${name})
  set(object ${folder}/${name}.o)
  set(header ${folder}/${name}.h)
  set(weights ${folder}/${name}.weights)
  file(MAKE_DIRECTORY ${folder})
  set(outputs ${object} ${weights})
  set(flags --emit=obj --quiet --depfile=${object}.d)
  if(NOT arg_EMIT STREQUAL "exe")
    list(APPEND flags --header=${header})
    list(APPEND outputs ${header})
  endif()
  # Without it, hadalc compiles for the machine that it runs on.
  hadal_target_triple(triple)
  if(arg_TARGET)
    list(APPEND flags --target=${arg_TARGET})
  elseif(CMAKE_CROSSCOMPILING)
    list(APPEND flags --target=${triple})
  endif()
  if(arg_CPU)
    list(APPEND flags --cpu=${arg_CPU})
  endif()
  if(arg_QUANTIZE)
    list(APPEND flags --quantize=${arg_QUANTIZE})
  endif()
  add_custom_command(OUTPUT ${outputs}
    COMMAND Hadal::hadalc ${source} -o ${object} ${flags} ${arg_OPTIONS}
    DEPENDS $<TARGET_FILE:Hadal::hadalc>
    DEPFILE ${object}.d
    COMMENT "Compiling model ${name}"
    VERBATIM)
  set_source_files_properties(${object} PROPERTIES
    GENERATED ON EXTERNAL_OBJECT ON)
  set_source_files_properties(${header} ${weights} PROPERTIES
    GENERATED ON HEADER_FILE_ONLY ON)

  set(all)
  if(arg_EXCLUDE_FROM_ALL)
    set(all EXCLUDE_FROM_ALL)
  endif()
  if(arg_EMIT STREQUAL "exe")
    if(NOT TARGET Hadal::run_main)
      message(FATAL_ERROR "hadal_add_model(${name}): EMIT exe needs the library "
        "of main programs, which this Hadal has not for ${triple}")
    endif()
    add_executable(${name} ${all} ${object} ${weights})
    target_link_libraries(${name} PRIVATE Hadal::run_main)
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
    # A program looks for its weights beside itself.
    add_custom_command(TARGET ${name} POST_BUILD
      COMMAND ${CMAKE_COMMAND} -E create_symlink
        ${weights} $<TARGET_FILE:${name}>.weights VERBATIM)
  elseif(arg_EMIT STREQUAL "lib")
    set(kind)
    if(arg_STATIC)
      set(kind STATIC)
    elseif(arg_SHARED)
      set(kind SHARED)
    endif()
    add_library(${name} ${kind} ${all} ${object} ${header} ${weights})
    target_include_directories(${name} PUBLIC
      $<BUILD_INTERFACE:${folder}> $<INSTALL_INTERFACE:include>)
    target_link_libraries(${name} PUBLIC Hadal::rt)
    get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
    if("C" IN_LIST languages)
      set_target_properties(${name} PROPERTIES LINKER_LANGUAGE C)
    else()
      set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
    endif()
  else()
    add_custom_target(${name}_compile ${all} DEPENDS ${outputs})
    add_library(${name} INTERFACE)
    add_dependencies(${name} ${name}_compile)
    target_sources(${name} INTERFACE $<BUILD_INTERFACE:${object}>)
    target_include_directories(${name} INTERFACE
      $<BUILD_INTERFACE:${folder}>)
    target_link_libraries(${name} INTERFACE Hadal::rt)
  endif()
  set_target_properties(${name} PROPERTIES
    HADAL_WEIGHTS ${weights} HADAL_EMIT ${arg_EMIT})
  if(NOT arg_EMIT STREQUAL "exe")
    set_target_properties(${name} PROPERTIES HADAL_HEADER ${header})
  endif()
endfunction()

# hadal_install_model(<name> [EXPORT <set>] [WEIGHTS_DESTINATION <folder>])
#
# Installs the target <name> of hadal_add_model(): a library with its header, or
# a program; and the weights, beside a program, and for a library to
# WEIGHTS_DESTINATION (default: share/<project>). Who reads an exported set needs
# find_dependency(Hadal).
function(hadal_install_model name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "EXPORT;WEIGHTS_DESTINATION" "")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "hadal_install_model(${name}): unknown arguments: "
      "${arg_UNPARSED_ARGUMENTS}")
  endif()
  include(GNUInstallDirs)
  get_target_property(emit ${name} HADAL_EMIT)
  get_target_property(weights ${name} HADAL_WEIGHTS)
  set(export)
  if(arg_EXPORT)
    set(export EXPORT ${arg_EXPORT})
  endif()
  if(emit STREQUAL "exe")
    install(TARGETS ${name} ${export})
    install(FILES ${weights} DESTINATION ${CMAKE_INSTALL_BINDIR})
    return()
  elseif(NOT emit STREQUAL "lib")
    message(FATAL_ERROR
      "hadal_install_model(${name}): EMIT ${emit} is part of what links it")
  endif()
  if(NOT arg_WEIGHTS_DESTINATION)
    set(arg_WEIGHTS_DESTINATION ${CMAKE_INSTALL_DATADIR}/${PROJECT_NAME})
  endif()
  get_target_property(header ${name} HADAL_HEADER)
  install(TARGETS ${name} ${export})
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(FILES ${weights} DESTINATION ${arg_WEIGHTS_DESTINATION})
endfunction()
