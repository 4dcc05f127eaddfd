#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Checks models whose tokens skip layers: against the reference interpreter, and that neither threads nor pieces nor the
# other sequences of a step matter.
"""Compiles models with gates of layers, made up or fitted to a text, and runs them.

    check_gates.py --hadalc build/bin/hadalc --hadal-opt build/bin/hadal-opt --cxx c++ --include runtime/include \\
        --cases DIR --only llama_f16_odd,deepseek_v3 --model models/abyss-tiny

A gate that lets all tokens through changes no bit. One that lets none through leaves what keys and values the layer
caches, and nothing else. In between the program computes what the interpreter does, within 1e-4 of the largest |logit|,
and the tokens that skip are counted.
"""
import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import check_batch
import harness
from harness import Failure, ids, must_refuse, must_run

np = harness.require_numpy("check_gates.py")
import make_cases

TOLERANCE = 1e-4
TOKENS = [3, 1, 4, 15, 9, 26, 5, 35, 8, 7, 13, 23, 2, 6, 11, 29, 17, 31]
GATES = "@gates.safetensors"  # By this name recipes read it.


def write_gates(path, gates):
    """A file of a weight of f32 and a bias for each layer and kind in `gates`."""
    path.write_bytes(make_cases.safetensors({
        f"model.layers.{layer}.{kind}_gate.{name}": ("F32", np.shape(values), make_cases.encode(values, "F32"))
        for (layer, kind), (weight, bias) in gates.items() for name, values in (("weight", weight), ("bias", [bias]))}))


class Model:
    def __init__(self, source, folder, args):
        self.args, self.folder = args, folder
        self.path = folder / source.name
        shutil.copytree(source, self.path)
        config = json.loads((self.path / "config.json").read_text())
        self.hidden, self.layers = config["hidden_size"], config["num_hidden_layers"]

    def gates(self, bias, exit_bias=None):
        """A gate of the last layer, and of the one before if there are three, which read random directions; and one by which tokens
        leave before that."""
        random = np.random.default_rng(7)
        layers = {self.layers - 1, max(self.layers - 2, 1 if self.layers > 2 else 0)}
        gates = {} if bias is None else {(layer, "skip"): (random.normal(size=self.hidden), bias) for layer in sorted(layers)}
        if exit_bias is not None:
            gates[(min(layers), "exit")] = (np.random.default_rng(11).normal(size=self.hidden), exit_bias)
        write_gates(self.path / GATES, gates)
        return [f"--skip-layers={self.path / GATES}"]

    def compile(self, flags):
        must_run([self.args.hadalc, self.path, "-o", self.folder / "product", *flags], 60)

    def logits(self, *flags):
        file = self.folder / "logits.npy"
        must_run([self.folder / "product", "--tokens", ids(TOKENS), "--logits", file, *flags], 60)
        return np.load(file)

    def reference(self, flags):
        module, file = self.folder / "graph.mlir", self.folder / "reference.npy"
        must_run([self.args.hadalc, self.path, "--compile-to=graph", "-o", module, *flags], 60)
        must_run([self.args.hadal_opt, module, "-o", self.folder / "ignored.mlir",
                  f"-deepseek-run=tokens={ids(TOKENS)} folder={self.path} npy={file}"], 120)
        return np.load(file)

    def skipped(self):
        """The share of times that a token skipped a layer."""
        out = must_run([self.folder / "product", "--eval", "--tokens", ids(TOKENS), "--json"], 60)
        return json.loads(out)["skipped_layers"]["share"]


def difference(a, b):
    return float(np.abs(a.astype(np.float64) - b).max() / np.abs(b).max())


def expect(condition, message):
    if not condition:
        raise Failure(message)


def hold(model, flags, what):
    """Compares the program to the interpreter, on any number of threads and in any pieces."""
    model.compile(flags)
    logits, reference = model.logits("--threads", "1"), model.reference(flags)
    error = difference(logits, reference)
    expect(error <= TOLERANCE, f"{what}: logits differ from the reference by {error:.1e} of the largest")
    expect((logits == model.logits("--threads", "3")).all(), f"{what}: 3 threads compute other logits than 1")
    for pieces in (1, 7):
        error = difference(model.logits("--chunk", str(pieces)), logits)
        expect(error <= TOLERANCE, f"{what}: in pieces of {pieces} logits differ by {error:.1e} of the largest")
    return logits


def check(source, args):
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as name:
        model = Model(source, Path(name), args)
        model.compile([])
        plain = model.logits()
        model.compile(model.gates(1e9))
        expect((model.logits() == plain).all(), "a gate that lets all through changes logits")
        expect(model.skipped() == 0, "a gate that lets all through skips some")
        hold(model, model.gates(-1e9), "all skipped")
        expect(model.skipped() == 1, "a gate that lets none through skips not all")
        some = hold(model, model.gates(0.0), "some skipped")
        share = model.skipped()
        expect(0 < share < 1, f"expected some tokens to skip, but {share:.0%} do")
        expect(difference(some, plain) > TOLERANCE, "gates change nothing")
        args.flags = model.gates(0.0)
        check_batch.check(model.path, args)
        left = check_exits(model, plain)
        args.flags = model.gates(0.0, 0.0)
        check_batch.check(model.path, args)
        return f"{share:.0%} of the gated layers skipped, {left:.0%} of those behind an exit"


