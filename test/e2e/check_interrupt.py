#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Interrupts hadalc while it packs weights, and looks for what it left behind.
"""Sends signals to hadalc at several moments of a compilation.

    check_interrupt.py --hadalc build/bin/hadalc --folder build/test/e2e/interrupt --model models/abyss-tiny

Exit status 77: the disk has too little room.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
import harness
import sparse
from harness import Failure

# A program that is there already, under the name of the new one, must survive.
OLD = b"what was there before\n"


def largest_file(folder):
    sizes = []
    for path in folder.iterdir():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            pass  # Renamed or removed in between.
    return max(sizes, default=0)


def interrupt(work, args, signals, flags, is_due, to_group=False, model="model"):
    """Starts hadalc, sends signals once is_due(seconds, largest output, temporary files), and checks how it ends."""
    out, scratch = work / "out", work / "tmp"
    for folder in (out, scratch):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    (out / "model").write_bytes(OLD)
    process = subprocess.Popen([args.hadalc, work / model, "-o", out / "model", "--context=128", *flags],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "TMPDIR": str(scratch)}, start_new_session=True)
    start = time.monotonic()
    while not is_due(time.monotonic() - start, largest_file(out), os.listdir(scratch)):
        if process.poll() is not None:
            err = process.stderr.read().decode()
            raise Failure(f"hadalc was done before the signal: {harness.describe(process.returncode, err)}")
        time.sleep(0.002)
    size = largest_file(out)
    sent = time.monotonic()
    try:
        for number in signals:
            # To the linker, too, as a terminal does it.
            os.killpg(process.pid, number) if to_group else process.send_signal(number)
        _, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failure("hadalc runs on after the signal")
    seconds = time.monotonic() - sent
    status = process.returncode
    if status == 0 or status not in (-signals[0], 128 + signals[0], 128 + signal.SIGINT):
        raise Failure(f"expected the status of an interrupted program, got {harness.describe(status, err.decode())}")
    time.sleep(0.5)  # A linker that was not told must not write when hadalc is gone.
    left = sorted(p.name for p in out.iterdir() if p.name != "model") + sorted(p.name for p in scratch.iterdir())
    if left:
        raise Failure(f"left behind {', '.join(left)}")
    if (out / "model").read_bytes() != OLD:
        raise Failure("what was there before is gone")
    return f"after {sent - start:.2f} s, {size / 1e6:.0f} MB written: exit status {status} in {seconds * 1e3:.0f} ms, nothing left"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--folder", required=True, type=Path, help="folder on a disk with 3 GB of room")
    parser.add_argument("--model", required=True, type=Path, help="one with a tokenizer, to calibrate")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="interrupt-", dir=args.folder) as work:
        work = Path(work)
        needed = 2 * sparse.write_model(work / "model", sparse.CODER_6_7B)
        if shutil.disk_usage(work).free < needed:
            print(f"skip  less than {needed / 1e9:.1f} GB are free in {args.folder}")
            return harness.SKIPPED

        def in_packing(seconds, size, scratch):
            return size > 64 << 20

        def after(delay, when=lambda scratch: True):
            """True some seconds after `when` is true for the first time."""
            begin = None

            def is_due(seconds, size, scratch):
                nonlocal begin
                if begin is None and when(scratch):
                    begin = seconds
                return begin is not None and seconds >= begin + delay

            return is_due

        def check(name, signals, is_due, *flags, **options):
            return name, lambda: interrupt(work, args, signals, flags, is_due, **options)

        checks = [check("SIGINT in packing", [signal.SIGINT], in_packing),
                  check("SIGINT in packing, --embed-weights", [signal.SIGINT], in_packing, "--embed-weights"),
                  check("SIGINT in packing, --emit=lib", [signal.SIGINT], in_packing, "--emit=lib"),
                  check("SIGTERM in packing", [signal.SIGTERM], in_packing),
                  check("SIGINT twice in packing", [signal.SIGINT, signal.SIGINT], in_packing)]
        # Import, passes, codegen; then, once there is an object, the linker.
        for delay in (0.02, 0.1, 0.2):
            checks.append(check(f"SIGINT after {delay} s", [signal.SIGINT], after(delay)))
        for delay in (0, 0.02, 0.05):
            checks.append(check(f"SIGINT to all, {delay} s after the object", [signal.SIGINT], after(delay, bool), to_group=True))
            checks.append(check(f"SIGTERM, {delay} s after the object", [signal.SIGTERM], after(delay, bool)))
        # While the model runs over a text, for minutes.
        (work / "text").write_text("Once upon a time there was a little fox who loved plums. " * 200000)
        calibrated = f"--quantize=int8,calibration={work / 'text'}"
        for number in (signal.SIGINT, signal.SIGTERM):
            checks.append(check(f"{number.name} in calibration", [number], after(3, bool), calibrated, model=args.model.resolve()))
        return harness.run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
