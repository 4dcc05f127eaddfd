#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Holds what is compiled after lossy passes to the reference interpreter: a pass may change what a model computes, but the
# kernels and the packer must compute what the pass wrote.
"""Compiles models with options that change them, and compares logits with those of the reference interpreter.

    check_passes.py --hadalc build/bin/hadalc --hadal-opt build/bin/hadal-opt --cases DIR --model models/abyss-tiny

The interpreter runs the module that hadalc prints after the graph passes, in f64; what is compiled from it may differ by
1e-4 of the largest |logit|, or 3e-2 where inputs are rounded. Each change must also show: by more than that from the model
without it.
"""
import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, ids, must_run

np = harness.require_numpy("check_passes.py")

TOLERANCE = 1e-4
# With weights of few bits, inputs are rounded, too; one that lies between two integers may go to either.
ROUNDED_TOLERANCE = 3e-2
TOKENS = [3, 1, 4, 15, 9, 26, 5, 35, 8, 97, 93, 23]


def logits_of(args, model, flags, folder):
    """Logits of the compiled model and of the interpreter."""
    program, file, module = folder / "product", folder / "logits.npy", folder / "graph.mlir"
    must_run([args.hadalc, model, "-o", program, *flags], 60)
    must_run([program, "--tokens", ids(TOKENS), "--logits", file], 60)
    compiled = np.load(file).astype(np.float64)
    must_run([args.hadalc, model, "--compile-to=graph", "-o", module, *flags], 60)
    must_run([args.hadal_opt, module, "-o", folder / "ignored.mlir",
              f"-deepseek-run=tokens={ids(TOKENS)} folder={model} npy={file}"], 120)
    return compiled, np.load(file)


def difference(a, b):
    if a.shape != b.shape:
        raise Failure(f"shapes {list(a.shape)} and {list(b.shape)}")
    return float(np.abs(a - b).max() / np.abs(b).max())


def check(args, model, flags, plain, folder):
    compiled, reference = logits_of(args, model, flags, folder)
    error, change = difference(compiled, reference), difference(reference, plain)
    tolerance = ROUNDED_TOLERANCE if "--quantize" in flags[0] else TOLERANCE
    if not error <= tolerance:
        raise Failure(f"logits differ from the reference by {error:.1e} of the largest, at most {tolerance:.0e} is allowed")
    if not change > tolerance:
        raise Failure(f"the option changes nothing: {change:.1e} of the largest logit")
    return f"within {error:.1e} of the reference, {change:.1e} from the model without"


def gather(args, folder):
    """Copies the model, with statistics of a text beside it, under the name by which recipes read them."""
    model = folder / args.model.name
    shutil.copytree(args.model, model)
    text, statistics = folder / "text", folder / "statistics.safetensors"
    text.write_text("Once upon a time there was a little fox who loved plums. One day the fox saw a bird in a tree. " * 8)
    must_run([args.hadalc, model, f"--quantize=int8,calibration={text},method=gptq", f"--save-statistics={statistics}",
              "--compile-to=graph", "-o", folder / "ignored.mlir"], 60)
    shutil.copy(statistics, model / "@statistics")
    return model, statistics


def cases(args, folder):
    abyss, statistics = gather(args, folder)
    yield abyss, ["--top-k=2"]
    for prune in ("layers:1", "heads:1", "channels:25%", "channels:50%,heads:25%,layers:40%"):
        yield abyss, [f"--prune={prune}"]
    # Merged, to fewer than a token chooses, with the mass of each and without, and rounded after.
    yield abyss, ["--merge-experts=3", f"--calibration={statistics}"]
    yield abyss, ["--quantize=int4-g32,method=gptq", "--merge-experts=8", f"--calibration={statistics}", "--activations=f32"]
    yield abyss, ["--quantize=int4-g32", "--merge-experts=8", "--top-k=3", "--activations=f32"]
    # Rounded by statistics, of what is left, and with experts that the text never chose.
    yield abyss, [f"--quantize=int4-g32,calibration={statistics}"]
    # With scales of channels in the weights of what makes them.
    yield abyss, [f"--quantize=int4-g128,calibration={statistics},method=awq"]
    yield abyss, [f"--quantize=int8,calibration={statistics},method=smoothquant,alpha=0.6"]
    yield abyss, [f"--quantize=int4-g32,calibration={statistics},method=gptq", "--prune=channels:25%,experts:25%"]
    # A rule that does not normalize, and one with groups.
    for name in ("deepseek", "deepseek_v2"):
        yield args.cases / name, ["--top-k=1"]
    # Heads of queries, with biases, of which two or more share keys.
    yield args.cases / "qwen2_wide", ["--prune=heads:50%"]
    # FP8 experts become bf16.
    yield args.cases / "deepseek_v3_fp8", ["--merge-experts=3"]
    # Integers of a checkpoint, with zero points, times inputs of 8 bits; and integers times inputs that are not rounded.
    for name in ("awq_v2_lite", "gptq_8bit_moe", "compressed_w4_asym"):
        yield args.cases / name, ["--activations=int8"]
    yield abyss, ["--quantize=int4-g32", "--activations=f32"]
    # Tables that are looked up, of the head, too, and matrices of heads.
    yield args.cases / "qwen2_tied", ["--quantize=int4-g32,head=int5-g32"]
    yield abyss, ["--quantize=heads=int4-g32,embedding=int6-g32"]
    # Of 5 and 6 bits.
    yield abyss, ["--quantize=int5-g32,experts=int6-g64", "--top-k=2"]
    yield abyss, [f"--quantize=int6-g32,ffn=int5-g128,calibration={statistics},method=gptq", "--top-k=2", "--activations=f32"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hadalc", required=True, type=Path)
    parser.add_argument("--hadal-opt", required=True, type=Path)
    parser.add_argument("--cases", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    failures, plain = 0, {}
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as name:
        folder = Path(name)
        for model, flags in cases(args, folder):
            what = f"{model.name} {' '.join(flags)}".replace(f"{folder}/", "")
            try:
                if model not in plain:
                    plain[model] = logits_of(args, model, [], folder)[1]
                print(f"ok   {what}: {check(args, model, flags, plain[model], folder)}")
            except Failure as failure:
                failures += 1
                print(f"FAIL {what}: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
