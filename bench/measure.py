#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Measures compiled models of published shapes, with random weights.

    bench/measure.py --hadalc build/bin/hadalc --work /tmp/bench --out bench/results/cpu.json
    bench/plot.py bench/results/cpu.json

For every shape and stored type: makes the checkpoint (make_random_model.py),
compiles it, runs `OUT --bench --json`, starts it anew a few times for one
token, asks the compiler what it predicts for the machine that was measured, and
deletes it again. Prints a line a run; --out keeps the numbers, and plot.py
makes the tables and plots of docs/performance.md of it. Bandwidth and peaks are
measured in the same process, before and after every repeat, so shares hold on a
machine that others use, too; still, the quieter the better. Needs NumPy, and
disk for one checkpoint and one product at a time.
"""
import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
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


def samples(values):
    values = sorted(values)
    return {"min": values[0], "median": values[len(values) // 2], "max": values[-1]}


def measure_start(product, prompt, repeats=11):
    """Times one token: since main (as the program says), and of the whole process."""
    steps, tokens, walls = [], [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        timings = json.loads(run([product, *prompt, "-n", "1", "--json"]))["timings"]
        walls.append(time.perf_counter() - begin)
        steps.append(timings["first_step_s"])
        tokens.append(timings["first_token_s"])
    return {"first_step_s": samples(steps), "first_token_s": samples(tokens), "process_s": samples(walls)}


def measure(args, shape, scheme, folder):
    product = args.work / f"product-{scheme}"
    quantize = [] if scheme == "bf16" else [f"--quantize={scheme}"]
    options = [folder, f"--context={args.context}", f"--cpu={args.cpu}", "--quiet", *quantize]
    run([args.hadalc, "-o", product, *options])
    text = run([product, "--bench", "-p", args.prefill, "-n", args.decode, "-d", args.depths, "-t", args.threads,
                "-r", args.repeats, "--json"])
    machine = args.work / "machine.json"
    machine.write_text(text)
    report = run([args.hadalc, "--weights=none", "--report", "--json", f"--machine={machine}", *options])
    steps = [{key: step[key] for key in ("kind", "tokens", "depth", "tokens_per_s", "bound")}
             for step in json.loads(report)["prediction"]["steps"]]
    start = measure_start(product, ["--tokens", "1"])
    for file in (product, Path(f"{product}.weights"), machine):
        file.unlink(missing_ok=True)
    result = json.loads(text)
    for one in result["runs"]:
        del one["repeats"]  # What the machine gave beside each is in the shares.
    return {"shape": shape, "scheme": scheme, **result, "start": start,
            "predicted": steps}


def measure_embedded(args):
    """Starts the small model that is in the repository, whose weights are in the program."""
    product = args.work / "abyss"
    run([args.hadalc, HERE.parent / "models/abyss-tiny", "-o", product, "--embed-weights", f"--cpu={args.cpu}",
         "--quiet"])
    result = measure_start(product, ["--prompt", "Once upon a time"])
    product.unlink()
    return result


def rows(result):
    for one in result["runs"]:
        speed = one["tokens_per_s"]
        yield (f"{result['shape']} {result['scheme']}: {one['kind']} {one['tokens']} at {one['depth']}: "
               f"{speed['min']:.2f} / {speed['median']:.2f} / {speed['max']:.2f} tokens/s, "
               f"{one['share_of_bandwidth']['median']:.0%} of bandwidth, {one['share_of_peak']['median']:.0%} of peak")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoints and products")
    parser.add_argument("--out", type=Path, help="JSON file of all results")
    parser.add_argument("--shapes", default="deepseek-coder-1.3b-base",
                        help="comma-separated (%(default)s); NAME:N has the first N layers")
    parser.add_argument("--schemes", default="bf16,int8,int4-g32", help="bf16 or --quantize schemes (%(default)s)")
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
    embedded = measure_embedded(args)
    for shape in args.shapes.split(","):
        shape, _, layers = shape.partition(":")
        folder = args.work / f"{shape}-checkpoint"
        run([sys.executable, HERE / "make_random_model.py", "--shape", shape, "--out", folder,
             *(["--layers", layers] if layers else [])])
        if layers:
            shape = f"{shape}, {layers} layers"
        for scheme in args.schemes.split(","):
            results.append(measure(args, shape, scheme, folder))
            for row in rows(results[-1]):
                print(row, flush=True)
        shutil.rmtree(folder)
    if args.out:
        data = {"processor": processor(), "cpu": args.cpu, "embedded_start": embedded, "results": results}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    main()
