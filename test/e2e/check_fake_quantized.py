#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Checks checkpoints that were trained for rounded weights: their own scales are what weights are rounded by.
"""Gives a model the scales of training for rounded weights, and compares it with the model that has the rounded weights.

    check_fake_quantized.py --hadalc build/bin/hadalc --model DIR

DIR is a model of dense layers, in BF16 or F16, in one file. Weights stay what they are; each matrix of a layer gets a scale a group, a
row or in all. What is compiled must compute what the checkpoint does whose weights are s * clamp(round(w / s)), within 1e-4 of
the largest |logit|, and store integers where kernels read them.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, ids, must_refuse, must_run

np = harness.require_numpy("check_fake_quantized.py")
import make_cases
import reference

TOLERANCE = 1e-4
TOKENS = [3, 1, 4, 15, 9, 26, 5, 35, 8, 7, 13, 23]
# num_bits, strategy, group_size, and whether integers are kept: those with one scale in all become f32.
KINDS = [(4, "group", 32, True), (8, "channel", None, True), (4, "tensor", None, False)]


def round_matrix(w, bits, strategy, group):
    """The scales, some of which are too small for the largest weights, and the rounded weights."""
    rows, columns = w.shape
    shape = {"group": (rows, columns // (group or 1)), "channel": (rows, 1), "tensor": (1, 1)}[strategy]
    blocks = w.reshape(shape[0], rows // shape[0], shape[1], columns // shape[1])
    least = -(2 ** (bits - 1))
    scales = (np.abs(blocks).max(axis=(1, 3)) / (-least) * np.float32(0.8)).astype(np.float32)
    spread = scales[:, None, :, None]
    codes = np.clip(np.rint(blocks / spread), least, -least - 1).astype(np.float32)
    return scales, (codes * spread).reshape(w.shape)


def configure(bits, strategy, group, **changes):
    size = {"group_size": group} if group else {}
    return {**make_cases.compressed("dense", num_bits=bits, strategy=strategy, **size, **changes), "quantization_status": "frozen"}


def check(args, bits, strategy, group, is_kept):
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as name:
        folder = Path(name)
        tensors = {key: w.astype(np.float32) for key, w in reference.read_safetensors(args.model / "model.safetensors").items()}
        config = json.loads((args.model / "config.json").read_text())
        # Of whole groups.
        config["intermediate_size"] -= config["intermediate_size"] % 32
        for key, w in tensors.items():
            if ".mlp." in key:
                tensors[key] = w[:, :config["intermediate_size"]] if "down" in key else w[:config["intermediate_size"]]
        trained, rounded = dict(tensors), dict(tensors)
        for key, w in tensors.items():
            if key.endswith("_proj.weight"):
                trained[key + "_scale"], rounded[key] = round_matrix(w, bits, strategy, group)
        logits = []
        for kind, values, more in (("rounded", rounded, {}),
                                   ("trained", trained, {"quantization_config": configure(bits, strategy, group)})):
            model, product = folder / kind, folder / f"{kind}-product"
            make_cases.write_model(model, {**config, "torch_dtype": "float32", **more},
                                   {key: ("F32", w.shape, make_cases.encode(w, "F32")) for key, w in values.items()})
            report = must_run([args.hadalc, model, "-o", product, "--report", "--activations=f32"] if is_kept and more else
                              [args.hadalc, model, "-o", product, "--report"], 60)
            must_run([product, "--tokens", ids(TOKENS), "--logits", folder / "logits.npy"], 60)
            logits.append(np.load(folder / "logits.npy").astype(np.float64))
        error = float(np.abs(logits[1] - logits[0]).max() / np.abs(logits[0]).max())
        if not error <= TOLERANCE:
            raise Failure(f"logits differ from those of the rounded weights by {error:.1e} of the largest")
        if (f"int{bits}" in report) != is_kept:
            raise Failure(f"expected {'integers' if is_kept else 'none'} to be stored, but the report says {report}")
        if strategy == "group":
            config["quantization_config"] = configure(bits, strategy, group, symmetric=False)
            (folder / "trained" / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}))
            must_refuse([args.hadalc, folder / "trained", "-o", folder / "refused"], 60)
        return f"within {error:.1e} of the rounded weights"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    return harness.run_checks([(f"{bits} bits, a scale a {strategy}", lambda kind=(bits, strategy, *rest): check(args, *kind))
                               for bits, strategy, *rest in KINDS])


if __name__ == "__main__":
    sys.exit(main())
