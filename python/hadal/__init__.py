# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compile models of the DeepSeek family ahead of time, and run them.

    import hadal
    hadal.compile("path/to/model", "story", quantize="int8")
    with hadal.load("story") as model:
        for piece in model.stream("Once upon a time", max_tokens=50):
            print(piece.text, end="", flush=True)

Hadal itself is found by the variable HADALC of the environment, or as hadalc in PATH.
"""
from ._compile import compile, find_hadalc
from ._native import HadalError
from ._model import Model, Piece, load

__version__ = "0.1.0"
__all__ = ["HadalError", "Model", "Piece", "compile", "find_hadalc", "load"]
