# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles tests that --split has written, and compares them with the interpreter.

    compare-split.py FOLDER PART...     the first test with each PART in its name
"""
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])
for part in sys.argv[2:]:
    test = next(path for path in sorted(folder.glob("*.mlir")) if part in path.name)
    program = folder / "program"
    subprocess.run(["hadalc", test, "-o", program], check=True)
    command = ["hadal-diff", test, program, "--tokens", "0,1,2,3", "--tolerance", "1e-5", "--all"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # The op itself is among those that are compared.
    assert any(part.split(".")[-1] in line for line in listed.splitlines()[:-3]), listed