def check_exits(model, plain):
    """Tokens that leave for good, alone and beside gates of layers that are left."""
    model.compile(model.gates(None, 1e9))
    expect((model.logits() == plain).all(), "an exit that nobody takes changes logits")
    expect(model.skipped() == 0, "an exit that nobody takes is taken")
    hold(model, model.gates(None, -1e9), "all left")
    expect(model.skipped() == 1, "an exit that all take is not taken by all")
    some = hold(model, model.gates(None, 0.0), "some left")
    left = model.skipped()
    expect(0 < left < 1, f"expected some tokens to leave, but {left:.0%} do")
    expect(difference(some, plain) > TOLERANCE, "exits change nothing")
    hold(model, model.gates(0.0, 0.0), "some left, some skipped")
    expect(model.skipped() >= left, "gates of layers behind an exit let some back who have left")
    return left


def check_influence(source, args):
    """Gates that are fitted to a text."""
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as name:
        model = Model(source, Path(name), args)
        model.compile([])
        plain = model.logits()
        text, statistics = Path(name) / "text.tokens", model.path / "@statistics"
        text.write_text(ids(TOKENS))
        file = Path(name) / "statistics.safetensors"
        must_run([args.hadalc, model.path, f"--calibration={text}", f"--save-statistics={file}", "--skip-layers=1:50%",
                  "--compile-to=graph", "-o", Path(name) / "ignored.mlir"], 60)
        shutil.copy(file, statistics)
        flags = [f"--calibration={file}"]
        model.compile(["--skip-layers=1:0%", *flags])
        expect((model.logits() == plain).all(), "a gate of 0% changes logits")
        hold(model, ["--skip-layers=1:50%", *flags], "half skipped")
        share = model.skipped()
        expect(0.4 <= share <= 0.6, f"expected half of the tokens to skip, but {share:.0%} do")
        model.compile(["--skip-layers=1:100%", *flags])
        expect(model.skipped() == 1, "a gate of 100% skips not all")
        report = must_run([args.hadalc, model.path, "-o", Path(name) / "measured", "--report", "--skip-layers=2:50%",
                           f"--calibration={text}"], 60)
        expect("% of all operations" in report, f"the report says nothing of skipped layers: {report[-300:]}")
        must_run([args.hadalc, model.path, "-o", Path(name) / "verified", "--verify", "--skip-layers=1:50%",
                  f"--calibration={text}"], 60)
        must_run([args.hadalc, model.path, "--verify", *model.gates(0.0)], 60)
        # Of four layers, tokens go through none from the exit on.
        model.compile(["--skip-layers=exit=2:0%", *flags])
        expect((model.logits() == plain).all(), "an exit of 0% changes logits")
        hold(model, ["--skip-layers=exit=2:50%", *flags], "half left")
        left = model.skipped()
        expect(0.4 <= left <= 0.6, f"expected half of the tokens to leave, but {left:.0%} do")
        hold(model, ["--skip-layers=1:50%,exit=1:25%,exit=3:50%", *flags], "two exits and a gate")
        must_run([args.hadalc, model.path, "--verify", "--skip-layers=1:50%,exit=3:50%", f"--calibration={text}"], 60)
        for flags, error in ((["--skip-layers=9:50%"], "expects at most 2 layers to skip"),
                             (["--skip-layers=2:50%,exit=2:50%"], "expects fewer layers to skip"),
                             (["--skip-layers=exit=4:50%"], "expects tokens to leave before one of the layers 1 to 3, but got 4"),
                             (["--skip-layers=exit=2:50%,exit=2:20%"], "but got it twice"),
                             (["--skip-layers=1:50%", "--prune=layers:1"], "of which one is possible")):
            error_line = must_refuse([args.hadalc, model.path, "-o", Path(name) / "refused", f"--calibration={file}", *flags], 60)
            expect(error in error_line, f"{flags}: expected '{error}', but got '{error_line}'")
        return f"{share:.0%} of the gated layer skipped, {left:.0%} of those behind an exit"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--hadal-opt", required=True, type=harness.existing_file)
    parser.add_argument("--cxx", required=True, help="C++ compiler")
    parser.add_argument("--cxx-flag", action="append", default=[], help="a flag for it")
    parser.add_argument("--include", required=True, type=Path, help="folder of hadal_rt/hadal_rt.h")
    parser.add_argument("--cases", required=True, type=Path, help="folder that make_cases.py wrote")
    parser.add_argument("--only", required=True, help="names of cases, separated by commas")
    parser.add_argument("--model", required=True, type=Path, help="a model of four layers")
    args = parser.parse_args()
    args.threads = "1,2"
    checks = [(name, lambda name=name: check(args.cases / name, args)) for name in args.only.split(",")]
    checks.append((args.model.name, lambda: check_influence(args.model, args)))
    return harness.run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
