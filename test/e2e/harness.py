# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# What the end-to-end checks share: running a command, saying what went wrong, and the line that each check prints.
"""Runs commands and reports checks."""
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

SKIPPED = 77  # ctest's SKIP_RETURN_CODE.


class Failure(Exception):
    """What was expected, and what was found."""


def run(command, timeout, **options):
    """Returns (exit status, stdout, stderr); negative for a signal, as subprocess has it."""
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # The linker that it may have started, too.
        process.communicate()
        raise Failure(f"{Path(command[0]).name} ran for more than {timeout} s")
    return process.returncode, out, err


def describe(status, err):
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    lines = err.strip().splitlines()
    return f"{how}, stderr: {lines[0] if lines else '(empty)'}"


def must_run(command, timeout, **options):
    status, out, err = run(command, timeout, **options)
    if status:
        raise Failure(f"{Path(command[0]).name}: {describe(status, err)}")
    return out


def must_refuse(command, timeout, **options):
    """Returns the one line of stderr of a command that must exit with 1."""
    status, _, err = run(command, timeout, **options)
    if status != 1:
        raise Failure(f"expected exit status 1, got {describe(status, err)}")
    lines = err.strip().splitlines()
    if len(lines) != 1:
        raise Failure(f"expected one line on stderr, got {len(lines)}: {' / '.join(lines[:3])}")
    return lines[0]


def measure(command, timeout):
    """Runs a command that must succeed; returns (wall seconds, most resident bytes of it and what it waited for)."""
    start = time.monotonic()
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - start > timeout:
            os.killpg(process.pid, signal.SIGKILL)
            os.wait4(process.pid, 0)
            raise Failure(f"{Path(command[0]).name} ran for more than {timeout} s")
        time.sleep(0.01)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    err = process.stderr.read()
    process.stderr.close()
    if process.returncode:
        raise Failure(f"{Path(command[0]).name}: {describe(process.returncode, err)}")
    return seconds, usage.ru_maxrss * 1024


def ids(tokens):
    return ",".join(map(str, tokens))


def run_checks(checks):
    """Runs (name, function that returns a line or raises Failure) one after another; returns the exit status."""
    failed = 0
    for name, check in checks:
        try:
            passed, line = True, check()
        except Failure as failure:
            passed, line = False, str(failure)
        failed += not passed
        print(f"{'ok  ' if passed else 'FAIL'} {name:40} {line}", flush=True)
    return 1 if failed else 0


def existing_file(text):
    """For argparse: an absolute path, since some checks change the folder."""
    path = Path(text).resolve()
    if not path.is_file():
        raise ValueError(text)
    return path


def require_numpy(name):
    """Ends the script where a check needs NumPy and there is none."""
    try:
        import numpy
    except ImportError:
        sys.exit(f"{name}: numpy is needed (Debian: python3-numpy)")
    return numpy


def add_target_options(parser):
    """Options of a test that compiles a model for several processors and runs it here or in an emulator."""
    for name in ("--hadalc", "--model"):
        parser.add_argument(name, required=True)
    for name in ("--target", "--emulator"):
        parser.add_argument(name)
    parser.add_argument("--cpu", action="append", required=True, help="or NAME=ITS_NAME in the emulator")


def target_of(args, names):
    """Returns the processor of a --cpu, the flags that compile for it, and what runs its products."""
    cpu, _, emulated = names.partition("=")
    flags = [f"--target={args.target}"] if args.target else []
    runner = [*shlex.split(args.emulator), "-cpu", emulated or cpu] if args.emulator else []
    return cpu, [*flags, f"--cpu={cpu}"], runner


def is_for_another(product):
    """Whether a product says that this processor lacks something."""
    status, _, err = run([product, "--tokens", "1", "-n", "1"], 60)
    return status == 1 and "was compiled for processors with" in err
