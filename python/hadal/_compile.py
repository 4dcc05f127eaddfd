# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calls hadalc."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional, Sequence, Union

from ._native import HadalError

PathLike = Union[str, "os.PathLike[str]"]


def find_hadalc() -> Path:
    """Returns the path of hadalc: HADALC of the environment, or the one in PATH."""
    found = shutil.which(os.environ.get("HADALC", "hadalc"))
    if not found:
        raise HadalError("cannot find hadalc; put it into PATH, or its path into the variable HADALC")
    return Path(found).resolve()


def compile(model: PathLike, output: PathLike, *, emit: str = "lib", target: Optional[str] = None, cpu: Optional[str] = None,
            quantize: Optional[str] = None, context: Optional[int] = None, lora: Optional[PathLike] = None,
            options: Sequence[str] = ()) -> Path:
    """Compiles a model; returns `output`, which `load` takes if `emit` is "lib".

    model:    a Hugging Face folder, or a .gguf, .onnx or .mlir file.
    output:   what is written: for "lib" output.so, output.a, output.h and output.weights.
    context:  tokens of a sequence; None: as many as the model says.
    options:  any more of hadalc's, such as "--window=4096,sink=4".

    Raises HadalError, with what hadalc says, if the model or an option is wrong; nothing is written then.
    """
    command = [str(find_hadalc()), os.fspath(model), "-o", os.fspath(output), f"--emit={emit}", "--quiet"]
    for name, value in (("target", target), ("cpu", cpu), ("quantize", quantize), ("context", context),
                        ("lora", None if lora is None else os.fspath(lora))):
        if value is not None:
            command.append(f"--{name}={value}")
    done = subprocess.run([*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, errors="replace")
    if done.returncode:
        message = done.stderr.strip().splitlines()
        raise HadalError(message[-1] if message else f"hadalc ended with status {done.returncode}")
    return Path(output)
