#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compiles models and compares what the programs compute with what their folder says; make_cases.py writes such folders.
"""Compiles the model of every case and checks what comes out.

    check_goldens.py --hadalc build/bin/hadalc --hadal-run build/bin/hadal-run --cases DIR [--only NAME] [--jobs N]
    check_goldens.py --hadalc build/bin/hadalc --hadal-run build/bin/hadal-run --model DIR
    check_goldens.py .. --hadalc-flag=--target=aarch64-linux-gnu --emulator "qemu-aarch64-static -cpu cortex-a53"

A case is a folder with case.json. It passes if the logits of tokens.json differ from logits.npy by at most "tolerance"
(1e-4) of the largest |logit|, and if both hadal-run and the program itself continue greedy.json's prompt as it says. A
case under bad/ passes if hadalc exits with 1, says why in one line on stderr and leaves no file. A model that has such
files in its own folder golden/ is a case, too, and given by --model. Exit status: 0 all passed, 1 some failed, 2 wrong
usage.
"""
import argparse
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, ids, must_refuse, must_run, require_numpy

np = require_numpy("check_goldens.py")


def compile_command(case, spec, args, output):
    flags = [f"--lora={case / f[7:]}" if f.startswith("--lora=") else f for f in spec.get("flags", [])]
    return [args.hadalc, case / spec.get("model", "."), "-o", output, "--emit=exe", *flags, *args.hadalc_flag]


def check_logits(case, spec, got):
    expected = np.load(case / "logits.npy")
    if got.dtype != np.float32 or got.shape != expected.shape:
        raise Failure(f"logits are {got.dtype}{list(got.shape)}, expected float32{list(expected.shape)}")
    if not np.isfinite(got).all():
        raise Failure(f"{np.count_nonzero(~np.isfinite(got))} logits are not finite")
    # A row is a token; the first bad one says where to look.
    error = np.abs(got.astype(np.float64) - expected).max(axis=1) / np.abs(expected).max()
    tolerance = spec.get("tolerance", 1e-4)
    if error.max() > tolerance:
        raise Failure(f"logits differ by {error.max():.1e} of the largest, at most {tolerance:.0e} is allowed; "
                      f"the first bad token is {np.argmax(error > tolerance)} of {len(error)}")
    return float(error.max())


def check_greedy(case, command, timeout):
    greedy = json.loads((case / "greedy.json").read_text())
    expected = greedy.get("continuation") or greedy["tokens"]
    prompts = [("--tokens", ids(greedy["prompt"]))]
    if "prompt_text" in greedy:
        prompts.append(("--prompt", greedy["prompt_text"]))
    for prompt in prompts:
        out = must_run([*command, *prompt, "-n", len(expected), "--temperature", "0", "--json"], timeout)
        name = f"{Path(command[0]).name} {prompt[0]}"
        try:
            result = json.loads(out)
            found, got, text = result["prompt_tokens"], result["tokens"], result.get("text")
        except (ValueError, KeyError, TypeError):
            raise Failure(f"{name} --json printed no object with prompt_tokens and tokens: {out[:60]!r}")
        if found != greedy["prompt"]:
            raise Failure(f"{name} has prompt_tokens {ids(found)}, expected {ids(greedy['prompt'])}")
        if got != expected:
            raise Failure(f"{name} continues with {ids(got)}, expected {ids(expected)}")
        if text != greedy.get("text", text):
            raise Failure(f"{name} continues with {text!r}, expected {greedy['text']!r}")


def check_good(case, spec, args):
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        program, logits = Path(folder) / case.name, Path(folder) / "logits.npy"
        must_run(compile_command(case, spec, args, program), args.timeout)
        tokens = json.loads((case / "tokens.json").read_text())["tokens"]
        if args.emulator:
            commands = [[*args.emulator.split(), program]]
        else:
            commands = [[args.hadal_run, program], [program]]
        must_run([*commands[0], "--tokens", ids(tokens), "--logits", logits], args.timeout)
        try:
            got = np.load(logits)
        except (OSError, ValueError) as error:
            raise Failure(f"no logits that NumPy can read: {error}")
        error = check_logits(case, spec, got)
        for command in commands:
            check_greedy(case, command, args.timeout)
        return f"max error {error:.1e}"


def check_bad(case, spec, args):
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        line = must_refuse(compile_command(case, spec, args, Path(folder) / "out"), args.timeout)
        left = sorted(p.name for p in Path(folder).iterdir())
        if left:
            raise Failure(f"left behind {', '.join(left)}")
        return line


def check(case, args):
    """Returns (name, passed, one line)."""
    is_bad = case.parent.name == "bad"
    name = case.parent.name if args.model else f"bad/{case.name}" if is_bad else case.name
    try:
        spec = {"model": ".."} if args.model else json.loads((case / "case.json").read_text())
        return name, True, (check_bad if is_bad else check_good)(case, spec, args)
    except Failure as failure:
        return name, False, str(failure)


def find_cases(args, parser):
    root = args.cases.resolve()
    good, bad = (sorted(p.parent for p in root.glob(pattern)) for pattern in ("*/case.json", "bad/*/case.json"))
    cases = {None: good + bad, "good": good, "bad": bad}.get(args.only)
    if cases is None:
        wanted = args.only.split(",")
        cases = [c for c in good + bad if str(c.relative_to(root)) in wanted]
    if not cases:
        parser.error(f"no cases in {root}" + (f" by the name of {args.only}" if args.only else ""))
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=Path)
    parser.add_argument("--hadal-run", required=True, type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cases", type=Path, help="folder of cases")
    what.add_argument("--model", type=Path, help="a model whose folder golden/ has what it computes")
    parser.add_argument("--only", help="cases, with commas (llama,bad/config_empty), or 'good' or 'bad' for all of one kind")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time (default: 1)")
    parser.add_argument("--hadalc-flag", action="append", default=[], help="passed on to hadalc, e.g. --hadalc-flag=--cpu=x")
    parser.add_argument("--emulator", help="command that runs a product of another machine, in place of hadal-run")
    parser.add_argument("--timeout", type=int, default=60, help="seconds that one command may take (default: 60)")
    parser.add_argument("--quiet", action="store_true", help="print the failures only, and the count")
    args = parser.parse_args()
    args.hadalc, args.hadal_run = args.hadalc.resolve(), args.hadal_run.resolve()
    for tool in (args.hadalc, args.hadal_run):
        if not tool.is_file():
            parser.error(f"no such program: {tool}")

    cases = [args.model.resolve() / "golden"] if args.model else find_cases(args, parser)
    failed = 0
    with ThreadPoolExecutor(max(args.jobs, 1)) as pool:
        for name, passed, line in pool.map(lambda case: check(case, args), cases):
            failed += not passed
            if not passed or not args.quiet:
                print(f"{'ok  ' if passed else 'FAIL'} {name:40} {line}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} cases passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
