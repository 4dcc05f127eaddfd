#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# What 2:4 sparsity would cost and save: the table of docs/passes.md that says why there is no kernel for it.
"""Zeroes two weights of each four of models/abyss-tiny, and compares with dense integers of as many bits.

    bench/two_of_four.py [--build build] > table.md

Of each four consecutive inputs of a row the two stay whose magnitude times the root mean square of the input is largest (Wanda,
arXiv:2306.11695), in all matrices of layers but the router. Stored, two integers of b bits of each four need two places of 2
bits: (2 b + 4) / 4 bits a weight and an f16 scale for each 32. Texts are those of bench/passes.py; inputs stay f32.
"""
import argparse
import json
import shutil
import struct
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import numpy as np
import passes

MODEL = passes.ROOT / "models/abyss-tiny"
# Flags for the model with and without the zeros, and bits a weight of what they stand for.
CASES = [("2:4", [], None), ("2:4", ["--quantize=int8-g32"], (2 * 8 + 4) / 4 + 0.5), ("", ["--quantize=int5-g32"], 5.5),
         ("2:4", ["--quantize=int6-g32"], (2 * 6 + 4) / 4 + 0.5), ("2:4", ["--quantize=int4-g32"], (2 * 4 + 4) / 4 + 0.5),
         ("", ["--quantize=int4-g32"], 4.5), ("", ["--quantize=int4-g128"], 4.125)]


def read_safetensors(path):
    raw = path.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    return bytearray(raw), 8 + size, header


def zero(folder, statistics):
    """Zeroes half of the weights of the model in `folder`, in place."""
    raw, base, header = read_safetensors(statistics)

    def moment_of(name):
        entry = header.get(name + ".moment")
        if not entry:
            return None
        begin, end = entry["data_offsets"]
        return np.frombuffer(raw[base + begin:base + end], "<f4").reshape(entry["shape"])

    path = folder / "model.safetensors"
    data, start, tensors = read_safetensors(path)
    count = 0
    for name, entry in tensors.items():
        part = name.removeprefix("model.").removesuffix(".weight").split(".")
        expert = None
        if "experts" in part:
            expert = int(part.pop(part.index("experts") + 1))
        moment = moment_of(".".join(part)) if part[0] == "layers" and part[-1].endswith("_proj") else None
        if moment is None:
            continue
        assert entry["dtype"] == "BF16", name
        begin, end = entry["data_offsets"]
        stored = np.frombuffer(memoryview(data)[start + begin:start + end], "<u2").reshape(entry["shape"])
        weights = (stored.astype(np.uint32) << 16).view(np.float32)
        fours = (np.abs(weights) * np.sqrt(moment if expert is None else moment[expert])).reshape(-1, 4)
        keep = fours.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") >= 2
        stored.reshape(-1, 4)[~keep] = 0
        count += 1
    assert count
    path.write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=passes.ROOT / "build")
    args = parser.parse_args()
    hadalc, evaluate = args.build / "bin/hadalc", args.build / "bin/hadal-eval"
    with tempfile.TemporaryDirectory(prefix="hadal-sparse-") as name:
        folder = Path(name)
        calibration, text, statistics = folder / "calibration", folder / "text", folder / "statistics.safetensors"
        passes.write_text(calibration, 1, 40000)
        passes.write_text(text, 2, 24000)
        passes.run([hadalc, MODEL, "-o", folder / "base", "--quiet"])
        passes.run([hadalc, MODEL, f"--quantize=int8,calibration={calibration},method=gptq", f"--save-statistics={statistics}",
                    "--compile-to=graph", "-o", folder / "ignored.mlir", "--quiet"])
        shutil.copytree(MODEL, folder / "zeroed")
        zero(folder / "zeroed", statistics)
        print("| weights | bits a weight | perplexity | KL divergence | same top token |")
        print("| --- | --- | --- | --- | --- |")
        for kind, flags, bits in CASES:
            model = folder / "zeroed" if kind else MODEL
            # Error feedback would fill the zeros again.
            flags = [flag + (",method=imatrix" if kind else ",method=gptq") for flag in flags]
            flags += ["--activations=f32"] if flags else []
            passes.run([hadalc, model, "-o", folder / "after", "--quiet", f"--calibration={statistics}", *flags])
            found = json.loads(passes.run([evaluate, folder / "after", "--against", folder / "base", "--text", text, "--json"]))
            what = ", ".join(([kind] if kind else []) + [f"`{flags[0]}`" if flags else "not rounded"])
            print(f"| {what} | {'' if bits is None else bits} | {found['perplexity']:.2f} | {found['kl_divergence']['mean']:.3f} | "
                  f"{100 * found['top_1_agreement']:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
