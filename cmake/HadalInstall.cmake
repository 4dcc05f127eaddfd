# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# What `cmake --install` puts where, beside the install() of each target:
#   bin/                tools
#   include/hadal_rt/, include/hadal_text/
#   lib/hadal/          archives that products link, where bin/hadalc looks for
#                       them; those of other machines in lib/hadal/TRIPLE/
#   share/hadal/runtime/src/
#                       the runtime, for hadal_rt/standalone.h and what has no
#                       archive
#   share/hadal/bazel/  for Bazel
#   lib/cmake/Hadal/    for find_package(Hadal CONFIG)
#   lib/pkgconfig/      hadal_rt.pc, hadal_text.pc
# All of it can be moved as a whole.

include(CMakePackageConfigHelpers)
include(HadalModel)

hadal_target_triple(HADAL_HOST_TRIPLE)
set(HADAL_PACKAGE_TARGETS ${HADAL_HOST_TRIPLE} ${HADAL_TARGETS})
set(package ${CMAKE_CURRENT_BINARY_DIR}/package)
configure_package_config_file(cmake/HadalConfig.cmake.in
  ${package}/HadalConfig.cmake INSTALL_DESTINATION lib/cmake/Hadal)
# It serves every machine that Hadal_TARGETS names.
write_basic_package_version_file(${package}/HadalConfigVersion.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${package}/HadalConfig.cmake ${package}/HadalConfigVersion.cmake
  cmake/HadalModel.cmake
  DESTINATION lib/cmake/Hadal COMPONENT runtime)
install(FILES bazel/BUILD.bazel bazel/WORKSPACE bazel/defs.bzl
  bazel/repository.bzl DESTINATION share/hadal/bazel COMPONENT runtime)
foreach(library hadal_rt hadal_text)
  if(TARGET ${library})
    configure_file(cmake/${library}.pc.in ${package}/${library}.pc @ONLY)
    install(FILES ${package}/${library}.pc
      DESTINATION lib/pkgconfig COMPONENT runtime)
  endif()
endforeach()
