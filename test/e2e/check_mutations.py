#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Breaks sound models at random and gives them to hadalc, which may take or refuse them, but not crash.
"""Changes config.json and the header of model.safetensors, and imports what comes out; or config.json alone, and compiles
that with --weights=none, where no tensor contradicts it.

    check_mutations.py --hadalc build-debug/bin/hadalc --cases DIR [--count 200] [--seed 0]

A model passes if hadalc exits with 0, or with 1 and one line on stderr; one that fails is kept.
"""
import argparse
import json
import random
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure

MODELS = ("llama_rope_parameters", "deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v3_fp8")
VALUES = (0, 1, -1, 2, 3, 7, 64, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -2**63, 1e-300, 1e300, 0.5, True,
          None, "", "a", [], [[]], {}, "\x00", "yarn", "noaux_tc", "greedy", "BF16", "F8_E4M3")


def places(value, path=()):
    """Yields the path of every value in a JSON document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


def change_value(document, rng):
    """Replaces, removes, moves or scales one value; returns what was done."""
    path = rng.choice(list(places(document)))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    what = rng.randrange(4)
    if what == 0:
        value = rng.choice(VALUES)
    elif what == 1:
        other = document
        for step in rng.choice(list(places(document))):
            other = other[step]
        value = json.loads(json.dumps(other))
    elif what == 2 and isinstance(parent[key], (int, float)):
        value = parent[key] * rng.choice((-1, 2, 3, 2**20, 2**40)) + rng.choice((-1, 0, 1))
    else:
        del parent[key]
        return f"{'.'.join(map(str, path))} removed"
    parent[key] = value
    return f"{'.'.join(map(str, path))} is {json.dumps(value)[:40]}"


def change_bytes(data, rng):
    data = bytearray(data)
    what = rng.randrange(3)
    at = rng.randrange(len(data))
    if what == 0:
        data[at] ^= 1 << rng.randrange(8)
        return bytes(data), f"a bit of byte {at}"
    if what == 1:
        return bytes(data[:at]), f"cut at {at}"
    end = min(len(data), at + rng.randrange(1, 40))
    return bytes(data[:at] + data[end:]), f"bytes {at} .. {end} removed"


def split(path):
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8:8 + size]), data[8 + size:]


def mutate(folder, file, rng):
    """Breaks a file of the model; returns what was done."""
    path, body = folder / file, b""
    if file == "config.json":
        document = json.loads(path.read_text())
    else:
        document, body = split(path)
    done = [change_value(document, rng) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
    text = json.dumps(document).encode()
    size = len(text)
    if not done:
        text, how = change_bytes(text, rng)
        done.append(how)
        size = len(text) if rng.randrange(2) else size
    path.write_bytes(struct.pack("<Q", size) + text + body if body else text)
    return f"{file}: {'; '.join(done)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--cases", required=True, type=Path, help="folder that make_cases.py wrote")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=int, default=60, help="seconds for one model (default: 60)")
    args = parser.parse_args()
    refused = taken = failed = 0
    slowest = (0, "")
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as work:
        for number in range(args.count):
            rng = random.Random(f"{args.seed} {number}")
            model = Path(work) / "model"
            shutil.rmtree(model, ignore_errors=True)
            case = args.cases / rng.choice(MODELS)
            model.mkdir()
            for name in ("config.json", "model.safetensors"):
                shutil.copy(case / name, model / name)
            is_whole = number % 2
            file = "config.json" if is_whole else rng.choice(("config.json", "model.safetensors"))
            done = f"{case.name}, {mutate(model, file, rng)}"
            # Lowering says the same of a broken checkpoint as of a sound one, and takes most of the time.
            flags = ["--weights=none", "--emit=obj"] if is_whole else ["--compile-to=import"]
            try:
                start = time.monotonic()
                status, _, err = harness.run([args.hadalc, model, "-o", Path(work) / "out", *flags], args.timeout)
                slowest = max(slowest, (time.monotonic() - start, done))
                lines = err.strip().splitlines()
                if status not in (0, 1) or status == 1 and len(lines) != 1:
                    raise Failure(f"{harness.describe(status, err)}, {len(lines)} lines")
                refused, taken = refused + (status == 1), taken + (status == 0)
            except Failure as failure:
                failed += 1
                kept = Path(tempfile.mkdtemp(prefix=f"hadal-mutation-{args.seed}-{number}-"))
                shutil.copytree(model, kept, dirs_exist_ok=True)
                print(f"FAIL {done}: {failure}; {' '.join(flags)} with {kept}", flush=True)
    print(f"the slowest took {slowest[0]:.1f} s: {slowest[1]}")
    print(f"{args.count} models broken at random: {refused} refused, {taken} taken, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
