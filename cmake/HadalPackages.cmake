# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# `cpack -G DEB` and `cpack -G TZST`, in a build: the compiler (hadal) and what
# programs with a compiled model are built with (libhadal-dev) apart.

set(CPACK_PACKAGE_NAME hadal)
set(CPACK_PACKAGE_VENDOR "Hadal")
set(CPACK_PACKAGE_CONTACT "The Hadal maintainers <maintainers@hadal.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_COMPONENTS_ALL runtime)
if(TARGET hadalc)
  list(PREPEND CPACK_COMPONENTS_ALL compiler)
endif()
set(CPACK_STRIP_FILES ON)
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_THREADS 0)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# What dpkg of any release reads, and lintian.
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)

# The libraries that it is linked with are found by dpkg-shlibdeps, but for
# libLLVM: by way of LLVM's own folder it is a link of llvm-22-dev's, which says
# nothing of what has the library. Linking a program takes a compiler driver.
set(CPACK_DEBIAN_COMPILER_PACKAGE_NAME hadal)
set(CPACK_DEBIAN_COMPILER_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_COMPILER_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_COMPILER_PACKAGE_DEPENDS
  "libhadal-dev (= ${PROJECT_VERSION}), clang-22 | c++-compiler, libc6-dev, libllvm22")
set(CPACK_DEBIAN_COMPILER_PACKAGE_RECOMMENDS "lld-22")
set(CPACK_COMPONENT_COMPILER_DESCRIPTION
  "Reads a checkpoint and writes a program, library or object: native code for
that model, beside one file of weights in the layout that the code reads.")

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libhadal-dev)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS "libc6-dev")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SUGGESTS "hadal, cmake, pkg-config")
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
  "The runtime and the text library of compiled models: static libraries,
headers, and what CMake and pkg-config read, for programs that have such a
model in them.")

# What Debian wants of every package.
find_program(HADAL_GZIP gzip)
if(HADAL_GZIP)
  set(doc ${PROJECT_BINARY_DIR}/package)
  foreach(pair compiler|hadal runtime|libhadal-dev)
    string(REPLACE "|" ";" pair ${pair})
    list(GET pair 0 component)
    list(GET pair 1 name)
    # Of the release, not of the day: packages are reproducible.
    file(WRITE ${doc}/${name}/changelog
      "hadal (${PROJECT_VERSION}) bookworm; urgency=low\n\n  * Release ${PROJECT_VERSION}.\n\n -- ${CPACK_PACKAGE_CONTACT}  Thu, 01 Jan 2026 00:00:00 +0000\n")
    execute_process(COMMAND ${HADAL_GZIP} -9nf ${doc}/${name}/changelog)
    install(FILES ${doc}/${name}/changelog.gz DESTINATION share/doc/${name}
      COMPONENT ${component})
    install(FILES ${PROJECT_SOURCE_DIR}/cmake/debian/copyright
      DESTINATION share/doc/${name} COMPONENT ${component})
    install(FILES ${PROJECT_SOURCE_DIR}/cmake/debian/${name}.lintian-overrides
      DESTINATION share/lintian/overrides RENAME ${name}
      COMPONENT ${component})
  endforeach()
endif()

include(CPack)
