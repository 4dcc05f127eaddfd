#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Builds the runtime by itself, as docs/build-systems.md says, and proves that steps take no memory.

    check_runtime_alone.py --hadalc build/bin/hadalc --runtime runtime --model models/abyss-tiny --cxx g++ --cxx clang++

With each compiler by CMake, by Make and by one command, and links examples/c/generate.c with each. With the first, also as on
a system that is not Linux and as on bare metal. With clang, for machines that there are no headers of here: for bare
AArch64 with those of glibc for AArch64, for macOS with test/runtime/darwin-stub.h; objects may need of the system only what is
listed here. With lld, a model and the runtime become a shared library for macOS.
"""
import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

HERE = Path(__file__).resolve().parent
# What a shell has, without what a build sets for its own compilers.
ENVIRONMENT = {k: v for k, v in os.environ.items()
               if k not in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "MAKEFLAGS", "DESTDIR", "TARGET", "BUILD")}
STRICT = ["-Wall", "-Wextra", "-Werror"]
FLAGS = ["-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"]
MOST_BYTES = 150 * 1024

# Of a C library, everywhere.
LIBC = set("aligned_alloc free malloc memchr memcmp memcpy memset bzero strcmp vsnprintf".split())
# Of POSIX.
POSIX = LIBC | set("clock_gettime close fstat madvise mmap munmap open pread strerror sysconf pthread_attr_destroy pthread_attr_init "
                   "pthread_attr_setstacksize pthread_create pthread_join".split())
MACOS = POSIX | set("__error __stack_chk_fail __stack_chk_guard __bzero _tlv_bootstrap memset_pattern16 sysctlbyname pthread_cond_broadcast "
                    "pthread_cond_wait pthread_mutex_lock pthread_mutex_unlock".split())
# Of libm: what kernels do not compute themselves.
MATH = set("cosf sinf expf floorf logf fmaf roundevenf rintf".split())
DARWIN_HEADERS = ("errno.h fcntl.h pthread.h stdio.h stdlib.h string.h sys/mman.h sys/stat.h sys/sysctl.h time.h "
                  "unistd.h").split()


def run(command, **options):
    return must_run(command, 120, env=ENVIRONMENT, **options)


class Checks:
    def __init__(self, args, work):
        self.args, self.work = args, work
        self.runtime = args.runtime.resolve()
        self.sources = sorted(self.runtime.glob("src/*.cpp"))
        self.include = f"-I{self.runtime / 'include'}"
        self.model = work / "model"
        self.hash = None

    def compile_model(self):
        for folder in ("model", "lib", "cpp"):
            (self.work / folder).mkdir()
        hadalc = [self.args.hadalc, self.args.model, "--quiet"]
        run([*hadalc, "--emit=obj", "-o", self.model / "abyss.o", f"--header={self.model / 'abyss.h'}"])
        run([*hadalc, "--emit=lib", "-o", self.work / "lib" / "abyss"])
        run([*hadalc, "--emit=cpp", "-o", self.work / "cpp" / "abyss"])

    # Three ways, each of which makes a folder that is installed or an archive.

    def by_cmake(self, cxx, folder):
        run(["cmake", "-S", self.runtime, "-B", folder / "b", f"-DCMAKE_CXX_COMPILER={cxx}",
             f"-DCMAKE_CXX_FLAGS={' '.join(STRICT)}", f"-DCMAKE_INSTALL_PREFIX={folder}", "-Wno-dev"])
        run(["cmake", "--build", folder / "b"])
        run(["cmake", "--install", folder / "b"])
        shutil.rmtree(folder / "b")
        return folder / "lib" / "hadal" / "libhadal_rt.a"

    def by_make(self, cxx, folder, *flags):
        make = ["make", "-C", self.runtime, f"CXX={cxx}", f"BUILD={folder / 'b'}", f"PREFIX={folder}"]
        run([*make, f"CXXFLAGS={' '.join(['-O2', *STRICT, *flags])}", "install"])
        run([*make, "clean"])
        (folder / "b").rmdir()
        return folder / "lib" / "hadal" / "libhadal_rt.a"

    def by_one_command(self, cxx, folder):
        run([cxx, *FLAGS, *STRICT, self.include, "-c", *self.sources], cwd=folder)
        objects = sorted(folder.glob("*.o"))
        run(["ar", "rcs", folder / "libhadal_rt.a", *objects])
        return folder / "libhadal_rt.a"

    def check_size(self, archive):
        lines = run(["size", archive]).splitlines()[1:]
        size = sum(int(field) for line in lines for field in line.split()[:3])
        if not lines or size > MOST_BYTES:
            raise Failure(f"{archive} has {size} bytes of code and data, expected 1 to {MOST_BYTES}")
        return size

    def check_ways(self, cxx):
        greedy = json.loads((self.args.model / "golden" / "greedy.json").read_text())
        sizes, installed = [], []
        for way in (self.by_cmake, self.by_make, self.by_one_command):
            folder = self.work / f"{Path(cxx).name}-{way.__name__}"
            folder.mkdir()
            archive = way(cxx, folder)
            sizes.append(self.check_size(archive))
            if way != self.by_one_command:
                installed.append(sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()))
            program = self.model / "generate"
            run(["cc", "-std=c11", "-O2", *STRICT, self.include, f"-I{self.model}",
                 self.runtime.parent / "examples" / "c" / "generate.c", self.model / "abyss.o", archive,
                 "-lpthread", "-lm", "-o", program])
            out = run([program, *greedy["prompt"]], cwd=self.model).split()
            if [int(token) for token in out] != greedy["tokens"][:32]:
                raise Failure(f"{way.__name__}: generate printed {','.join(out)}")
        if installed[0] != installed[1]:
            raise Failure(f"CMake and Make install different files: {set(installed[0]) ^ set(installed[1])}")
        return f"generate as in golden/greedy.json; {', '.join(map(str, sizes))} bytes"

    # Steps without memory.

    def check_steps(self, name, cxx, include, inputs, weights, threads, flags=()):
        """Runs the steps, and twice more with an allocation in their midst; logits are those of every other build."""
        program = self.work / "steps"
        run([cxx, "-std=c++17", "-O1", *STRICT, "-fno-builtin", *flags, self.include, f"-I{include}", HERE / "no_allocation.cpp",
             *inputs, "-o", program, "-pthread", "-lm"])
        for count in threads:
            found = run([program, weights, count]).strip()
            self.hash = self.hash or found
            if found != self.hash:
                raise Failure(f"{name}, {count} threads: the hash of the logits is {found}, expected {self.hash}")
        for how in ("malloc", "new"):
            status, _, err = harness.run([program, weights, threads[-1], how], 60)
            if status != 1 or "it allocates" not in err:
                raise Failure(f"{name}: {how} in a step gave {harness.describe(status, err)}")
        status, _, err = harness.run([program, weights, threads[-1], "mmap"], 60)
        if status != -signal.SIGSYS and "no seccomp here" not in err:
            raise Failure(f"{name}: mmap in a step gave {harness.describe(status, err)}, expected SIGSYS")
        return f"{', '.join(f'{count} thread' + 's' * (count > 1) for count in threads)}: no allocation; logits {self.hash}"

    def check_library(self):
        lib = self.work / "lib"
        return self.check_steps("library", self.args.cxx[0], lib, [lib / "abyss.a"], lib / "abyss.weights", [1, 2, 3])

    def check_variant(self, name, threads, *flags):
        folder = self.work / name
        folder.mkdir()
        archive = self.by_make(self.args.cxx[0], folder, *flags)
        return self.check_steps(name, self.args.cxx[0], self.model, [self.model / "abyss.o", archive],
                                self.model / "abyss.weights", threads, [f for f in flags if f.startswith("-D")])

    def check_standalone(self, cxx):
        """The C++ of the model, with the runtime's sources as they are installed. Its own main is out of the way."""
        folder = self.work / "cpp"
        prefix = self.work / f"{Path(cxx).name}-by_make"
        run([cxx, "-std=c++17", "-O1", *STRICT, "-Wno-psabi", "-march=native", "-DHADAL_STANDALONE", "-Dmain=standalone_main",
             f"-I{prefix / 'include'}", "-c", folder / "abyss.cpp", "-o", folder / "abyss.o"])
        return self.check_steps(f"standalone {cxx}", cxx, folder, [folder / "abyss.o"], folder / "abyss.weights", [1, 2],
                                ["-Dabyss_model=hadal_model"])

    # Machines without headers here.

    def check_target(self, triple, headers, allowed):
        folder = self.work / triple
        folder.mkdir()
        run([self.args.clang, f"--target={triple}", "-fPIC", *FLAGS, *STRICT, "-nostdlibinc", *headers, self.include, "-c", *self.sources],
            cwd=folder)
        objects = sorted(folder.glob("*.o"))
        own = "_ZN8hadal_rt"  # And hadal_rt_*, of the interface.
        prefix = len("_") if "apple" in triple else 0
        needed = {line.split()[-1][prefix:] for line in run([self.args.nm, "-u", *objects]).splitlines()
                  if line and not line.endswith(":")}
        needed = {symbol for symbol in needed if not symbol.startswith((own, "hadal_rt_"))}
        if needed - allowed:
            raise Failure(f"objects need {', '.join(sorted(needed - allowed))}")
        linked = self.link(triple, objects, allowed | MATH) if self.args.lld and "apple" in triple else "not linked"
        return f"{len(objects)} objects compiled, {linked}; they need {len(needed)} symbols, all known"

    def link(self, triple, objects, allowed):
        """Makes a shared library of a model and the runtime, whose symbols are all that the system has to have."""
        folder = self.work / triple
        model, library = folder / "model.o", folder / "libmodel.dylib"
        run([self.args.hadalc, self.args.model, "--quiet", "--emit=obj", "--weights=none", f"--target={triple}", "-o", model])
        # Without an SDK: what the system has is looked for at run time.
        run([self.args.lld / "ld64.lld", "-dylib", "-arch", triple.split("-")[0], "-platform_version", "macos", "13.0", "13.0",
             "-undefined", "dynamic_lookup", "-o", library, model, *objects])
        names = {kind: {line.split()[-1][len("_"):] for line in run([self.args.nm, kind, library]).splitlines()}
                 for kind in ("--undefined-only", "--defined-only")}
        lacking = names["--undefined-only"] - allowed - {"dyld_stub_binder"}
        if lacking:
            raise Failure(f"the library needs {', '.join(sorted(lacking))}")
        if not {"hadal_model", "hadal_rt_session_create"} <= names["--defined-only"]:
            raise Failure("the library does not have the model and the runtime")
        return f"linked into {library.stat().st_size >> 10} KiB"

    def check_darwin(self, triple):
        stubs = self.work / "darwin"
        (stubs / "sys").mkdir(parents=True, exist_ok=True)
        for header in DARWIN_HEADERS:
            (stubs / header).write_text('#include "darwin-stub.h"\n')
        stub = HERE.parent / "runtime"
        cxx = self.runtime / "android" / "cxx"
        return self.check_target(triple, ["-ffreestanding", "-isystem", stubs, "-isystem", stub, "-isystem", cxx], MACOS)

    def check_bare(self, triple):
        root = Path("/usr/aarch64-linux-gnu/include")
        standard = sorted(root.glob("c++/*/aarch64-linux-gnu"))
        if not standard:
            return "skipped: there are no headers in /usr/aarch64-linux-gnu"
        return self.check_target(triple, ["-isystem", standard[-1].parent, "-isystem", standard[-1], "-isystem", root], LIBC)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadalc", type=harness.existing_file, required=True)
    parser.add_argument("--runtime", type=Path, required=True, help="the folder runtime/")
    parser.add_argument("--model", type=Path, required=True, help="a model with golden/greedy.json")
    parser.add_argument("--cxx", action="append", required=True, help="a C++ compiler")
    parser.add_argument("--clang", help="clang++ that knows other machines")
    parser.add_argument("--nm", help="nm that reads objects of them")
    parser.add_argument("--lld", type=Path, help="the folder of ld64.lld")
    args = parser.parse_args()
    args.model = args.model.resolve()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as work:
        checks = Checks(args, Path(work))
        checks.compile_model()
        todo = [("library", checks.check_library)]
        todo += [(f"{Path(cxx).name} by CMake, Make and one command", lambda cxx=cxx: checks.check_ways(cxx)) for cxx in args.cxx]
        todo += [(f"{Path(cxx).name}, standalone C++", lambda cxx=cxx: checks.check_standalone(cxx)) for cxx in args.cxx]
        todo += [("not Linux", lambda: checks.check_variant("not-linux", [1, 2, 3], "-U__linux__")),
                 ("bare metal", lambda: checks.check_variant("bare", [1], "-DHADAL_RT_BARE"))]
        if args.clang and args.nm:
            todo += [(triple, lambda triple=triple: checks.check_darwin(triple))
                     for triple in ("arm64-apple-macos13", "x86_64-apple-macos13")]
            todo.append(("aarch64-none-elf", lambda: checks.check_bare("aarch64-none-elf")))
        return harness.run_checks(todo)


if __name__ == "__main__":
    sys.exit(main())
