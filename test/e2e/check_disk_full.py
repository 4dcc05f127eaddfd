#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# A disk that is full, and a folder that may not be written, are plain errors.
"""Runs the tools where there is no room for what they write.

    check_disk_full.py --tools build/bin --model models/abyss-tiny

Exit status 77: this user may not mount a small file system of its own.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure

# In a mount namespace of its own: what is mounted is gone when it ends.
SMALL = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && cd "$2" && shift 2 && { "$@"; status=$?; ls -A; exit $status; }'


def expect_error(status, err, *words):
    lines = err.strip().splitlines()
    if status != 1 or len(lines) != 1 or "error: " not in err or not any(word in err for word in words):
        raise Failure(f"expected one error with '{words[0]}', got {harness.describe(status, err)} ({len(lines)} lines)")
    return lines[0]


def small_disk(folder, size, command):
    status, out, err = harness.run(["unshare", "-rm", "sh", "-c", SMALL, "sh", size, folder, *command], 60)
    line = expect_error(status, err, "No space left on device")
    if out.strip():
        raise Failure(f"left behind {' '.join(out.split())}")
    return line


def full_stdout(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True)
    return expect_error(done.returncode, done.stderr, "No space left on device")


def read_only(folder, command):
    """Not even root may create a file in /proc; another user may not in a folder without the permission to."""
    out = Path("/proc/self/out")
    if os.geteuid():
        (folder / "read-only").mkdir(mode=0o555, exist_ok=True)
        out = folder / "read-only" / "out"
    status, _, err = harness.run([*command, "-o", out], 60)
    return expect_error(status, err, "Permission denied", "No such file or directory", "Operation not permitted")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tools", required=True, type=Path, help="folder of hadalc and the others")
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    args.tools, args.model = args.tools.resolve(), args.model.resolve()
    if harness.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], 60)[0]:
        print("skip  may not mount a file system")
        return harness.SKIPPED
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        folder = Path(folder)
        small = folder / "small"
        small.mkdir()
        compile_to = [args.tools / "hadalc", args.model, "-o", "out"]
        checks = []
        for size, flags in (("4m", []), ("100k", []), ("100k", ["--emit=lib"]), ("2m", ["--embed-weights"]),
                            ("100k", ["--embed-weights"]), ("8k", ["--emit=mlir"])):
            checks.append((" ".join(["hadalc in", size, *flags]), lambda size=size, flags=flags: small_disk(small, size, compile_to + flags)))
        checks.append(("hadalc in a read-only folder", lambda: read_only(folder, compile_to[:2])))
        for tool in ("hadalc", "hadal-run", "hadal-bench", "hadal-diff", "hadal-eval", "hadal-serve"):
            if not (args.tools / tool).exists():  # hadal-serve is not built everywhere.
                continue
            checks.append((f"{tool} --help to a full disk", lambda tool=tool: full_stdout([args.tools / tool, "--help"])))
        checks.append(("hadalc --report to a full disk", lambda: full_stdout([*compile_to[:2], "--report"])))
        checks.append(("hadal-translate to a full disk",
                       lambda: full_stdout([args.tools / "hadal-translate", "--import-hf", args.model, "--weights=none"])))
        return harness.run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
