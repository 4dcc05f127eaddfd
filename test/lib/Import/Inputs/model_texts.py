# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What tests need that import one model from files of several formats."""
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "e2e"))
import numpy as np

import make_cases
import reference


def values_of(config, dtype="F32"):
    rng = np.random.default_rng(1)
    tensors = make_cases.random_tensors(config, dtype, rng)
    return tensors, {name: reference.decode(raw, dtype, shape)
                     for name, (dtype, shape, raw) in tensors.items()}


def run(tool, *arguments):
    return subprocess.run([tool, *map(str, arguments)], capture_output=True,
                          text=True, errors="replace")


def without_recipes(text):
    """The IR, with only the type of each weight."""
    return re.sub(r"(deepseek\.weight @\S+ : [^{]*)\{.*?\n  \}", r"\1", text,
                  flags=re.S)
