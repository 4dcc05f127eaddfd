#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Runs programs for GPUs on the emulated driver, where kernels are compiled for the processor.
"""Checks what the host side of a program for GPUs does: that numbers are the same whatever the order in which threads run, and
those of the processor, but for what sums of tensor cores round otherwise: with --rounds-inputs for some inputs of 8 bits that come to
the other of two neighbors, too, and with --equal for nothing of a first token, which attends to itself alone; that steps are graphs; that several sequences, shared pages and sessions work; that what is missing or fails
is said in one line; and that nothing of the device is left behind.

    check_cuda.py --hadalc build/bin/hadalc --driver build/test/cuda --nvcc test/cuda/nvcc-emulated --cxx c++
                  --include runtime/include --model models/abyss-tiny [--equal | --rounds-inputs] [--only NAME,..] [--hadalc-flag=--quantize=mixed]
"""
import argparse
import array
import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

TOKENS = ",".join(str(7 * i % 300) for i in range(40))
GENERATED = 8
# Calls that may fail, and how often each is tried.
FAILURES = {"cuInit": 1, "cuDeviceGetCount": 1, "cuDeviceGet": 1, "cuDevicePrimaryCtxRetain": 1, "cuModuleLoadData": 1,
            "cuModuleGetFunction": 2, "cuMemAlloc_v2": 6, "cuMemAllocHost_v2": 3, "cuStreamCreate": 2, "cuEventCreate": 2,
            "cuEventRecord": 1, "cuMemsetD8Async": 2, "cuMemcpyHtoDAsync_v2": 4, "cuStreamSynchronize": 4,
            "cuLaunchKernel": 2, "cuStreamBeginCapture_v2": 1, "cuStreamEndCapture": 1, "cuGraphInstantiateWithFlags": 1,
            "cuGraphLaunch": 2, "cuMemcpyDtoHAsync_v2": 2}


# Of the largest logit: as for any backend and the reference.
TOLERANCE = 1e-4
# Where a last digit that differs may round an input of 8 bits to its other neighbor: a step of 1/127 of the largest of its
# group, once in many, of sums of hundreds.
ROUNDING_TOLERANCE = 1e-2
# The same where all inputs are rounded, in each layer, and sums are of a few dozens.
INTEGERS_TOLERANCE = 2e-2


HEADER = 128  # Bytes of an NPY file.


def compare(expected, found):
    """The largest logit of two NPY files, and the largest difference."""
    expected, found = (array.array("f", data[HEADER:]) for data in (expected, found))
    differences = (abs(a - b) if a == a and b == b else float("inf") for a, b in zip(expected, found, strict=True))
    return max(map(abs, expected)), max(differences)


