#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes the tables and plots of docs/performance.md of what measure.py measured.

    bench/plot.py bench/results/cpu.json

Replaces what stands between the two comments "measured" of docs/performance.md,
and docs/performance/{decode,prefill,depth}.svg. Needs matplotlib (pip install
matplotlib); nothing else in the project does.
"""
import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# The same input gives the same bytes.
matplotlib.rcParams.update({"svg.hashsalt": "hadal", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                            "axes.spines.right": False})
from matplotlib import pyplot  # noqa: E402

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- measured: bench/plot.py writes this -->", "<!-- end of what was measured -->"
COLORS = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2"]


def save(figure, name, folder, png):
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    if png:
        figure.savefig(png / f"{name}.png", dpi=100)
    pyplot.close(figure)


def runs_of(result, kind):
    return sorted((run for run in result["runs"] if run["kind"] == kind), key=lambda run: run["depth"])


def shapes_of(results):
    return list(dict.fromkeys(result["shape"] for result in results))


def plot_speeds(results, kind, share, label, folder, png):
    """One panel a shape, one bar a stored type, with min and max, and the share of what bounds it."""
    shapes = shapes_of(results)
    figure, axes = pyplot.subplots(1, len(shapes), figsize=(1.2 + 3.4 * len(shapes), 3), squeeze=False)
    for axis, shape in zip(axes[0], shapes):
        bars = [(r["scheme"], runs_of(r, kind)[0]) for r in results if r["shape"] == shape and runs_of(r, kind)]
        for x, (scheme, run) in enumerate(bars):
            speed = run["tokens_per_s"]
            error = [[speed["median"] - speed["min"]], [speed["max"] - speed["median"]]]
            axis.bar(x, speed["median"], yerr=error, color=COLORS[x % len(COLORS)], width=0.6,
                     capsize=3)
            axis.annotate(f"{speed['median']:.1f}\n{run[share]['median']:.0%} of {label}", (x, speed["max"]), ha="center",
                          va="bottom", xytext=(0, 3), textcoords="offset points")
        axis.set_xticks(range(len(bars)), [scheme for scheme, _ in bars])
        axis.set_ylim(0, 1.3 * max(run["tokens_per_s"]["max"] for _, run in bars))
        axis.set_title(shape)
        axis.set_ylabel(f"tokens/s, {kind} of {bars[0][1]['tokens']}")
    save(figure, kind, folder, png)


def plot_depths(results, folder, png):
    shapes = shapes_of(results)
    figure, axes = pyplot.subplots(len(shapes), 2, figsize=(8, 0.4 + 2.8 * len(shapes)), squeeze=False)
    for row, shape in zip(axes, shapes):
        for axis, kind in zip(row, ("decode", "prefill")):
            for i, result in enumerate(r for r in results if r["shape"] == shape):
                runs = runs_of(result, kind)
                axis.plot([run["depth"] for run in runs], [run["tokens_per_s"]["median"] for run in runs], "o-",
                          color=COLORS[i % len(COLORS)], label=result["scheme"], markersize=4)
            axis.set_ylim(bottom=0)
            axis.set_xlabel("tokens before")
            axis.set_ylabel(f"tokens/s, {kind}")
            axis.set_title(shape)
            axis.legend(frameon=False)
    save(figure, "depth", folder, png)


def percent(share):
    """The median, with the range of the repeats where it is known."""
    if "min" not in share:
        return f"{share['median']:.0%}"
    return " / ".join(f"{share[key] * 100:.0f}" for key in ("min", "median", "max")) + "%"


def speed_table(results):
    yield "| shape | weights | run | tokens/s: min / median / max | predicted | of bandwidth | of peak |"
    yield "|---|---|---|---|---|---|---|"
    for result in results:
        predicted = {(p["kind"], p["depth"]): p["tokens_per_s"] for p in result["predicted"]}
        for run in result["runs"]:
            speed = run["tokens_per_s"]
            guess = predicted.get((run["kind"], run["depth"]))
            yield (f"| {result['shape']} | {result['scheme']} | {run['kind']} of {run['tokens']}, {run['depth']} before "
                   f"| {speed['min']:.1f} / {speed['median']:.1f} / {speed['max']:.1f} "
                   f"| {f'{guess:.1f}' if guess else ''} | {percent(run['share_of_bandwidth'])} | {percent(run['share_of_peak'])} |")


def machine_table(results):
    yield "| shape, weights | reads, GB/s | f32, GFLOP/s | int8, TOP/s | a dispatch, us |"
    yield "|---|---|---|---|---|"
    for r in results:
        yield (f"| {r['shape']}, {r['scheme']} | {r['read_bytes_per_s']['median'] / 1e9:.1f} "
               f"| {r['f32_operations_per_s']['median'] / 1e9:.0f} "
               f"| {r['int8_operations_per_s']['median'] / 1e12:.2f} ({r['int8_instruction']}) "
               f"| {r['dispatch_s']['median'] * 1e6:.2f} |")


def start_table(data):
    yield "| program | first step, ms | first token, ms | whole process, ms |"
    yield "|---|---|---|---|"
    starts = [("abyss-tiny, embedded", data["embedded_start"])]
    starts += [(f"{r['shape']}, {r['scheme']}", r["start"]) for r in data["results"]]
    for name, start in starts:
        cells = [f"{start[key]['median'] * 1e3:.2f}" for key in ("first_step_s", "first_token_s", "process_s")]
        yield f"| {name} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, help="what measure.py --out wrote")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of performance.md (%(default)s)")
    parser.add_argument("--png", type=Path, help="folder for the plots as PNG, too")
    args = parser.parse_args()
    data = json.loads(args.results.read_text())
    results, folder = data["results"], args.docs / "performance"
    for path in filter(None, (folder, args.png)):
        path.mkdir(parents=True, exist_ok=True)
    plot_speeds(results, "decode", "share_of_bandwidth", "bandwidth", folder, args.png)
    plot_speeds(results, "prefill", "share_of_peak", "peak", folder, args.png)
    plot_depths(results, folder, args.png)
    lines = [f"Processor: {data['processor']}; {results[0]['threads']} threads; LLVM target `{data['cpu']}`.", "",
             "![Decode](performance/decode.svg)", "", "![Prefill](performance/prefill.svg)", "",
             "![Speed against depth](performance/depth.svg)", "", *speed_table(results), "", *machine_table(results), "",
             *start_table(data)]
    page = args.docs / "performance.md"
    text = page.read_text()
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
