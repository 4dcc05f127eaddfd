"""Checks what caches and products that were measured change in a prediction.

usage: check-caches.py hadalc [OPTION...]: reports in int8, of machines that this file describes.
"""
import json
import math
import os
import subprocess
import sys
import tempfile

MACHINE = {"read_bytes_per_s": 4e10, "int8_operations_per_s": 1e18, "f32_operations_per_s": 1e18, "dispatch_s": 0}


def predict(folder, **more):
    def samples(value):
        return {"median": value}

    def item(values, *plain):
        return {key: value if key in plain else samples(value) for key, value in values.items()}

    machine = {key: samples(value) for key, value in MACHINE.items()}
    for key, value in more.items():
        machine[key] = [item(values, "bytes", "bits") for values in value] if isinstance(value, list) else value
    path = os.path.join(folder, "machine.json")
    json.dump(machine, open(path, "w"))
    report = os.path.join(folder, "report.json")
    subprocess.run([*sys.argv[1:], f"--report={report}", "--json", f"--machine={path}"], check=True)
    steps = json.load(open(report))["prediction"]["steps"]
    found = {step["kind"]: step for step in steps if step["depth"] == 0}
    decode, prefill = ({op["op"]: op for op in found[kind]["ops"] if op["layer"] == "layer_dense"} for kind in ("decode", "prefill"))
    return found["decode"], decode["linear"], prefill["linear"], prefill["rms_norm"]


def product(bits, share=1.0, row=1e18, many=1e18):
    return {"bits": bits, "share_of_memory": share, "row_bytes_per_s": row, "operations_per_s": many}


with tempfile.TemporaryDirectory() as folder:
    memory, one, *_ = predict(folder)
    assert math.isclose(memory["seconds"], memory["bytes"] / 4e10, rel_tol=1e-6)
    # The smallest cache that all weights fit into, not those alone that a token chooses; for buffers, that they fit into.
    cached, *_ = predict(folder, caches=[{"bytes": memory["bytes"] * 1.1, "read_bytes_per_s": 8e11},
                                         {"bytes": 1e9, "read_bytes_per_s": 4e11}])
    assert 0.9 < cached["seconds"] / (memory["seconds"] / 10) < 1, cached["seconds"]
    # Products of 8 bits, whatever there is of 4: a share of memory, but for the rows that are rounded for them, ..
    products = [product(4, 0.1, 1e9, 1e9), product(8, 0.5)]
    _, slow, *_ = predict(folder, products=products)
    assert 1.9 * one["seconds"] < slow["seconds"] < 2 * one["seconds"], (slow, one)
    # .. no more from a cache than one row takes, and operations of many.
    products = [product(8, 1, 2e10, 1e12)]
    _, row, many, _ = predict(folder, products=products, caches=[{"bytes": 1e9, "read_bytes_per_s": 4e11}])
    assert 0.9 < row["seconds"] / (row["bytes"] / 2e10) < 1, row
    assert many["bound"] == "operations" and 1 <= many["seconds"] / (many["int8_operations"] / 1e12) < 1.1, many
    # What a cache gives in part only is also slowed by products.
    part = [{"bytes": 1e9, "read_bytes_per_s": 6e10}]
    _, of_part, *_ = predict(folder, products=[product(8, 0.5)], caches=part)
    _, of_all, *_ = predict(folder, caches=part)
    assert 1.8 < of_part["seconds"] / of_all["seconds"] < 2, (of_part, of_all)
    # Two threads hand rows over: one in a decode, all of them from products to what is done by row, half of them to products.
    caches = [{"bytes": 1e9, "read_bytes_per_s": 4e11}]
    rows = [{"threads": 2, "handover_bytes_per_s": {"median": 1e9}, "rows_bytes_per_s": {"median": many}} for many in (1e10, 1e9)]
    together, *_ = predict(folder, caches=caches)
    apart, *fast = predict(folder, caches=caches, **rows[0])
    assert apart["seconds"] > 3 * together["seconds"], (apart["seconds"], together["seconds"])
    _, *slow = predict(folder, caches=caches, **rows[1])
    assert [round(s["seconds"] / f["seconds"]) for s, f in zip(slow, fast)] == [1, 10, 10], (slow, fast)