class Checks:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.program = folder / "product"
        self.report = folder / "report.json"

    def compile(self, out, *flags):
        must_run([self.args.hadalc, self.args.model, "-o", out, "--quiet", *self.args.hadalc_flag, *flags], 600)

    def environment(self, **more):
        return {**os.environ, "LD_LIBRARY_PATH": str(self.args.driver), "HADAL_EMULATED_CUDA_REPORT": str(self.report), **more}

    def run(self, program, logits, tokens=TOKENS, **environment):
        out = must_run([program, "--tokens", tokens, "-n", GENERATED, "--temperature", "0", "--json", "--logits", logits], 300,
                       env=self.environment(**environment))
        return json.loads(out)["tokens"], logits.read_bytes()

    def refusal(self, **environment):
        return harness.must_refuse([self.program, "--tokens", "1,2,3", "-n", 4], 300, env=self.environment(**environment))

    def products(self):
        self.compile(self.program, "--emit=cuda", f"--nvcc={self.args.nvcc}")
        for suffix in ("", ".a", ".so", ".cu", ".cpp", ".h", ".fatbin", ".weights"):
            if not Path(f"{self.program}{suffix}").is_file():
                raise Failure(f"there is no {self.program.name}{suffix}")
        library = ctypes.CDLL(f"{self.program}.so")
        versions = [ctypes.c_uint32.in_dll(library, name).value for name in ("product_model", "hadal_model")]
        if versions[0] != versions[1] or versions[0] == 0:
            raise Failure(f"the models of product.so have ABI versions {versions}")
        manifest = json.loads(must_run([self.args.hadalc, "--manifest", self.program], 60))
        if manifest["toolchain"].get("nvcc") != "13.0.0" or "sm_90a" not in manifest["toolchain"]["gpus"]:
            raise Failure(f"the manifest has the toolchain {manifest['toolchain']}")
        source = self.folder / "source"
        self.compile(source, "--emit=cuda", "--nvcc=none", "--weights=none")
        made = sorted(path.name for path in self.folder.glob("source*"))
        if made != ["source.cpp", "source.cu", "source.h"]:
            raise Failure(f"--nvcc=none makes {made}")
        return "program, libraries, source, fatbin"

    def numbers(self):
        self.compile(self.folder / "processor")
        tokens, expected = self.run(self.folder / "processor", self.folder / "processor.npy")
        logits = {}
        for order in ("forward", "reverse"):
            found, logits[order] = self.run(self.program, self.folder / "device.npy", HADAL_CUDA_ORDER=order)
            if found != tokens:
                raise Failure(f"{order}: tokens are {found}, expected {tokens}")
        if logits["forward"] != logits["reverse"]:
            raise Failure("logits depend on the order of threads")
        report = json.loads(self.report.read_text())
        most, error = compare(expected, logits["forward"])
        if self.args.equal:
            # By kernels for many rows, and by those for one.
            first = (len(expected) - HEADER) // len(TOKENS.split(",")) + HEADER
            single = [self.run(program, self.folder / "single.npy", "7")[1] for program in (self.folder / "processor", self.program)]
            if logits["forward"][:first] != expected[:first] or single[0] != single[1]:
                raise Failure("logits of a first token are not those of the processor bit for bit")
        tolerance = INTEGERS_TOLERANCE if self.args.equal else ROUNDING_TOLERANCE if self.args.rounds_inputs else TOLERANCE
        if not error <= tolerance * most:
            raise Failure(f"logits are off by {error:.3g} of {most:.3g}")
        # The first step of a kind is launched kernel by kernel.
        if report["graph_launches"] < GENERATED - 3 or report["graphs"] < 1:
            raise Failure(f"steps are not graphs: {report}")
        return f"off by {error:.2g} of {most:.2g}, {report['kernel_runs']} kernels, {report['graph_launches']} graphs launched, {report['peak_bytes']} bytes"

    def sequences(self):
        """batch.cpp: mixed steps, forks, truncation, refusals, several sessions."""
        must_run([self.args.cxx, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Dproduct_model=hadal_model",
                  f"-I{self.folder}", f"-I{self.args.include}",
                  Path(__file__).parent / "batch.cpp", self.folder / "product.a", "-lpthread", "-lm", "-ldl",
                  "-o", self.folder / "batch"], 300)
        status, out, err = harness.run([self.folder / "batch", self.folder / "product.weights", "1"], 300, env=self.environment())
        if status:
            raise Failure(f"{harness.describe(status, err)} {' / '.join(out.splitlines()[-1:])}")
        return "batch.cpp"

    def refusals(self):
        empty = self.folder / "no-driver"
        empty.mkdir()
        (empty / "libcuda.so.1").touch()
        for expected, environment in [
                ("error: there is no driver for CUDA: ", {"LD_LIBRARY_PATH": str(empty)}),
                ("error: there is no CUDA device", {"HADAL_EMULATED_CUDA_DEVICES": "0"}),
                ("error: HADAL_CUDA_DEVICE is '1', expected 0 .. 0", {"HADAL_CUDA_DEVICE": "1"}),
                ("error: HADAL_CUDA_DEVICE is 'first', expected 0 .. 0", {"HADAL_CUDA_DEVICE": "first"}),
                ("bytes for weights: 1000 of 1000 are free", {"HADAL_EMULATED_CUDA_BYTES": "1000"})]:
            line = self.refusal(**environment)
            if expected not in line:
                raise Failure(f"{environment} is refused with '{line}', expected '{expected}'")
        tokens, _ = self.run(self.program, self.folder / "device.npy", HADAL_EMULATED_CUDA_DEVICES="2", HADAL_CUDA_DEVICE="1")
        return f"5 lines, and device 1 of 2 makes {len(tokens)} tokens"

    def failures(self):
        """A call that fails ends the program in order: with a line, status 1, and all given back."""
        tried = 0
        for name, times in FAILURES.items():
            for time in range(1, times + 1):
                line = self.refusal(HADAL_EMULATED_CUDA_FAIL=f"{name}:{time}")
                if ": unknown error" not in line and "free" not in line and "out of memory" not in line:
                    raise Failure(f"call {time} of {name} fails with '{line}'")
                tried += 1
        return f"{tried} calls"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadalc", type=harness.existing_file, required=True)
    parser.add_argument("--driver", type=Path, required=True, help="folder of the emulated libcuda.so.1")
    parser.add_argument("--nvcc", type=harness.existing_file, required=True, help="what takes the place of nvcc")
    parser.add_argument("--cxx", required=True, help="C++ compiler")
    parser.add_argument("--include", type=Path, required=True, help="folder of hadal_rt/hadal_rt.h")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--equal", action="store_true", help="all weights are integers: a first token's logits are those of the processor bit for bit")
    parser.add_argument("--rounds-inputs", action="store_true", help="some weights are integers, and their inputs rounded")
    parser.add_argument("--only", help="checks to run, with commas (all)")
    parser.add_argument("--hadalc-flag", action="append", default=[], help="passed on to hadalc, e.g. --hadalc-flag=--kv=f16")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-cuda-") as folder:
        checks = Checks(args, Path(folder))
        return harness.run_checks([(check.__name__, check) for check in (
            checks.products, checks.numbers, checks.sequences, checks.refusals, checks.failures)
            if not args.only or check.__name__ in args.only.split(",")])


if __name__ == "__main__":
    sys.exit(main())
