#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Links batch.cpp with models that are compiled as libraries, and runs it: several sequences in a step, pages, refusals and
# the memory promise.
"""Compiles models as libraries and runs batch.cpp against each.

    check_batch.py --hadalc build/bin/hadalc --cxx c++ --include runtime/include [--threads 1,2] MODEL...
"""
import argparse
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run


def check(model, args):
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        folder = Path(folder)
        # The file is what names the symbol: product_model.
        must_run([args.hadalc, model, "-o", folder / "product", "--emit=lib", *args.flags], 60)
        must_run([args.cxx, *args.cxx_flag, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-I{args.include}",
                  Path(__file__).parent / "batch.cpp", folder / "product.a", "-lpthread", "-lm", "-o", folder / "batch"], 60)
        for threads in args.threads.split(","):
            status, out, err = harness.run([folder / "batch", folder / "product.weights", threads], 60)
            print("".join(f"    {line}\n" for line in out.splitlines()), end="")
            if status:
                last = out.strip().splitlines()[-1:] or [""]
                raise Failure(f"{threads} threads: {harness.describe(status, err) if status != 1 else last[0]}")
        return f"threads {args.threads}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--cxx", required=True, help="C++ compiler")
    parser.add_argument("--cxx-flag", action="append", default=[], help="a flag for it")
    parser.add_argument("--include", required=True, type=Path, help="folder of hadal_rt/hadal_rt.h")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, separated by commas (default: 1,2)")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    args = parser.parse_args()
    args.flags = []  # More of hadalc.
    return harness.run_checks([(model.name, lambda model=model: check(model, args)) for model in args.models])


if __name__ == "__main__":
    sys.exit(main())
