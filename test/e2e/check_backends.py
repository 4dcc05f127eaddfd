#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# What docs/backends.md says is tested is what the tests run.
"""Finds out which ops and stored types the cases have that each backend's tests run, and compares that with a table in docs.

    check_backends.py --hadalc build/bin/hadalc --cases build/test/e2e/cases --build build --doc docs/backends.md [--update]

An op, the stored type of its weights or the cache that it reads is in a case if the model has it after all passes; a test runs
the cases that ctest passes to check_goldens.py. --update writes the table. Exit status: 0 it is as it should be, 1 it is not.
"""
import argparse
import collections
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, must_run

COLUMNS = [("x86-64", "e2e-goldens"), ("Cortex-A53", "e2e-aarch64-cortex-a53"), ("Cortex-A76", "e2e-aarch64-cortex-a76"),
           ("Neoverse-V1", "e2e-aarch64-max"), ("RISC-V", "e2e-riscv64"), ("C++, g++", "e2e-cpp-g++"),
           ("C++, clang", "e2e-cpp-clang++"), ("CUDA", "e2e-cuda")]
BEGIN = "<!-- made by test/e2e/check_backends.py --update -->\n"
END = "<!-- end of what is made -->\n"
TYPES = {"f8E4M3FN": "fp8", "f4E2M1FN": "fp4", "i8": "int8", "i4": "int4", "ui8": "uint8", "ui4": "uint4"}
WEIGHTED = ("linear", "head_linear", "lm_head", "experts", "embed")
READ_CACHE = ("select_keys", "select_entries", "compress")
# Nothing is computed in them, or only where weights are stored.
SILENT = {"weight", "use_weight", "yield", "source", "model", "pack", "quantize", "quantize_scales", "convert", "slice", "split",
          "numbers", "reshape", "transpose", "adapter"}


def contents(text):
    """The (op, stored type) of the functions of a module."""
    found = set()
    cache = re.search(r"!deepseek\.\w+_cache<[^>]*element = (\w+)", text)
    element = f"cache of {TYPES.get(cache[1], cache[1])}" if cache else "cache of f32"
    for line in text[text.index("func.func"):].splitlines():
        match = re.match(r"\s+(?:%\S+ = )?deepseek\.(\w+)", line)
        if not match or match[1] in SILENT:
            continue
        op = match[1]
        if op in WEIGHTED:
            weights = re.findall(r"tensor<(?:\d+x){2,}(\w+)", line[line.rindex(" : "):])
            for weight in set(weights):
                inputs = ", inputs in int8" if "activation_group" in line else ""
                found.add((op, TYPES.get(weight, weight) + inputs))
        else:
            found.add((op, element if "attention" in op or op in READ_CACHE else ""))
    return found


def read_case(args, case):
    spec = json.loads((case / "case.json").read_text())
    flags = [f"--lora={case / f[7:]}" if f.startswith("--lora=") else f for f in spec.get("flags", [])]
    text = must_run([args.hadalc, case / spec.get("model", "."), "--compile-to=graph", "--quiet", "-o", "-",
                     *flags], 120)
    return contents(text)


def read_tests(args, cases):
    """The cases that each test runs, by its name."""
    listing = json.loads(must_run([args.ctest, "--test-dir", args.build, "--show-only=json-v1"], 120))
    tests = {}
    for test in listing["tests"]:
        command = test.get("command", [])
        if "--only" in command and "--cases" in command:
            only = command[command.index("--only") + 1]
            tests[test["name"]] = set(cases) if only == "good" else set(only.split(","))
    return tests


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--hadalc", "--cases", "--build", "--doc"):
        parser.add_argument(name, required=True)
    parser.add_argument("--ctest", default="ctest")
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    folders = sorted(p.parent for p in Path(args.cases).glob("*/case.json"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cases = dict(zip([f.name for f in folders], pool.map(lambda case: read_case(args, case), folders)))
    tests = read_tests(args, cases)
    columns = [(title, tests[name]) for title, name in COLUMNS if name in tests]
    if len(columns) < len(COLUMNS) and not args.update:
        missing = ", ".join(name for _, name in COLUMNS if name not in tests)
        print(f"skipped: this build has no {missing}")
        return 77
    counts = collections.Counter((row, title) for title, names in columns for name in names for row in cases[name])
    totals = collections.Counter(row for rows in cases.values() for row in rows)
    rows = sorted(totals)

    def say(row, title):
        return {0: "by hand", totals[row]: "all"}.get(counts[row, title], "some")

    table = [["op", "weights or cache", *(title for title, _ in columns)], ["---"] * (2 + len(columns))]
    table += [[f"`{op}`", kind, *(say((op, kind), title) for title, _ in columns)] for op, kind in rows]
    text = "".join("| " + " | ".join(row) + " |\n" for row in table)
    page = Path(args.doc).read_text()
    before, _, rest = page.partition(BEGIN)
    old, mark, after = rest.partition(END)
    if not mark:
        raise Failure(f"{args.doc} has no '{BEGIN.strip()}' and '{END.strip()}'")
    if args.update:
        Path(args.doc).write_text(before + BEGIN + text + END + after)
    elif old != text:
        changed = next((new for new, was in zip(text.splitlines(), old.splitlines()) if new != was), "its end")
        raise Failure(f"{args.doc} does not say what the tests run: {changed}; run this with --update")
    print(f"ok   {len(rows)} ops and types in {len(cases)} cases")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"check_backends.py: {failure}")
