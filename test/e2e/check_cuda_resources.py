#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles the kernels of models with nvcc, and checks what they need of a GPU.

    check_cuda_resources.py --hadalc build/bin/hadalc --nvcc /usr/local/cuda/bin/nvcc --model DIR [--model DIR ..]
    check_cuda_resources.py --nvcc /usr/local/cuda/bin/nvcc --source bench/attention.cu

Warnings of models are errors. No kernel may spill more than SPILLED bytes of registers to memory or need more than REGISTERS, and no
block more than SHARED bytes of shared memory, what every GPU here has. Prints how many kernels need how many. Of a source file
nothing is known of blocks. Exit status: 0 all within bounds, 1 not, 2 wrong usage.
"""
import argparse
import re
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, describe, must_run, run

INCLUDE = Path(__file__).resolve().parents[2] / "runtime" / "include"
MACHINES = ["sm_80", "sm_87", "sm_90a", "sm_100"]
# A block of 256 threads has 256 registers a thread on every one of these, of which programs have 255.
REGISTERS, SPILLED, SHARED = 255, 112, 163 * 1024
KERNEL = re.compile(r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", re.DOTALL)
LAUNCH = re.compile(r"HADAL_CUDA_KERNEL\(\s*(\w+),\s*(\d+),\s*(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\)")


def check(args, model, folder):
    out = folder / "model"
    must_run([args.hadalc, model, "-o", out, "--emit=cuda", "--nvcc=none", "--weights=none", "--quiet", *args.hadalc_flag], 300)
    launches = {name: int(shared) for name, _, _, _, shared, _ in LAUNCH.findall(Path(f"{out}.cpp").read_text())}
    for name, shared in launches.items():
        if shared > SHARED:
            raise Failure(f"{name} takes {shared} bytes of shared memory, at most {SHARED} are there")
    for machine in args.machine or MACHINES:
        found = compile_for(args, machine, f"{out}.cu", folder)
        if found.keys() != launches.keys():
            raise Failure(f"{machine}: nvcc compiled {len(found)} kernels, expected the {len(launches)} of the host program")
        print(f"ok   {model.name} {machine}: {describe_kernels(found)}, {max(launches.values())} bytes of shared memory")


def compile_for(args, machine, source, folder, flags=("-Werror", "all-warnings")):
    """Registers and bytes spilled of each kernel."""
    status, _, log = run([args.nvcc, "-std=c++17", "-fmad=false", "-cubin", f"-arch={machine}", *flags,
                          "-Xptxas", "-v", f"-I{INCLUDE}", source, "-o", folder / "model.cubin"], 600)
    if status:
        raise Failure(f"{machine}: nvcc: {describe(status, log)}")
    found = {name: (int(registers), int(spilled)) for name, spilled, registers in KERNEL.findall(log)}
    for name, (registers, spilled) in found.items():
        if registers > REGISTERS or spilled > SPILLED:
            raise Failure(f"{machine}: {name} needs {registers} registers and spills {spilled} bytes, "
                          f"at most {REGISTERS} and {SPILLED} are allowed")
    return found


def describe_kernels(found):
    most = max(found, key=lambda name: found[name])
    return (f"{len(found)} kernels, at most {found[most][0]} registers ({most}), "
            f"{max(s for _, s in found.values())} bytes spilled")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadalc", type=Path)
    parser.add_argument("--nvcc", type=Path, required=True)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--source", type=Path, action="append", default=[], help="a .cu file")
    parser.add_argument("--machine", action="append", help="compile for it alone: sm_80, ..")
    parser.add_argument("--hadalc-flag", action="append", default=[], help="passed on to hadalc")
    args = parser.parse_args()
    if not args.model and not args.source or args.model and not args.hadalc:
        parser.error("expected --model with --hadalc, or --source")
    with tempfile.TemporaryDirectory(prefix="hadal-cuda-") as folder:
        try:
            for model in args.model:
                check(args, model, Path(folder))
            for source in args.source:
                for machine in args.machine or MACHINES:
                    found = compile_for(args, machine, source, Path(folder), flags=())
                    print(f"ok   {source.name} {machine}: {describe_kernels(found)}")
        except Failure as failure:
            print(f"FAIL {failure}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
