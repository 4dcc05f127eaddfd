#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Runs the fuzzers on seeds that are made from the models of make_cases.py.
"""Fuzzes the readers of safetensors, GGUF, ONNX, config.json, tokenizer.json and weights files.

    run.py --fuzzers build/test/fuzz --cases build/test/e2e/cases --seconds 600 [--jobs 2] [NAME...]

First gives each fuzzer the inputs in crashes/NAME, which were findings once, then lets it look for new ones. What it finds
is left in --findings, to be mended and added to crashes/NAME. Exit status: 0 nothing was found, 1 something was.
"""
import argparse
import concurrent.futures
import gzip
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "runtime" / "text" / "vectors"
NAMES = ("safetensors", "gguf", "onnx", "config", "tokenizer", "weights")
HEADER = 32 << 10  # of a file with tensors, the part that is worth changing


def with_zeros(data, zeros):
    """An input of a fuzzer that reads the number of zeros at the end of a file first."""
    return struct.pack("<I", zeros) + data


def headers(paths):
    for path in paths:
        data = path.read_bytes()
        yield with_zeros(data[:HEADER], max(0, len(data) - HEADER))


def weights_files():
    """Headers with two sections, plain and as the end of an executable."""
    sections = [(b"weights", 4096, 8192), (b"manifest", 12288, 2)]
    header = b"HADALWTS" + struct.pack("<II", 1, len(sections)) + bytes(range(16)) + struct.pack("<Q", 16384)
    header += b"".join(name.ljust(32, b"\0") + struct.pack("<QQ", offset, size) for name, offset, size in sections)
    yield with_zeros(header, 16384 - len(header))
    file = header.ljust(16384, b"\0")
    yield with_zeros(file + struct.pack("<QQ", 0, len(file)) + b"HADALEMB", 0)


def seeds(name, cases):
    """The inputs that fuzzer `name` starts from."""
    if name == "safetensors":
        return headers([cases / "llama" / "model.safetensors"])
    if name == "gguf":
        return headers(sorted(cases.glob("gguf_*/model.gguf")))
    if name == "onnx":
        files = [with_zeros(path.read_bytes(), path.with_name("model.onnx.data").stat().st_size)
                 for path in sorted(cases.glob("onnx_*/model.onnx"))]
        # Text without what a test says first.
        texts = (path.read_bytes() for path in sorted(HERE.parent.glob("lib/Import/*.onnxtext")))
        return files + [with_zeros(text[text.index(b"<ir_version"):], 0) for text in texts]
    if name == "config":
        return (path.read_bytes() for path in sorted(cases.glob("*/config.json")))
    if name == "tokenizer":
        return (gzip.decompress(path.read_bytes()) for path in sorted(VECTORS.glob("*.json.gz")))
    return weights_files()


def run(name, options, findings):
    """Fuzzes one reader; returns what there is to say, and whether nothing was found."""
    fuzzer = options.fuzzers / f"hadal-fuzz-{name}"
    crashes = HERE / "crashes" / name
    with tempfile.TemporaryDirectory(prefix="hadal-fuzz-corpus") as folder:
        corpus = Path(folder)
        longest = 0
        for i, seed in enumerate(seeds(name, options.cases)):
            (corpus / f"seed-{i}").write_bytes(seed)
            longest = max(longest, len(seed))
        if not longest:
            return f"{name}: no seeds in {options.cases}; ctest -R e2e-cases makes them", False
        findings.mkdir(parents=True, exist_ok=True)
        command = [fuzzer, f"-artifact_prefix={findings}/{name}-", "-timeout=100", "-rss_limit_mb=4096"]
        if crashes.is_dir():
            known = subprocess.run([*command, *sorted(crashes.iterdir())], capture_output=True, text=True)
            if known.returncode:
                return f"{name}: a known input is a finding again\n{known.stderr[-4000:]}", False
        done = subprocess.run([*command, f"-max_total_time={options.seconds}", f"-max_len={longest + 64}",
                               f"-seed={options.seed}", "-print_final_stats=1", corpus], capture_output=True, text=True)
    if done.returncode:
        return f"{name}: found something, see {findings}\n{done.stderr[-4000:]}", False
    runs = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "no")
    edges = next((word for line in reversed(done.stderr.splitlines()) if " cov: " in line
                  for word in [line.split(" cov: ")[1].split()[0]]), "no")
    return f"{name}: {runs} inputs, {edges} edges, nothing found", True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--fuzzers", type=Path, required=True, help="where the fuzzers were built")
    parser.add_argument("--cases", type=Path, required=True, help="where make_cases.py put its models")
    parser.add_argument("--findings", type=Path, help="FUZZERS/findings by default")
    parser.add_argument("--seconds", type=int, default=600, help="for each fuzzer (600)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument("--jobs", type=int, default=1, help="fuzzers at a time (1)")
    options = parser.parse_args()
    names = options.names or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"there is no fuzzer '{name}'; there are {', '.join(NAMES)}")
    findings = options.findings or options.fuzzers / "findings"
    good = True
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for text, is_good in pool.map(lambda name: run(name, options, findings), names):
            print(text, flush=True)
            good = good and is_good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
