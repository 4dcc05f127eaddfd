#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# A product with code for several processors runs on each of them, and on no other.
"""Runs a product on processors that it has code for, and on one that it has not.

    check_levels.py --hadalc build/bin/hadalc --model DIR --cpu x86-64-v3,x86-64-v4 --emulator qemu-x86_64-static
                    --runs-on max --refused-on qemu64
    check_levels.py --hadalc build/bin/hadalc --model DIR --target aarch64-linux-gnu --cpu cortex-a76,neoverse-v1
                    --emulator qemu-aarch64-static --runs-on cortex-a76 --runs-on max --refused-on cortex-a53

Logits are those of this machine's own product, bit for bit, and so are weights: that product's file serves. Emulators have
no instruction that their processor lacks, so that a wrong choice ends with a signal. Exit status: 0 all is as it should
be, 1 something is not.
"""
import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, describe, ids, must_refuse, must_run, require_numpy, run, run_checks

np = require_numpy("check_levels.py")

TOKENS = ids([5, 3, 250, 17, 99, 1, 42, 7, 300, 11])


class Product:
    def __init__(self, args, folder, name, flags):
        self.path = Path(folder) / name
        must_run([args.hadalc, args.model, "-o", self.path, "--quiet", "--quantize=int4-g32", *flags], 120)

    def logits(self, runner=(), flags=()):
        file = self.path.with_suffix(".npy")
        must_run([*runner, self.path, "--tokens", TOKENS, "--logits", file, *flags], 120)
        return np.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--hadalc", "--model", "--cpu", "--emulator"):
        parser.add_argument(name, required=True)
    parser.add_argument("--target")
    for name in ("--runs-on", "--refused-on"):
        parser.add_argument(name, action="append", default=[])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        here = Product(args, folder, "here", [])
        wanted = here.logits()
        target = [f"--target={args.target}"] if args.target else []
        product = Product(args, folder, "levels", [f"--cpu={args.cpu}", *target])
        other = Product(args, folder, "other", ["--context=64"])

        def runner(cpu):
            return [args.emulator, "-cpu", cpu]

        def compare(found):
            if not np.array_equal(found, wanted):
                raise Failure(f"logits differ by {np.abs(found - wanted).max():.1e}")
            return "logits are equal"

        def refuse(cpu):
            line = must_refuse([*runner(cpu), product.path, "--tokens", TOKENS], 120)
            if "was compiled for processors with" not in line:
                raise Failure(f"expected a line about the processor, but got: {line}")
            return line

        def share():
            return compare(product.logits(runner(args.runs_on[0]), ["--weights", f"{here.path}.weights"]))

        def mismatch():
            shutil.copy(f"{other.path}.weights", f"{folder}/wrong.weights")
            return must_refuse([*runner(args.runs_on[0]), product.path, "--tokens", TOKENS, "--weights",
                                f"{folder}/wrong.weights"], 120).replace(folder, "")

        def profile():
            # Of the code that runs: its own table of dispatches, beside what the machine can do.
            status, _, err = run([product.path, "--tokens", TOKENS, "-n", "1", "--profile"], 300)
            if status or "linear" not in err:
                raise Failure(f"expected a profile with products: {describe(status, err)}")
            return "it has products"

        checks = [(f"on {cpu}", lambda cpu=cpu: compare(product.logits(runner(cpu)))) for cpu in args.runs_on]
        if not args.target:
            checks.append(("on this machine", lambda: compare(product.logits())))
            checks.append(("profile", profile))
        checks += [(f"refused on {cpu}", lambda cpu=cpu: refuse(cpu)) for cpu in args.refused_on]
        checks += [("weights of another product", share), ("weights of another context", mismatch)]
        return run_checks(checks)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"check_levels.py: {failure}")
