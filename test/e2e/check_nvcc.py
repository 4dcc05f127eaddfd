#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compiles the kernels of models with nvcc, where there is one, and reads what ptxas says of them. Needs no GPU.
"""Compiles CUDA source of models without a warning, and holds kernels to what a GPU has.

    check_nvcc.py --hadalc build/bin/hadalc --nvcc nvcc --gpu sm_80 --gpu sm_90a [--spills 0] MODEL...

Prints, for each model and GPU, how many kernels there are, the most registers and shared memory that one takes, and the
bytes that kernels spill; more than --spills in one of them is a failure.
"""
import argparse
import re
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '\w+'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def read_kernels(text):
    """{name: {registers, shared, stack, spills}} of what ptxas -v says."""
    kernels, name = {}, None
    for line in text.splitlines():
        if found := ENTRY.search(line):
            name = found[1]
            kernels[name] = {"registers": 0, "shared": 0, "stack": 0, "spills": 0}
        elif name is None:
            continue
        elif found := SPILLS.search(line):
            kernels[name].update(stack=int(found[1]), spills=int(found[2]) + int(found[3]))
        elif found := USED.search(line):
            kernels[name]["registers"] = int(found[1])
            if shared := SHARED.search(line):
                kernels[name]["shared"] = int(shared[1])
    return kernels


def check(model, gpu, args):
    with tempfile.TemporaryDirectory(prefix="hadal-nvcc-") as folder:
        out = Path(folder) / "model"
        must_run([args.hadalc, model, "-o", out, "--emit=cuda", "--nvcc=none", "--weights=none", "--quiet", *args.hadalc_flag], 120)
        status, text, err = harness.run(
            [args.nvcc, "-std=c++17", "-O3", "-fmad=false", "-cubin", f"-arch={gpu}", "-Xptxas=-v", "-Werror=all-warnings",
             "-I", args.include, f"{out}.cu", "-o", f"{out}.cubin"], args.timeout)
        if status:
            raise Failure(f"nvcc: {harness.describe(status, err)}")
    kernels = read_kernels(text + err)
    if not kernels or any(not kernel["registers"] for kernel in kernels.values()):
        raise Failure(f"ptxas describes {len(kernels)} kernels, and not all of their registers")
    worst = max(kernels, key=lambda name: kernels[name]["spills"])
    if kernels[worst]["spills"] > args.spills:
        raise Failure(f"{worst} spills {kernels[worst]['spills']} bytes, at most {args.spills} are allowed")
    most = {key: max(kernel[key] for kernel in kernels.values()) for key in ("registers", "shared", "stack", "spills")}
    return (f"{len(kernels)} kernels, at most {most['registers']} registers, {most['shared']} bytes of static shared memory, "
            f"{most['stack']} of stack, {most['spills']} spilled")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadalc", type=harness.existing_file, required=True)
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--include", type=Path, required=True, help="folder of hadal_rt/kernels.cuh")
    parser.add_argument("--gpu", action="append", required=True, help="what kernels are compiled for, such as sm_90a")
    parser.add_argument("--spills", type=int, default=0, help="bytes that a kernel may spill (default: 0)")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that nvcc may take (default: 600)")
    parser.add_argument("--hadalc-flag", action="append", default=[], help="passed on to hadalc, e.g. --hadalc-flag=--kv=f16")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    args = parser.parse_args()
    return harness.run_checks([(f"{model.name} {gpu}", lambda model=model, gpu=gpu: check(model, gpu, args))
                               for model in args.models for gpu in args.gpu])


if __name__ == "__main__":
    sys.exit(main())
