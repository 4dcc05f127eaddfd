#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Builds the examples as their README says, with the compilers of the system, and checks what they print.
"""Builds and runs examples/c, examples/cpp and examples/rust against a model.

    check_examples.py --hadalc build/bin/hadalc --examples examples --build build --model models/abyss-tiny
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
from harness import Failure, must_run

# What a shell has, without what a build sets for its own compilers.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS")}


def check_generate(program, folder, args):
    greedy = json.loads((args.model / "golden" / "greedy.json").read_text())
    expected = greedy["tokens"][:32]
    out = must_run([program, *greedy["prompt"]], 60, cwd=folder)
    if [int(token) for token in out.split()] != expected:
        raise Failure(f"{program.name} printed {','.join(out.split())}, expected {harness.ids(expected)}")


def make_c(folder, args, *arguments):
    must_run(["make", "-C", folder / "c", f"HADAL={args.examples.parent}", f"LIBRARIES={args.build / 'lib'}",
              f"MODEL={folder}", "CFLAGS=-O2 -Wall -Wextra -Werror -pedantic", *arguments], 60, env=ENVIRONMENT)


def expect_static(program):
    if harness.run(["ldd", program], 60)[0] == 0:
        raise Failure(f"{program.name} needs a library")


def check_c(folder, args):
    make_c(folder, args)
    for program in ("generate", "generate-static"):
        check_generate(folder / "c" / program, folder, args)
    expect_static(folder / "c" / "generate-static")
    needed = must_run(["ldd", folder / "c" / "generate"], 60)
    if "libstdc++" in needed or "libc++" in needed:
        raise Failure("generate needs a C++ library")
    harness.must_refuse([folder / "c" / "generate", 1], 60, cwd=folder / "c")  # There are no weights.
    question = "Tell me a story."
    answer = must_run([folder / "c" / "chat", question], 60, cwd=folder)
    if not answer.strip():
        raise Failure("chat printed nothing")
    harness.must_refuse([folder / "c" / "chat", "story " * 3000], 60, cwd=folder)  # More than the context has.
    if must_run([folder / "c" / "chat-static", question], 60, cwd=folder) != answer:
        raise Failure("chat-static printed another answer than chat")
    expect_static(folder / "c" / "chat-static")
    # What its first lines say.
    body = re.search(r"^int main\(.*?\{\n(.*?)^\}", (folder / "c" / "chat.c").read_text(), re.M | re.S)[1]
    if body.count("\n") > 30:
        raise Failure(f"main() of chat.c has {body.count(chr(10))} lines")
    return f"generate as in golden/greedy.json, no C++ library; chat: {' '.join(answer.split())[:50]!r}..."


def check_musl(folder, args):
    if not shutil.which("musl-gcc"):
        return "skipped: there is no musl-gcc"
    program = folder / "c" / "generate-static"
    program.unlink()
    make_c(folder, args, "generate-static", "CC=musl-gcc")
    if b"GLIBC" in program.read_bytes():
        raise Failure("generate-static has parts of another C library")
    expect_static(program)
    check_generate(program, folder, args)
    return f"generate as in golden/greedy.json, {program.stat().st_size >> 10} KiB"


def check_rust(folder, args):
    if not shutil.which("rustc"):
        return "skipped: there is no rustc"
    must_run(["rustc", "-D", "warnings", args.examples / "rust" / "generate.rs", "-o", folder / "generate-rust",
              "-C", f"link-arg={folder / 'abyss.a'}", "-C", "link-arg=-lm"], 120, env=ENVIRONMENT)
    check_generate(folder / "generate-rust", folder, args)
    harness.must_refuse([folder / "generate-rust", 1], 60, cwd=folder / "c")  # There are no weights.
    return "generate as in golden/greedy.json"


def check_cpp(folder, args):
    build = folder / "build"
    must_run(["cmake", "-S", args.examples / "cpp", "-B", build, f"-DMODEL={folder}", f"-DHADAL_BUILD={args.build}",
              "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"], 60, env=ENVIRONMENT)
    must_run(["cmake", "--build", build], 120, env=ENVIRONMENT)
    question = "Tell me a story."
    answer = must_run([build / "chat", question], 60, cwd=folder)
    if not answer.strip():
        raise Failure("chat printed nothing")
    if must_run([build / "chat", question], 60, cwd=folder) != answer:
        raise Failure("chat printed two different answers, though its seed is fixed")
    harness.must_refuse([build / "chat", question], 60, cwd=build)
    return f"{question!r}: {' '.join(answer.split())[:60]!r}..."


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--examples", required=True, type=Path, help="the folder examples/")
    parser.add_argument("--build", required=True, type=Path, help="where the libraries were built")
    parser.add_argument("--model", required=True, type=Path, help="a model with golden/greedy.json")
    args = parser.parse_args()
    args.examples, args.build, args.model = args.examples.resolve(), args.build.resolve(), args.model.resolve()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        folder = Path(folder)
        shutil.copytree(args.examples / "c", folder / "c")

        def compile_library():
            must_run([args.hadalc, args.model, "-o", folder / "abyss", "--emit=lib"], 60)
            made = sorted(p.name for p in folder.iterdir() if p.name != "c")
            if made != ["abyss.a", "abyss.h", "abyss.so", "abyss.weights"]:
                raise Failure(f"--emit=lib made {', '.join(made)}")
            return ", ".join(made)

        return harness.run_checks([("--emit=lib", compile_library), ("examples/c", lambda: check_c(folder, args)),
                                   ("musl", lambda: check_musl(folder, args)),
                                   ("examples/cpp", lambda: check_cpp(folder, args)),
                                   ("examples/rust", lambda: check_rust(folder, args))])


if __name__ == "__main__":
    sys.exit(main())
