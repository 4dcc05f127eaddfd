#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Checks what a window is for: a document many times as long goes through in the memory that the report promised.
"""Runs a document of 16384 tokens through a window of 256 of them and a sink of 4.

    check_window.py --hadalc build/bin/hadalc --folder DIR

The memory that the run takes, besides the mapped weights, must be what the report promises for the cache and the
activations; the logits of all tokens must be those that reference.py computes.
"""
import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, ids, must_run

np = harness.require_numpy("check_window.py")
import make_cases
import reference

TOKENS, WINDOW, SINK, STEP = 16384, 256, 4, 128
FLAGS = [f"--window={WINDOW},sink={SINK}"]
TOLERANCE = 1e-4
# Logits on their way to the file, the tokens as text and as numbers, the page table, the C library.
SLACK_BYTES = 1 << 20


def make_model(folder):
    config = make_cases.llama(vocab_size=64, hidden_size=128, intermediate_size=64, num_hidden_layers=3,
                              max_position_embeddings=TOKENS)
    rng = np.random.default_rng(16384)
    make_cases.write_model(folder, config, make_cases.random_tensors(config, "BF16", rng))
    return config, rng.integers(2, config["vocab_size"], TOKENS).tolist()


def measure_peak(command):
    """Runs a command; returns (seconds, most resident bytes that are not those of mapped files)."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if found := re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()):
            peak = max(peak, int(found[1]) * 1024)
        if time.monotonic() - start > 120:
            process.kill()
        time.sleep(0.002)
    if process.returncode:
        raise Failure(f"the program ended with {process.returncode}")
    return time.monotonic() - start, peak


def check_memory(args, program, tokens):
    report = json.loads(must_run([args.hadalc, args.folder / "model", "--weights=none", "--report", "--json", *FLAGS], 60))
    memory, per_token = report["memory"], report["kv_bytes_per_token"]
    pages = -(-SINK // memory["page_tokens"]) + 1 - (-(WINDOW + STEP - 2) // memory["page_tokens"])
    promised = memory["arena_bytes_per_token"] * STEP + memory["arena_bytes_fixed"] + memory["page_bytes"] * pages
    if (memory["window_tokens"], memory["sink_tokens"]) != (WINDOW, SINK):
        raise Failure(f"the report has a window of {memory['window_tokens']} tokens and a sink of {memory['sink_tokens']}")
    whole = per_token * TOKENS
    if promised + SLACK_BYTES > whole / 8:
        raise Failure(f"{promised} bytes are promised, which would show little: all tokens would be {whole}")
    seconds, most = measure_peak([program, "--threads", 2, "--chunk", STEP, "--tokens", ids(tokens),
                                  "--logits", args.folder / "logits.npy"])
    if most > promised + SLACK_BYTES:
        raise Failure(f"{TOKENS} tokens took {most} bytes, promised are {promised}")
    return f"{most / 1e6:.2f} MB in {seconds:.1f} s; promised {promised / 1e6:.2f} MB, all tokens would be {whole / 1e6:.1f} MB"


def check_logits(args, config, tokens):
    values = reference.read_checkpoint(args.folder / "model")[1]
    expected = reference.forward({**config, "_window": (WINDOW, SINK)}, values, tokens)
    got = np.load(args.folder / "logits.npy").astype(np.float64)
    error = np.abs(got - expected).max(axis=1) / np.abs(expected).max()
    if error.max() > TOLERANCE:
        raise Failure(f"logits differ by {error.max():.1e} of the largest, at most {TOLERANCE:.0e} is allowed; the first "
                      f"bad token is {np.argmax(error > TOLERANCE)} of {TOKENS}")
    return f"max error {error.max():.1e}, of the last token {error[-1]:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--folder", required=True, type=Path, help="for the model and what is made of it; emptied")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    config, tokens = make_model(args.folder / "model")
    program = args.folder / "program"
    must_run([args.hadalc, args.folder / "model", "-o", program, *FLAGS], 60)
    return harness.run_checks([("memory", lambda: check_memory(args, program, tokens)),
                               ("logits", lambda: check_logits(args, config, tokens))])


if __name__ == "__main__":
    sys.exit(main())
