# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# exits.py STATUS COMMAND..: runs a command, and fails unless it exits with
# STATUS, prints nothing on stdout, and one line on stderr, which it prints.
import subprocess
import sys

expected, command = int(sys.argv[1]), sys.argv[2:]
result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
sys.stdout.write(result.stderr)
if result.returncode != expected:
    sys.exit(f"exit status {result.returncode}, expected {expected}")
if result.stdout or len(result.stderr.splitlines()) != 1:
    sys.exit(f"expected one line on stderr, got {result.stderr!r} and {result.stdout!r} on stdout")
