#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Inputs that are rounded to 8 bits are off by no more than docs/numerics.md says, and products by no more than follows.
"""Compares logits with those of the same weights in f64, and their difference with its bound.

    check_rounding.py --hadalc build/bin/hadalc

The model is its embedding, a norm and a head: what layers add is zero. A group of inputs is off by at most half of its
scale, which is max |x| / 127 or, for weights of at most 4 bits in groups of 32, the power of two at or above it. So a logit
is off by at most the sum over groups of half a scale times the sum of |w|. Where a type can hold it, some rows of the head
have the sign of the error at each column, which makes every error count: half of the bound. Exit status: 0 all are within
their bounds, 1 some are not.
"""
import argparse
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import gguf
from harness import Failure, existing_file, ids, must_run, require_numpy, run_checks

np = require_numpy("check_rounding.py")

HIDDEN, VOCAB, TOKENS = 512, 288, 16
CONFIG = dict(model_type="llama", hidden_size=HIDDEN, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
              num_key_value_heads=4, vocab_size=VOCAB, rms_norm_eps=1e-6, rope_theta=10000.0, rope_scaling=None,
              max_position_embeddings=64)
# Elements that share a scale of the weight, and whether inputs have powers of two for scales then.
KINDS = {"Q4_0": (32, True), "Q4_K": (32, True), "IQ4_NL": (32, True), "Q5_K": (32, False), "Q6_K": (16, False),
         "Q8_0": (32, False)}
# The largest number of blocks that hold a sign as it is.
SIGNED = {"Q4_0": 7, "Q8_0": 127}
# What f32 arithmetic may add, of the sum of magnitudes.
F32 = 1e-6


def embeddings(rng):
    """Rows of each token: of even and of very uneven groups, with zeros and numbers next to the middle of two integers."""
    x = rng.normal(size=(VOCAB, HIDDEN))
    x[1::4] *= np.exp2(rng.integers(-20, 1, (len(x[1::4]), HIDDEN)))
    x[2::4, :64] = 0
    x[2::4, 64:] = (np.rint(x[2::4, 64:] * 40) + 0.49) / 64
    x[3::4] = np.sign(x[3::4]) * np.exp2(-rng.integers(0, 3, (len(x[3::4]), HIDDEN)))
    x[3::4, ::32] = 1.01
    return x.astype(np.float32).astype(np.float64)


def scales(x, group, is_power):
    """Of each group of rows of x, as each element has it."""
    largest = np.abs(x).reshape(len(x), -1, group).max(axis=2) / 127
    if is_power:
        largest = np.exp2(np.ceil(np.log2(np.maximum(largest, 1e-30)))) * (largest > 0)
    return np.repeat(largest, group, axis=1)


def check(args, kind):
    group, is_power = KINDS[kind]
    rng = np.random.default_rng(7)
    table = embeddings(rng)
    x = (table / np.sqrt((table**2).mean(axis=1, keepdims=True) + CONFIG["rms_norm_eps"]))[:TOKENS]
    scale = scales(x, group, is_power)
    head = rng.normal(size=(VOCAB, HIDDEN))
    if kind in SIGNED:
        error = np.rint(x / np.maximum(scale, 1e-30)) * scale - x
        head[:TOKENS] = np.where(error < 0, -1, 1) * SIGNED[kind] / 64
    values = {"model.embed_tokens.weight": table, "model.norm.weight": np.ones(HIDDEN), "lm_head.weight": head}
    prefix = "model.layers.0."
    for name, shape in {"input_layernorm": HIDDEN, "post_attention_layernorm": HIDDEN, "self_attn.q_proj": (HIDDEN, HIDDEN),
                        "self_attn.k_proj": (HIDDEN, HIDDEN), "self_attn.v_proj": (HIDDEN, HIDDEN),
                        "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (32, HIDDEN), "mlp.up_proj": (32, HIDDEN),
                        "mlp.down_proj": (HIDDEN, 32)}.items():
        values[f"{prefix}{name}.weight"] = np.zeros(shape)
    tensors, rounded = gguf.convert(CONFIG, values, lambda name, shape: kind if name == "output.weight" else "F32")
    weight = rounded["lm_head.weight"]
    exact, magnitude = x @ weight.T, np.abs(x) @ np.abs(weight).T
    bound = scale / 2 @ np.abs(weight).T
    with tempfile.TemporaryDirectory() as folder:
        file, product, out = (Path(folder) / name for name in ("model.gguf", "product", "logits.npy"))
        file.write_bytes(gguf.file_bytes({**gguf.keys_of(CONFIG), **gguf.tokenizer_keys(VOCAB)}, tensors))

        def difference(activations):
            must_run([args.hadalc, file, "-o", product, "--quiet", f"--activations={activations}"], 120)
            must_run([product, "--tokens", ids(range(TOKENS)), "--logits", out], 120)
            return np.abs(np.load(out) - exact)

        if kind in SIGNED:
            kept = difference("f32") / (F32 * magnitude)
            if not kept.max() <= 1:
                raise Failure(f"inputs in f32: off by {kept.max():.2g} times what f32 allows")
        off = difference("int8")
    ratio = off / (bound + F32 * magnitude)
    if not ratio.max() <= 1:
        row, column = np.unravel_index(ratio.argmax(), ratio.shape)
        raise Failure(f"token {row}, logit {column}: off by {off[row, column]:.3g}, "
                      f"at most {bound[row, column]:.3g} is allowed")
    if kind not in SIGNED:
        return f"at most {ratio.max():.2f} of the bound"
    reached = ratio.diagonal().max()
    if reached < 0.4:
        raise Failure(f"rows that add up every error reach {reached:.2f} of the bound, expected 0.4: are inputs rounded?")
    return f"at most {ratio.max():.2f} of the bound, {reached:.2f} where every error adds up"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=existing_file)
    args = parser.parse_args()
    sys.exit(run_checks((kind, lambda kind=kind: check(args, kind)) for kind in KINDS))


if __name__ == "__main__":
    main()
