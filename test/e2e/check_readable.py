#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks that source which hadalc writes can be read.

    check_readable.py --hadalc build/bin/hadalc --model models/abyss-tiny [--model DIR ..] [--hadalc-flag=--quantize=mixed]

Writes each model as C++ and as CUDA. No function may have more than LINES lines, none more than NAMELESS values that are called
t, at or the like with a number, and each that takes a buffer has a comment with shapes before it. Exit status: 0 all so, 1 not,
2 wrong usage.
"""
import argparse
import re
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import Failure, must_run, run_checks

LINES, NAMELESS = 60, 24
NAME = re.compile(r"(\w+)\(")
# What is declared with a name that says nothing.
DECLARED = re.compile(r"\b(?:const )?(?:int64_t|float|[a-z]+\d+x\d+) &?((?:[ntv]|at|quotient|rest|shuffled)\d*) = ")


def functions(text):
    """(name, comment, lines) of each function that is defined in the first column."""
    lines, begin, comment = text.splitlines(), None, []
    for i, line in enumerate(lines):
        if begin is not None:
            if line == "}":
                whole = lines[begin:i + 1]
                # A launch bound or what is inlined stands before the name.
                found = [name for name in NAME.findall(" ".join(whole[:3])) if not name.startswith("__")]
                yield found[0], comment, whole
                begin, comment = None, []
        elif line.startswith("///"):
            comment.append(line)
        elif line.startswith(("template", "struct", "constexpr", "HADAL_MANIFEST", "extern \"C\" const", "namespace", "static_assert", "#", "//")):
            comment = []
        elif line and line[0].isalpha() and "(" in line and not line.endswith(";"):
            begin = i


def check(source):
    count = longest = 0
    for name, comment, lines in functions(source.read_text()):
        signature = " ".join(lines).split("{")[0]
        takes = re.sub(r"const (__grid_constant__ )?(hadal_rt_step_t|int64_t) \*?(step|params)?", "", signature)
        if len(lines) > LINES:
            raise Failure(f"{source.name}: {name} has {len(lines)} lines, at most {LINES} are a screen")
        nameless = len(DECLARED.findall("\n".join(lines)))
        if nameless > NAMELESS:
            raise Failure(f"{source.name}: {name} has {nameless} values without a name, at most {NAMELESS} are allowed")
        if "*" in takes and not comment:
            raise Failure(f"{source.name}: {name} takes buffers, and no comment gives their shapes")
        count, longest = count + 1, max(longest, len(lines))
    if count < 5:
        raise Failure(f"{source.name}: found {count} functions")
    return f"{count} functions of at most {longest} lines"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadalc", type=Path, required=True)
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--hadalc-flag", action="append", default=[], help="passed on to hadalc")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-readable-") as folder:
        out = Path(folder) / "model"

        def write_and_check(model, emit):
            flags, source = ([], f"{out}.cpp") if emit == "cpp" else (["--nvcc=none"], f"{out}.cu")
            must_run([args.hadalc, model, "-o", out, f"--emit={emit}", "--weights=none", "--quiet", *flags, *args.hadalc_flag], 300)
            return check(Path(source))
        return run_checks([(f"{model.name} {emit}", lambda model=model, emit=emit: write_and_check(model, emit))
                           for model in args.model for emit in ("cpp", "cuda")])


if __name__ == "__main__":
    sys.exit(main())
