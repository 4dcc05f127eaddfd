#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The example without an operating system, as its README builds it.
"""Builds examples/freestanding and compares its tokens with those of the program that hadalc makes.

    check_freestanding.py --hadalc build/bin/hadalc --examples examples --model models/abyss-tiny
                          --cxx aarch64-linux-gnu-g++ --emulator qemu-aarch64-static --board qemu-system-aarch64

--emulator runs programs of Linux; --board is a machine with nothing on it. Exit status: 0 all is as it should be, 1 something
is not.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, ids, must_run, run_checks

FLAGS = "-std=c++17 -O2 -ffreestanding -fno-exceptions -fno-rtti -fno-stack-protector -nostdlib -static".split()
BOARD_FLAGS = ["-DBARE_BOARD", "-Wl,-Ttext-segment=0x40200000"]
BOARD = "-M virt -cpu cortex-a53 -m 256M -nic none -nographic -monitor none -serial stdio -kernel".split()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--hadalc", "--examples", "--model", "--cxx"):
        parser.add_argument(name, required=True)
    for name in ("--emulator", "--board"):
        parser.add_argument(name)
    args = parser.parse_args()
    examples = Path(args.examples).resolve()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        folder = Path(folder)
        must_run([args.hadalc, args.model, "-o", folder / "native", "--quiet"], 120)
        out = must_run([folder / "native", "--tokens", "1,2,3", "-n", "16", "--temperature", "0", "--json"], 120)
        wanted = ids(json.loads(out)["tokens"])
        must_run([args.hadalc, args.model, "--emit=cpp", "-o", folder / "model", "--quiet"], 120)

        def check(name, flags, runner):
            program = folder / name
            # Assembly finds the weights in the folder of the compiler.
            must_run([args.cxx, *FLAGS, *flags, "-I", ".", "-I", examples.parent / "runtime" / "include",
                      examples / "freestanding" / "freestanding.cpp", "-o", program], 300, cwd=folder)
            found = must_run([*runner, program], 300).strip()
            if found != wanted:
                raise Failure(f"printed {found[:80]!r}, expected {wanted!r}")
            return f"{program.stat().st_size >> 10} KiB, {found}"

        checks = []
        if args.emulator:
            checks.append(("two system calls", lambda: check("program", [], [args.emulator])))
        if args.board:
            checks.append(("a bare board", lambda: check("board", BOARD_FLAGS, [args.board, *BOARD])))
        return run_checks(checks)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"check_freestanding.py: {failure}")
