#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The same model computes the same on every machine that it is compiled for.
"""Compares the logits of a model on several processors.

    check_targets.py --hadalc build/bin/hadalc --model DIR --cpu x86-64-v3 --cpu znver4 --cpu sapphirerapids
    check_targets.py --hadalc build/bin/hadalc --model DIR --target aarch64-linux-gnu --emulator qemu-aarch64-static
                     --cpu cortex-a53 --cpu cortex-a76

A --cpu whose name is another to the emulator is NAME=ITS_NAME.

Without an emulator, products run here, and those for a processor that has more than this one are left out. For the
weights as they are and for each integer type. Sums of integers are exact and those of floating-point numbers have one
order, so that logits differ by nothing at all. Exit status: 0 all are equal, 1 some differ.
"""
import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, add_target_options, ids, is_for_another, must_run, require_numpy, target_of

np = require_numpy("check_targets.py")


def tokens(args):
    vocab = json.loads((Path(args.model) / "config.json").read_text())["vocab_size"]
    generator = random.Random(0)
    return ids(generator.randrange(vocab) for _ in range(args.tokens))


def compile_for(args, folder, flags):
    product = Path(folder) / "product"
    must_run([args.hadalc, args.model, "-o", product, "--quiet", *flags], 120)
    return product


def logits(args, folder, product, runner=(), flags=()):
    file = Path(folder) / "logits.npy"
    must_run([*runner, product, "--tokens", tokens(args), "--logits", file, *flags], 120)
    return np.load(file)


def compare(args, folder, flags):
    """Returns the processors that were left out."""
    left_out = []
    here = logits(args, folder, compile_for(args, folder, flags))
    for names in args.cpu:
        cpu, target, runner = target_of(args, names)
        product = compile_for(args, folder, [*flags, *target])
        if not args.emulator and is_for_another(product):
            left_out.append(cpu)
            continue
        for pieces in [[]] if args.emulator else [[], ["--chunk", 27]]:
            there = logits(args, folder, product, runner, pieces)
            if not np.array_equal(here, there):
                raise Failure(f"on {cpu} {' '.join(map(str, pieces))} logits differ by {np.abs(here - there).max():.1e}")
    return left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_target_options(parser)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--schemes", default=",int8,int8-g32,int4-g32", help="of --quantize; empty for none (%(default)s)")
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        for scheme in args.schemes.split(","):
            try:
                left_out = compare(args, folder, [f"--quantize={scheme}"] if scheme else [])
                print(f"ok   {scheme or 'as stored'}{''.join(f', not on {cpu}: this machine lacks it' for cpu in left_out)}")
            except Failure as failure:
                failed += 1
                print(f"FAIL {scheme or 'as stored'}: {failure}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
