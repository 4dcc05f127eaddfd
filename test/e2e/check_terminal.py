#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# What tools write to a terminal alone: colors, and progress.
"""Runs the tools with stderr on a terminal, on one without colors, and in a pipe.

    check_terminal.py --tools build/bin --model models/abyss-tiny
"""
import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure

RED = "\x1b["


def on_terminal(command, **environment):
    """Returns (exit status, stdout, what the terminal got from stderr)."""
    controller, terminal = pty.openpty()
    variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal,
                               env=variables | {"TERM": "xterm-256color"} | environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            data = os.read(controller, 65536)
        except OSError:  # All that had the terminal are gone.
            break
        if not data:
            break
        shown += data
    os.close(controller)
    out, _ = process.communicate()
    return process.returncode, out.decode(), shown.decode()


def expect(condition, message):
    if not condition:
        raise Failure(message)


def check_colors(command, status):
    plain, _, piped = harness.run(command, 60)
    expect(plain == status and RED not in piped and "error: " in piped, f"{command[0].name} in a pipe: {plain}, {piped!r}")
    code, out, shown = on_terminal(command)
    expect(code == status and not out and re.search(r"\x1b\[[0-9;]*31m(.*)\x1b\[0m", shown), f"{command[0].name} on a terminal: {code}, {shown!r}")
    expect(re.sub(r"\x1b\[[0-9;]*m", "", shown).split() == piped.split(), f"the text on a terminal is {shown!r}, in a pipe {piped!r}")
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        shown = on_terminal(command, **environment)[2]
        expect(shown.split() == piped.split(), f"{command[0].name} with {environment}: {shown!r}")
    return "red for those who see it"


def check_progress(hadalc, model, out):
    command = [hadalc, model, "-o", out, "--emit=lib"]
    status, printed, err = harness.run(command, 120)
    expect(status == 0 and not printed and "\r" not in err and RED not in err, f"in a pipe: {printed!r}, {err!r}")
    status, printed, shown = on_terminal(command)
    expect(status == 0 and not printed and "\r" in shown and "pack" in shown, f"on a terminal: {printed!r}, {shown!r}")
    # The line is wiped in the end: what stays are spaces.
    expect(not re.split(r"[\r\n]", shown)[-1].strip(), f"the terminal keeps {shown[-80:]!r}")
    quiet = on_terminal([*command, "--quiet"])[2]
    expect("\r" not in quiet.replace("\r\n", ""), f"with --quiet: {quiet!r}")
    return "a line that is wiped, on a terminal alone"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tools", required=True, type=Path, help="folder of hadalc and the others")
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-") as folder:
        none = Path(folder) / "none"
        checks = [("hadalc", lambda: check_colors([args.tools / "hadalc", none, "-o", none, "--quiet"], 1)),
                  ("hadal-run", lambda: check_colors([args.tools / "hadal-run", none], 1)),
                  ("usage", lambda: check_colors([args.tools / "hadalc", "--frob"], 2)),
                  ("progress", lambda: check_progress(args.tools / "hadalc", args.model, Path(folder) / "out"))]
        return harness.run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
