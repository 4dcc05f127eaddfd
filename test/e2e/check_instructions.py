#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Code has the instructions of the processor that it is for, and no others.
"""Counts the instructions of objects, disassembled.

    check_instructions.py --hadalc build/bin/hadalc --objdump llvm-objdump-22 --model models/abyss-tiny

Weights are int4 in groups of 32, with inputs in int8, or as they are stored, in bf16, with inputs in bf16. Exit status: 0 all
is as it should be, 1 something is not.
"""
import argparse
import collections
import re
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, must_run, run_checks

INTEGERS, BF16 = "--quantize=int4-g32", "--activations=bf16"
# Triple, processor, mnemonics that there are, a pattern of instructions that there must not be, and what is compiled.
SCALABLE = r"[zp][0-9]+\.[bhsdq]\b"
OBJECTS = [
    ("aarch64-linux-gnu", "cortex-a53", ["fmla"], rf"\b[su]dot\b|mmla|{SCALABLE}", INTEGERS),
    ("aarch64-linux-gnu", "cortex-a76", ["fmla", "sdot"], rf"mmla|{SCALABLE}", INTEGERS),
    ("aarch64-linux-gnu", "neoverse-n1", ["fmla", "sdot"], rf"mmla|{SCALABLE}", INTEGERS),
    ("aarch64-linux-gnu", "cortex-a78ae", ["fmla", "sdot"], rf"mmla|{SCALABLE}", INTEGERS),
    ("aarch64-linux-gnu", "neoverse-v1", ["fmla", "sdot", "smmla"], rf"bfdot|bfmmla|{SCALABLE}", INTEGERS),
    ("aarch64-linux-gnu", "neoverse-v2", ["fmla", "sdot", "smmla"], rf"bfdot|bfmmla|{SCALABLE}", INTEGERS),
    ("aarch64-linux-android", "cortex-a76", ["fmla", "sdot"], rf"mmla|{SCALABLE}", INTEGERS),
    ("arm64-apple-macos14", "apple-m1", ["fmla", "sdot"], rf"mmla|{SCALABLE}", INTEGERS),
    ("arm64-apple-macos14", "apple-m2", ["fmla", "sdot", "smmla"], rf"bfdot|bfmmla|{SCALABLE}", INTEGERS),
    ("x86_64-linux-gnu", "x86-64", ["mulps"], r"[yz]mm|pshufb", INTEGERS),
    ("x86_64-linux-gnu", "x86-64-v3", ["vfmadd231ps", "vpmaddubsw"], r"zmm|tmm|vpdp", INTEGERS),
    ("x86_64-linux-gnu", "x86-64-v4", ["vfmadd231ps", "vpmaddubsw"], r"tmm|vpdp", INTEGERS),
    ("x86_64-linux-gnu", "znver4", ["vfmadd231ps", "vpdpbusd"], r"tmm", INTEGERS),
    # Experts' inputs have groups of 64: weights are in registers, not on the stack.
    ("x86_64-linux-gnu", "znver4", ["vpdpbusd"], r"vpdpbusd.*\(%rsp\)", "--quantize=int8"),
    ("x86_64-linux-gnu", "sapphirerapids", ["vfmadd231ps", "vpdpbusd", "tdpbssd"], r"vpdpwssd", INTEGERS),
    ("riscv64-linux-gnu", "sifive-x280", ["vfmacc"], r"\bfadd\.h", INTEGERS),
    ("aarch64-linux-gnu", "cortex-a76", ["fmla"], rf"bfdot|mmla|{SCALABLE}", BF16),
    ("aarch64-linux-gnu", "neoverse-v1", ["bfdot", "bfmmla"], SCALABLE, BF16),
    ("arm64-apple-macos14", "apple-m2", ["bfdot", "bfmmla"], SCALABLE, BF16),
    ("x86_64-linux-gnu", "x86-64-v4", ["vfmadd231ps"], r"bf16ps", BF16),
    ("x86_64-linux-gnu", "znver4", ["vdpbf16ps"], r"tmm", BF16),
]


def check(args, folder, triple, cpu, wanted, refused, flag):
    product = Path(folder) / f"{cpu}.o"
    must_run([args.hadalc, args.model, "-o", product, "--emit=obj", "--weights=none", flag, "--quiet",
              f"--target={triple}", f"--cpu={cpu}"], 120)
    text = must_run([args.objdump, "-d", "--no-show-raw-insn", product], 120)
    lines = [line.split("\t", 1)[1].strip() for line in text.splitlines() if re.match(r"\s+[0-9a-f]+:.*\t", line)]
    for line in lines:
        if re.search(refused, line):
            raise Failure(f"expected no instruction like '{line}'")
    # vfmacc.vf is a vfmacc, too, and Apple's syntax writes sdot.4s.
    counts = collections.Counter(re.split(r"[\s.]", line)[0] for line in lines)
    for name in wanted:
        if not counts[name]:
            raise Failure(f"expected some {name} among {len(lines)} instructions")
    return f"{len(lines)} instructions, " + ", ".join(f"{counts[name]} {name}" for name in wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--hadalc", "--objdump", "--model"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        return run_checks((f"{one[0]} {one[1]} {one[-1]}", lambda one=one: check(args, folder, *one)) for one in OBJECTS)


if __name__ == "__main__":
    sys.exit(main())
