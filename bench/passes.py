#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Makes the tables of docs/passes.md: what each lossy pass saves and costs, on the model that comes with the project and on
# others.
"""Compiles a model with passes that change it, and measures each product with hadal-eval.

    bench/passes.py [--build build] > table.md
    bench/passes.py --model SmolLM2-135M-Instruct.Q4_1.gguf > table.md

The text that statistics are gathered on and the one that products are measured on are stories of models/train/stories.py,
from different seeds, and for other models than the one that was trained on them, pages of docs/, too: every other one in each.
Parameters, FLOPs and bytes are those of hadalc --report; of layers that tokens skip, what the program counts is taken off.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models" / "train"))
sys.dont_write_bytecode = True
import stories

CASES = [["--top-k=3"], ["--top-k=2"], ["--prune=layers:1"], ["--prune=layers:32%"],
         ["--skip-layers=1:25%"], ["--skip-layers=1:50%"], ["--skip-layers=2:50%"],
         ["--skip-layers=exit=3:50%"], ["--skip-layers=exit=2:50%"], ["--prune=experts:25%"],
         ["--prune=experts:50%"], ["--prune=experts:50%", "--top-k=2"], ["--merge-experts=12"], ["--merge-experts=8"],
         ["--prune=channels:25%"], ["--prune=heads:1"]]
CASES += [[f"--quantize={scheme},method={method}"] for scheme in ("int4-g32", "int4-g128", "mixed", "int8")
          for method in ("rtn", "imatrix", "awq", "gptq")]
CASES += [["--quantize=int5-g32,method=gptq"], ["--quantize=int6-g32,method=gptq"]]
CASES += [[f"--quantize=int8,method=smoothquant,alpha={alpha}"] for alpha in (0.5, 0.75)]
# Of a dense model with more layers.
DENSE = [["--prune=layers:1"], ["--prune=layers:3"], ["--skip-layers=3:50%"], ["--skip-layers=6:50%"],
         ["--skip-layers=exit=28:50%"], ["--skip-layers=exit=25:25%"],
         ["--prune=channels:10%"], ["--window=256,sink=4"]]
DENSE += [[f"--quantize={scheme},method={method}"] for scheme in ("int4-g32", "int8") for method in ("rtn", "imatrix", "awq", "gptq")]


def write_text(path, seed, characters, pages=()):
    r, text = random.Random(seed), ""
    for page in pages:
        text += page.read_text()[:characters // (2 * len(pages))] + "\n\n"
    while len(text) < characters:
        text += stories.document(r)[1] + "\n\n"
    path.write_text(text)


def run(command):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--model", type=Path, default=ROOT / "models/abyss-tiny")
    args = parser.parse_args()
    is_ours = args.model == parser.get_default("model")
    pages = [] if is_ours else sorted((ROOT / "docs").glob("*.md"))
    hadalc, evaluate = args.build / "bin/hadalc", args.build / "bin/hadal-eval"
    with tempfile.TemporaryDirectory(prefix="hadal-passes-") as name:
        folder = Path(name)
        calibration, text, report = folder / "calibration", folder / "text", folder / "report"
        statistics, base = folder / "statistics.safetensors", folder / "base"
        write_text(calibration, 1, 40000, pages[0::2])
        write_text(text, 2, 24000, pages[1::2])

        def compile_with(flags, output):
            run([hadalc, args.model, "-o", output, f"--report={report}", "--json", "--quiet", *flags])
            return json.loads(report.read_text())

        before = compile_with([], base)
        run([hadalc, args.model, f"--quantize=int8,calibration={calibration},method=gptq",
             f"--save-statistics={statistics}", "--compile-to=graph", "-o", folder / "ignored.mlir", "--quiet"])
        print("| flags | parameters | FLOPs a token | bytes | perplexity | KL divergence | same top token |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        first = True
        for flags in CASES if is_ours else DENSE:
            after = compile_with([*flags, f"--calibration={statistics}"], folder / "after")
            found = json.loads(run([evaluate, folder / "after", "--against", base, "--text", text, "--json"]))
            flops = after["decode"]["flops"]
            if any("--skip-layers" in flag for flag in flags):
                skipped = json.loads(run([folder / "after", "--eval", "--text", text, "--json"]))["skipped_layers"]
                flops *= 1 - skipped["operations_share"]
            if first:
                print(f"| none | {before['parameters']} | {before['decode']['flops']} | {before['weight_bytes']} | "
                      f"{found['base']['perplexity']:.2f} | | |")
            first = False
            shares = [f"{100 * (now / then - 1):+.1f} %" for now, then in
                      ((after["parameters"], before["parameters"]), (flops, before["decode"]["flops"]),
                       (after["weight_bytes"], before["weight_bytes"]))]
            print(f"| `{' '.join(flags)}` | {' | '.join(shares)} | "
                  f"{found['perplexity']:.2f} | {found['kl_divergence']['mean']:.3f} | "
                  f"{100 * found['top_1_agreement']:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
