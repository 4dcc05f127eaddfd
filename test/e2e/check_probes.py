#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Probes in C++ source see what those in objects see.
"""Gathers statistics of a model by its object and by its C++ source, which must be equal byte for byte.

    check_probes.py --hadalc build/bin/hadalc --hadal-opt build/bin/hadal-opt --build build --model models/abyss-tiny --cxx g++

Exit status: 0 all is as it should be, 1 something is not.
"""
import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, must_refuse, must_run, run_checks

HERE = Path(__file__).resolve().parent
TOKENS = ",".join(str(7 * i % 500) for i in range(40))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--hadalc", "--hadal-opt", "--build", "--model", "--cxx"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        folder = Path(folder)
        # The tensors are found beside the module.
        shutil.copytree(args.model, folder / "model", ignore=shutil.ignore_patterns("golden"))
        module = folder / "model" / "probed.mlir"
        must_run([args.hadalc, args.model, "--compile-to=graph", "-o", folder / "graph.mlir"], 120)
        must_run([args.hadal_opt, "-deepseek-insert-probes", folder / "graph.mlir", "-o", module], 120)

        def statistics(name, compile, **options):
            must_run([*compile, module, "-o", folder / name, "--quiet"], 300, **options)
            must_run([folder / name, "--eval", "--tokens", TOKENS, "--statistics", folder / f"{name}.statistics"], 120)
            return (folder / f"{name}.statistics").read_bytes()

        def compare():
            native = statistics("native", [args.hadalc])
            source = statistics("source", [HERE / "hadalc-cpp"], env={**os.environ, "HADAL_BUILD": args.build, "CXX": args.cxx,
                                                                     "CXXFLAGS": "-O1 -march=native"})
            if len(native) < 1000 or native != source:
                raise Failure(f"expected {len(native)} bytes of equal statistics, got {len(source)}")
            return f"{len(native)} bytes are equal"

        def refuse():
            line = must_refuse([args.hadalc, module, "-o", folder / "gpu", "--emit=cuda", "--nvcc=none", "--quiet"], 120)
            if "has no form in CUDA" not in line:
                raise Failure(f"expected a line about CUDA, but got: {line}")
            return line.split(": ", 2)[-1]

        return run_checks([("statistics of C++ source", compare), ("--emit=cuda", refuse)])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"check_probes.py: {failure}")
