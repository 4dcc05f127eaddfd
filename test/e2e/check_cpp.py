#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks C++ source against the program that hadalc makes itself.

    check_cpp.py --hadalc build/bin/hadalc --model models/abyss-tiny --cxx g++ --march native [--march x86-64]

Compiles the model to an executable and to C++, that with -DHADAL_STANDALONE and without a library of Hadal's, and checks
that their logits are equal bit for bit, and their greedy tokens equal. Exit status: 0 all equal, 1 not, 2 wrong usage.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, must_run

TOKENS = ",".join(str(7 * i % 500) for i in range(40))
FLAGS = "-std=c++17 -O1 -Wall -Wextra -Werror -Wno-psabi -fno-exceptions -fno-rtti -DHADAL_STANDALONE -pthread".split()
INCLUDE = Path(__file__).resolve().parents[2] / "runtime" / "include"


def check(args, folder):
    must_run([args.hadalc, args.model, "-o", folder / "native", "--quiet", *args.hadalc_flag], 300)
    must_run([args.hadalc, args.model, "-o", folder / "source", "--emit=cpp", "--quiet", *args.hadalc_flag, *args.source_flag], 300)
    emulated = args.emulator if args.emulate_both else []
    out = must_run([*emulated, folder / "native", "--tokens", TOKENS, "-n", "8", "--temperature", "0", "--json",
                    "--logits", folder / "native.npy"], 300)
    tokens = json.loads(out)["tokens"]
    logits = (folder / "native.npy").read_bytes()
    for compiler in args.cxx:
        # As new as this machine, and as old as any: other instructions, the same numbers.
        for machine in args.march:
            name = f"{Path(compiler).name} -march={machine}"
            must_run([compiler, *FLAGS, *args.cxx_flag, f"-march={machine}", f"-I{INCLUDE}", folder / "source.cpp",
                      "-o", folder / "source"], 300)
            out = must_run([*args.emulator, folder / "source", "--tokens", TOKENS, "-n", "8", "--logits", folder / "source.npy"], 300)
            if [int(t) for t in out.split(",")] != tokens:
                raise Failure(f"{name}: greedy tokens are {out.strip()}, expected {tokens}")
            got = (folder / "source.npy").read_bytes()
            # Headers may differ in spaces; the numbers follow 128 bytes of it.
            if got[128:] != logits[128:]:
                raise Failure(f"{name}: logits are not equal bit for bit")
            print(f"ok   {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadalc", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cxx", action="append", required=True, help="a C++ compiler")
    parser.add_argument("--march", action="append", required=True, help="what it compiles for")
    parser.add_argument("--cxx-flag", action="append", default=[], help="passed on to the compiler, e.g. --cxx-flag=-static")
    parser.add_argument("--emulator", action="append", default=[], help="what runs the program, and its arguments, one by one")
    parser.add_argument("--emulate-both", action="store_true", help="the program that hadalc makes is for the emulator, too")
    parser.add_argument("--source-flag", action="append", default=[], help="passed on to hadalc for C++ alone")
    parser.add_argument("--hadalc-flag", action="append", default=[], help="passed on to hadalc, e.g. --hadalc-flag=--kv=f16")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-cpp-") as folder:
        try:
            check(args, Path(folder))
        except Failure as failure:
            print(f"FAIL {failure}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
