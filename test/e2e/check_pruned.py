#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Holds passes that take parts of a model away to a checkpoint from which numpy has taken the same parts, by the statistics and
# the rules that docs/passes.md gives.
"""Prunes a DeepSeek-V3 of bf16 in two ways, and compares all bits of the logits.

    check_pruned.py --hadalc build/bin/hadalc --model models/abyss-tiny

Once hadalc prunes, with statistics that it has gathered; once it compiles a model that was cut before, by the same statistics.
"""
import argparse
import re
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, ids, must_run

np = harness.require_numpy("check_pruned.py")
import make_cases
import reference

TEXT = "Once upon a time there was a little fox who loved plums. One day the fox saw a bird in a tree. " * 8
TOKENS = np.random.default_rng(1).integers(3, 2000, 60).tolist()
CHANNEL_UNIT = 32  # What is left is a multiple of it.


def largest(values, count):
    """Indices of the largest, in their order; of equal ones the first."""
    return np.sort(np.argsort(-values, kind="stable")[:count])


class Cutter:
    """Cuts a checkpoint: (configuration, tensors) by each method."""

    def __init__(self, config, tensors, statistics):
        self.config, self.tensors, self.statistics = config, tensors, statistics
        self.layers = range(config["num_hidden_layers"])

    def cut_experts(self):
        """Takes one of each group away: the one with the least mass."""
        tensors, groups = dict(self.tensors), self.config["n_group"]
        for layer in self.layers[self.config["first_k_dense_replace"]:]:
            prefix = f"model.layers.{layer}.mlp."
            mass = self.statistics[f"layers.{layer}.mlp.gate.mass"].reshape(groups, -1)
            size = mass.shape[1]
            kept = [group * size + expert for group in range(groups) for expert in largest(mass[group], size - 1)]
            for expert in range(groups * size):
                for part in ("gate_proj", "up_proj", "down_proj"):
                    tensor = tensors.pop(f"{prefix}experts.{expert}.{part}.weight")
                    if expert in kept:
                        tensors[f"{prefix}experts.{kept.index(expert)}.{part}.weight"] = tensor
            for name in ("gate.weight", "gate.e_score_correction_bias"):
                tensors[prefix + name] = tensors[prefix + name][kept]
        return {"n_routed_experts": len(kept)}, tensors

    def cut_layer(self):
        """Takes the layer away that changes the least."""
        gone = int(np.argmin([self.statistics[f"layers.{layer}.influence"][0] for layer in self.layers]))
        tensors = {}
        for name, tensor in self.tensors.items():
            found = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)
            layer = int(found[1]) if found else -1
            if layer != gone:
                tensors[f"model.layers.{layer - (layer > gone)}.{found[2]}" if found else name] = tensor
        dense = self.config["first_k_dense_replace"]
        return {"num_hidden_layers": len(self.layers) - 1, "first_k_dense_replace": dense - (gone < dense)}, tensors

    def cut_channels(self):
        """Takes a quarter of the channels between gate, up and down away: those that add the least to the output."""
        def keep(channels):
            return -(-(channels - channels // 4) // CHANNEL_UNIT) * CHANNEL_UNIT

        tensors = dict(self.tensors)
        for name in (name for name in self.tensors if name.endswith(".down_proj.weight")):
            weight, prefix = self.tensors[name], name.removesuffix("down_proj.weight")
            expert = re.search(r"\.experts\.(\d+)\.", name)
            moment = self.statistics[re.sub(r"\.experts\.\d+\.", ".experts.", name.removeprefix("model.").removesuffix(".weight")) + ".moment"]
            moment = moment[int(expert[1])] if expert else moment
            # An expert that the text never chose is judged by its weights.
            importance = (weight ** 2).sum(axis=0) * (moment if moment.any() else 1)
            kept = largest(importance, keep(weight.shape[1]))
            tensors[name] = weight[:, kept]
            for part in ("gate_proj", "up_proj"):
                tensors[f"{prefix}{part}.weight"] = self.tensors[f"{prefix}{part}.weight"][kept]
        return {key: keep(self.config[key]) for key in ("intermediate_size", "moe_intermediate_size")}, tensors

    def cut_head(self):
        """Takes one head of each layer away: the one that adds the least to the output."""
        tensors, heads = dict(self.tensors), self.config["num_attention_heads"]
        for layer in self.layers:
            prefix = f"model.layers.{layer}.self_attn."
            out = tensors[prefix + "o_proj.weight"]
            importance = (out ** 2).sum(axis=0) * self.statistics[f"layers.{layer}.self_attn.o_proj.moment"]
            kept = largest(importance.reshape(heads, -1).sum(axis=1), heads - 1)
            tensors[prefix + "o_proj.weight"] = out.reshape(len(out), heads, -1)[:, kept].reshape(len(out), -1)
            for name in ("q_b_proj.weight", "kv_b_proj.weight"):
                weight = tensors[prefix + name]
                tensors[prefix + name] = weight.reshape(heads, -1, weight.shape[1])[kept].reshape(-1, weight.shape[1])
        return {"num_attention_heads": heads - 1, "num_key_value_heads": heads - 1}, tensors


def logits_of(args, model, folder, *flags):
    program, file = folder / "program", folder / "logits.npy"
    must_run([args.hadalc, model, "-o", program, *flags], 120)
    must_run([program, "--tokens", ids(TOKENS), "--logits", file], 60)
    return np.load(file)


def check(args, folder, flags, config, cut):
    changes, tensors = cut
    # Biases of routers are f32, which has all numbers of bf16.
    make_cases.write_model(folder / "cut", {**config, **changes}, {
        name: ("F32" if name.endswith("bias") else "BF16", value.shape, make_cases.encode(value, "F32" if name.endswith("bias") else "BF16"))
        for name, value in tensors.items()})
    expected, got = logits_of(args, folder / "cut", folder), logits_of(args, args.model, folder, *flags)
    if not np.array_equal(got, expected):
        error = np.abs(got - expected).max() / np.abs(expected).max()
        raise Failure(f"logits differ by {error:.1e} of the largest from those of a checkpoint that was cut")
    return f"all bits equal, {len(tensors)} tensors, {sum(value.size for value in tensors.values())} numbers"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as name:
        folder = Path(name)
        text, statistics = folder / "text", folder / "statistics.safetensors"
        text.write_text(TEXT)
        must_run([args.hadalc, args.model, f"--calibration={text}", f"--save-statistics={statistics}", "--prune=layers:1",
                  "--compile-to=graph", "-o", folder / "ignored.mlir"], 120)
        config, tensors = reference.read_checkpoint(args.model)
        cutter = Cutter(config, tensors, reference.read_safetensors(statistics))
        known = f"--calibration={statistics}"
        return harness.run_checks([
            (what, lambda flags=flags, cut=cut: check(args, folder, flags, config, cut()))
            for what, flags, cut in (("experts", ["--prune=experts:25%", known], cutter.cut_experts),
                                     ("layers", ["--prune=layers:1", known], cutter.cut_layer),
                                     ("channels", ["--prune=channels:25%", known], cutter.cut_channels),
                                     ("heads", ["--prune=heads:1", known], cutter.cut_head),
                                     ("active experts", ["--top-k=2"], lambda: ({"num_experts_per_tok": 2}, tensors)))])


if __name__ == "__main__":
    sys.exit(main())
