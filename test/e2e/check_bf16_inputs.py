#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Products of inputs that are rounded to bf16, on processors that have instructions for it and on those that have not.
"""Compares logits of a model whose inputs of products are rounded to bf16.

    check_bf16_inputs.py --hadalc build/bin/hadalc --model DIR --cpu x86-64-v3 --cpu znver4
    check_bf16_inputs.py --hadalc build/bin/hadalc --model DIR --target aarch64-linux-gnu --emulator qemu-aarch64-static
                         --cpu cortex-a76 --cpu neoverse-v1=max --rounds-otherwise neoverse-v1

A --cpu whose name is another to the emulator is NAME=ITS_NAME; without an emulator, those for a processor that has more than
this one are left out. What is checked: that something was rounded, and not more than bf16 rounds; that a row is the same bit
for bit however many come at once, and on all processors but those that round sums otherwise (bfdot and bfmmla of ARM), which
are as far apart as sums in another order are; and that the reference interpreter computes the same, by --verify. Exit status:
0 all is so, 1 something is not.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, add_target_options, is_for_another, must_run, require_numpy, run_checks, target_of

np = require_numpy("check_bf16_inputs.py")

TOKENS = ",".join(str(11 * i % 300) for i in range(23))
# Of the largest logit. An input is off by 2^-9 of itself at most, and such errors are as often above as below: a hundred
# of them in a row come to what this allows.
LARGEST_LOSS = 2**-9 * 10
# Another last digit of a sum rounds some inputs to the other of two neighbors: some of the error above, once more.
LARGEST_DIFFERENCE = LARGEST_LOSS / 2


class Checks:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder

    def compile(self, *flags):
        product = self.folder / "product"
        must_run([self.args.hadalc, self.args.model, "-o", product, "--quiet", *flags], 300)
        return product

    def logits(self, product, runner=(), flags=()):
        file = self.folder / "logits.npy"
        must_run([*runner, product, "--tokens", TOKENS, "--logits", file, *flags], 300)
        return np.load(file)

    def rounding(self):
        exact = self.logits(self.compile())
        product = self.compile("--activations=bf16")
        self.here = self.logits(product)
        error = np.abs(self.here - exact).max() / np.abs(exact).max()
        if not 0 < error <= LARGEST_LOSS:
            raise Failure(f"logits are off by {error:.2e} of the largest, expected more than 0 and at most {LARGEST_LOSS:.2e}")
        lossy = json.loads(must_run([self.args.hadalc, "--manifest", product], 60))
        if "rounded to bf16" not in json.dumps(lossy):
            raise Failure("the manifest does not say that inputs are rounded to bf16")
        return f"off by {error:.1e} of the largest logit"

    def processor(self, names):
        cpu, target, runner = target_of(self.args, names)
        product = self.compile("--activations=bf16", *target)
        if not self.args.emulator and is_for_another(product):
            return "left out: this machine lacks it"
        there = self.logits(product, runner)
        # Rows in pairs and single ones, in pieces of 1 and of 4 or 5 rows.
        for chunk in (1, 5):
            if not np.array_equal(there, self.logits(product, runner, ["--chunk", chunk])):
                raise Failure(f"logits depend on how many rows come at once, with --chunk {chunk}")
        error = np.abs(there - self.here).max() / np.abs(self.here).max()
        if cpu in self.args.rounds_otherwise:
            if not 0 < error <= LARGEST_DIFFERENCE:
                raise Failure(f"logits are off by {error:.2e} of the largest, expected more than 0 and at most "
                              f"{LARGEST_DIFFERENCE:.2e}")
            return f"off by {error:.1e}, as sums are rounded otherwise"
        if error:
            raise Failure(f"logits are off by {error:.2e} of the largest, expected none")
        return "equal"

    def reference(self):
        self.compile("--activations=bf16", "--verify")
        return "--verify"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_target_options(parser)
    parser.add_argument("--rounds-otherwise", action="append", default=[])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        checks = Checks(args, Path(folder))
        return run_checks([("rounding", checks.rounding),
                           *((cpu, lambda cpu=cpu: checks.processor(cpu)) for cpu in args.cpu),
                           ("reference", checks.reference)])


if __name__ == "__main__":
    sys.exit(main())
