"""Checks the table of dispatches in a manifest of abyss-tiny against the report.

usage: check-dispatches.py MANIFEST REPORT
"""
import json
import sys

manifest, report = (json.load(open(path)) for path in sys.argv[1:])
functions = manifest["dispatches"]["functions"]
entry = functions[manifest["dispatches"]["entry"]]
names = [row["name"] for row in entry if "call" in row]
assert names == [f"layers.{i}" for i in range(4)], names
assert "lm_head" in [row["name"] for row in entry], entry
operations = weights = 0
for row in entry:
    for one in functions[row["call"]] if "call" in row else [row]:
        if not one.get("alternative"):
            operations += one.get("row_f32_ops", 0)
            share = one["experts_per_row"] / one["experts"] if "experts" in one else 1
            weights += one.get("weights", 0) * share
expected = sum(layer["count"] * layer["flops_per_token"] for layer in report["layers"])
assert operations == expected, (operations, expected)
# A row of the embedding table is counted apart, and norms are padded.
expected = sum(layer["count"] * layer["active_weight_bytes"] for layer in report["layers"])
assert abs(weights - expected) < 0.01 * weights, (weights, expected)
moe = {row["name"]: row for row in functions["layer_moe"]}
for name in "input_layernorm", "self_attn.o_proj", "mlp.gate", "append_cache_latent":
    assert name in moe, (name, list(moe))
