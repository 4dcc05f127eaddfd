# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks hadal-eval's table against what it, and hadal-bench, say of each executable alone, and its plot.

usage: check-table.py TEXT BASE OUT...
"""
import json
import subprocess
import sys
import xml.etree.ElementTree as xml

text, base, *products = sys.argv[1:]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


COMMON = ("--text", text, "--against", base)
rows = json.loads(run("hadal-eval", *products, *COMMON, "--json"))["executables"]
assert [row["path"] for row in rows] == products, rows
for row in rows:
    alone = json.loads(run("hadal-eval", row["path"], *COMMON, "--json"))
    bench = json.loads(run("hadal-bench", row["path"], "-p", "0", "-n", "32", "-r", "1", "--json"))
    decode = bench["runs"][0]
    assert row["perplexity"] == alone["perplexity"], (row, alone)
    assert row["kl_divergence"] == alone["kl_divergence"]["mean"], (row, alone)
    assert row["top_1_agreement"] == alone["top_1_agreement"], (row, alone)
    assert row["weights_bytes"] == bench["weights_bytes"], (row, bench)
    assert row["operations_per_token"] == decode["int8_operations_per_token"] + decode["f32_operations_per_token"], (row, decode)
    assert row["tokens_per_s"] > 0, row


def is_dominated(row):
    def key(r):
        return (r["kl_divergence"], r["weights_bytes"], r["operations_per_token"], -r["tokens_per_s"])
    return any(key(other) != key(row) and all(a <= b for a, b in zip(key(other), key(row))) for other in rows)


for row in rows:
    assert row["is_on_front"] == (not is_dominated(row)), rows

svg = xml.fromstring(run("hadal-eval", *products, *COMMON, "--svg"))
SPACE = "{http://www.w3.org/2000/svg}"
dots = svg.findall(SPACE + "circle")
assert len(dots) == len(rows), svg
# The larger to the right, the closer below.
for name, member, sign in (("cx", "weights_bytes", 1), ("cy", "kl_divergence", -1)):
    places = [sign * float(dot.get(name)) for dot in dots]
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            assert row[member] <= other[member] or places[i] >= places[j], (rows, places)
names = [label.text for label in svg.findall(SPACE + "text") if "tokens/s" in label.text]
assert [name.split(",")[0] for name in names] == [path.rpartition("/")[2] for path in products], names
