#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The same model computes the same on every machine that it is compiled for.
"""Compares the logits of a model on this machine with those on an emulated one.

    check_targets.py --hadalc build/bin/hadalc --model DIR --target aarch64-linux-gnu --emulator qemu-aarch64-static
                     --cpu cortex-a53 --cpu cortex-a76

A --cpu whose name is another to the emulator is NAME=ITS_NAME.

For the weights as they are and for each integer type. Sums of integers are exact and those of floating-point numbers
have one order, so that logits differ by nothing at all. Exit status: 0 all are equal, 1 some differ.
"""
import argparse
import shlex
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, must_run, require_numpy

np = require_numpy("check_targets.py")

TOKENS = "1,17,400,23,9,77,1023,5,64,300"


def logits(args, folder, flags, runner):
    product, file = Path(folder) / "product", Path(folder) / "logits.npy"
    must_run([args.hadalc, args.model, "-o", product, "--quiet", *flags], 120)
    must_run([*runner, product, "--tokens", TOKENS, "--logits", file], 120)
    return np.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--hadalc", "--model", "--target", "--emulator"):
        parser.add_argument(name, required=True)
    parser.add_argument("--cpu", action="append", required=True)
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        for scheme in ("", "int8", "int8-g32", "int4-g32"):
            quantize = [f"--quantize={scheme}"] if scheme else []
            try:
                here = logits(args, folder, quantize, [])
                for names in args.cpu:
                    cpu, _, emulated = names.partition("=")
                    there = logits(args, folder, [*quantize, f"--target={args.target}", f"--cpu={cpu}"],
                                   [*shlex.split(args.emulator), "-cpu", emulated or cpu])
                    if not np.array_equal(here, there):
                        raise Failure(f"on {cpu} logits differ by {np.abs(here - there).max():.1e}")
                print(f"ok   {scheme or 'as stored'}")
            except Failure as failure:
                failed += 1
                print(f"FAIL {scheme or 'as stored'}: {failure}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
