#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Checks that what a program computes does not depend on how it is run: on how many threads, and in which pieces it reads
# the prompt.
"""Runs compiled models on 1, 2 and 3 threads and in pieces, and compares the logits.

    check_invariance.py --hadalc build/bin/hadalc --cases DIR --only llama,deepseek_v3 [--model models/abyss-tiny]

Threads must not change a bit. Pieces of the prompt may change the last digits (1e-4 of the largest |logit|), since a
kernel for one token may add in another order than one for many; whether they do is printed. With --attention=bf16, they
may as much as the case allows.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, ids, must_run

np = harness.require_numpy("check_invariance.py")

THREADS = (1, 2, 3)
PIECES = {"in one piece": [], "in pieces of 7": ["--chunk", 7], "token by token": ["--chunk", 1]}
TOLERANCE = 1e-4


def differing(a, b):
    """Says where two arrays differ in any bit; empty if nowhere."""
    if a.shape != b.shape:
        return f"shapes {list(a.shape)} and {list(b.shape)}"
    rows = np.nonzero((a.view(np.uint32) != b.view(np.uint32)).any(axis=1))[0]
    return f"{len(rows)} of {len(a)} tokens differ, first {rows[0]}, by {np.abs(a - b).max():.1e}" if len(rows) else ""


def check(model, tokens, hadalc, flags, tolerance):
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        program, file = Path(folder) / "product", Path(folder) / "logits.npy"
        must_run([hadalc, model, "-o", program, "--emit=exe", *flags], 60)
        first, notes = None, []
        for name, pieces in PIECES.items():
            base = None
            for threads in THREADS:
                must_run([program, "--tokens", ids(tokens), "--threads", threads, "--logits", file, *pieces], 60)
                logits = np.load(file)
                base = logits if base is None else base
                if difference := differing(base, logits):
                    raise Failure(f"{name}, {threads} threads against 1: {difference}")
            if not np.isfinite(base).all():
                raise Failure(f"{name}: logits are not finite")
            if first is None:
                first = base
                continue
            error = float(np.abs(first - base).max() / np.abs(first).max())
            if error > tolerance:
                raise Failure(f"{name} against in one piece: logits differ by {error:.1e} of the largest, "
                              f"at most {tolerance:.0e} is allowed; {differing(first, base)}")
            notes.append(f"{name} {f'within {error:.1e}' if differing(first, base) else 'bit-equal'}")
        return f"{len(tokens)} tokens: threads bit-equal, {', '.join(notes)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--cases", required=True, type=Path, help="folder that make_cases.py wrote")
    parser.add_argument("--only", required=True, help="names of cases, separated by commas")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a model with golden/tokens.json")
    args = parser.parse_args()
    where = [(args.cases / name, args.cases / name) for name in args.only.split(",")]
    where += [(model, model / "golden") for model in args.model]
    checks = []
    for model, case in where:
        tokens = json.loads((case / "tokens.json").read_text())["tokens"]
        spec = case / "case.json"
        case = json.loads(spec.read_text()) if spec.exists() else {}
        flags, tolerance = case.get("flags", []), TOLERANCE
        if any(flag.startswith("--attention") for flag in flags):
            tolerance = case["tolerance"]  # Long pieces have another form.
        checks.append((model.name, lambda m=model, t=tokens, f=flags, e=tolerance: check(m, t, args.hadalc, f, e)))
    return harness.run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
