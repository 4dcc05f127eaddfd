# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes ONNX files.

    onnx_models.py write-graph FOLDER    nodes and tensors of many kinds
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "e2e"))
import numpy as np

import onnx_file as of


def write_graph(folder):
    graph = of.Builder(least_external=64)
    graph.weight("first", np.zeros(16, np.float32))
    graph.weight("table", np.zeros((16, 8), np.float32))
    graph.weight("scales", np.zeros(4, np.float32))
    graph.weight("scale", np.array(0.25, np.float32))
    graph.weight("flags", np.array([True, False]))
    graph.add("Gather", ["table", "input_ids"], ["rows"], axis=0)
    graph.add("Constant", [], ["shape"], value=np.array([1, -1, 2, 4]))
    graph.add("Reshape", ["rows", "shape"], ["heads"])
    graph.add("com.microsoft.Mystery", ["rows", "", "scale"],
              ["logits", "more"], name="", a=1.5, b=[1, 2], c="text")
    graph.write(folder, [of.value_info("input_ids", [1, "sequence"])],
                [of.value_info("logits", [1, "sequence", 8], of.FLOAT),
                 of.value_info("more", [1], of.FLOAT)],
                domains=[("com.microsoft", 1)])


if __name__ == "__main__":
    if sys.argv[1] == "write-graph":
        write_graph(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
