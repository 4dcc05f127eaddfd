#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Measures compiled models of published shapes, with random weights.

    bench/measure.py --hadalc build/bin/hadalc --work /tmp/bench --out results.json

For every shape and stored type: makes the checkpoint (make_random_model.py),
compiles it, runs `OUT --bench --json`, and deletes it again. Prints a Markdown
table; --out keeps every number. Bandwidth is measured in the same process as
the model, so shares hold on a machine that others use, too; still, the quieter
the better. Needs NumPy, and disk for one checkpoint and one product at a time.
"""
import argparse
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(command):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"measure.py: {' '.join(map(str, command))}: exit {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def measure(args, shape, scheme, folder):
    product = args.work / f"{shape}-{scheme}"
    quantize = [] if scheme == "bf16" else [f"--quantize={scheme}"]
    run([args.hadalc, folder, "-o", product, f"--context={args.context}", f"--cpu={args.cpu}", "--quiet", *quantize])
    text = run([product, "--bench", "-p", args.prefill, "-n", args.decode, "-d", args.depths, "-t", args.threads,
                "-r", args.repeats, "--json"])
    for file in (product, Path(f"{product}.weights")):
        file.unlink(missing_ok=True)
    return {"shape": shape, "layers": args.layers, "scheme": scheme, **json.loads(text)}


def rows(result):
    read = result["read_bytes_per_s"]["median"]
    for one in result["runs"]:
        speed = one["tokens_per_s"]
        share = ""
        if "bytes_per_token" in one:
            share = f"{one['bytes_per_token'] * speed['median'] / read:.0%} of {read / 1e9:.1f} GB/s"
        yield (f"| {result['shape']} | {result['scheme']} | {one['kind']} {one['tokens']} at {one['depth']} "
               f"| {speed['min']:.2f} / {speed['median']:.2f} / {speed['max']:.2f} | {share} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoints and products")
    parser.add_argument("--out", type=Path, help="JSON file of all results")
    parser.add_argument("--shapes", default="deepseek-coder-1.3b-base", help="comma-separated (%(default)s)")
    parser.add_argument("--schemes", default="bf16,int8,int4-g32", help="bf16 or --quantize schemes (%(default)s)")
    parser.add_argument("--layers", type=int, help="keep only the first N layers of each shape")
    parser.add_argument("--cpu", default="native")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--prefill", "-p", type=int, default=512)
    parser.add_argument("--decode", "-n", type=int, default=64)
    parser.add_argument("--depths", "-d", default="0")
    parser.add_argument("--threads", "-t", type=int, default=0)
    parser.add_argument("--repeats", "-r", type=int, default=3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    results = []
    print(f"{processor()}, LLVM target {args.cpu}\n")
    print("| shape | weights | run | tokens/s: min / median / max | bytes read |")
    print("|---|---|---|---|---|")
    for shape in args.shapes.split(","):
        folder = args.work / f"{shape}-checkpoint"
        layers = ["--layers", args.layers] if args.layers else []
        run([sys.executable, HERE / "make_random_model.py", "--shape", shape, "--out", folder, *layers])
        for scheme in args.schemes.split(","):
            results.append(measure(args, shape, scheme, folder))
            for row in rows(results[-1]):
                print(row, flush=True)
        shutil.rmtree(folder)
    if args.out:
        args.out.write_text(json.dumps({"processor": processor(), "cpu": args.cpu, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
