#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Installs what was built, and builds examples/cmake against it as a user would.
"""Checks `cmake --install`, find_package(Hadal), hadal_add_model() and pkg-config.

    check_cmake_package.py --build build --source . [--emulator qemu-aarch64-static]

The installed tree is moved before it is used: nothing in it may say where it was made.
"""
import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
import known_objects
from harness import Failure, must_run

# What a shell has, without what a build sets for its own compilers.
ENVIRONMENT = {k: v for k, v in os.environ.items()
               if k not in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS", "CMAKE_GENERATOR")}

# What a header of Hadal must stand.
STRICT = "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"

INSTALLED = ["bin/hadalc", "bin/hadal-run", "bin/hadal-bench", "bin/hadal-eval", "bin/hadal-opt", "bin/hadal-translate",
             "include/hadal_rt/hadal_rt.h", "include/hadal_rt/hadal_rt.hpp", "include/hadal_rt/kernels.cuh",
             "include/hadal_text/hadal_text.h", "lib/hadal/libhadal_rt.a", "lib/hadal/libhadal_rt_cuda.a",
             "lib/hadal/libhadal_text.a", "lib/hadal/libhadal_run_main.a", "lib/hadal/libhadal_graph_main.a",
             "lib/cmake/Hadal/HadalConfig.cmake", "lib/pkgconfig/hadal_rt.pc"]


def read_greedy(args):
    return json.loads((args.source / "models" / "abyss-tiny" / "golden" / "greedy.json").read_text())


def check_tokens(out, args):
    expected = read_greedy(args)["tokens"][:32]
    if [int(token) for token in out.split()] != expected:
        raise Failure(f"continue printed {','.join(out.split())}, expected {harness.ids(expected)}")


class Project:
    """A build of examples/cmake in a folder of its own."""

    def __init__(self, folder, args, generator="Ninja", *flags, environment=ENVIRONMENT):
        self.folder, self.args, self.environment = folder, args, environment
        self.configure("-G", generator, "-DCMAKE_BUILD_TYPE=Release", *flags)

    def configure(self, *flags):
        must_run(["cmake", "-S", self.args.source / "examples" / "cmake", "-B", self.folder, *flags], 120, env=self.environment)

    def build(self, target="all"):
        return must_run(["cmake", "--build", self.folder, "--target", target], 400, env=self.environment)

    def check_output(self, program=None, runner=()):
        check_tokens(must_run([*runner, program or self.folder / "continue", *read_greedy(self.args)["prompt"]], 60), self.args)


def check_install(prefix, args):
    made = prefix.with_name("made")
    must_run(["cmake", "--install", args.build, "--prefix", made], 120, env=ENVIRONMENT)
    made.rename(prefix)
    missing = [name for name in INSTALLED if not (prefix / name).is_file()]
    if missing:
        raise Failure(f"did not install {', '.join(missing)}")
    for name in ("HadalConfig.cmake", "HadalConfigVersion.cmake", "HadalModel.cmake"):
        text = (prefix / "lib" / "cmake" / "Hadal" / name).read_text()
        for place in (made, args.build, args.source):
            if f"{place}/" in text:
                raise Failure(f"{name} has the path {place}")
    return f"{sum(path.is_file() for path in prefix.rglob('*'))} files; {must_run([prefix / 'bin' / 'hadalc', '--version'], 60).strip()}"


def check_static(work, prefix, args):
    """A static library and a program, and what makes CMake compile the model again."""
    model = work / "model"
    shutil.copytree(args.source / "models" / "abyss-tiny", model, ignore=shutil.ignore_patterns("golden"))
    project = Project(work / "static", args, "Ninja", STRICT, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DMODEL={model}", "-DWITH_PROGRAM=ON")
    project.build()
    project.check_output()
    text = must_run([prefix / "bin" / "hadal-run", project.folder / "storyteller", "--prompt", "Once upon a time", "-n", 8], 60)
    if not text.strip():
        raise Failure("storyteller printed nothing")
    check_rebuilds(project, model, ("config.json", "model.safetensors"))
    installed = work / "installed"
    must_run(["cmake", "--install", project.folder, "--prefix", installed], 60)
    for name in ("bin/continue", "bin/storyteller", "bin/storyteller.weights", "include/story.h", "share/Continue/story.weights"):
        if not (installed / name).is_file():
            raise Failure(f"the project did not install {name}")
    if must_run([installed / "bin" / "storyteller", "--prompt", "Once upon a time", "-n", 8], 60) != text:
        raise Failure("the installed storyteller printed something else")
    return f"runs, rebuilds, installs: {' '.join(text.split())[:50]!r}"


def check_rebuilds(project, model, inputs):
    """Of the files of a model, those that were read are dependencies, and no others."""
    for name, expected in ((None, False), ("README.md", False), *((name, True) for name in inputs)):
        if name:
            os.utime(model / name)
        rebuilt = "Compiling model" in project.build("continue")
        if rebuilt != expected:
            raise Failure(f"{'compiled' if rebuilt else 'did not compile'} the model again, "
                          f"{f'though {name} was changed' if name else 'though nothing was changed'}")


def check_shared(work, prefix, args):
    """With make, which reads depfiles by other means than ninja."""
    model = work / "shared-model"
    shutil.copytree(args.source / "models" / "abyss-tiny", model, ignore=shutil.ignore_patterns("golden"))
    project = Project(work / "shared", args, "Unix Makefiles", STRICT, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DMODEL={model}",
                      "-DBUILD_SHARED_LIBS=ON")
    project.build()
    project.check_output()
    if "libstory.so" not in must_run(["ldd", project.folder / "continue"], 60):
        raise Failure("continue does not need libstory.so")
    check_rebuilds(project, model, ("config.json",))
    return "runs, rebuilds"


def check_subdirectory(work, prefix, args):
    """All of Hadal as FetchContent has it. What the build has compiled by the same commands is not compiled again."""
    names = r"CMAKE_(?:C|CXX)_(?:COMPILER|FLAGS(?:_[A-Z]+)?)|CMAKE_BUILD_TYPE"
    cache = dict(re.findall(rf"^({names}):\w+=(.*)$", (args.build / "CMakeCache.txt").read_text(), re.M))
    folder, known = work / "subdirectory", work / "known.json"
    known_objects.write_known(known, args.build, folder / "hadal")
    project = Project(folder, args, "Ninja", f"-DHADAL_SOURCE_DIR={args.source}", f"-DHADAL_CCACHE={known_objects.__file__}",
                      *(f"-D{name}={value}" for name, value in cache.items()),
                      environment={**ENVIRONMENT, "HADAL_KNOWN_OBJECTS": str(known)})
    project.build()
    project.check_output()
    made = (folder / "hadal" / "bin" / "hadalc").stat().st_mtime_ns
    project.configure("-DBUILD_SHARED_LIBS=ON")
    project.build()
    project.check_output()
    if "libstory.so" not in must_run(["ldd", folder / "continue"], 60):
        raise Failure("continue does not need libstory.so")
    if (folder / "hadal" / "bin" / "hadalc").stat().st_mtime_ns != made:
        raise Failure("hadalc was built again for a shared library of the model")
    return f"static and shared, by {must_run([folder / 'hadal' / 'bin' / 'hadalc', '--version'], 60).strip()}"


def check_runtime_subdirectory(work, prefix, args):
    """Of the sources only the runtime, and an installed hadalc."""
    project = Project(work / "runtime", args, "Ninja", f"-DHADAL_SOURCE_DIR={args.source}", "-DHADAL_RUNTIME_ONLY=ON", STRICT,
                      f"-DHADAL_HADALC={prefix / 'bin' / 'hadalc'}")
    project.build()
    project.check_output()
    return "runs"


def check_cross(work, prefix, args):
    toolchain = args.source / "cmake" / "targets" / "aarch64-linux-gnu.cmake"
    project = Project(work / "cross", args, "Ninja", STRICT, f"-DHadal_DIR={prefix / 'lib' / 'cmake' / 'Hadal'}",
                      f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DCMAKE_EXE_LINKER_FLAGS=-static -fuse-ld=lld")
    project.build()
    project.check_output(runner=[args.emulator])
    return "runs under the emulator"


def check_meson(work, prefix, args):
    if not shutil.which("meson") or not shutil.which("pkg-config"):
        return "skipped: there is no meson or no pkg-config"
    environment = {**ENVIRONMENT, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"), "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}"}
    build = work / "meson"
    must_run(["meson", "setup", build, args.source / "examples" / "meson"], 120, env=environment)
    must_run(["ninja", "-C", build], 120, env=environment)
    check_tokens(must_run([build / "continue", *read_greedy(args)["prompt"]], 60), args)
    if "no work to do" not in must_run(["ninja", "-C", build], 120, env=environment):
        raise Failure("ninja compiled again, though nothing was changed")
    return "runs"


def check_meson_wrap(work, prefix, args):
    """An installed compiler, but no runtime that pkg-config finds."""
    if not shutil.which("meson") or not shutil.which("git") or not (args.source / ".git").exists():
        return "skipped: there is no meson, no git or no repository"
    examples, build = work / "examples", work / "wrap"
    shutil.copytree(args.source / "examples", examples)
    wrap = examples / "meson" / "subprojects" / "hadal.wrap"
    wrap.write_text(re.sub("(?m)^url = .*", f"url = {args.source}", wrap.read_text()))
    environment = {**ENVIRONMENT, "PKG_CONFIG_LIBDIR": str(work), "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}"}
    must_run(["meson", "setup", build, examples / "meson", f"-Dmodel={args.source / 'models' / 'abyss-tiny'}"], 120, env=environment)
    must_run(["ninja", "-C", build, "continue"], 120, env=environment)
    check_tokens(must_run([build / "continue", *read_greedy(args)["prompt"]], 60), args)
    return "runs"


def check_pkg_config(work, prefix, args):
    if not shutil.which("pkg-config"):
        return "skipped: there is no pkg-config"
    environment = {**ENVIRONMENT, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    source = work / "check.c"
    source.write_text('#include "hadal_rt/hadal_rt.h"\n'
                      "int main(void) { return hadal_rt_model_check(0) != HADAL_RT_INVALID_ARGUMENT; }\n")
    flags = must_run(["pkg-config", "--cflags", "--libs", "hadal_rt"], 60, env=environment).split()
    must_run(["cc", source, *flags, "-o", work / "check"], 60, env=ENVIRONMENT)
    must_run([work / "check"], 60)
    return must_run(["pkg-config", "--modversion", "hadal_text"], 60, env=environment).strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, type=Path, help="where Hadal was built")
    parser.add_argument("--source", required=True, type=Path, help="its sources")
    parser.add_argument("--emulator", help="that runs programs for aarch64-linux-gnu, if they can be made")
    args = parser.parse_args()
    args.build, args.source = args.build.resolve(), args.source.resolve()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as work:
        work = Path(work).resolve()
        prefix = work / "prefix"

        def check(name, function):
            return name, lambda: function(work, prefix, args)

        checks = [("install", lambda: check_install(prefix, args)), check("static library, ninja", check_static),
                  check("shared library, make", check_shared), check("subdirectory", check_subdirectory),
                  check("runtime as a subdirectory", check_runtime_subdirectory),
                  check("pkg-config", check_pkg_config), check("meson", check_meson),
                  check("meson's wrap", check_meson_wrap)]
        if args.emulator:
            checks.append(check("aarch64-linux-gnu", check_cross))
        return harness.run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
