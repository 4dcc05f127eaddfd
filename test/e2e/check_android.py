#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes libraries of a model for Android, looks at what they ask of it, and runs one on glibc.

    check_android.py --hadalc build/bin/hadalc --model models/abyss-tiny --readelf llvm-readelf-22 --cc aarch64-linux-gnu-gcc
        --examples examples --runtime runtime --emulator qemu-aarch64-static

The emulator runs examples/c/generate.c with the library, and with test/e2e/bionic.c for what bionic says otherwise; without
one, nothing is run. Exit status: 0 all is as it should be, 1 something is not.
"""
import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

HERE = Path(__file__).resolve().parent
TRIPLE = "aarch64-linux-android"


def build(args, folder):
    must_run([args.hadalc, args.model, "--quiet", "--emit=lib", f"--target={TRIPLE}", "--cpu=cortex-a76",
              "-o", folder / "abyss"], 120)
    return folder / "abyss.so"


def check_library(args, folder):
    library = build(args, folder)
    dynamic = must_run([args.readelf, "-d", library], 60)
    needed = sorted(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    if needed != ["libc.so", "libm.so"]:
        raise Failure(f"it needs {', '.join(needed)}, expected libc.so and libm.so")
    if re.findall(r"\(SONAME\).*\[(.*)\]", dynamic) != ["abyss.so"] or "NOW" not in dynamic:
        raise Failure("expected the name abyss.so, bound when it is loaded")
    segments = re.findall(r"^\s*(LOAD|TEXTREL|INTERP|GNU_STACK) .* ([RWE ]{3}) +(0x\w+|0)$",
                          must_run([args.readelf, "-lW", library], 60), re.M)
    for kind, flags, align in segments:
        if (kind == "LOAD" and int(align, 16) != 16384) or ("W" in flags and "E" in flags) or kind in ("TEXTREL", "INTERP"):
            raise Failure(f"it has a segment {kind} {flags} of alignment {align}")
    if not any(kind == "LOAD" for kind, *_ in segments):
        raise Failure("it has no segments")
    symbols = must_run([args.readelf, "--dyn-syms", "-W", library], 60)
    missing = {"abyss_model", "hadal_rt_session_create"} - set(re.findall(r"GLOBAL +DEFAULT +\d+ (\w+)$", symbols, re.M))
    if missing:
        raise Failure(f"it does not offer {', '.join(sorted(missing))}")
    return f"{library.stat().st_size >> 10} KiB, pages of 16 KiB"


def check_refusals(args, folder):
    for triple, emit, wanted in ((TRIPLE + "28", "lib", "made for Android's API 29 and later, but it names 28"),
                                 ("x86_64-linux-android", "lib", "made for aarch64 only"),
                                 (TRIPLE, "exe", "only objects and libraries are made for it")):
        err = harness.must_refuse([args.hadalc, args.model, "--quiet", f"--emit={emit}", f"--target={triple}", "-o", folder / "no"], 60)
        if wanted not in err:
            raise Failure(f"{triple}: {err.strip()}")
    if list(folder.glob("no*")):
        raise Failure("a refused library left files")
    return "older systems, other machines, programs"


def check_steps(args, folder):
    if not args.emulator:
        return "skipped: there is no emulator"
    build(args, folder)
    shared = [args.cc, "-O1", "-fPIC", "-shared", "-Wl,--no-as-needed"]
    must_run([*shared, HERE / "bionic.c", "-Wl,-soname,libc.so", "-o", folder / "libc.so"], 60)
    must_run([*shared, "-x", "c", "/dev/null", "-Wl,-soname,libm.so", "-o", folder / "libm.so", "-lm"], 60)
    # In this order, so that the library finds bionic's names before glibc's.
    must_run([args.cc, "-O1", f"-I{args.runtime / 'include'}", f"-I{folder}", args.examples / "c" / "generate.c",
              "-Wl,--no-as-needed,--disable-new-dtags,-rpath,$ORIGIN", folder / "abyss.so", folder / "libc.so", folder / "libm.so",
              "-o", folder / "generate"], 60)
    greedy = json.loads((args.model / "golden" / "greedy.json").read_text())
    out = must_run([args.emulator, "-cpu", "cortex-a76", folder / "generate", *greedy["prompt"]], 120, cwd=folder).split()
    if [int(token) for token in out] != greedy["tokens"][:32]:
        raise Failure(f"generate printed {','.join(out)}")
    err = harness.must_refuse([args.emulator, "-cpu", "cortex-a53", folder / "generate", 0], 60, cwd=folder)
    if "compiled for processors with dot products" not in err:
        raise Failure(f"on a Cortex-A53: {err.strip()}")
    return "32 tokens as in golden/greedy.json; refused on a Cortex-A53"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--hadalc", "--readelf"):
        parser.add_argument(name, required=True)
    for name in ("--model", "--examples", "--runtime"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--cc", help="a C compiler for AArch64 Linux")
    parser.add_argument("--emulator")
    args = parser.parse_args()
    checks = {"library": check_library, "refusals": check_refusals, "steps": check_steps}
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as work:
        def run(name, check):
            folder = Path(work) / name
            folder.mkdir()
            return check(args, folder)
        return harness.run_checks([(name, lambda name=name, check=check: run(name, check)) for name, check in checks.items()])


if __name__ == "__main__":
    sys.exit(main())
