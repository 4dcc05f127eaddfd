"""Checks predictions of the roofline against what they must be.

usage: check-prediction.py BYTES OPERATIONS DISPATCH, reports of abyss-tiny for
machines that are slow in these alone.
"""
import json
import math
import sys

by_bytes, by_operations, by_dispatch = (json.load(open(path)) for path in sys.argv[1:])


def decode(report):
    return next(s for s in report["prediction"]["steps"] if s["kind"] == "decode" and s["depth"] == 0)


step = decode(by_bytes)
assert step["bound"] == "bytes" and math.isclose(step["seconds"], step["bytes"] / 1e6, rel_tol=1e-6)
# All weights that a token reads, and its buffers.
assert by_bytes["decode"]["bytes"] < step["bytes"] < 2 * by_bytes["decode"]["bytes"]
step = decode(by_operations)
assert step["bound"] == "operations"
assert math.isclose(step["seconds"], step["f32_operations"] / 1e6, rel_tol=1e-6)
# The same as the report counts from the model; attention sees the token itself.
flops = by_operations["decode"]["flops"]
assert step["f32_operations"] == flops, (step["f32_operations"], flops)
assert step["int8_operations"] == 0
step = decode(by_dispatch)
# Of one token, those that threads share; of many, all.
prefill = next(s for s in by_dispatch["prediction"]["steps"] if s["kind"] == "prefill" and s["depth"] == 0)
assert step["bound"] == "dispatch" and 30 < round(step["seconds"] * 1e3) < 60 < round(prefill["seconds"] * 1e3), step["seconds"]
for report in by_bytes, by_operations, by_dispatch:
    for step in report["prediction"]["steps"]:
        assert math.isclose(sum(op["seconds"] for op in step["ops"]), step["seconds"], rel_tol=1e-9)
