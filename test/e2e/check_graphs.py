#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compiles ONNX graphs that are no language models, runs them on .npy files, and compares with NumPy.
"""check_graphs.py --hadalc build/bin/hadalc"""
import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.dont_write_bytecode = True
import harness
import onnx_file as of
from harness import Failure

KINDS = {np.dtype(name): kind for name, kind in of._NUMPY.items()}
RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
Y = RNG.standard_normal(4).astype(np.float32)
INTS = np.array([[7, -7, 5], [-5, 1 << 40, -3]], np.int64)
DIVISORS = np.array([2, 2, -3], np.int64)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def elementwise(b):
    yield b.add("Add", ["x", "y"]), X + Y
    yield b.add("Sub", ["y", "x"]), Y - X
    yield b.add("Div", ["x", "y"]), X / Y
    yield b.add("Max", ["x", "y", b.const(0.25, np.float32)]), np.maximum(np.maximum(X, Y), np.float32(0.25))
    yield b.add("Less", ["x", "y"]), X < Y
    yield b.add("Where", [b.add("Greater", ["x", "y"]), "x", "y"]), np.where(X > Y, X, Y)
    yield b.add("Sigmoid", ["x"]), 1 / (1 + np.exp(-X))
    yield b.add("Tanh", ["x"]), np.tanh(X)
    yield b.add("Softplus", ["x"]), np.log1p(np.exp(X))
    yield b.add("Gelu", ["x"], approximate="tanh"), 0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X ** 3)))
    yield b.add("Round", [b.add("Mul", ["x", b.const(2.5, np.float32)])]), np.round(X * np.float32(2.5))
    yield b.add("Pow", ["x", b.const(3, np.int64)]), X ** 3
    yield b.add("Clip", ["x", b.const(-0.5, np.float32), b.const(0.5, np.float32)]), np.clip(X, -0.5, 0.5)
    half = b.add("Cast", ["x"], to=of.FLOAT16)
    yield b.add("Mul", [half, half]), X.astype(np.float16) * X.astype(np.float16)
    yield b.add("Cast", [b.add("Mul", ["x", b.const(1e10, np.float32)])], to=of.INT8), np.where(X < 0, -128, 127).astype(np.int8)


def integers(b):
    yield b.add("Div", ["i", "d"]), np.trunc(INTS / DIVISORS).astype(np.int64)
    yield b.add("Mod", ["i", "d"]), np.mod(INTS, DIVISORS)
    yield b.add("Mod", ["i", "d"], fmod=1), np.fmod(INTS, DIVISORS)
    yield b.add("Pow", [b.const([3, -2, -1]), b.const([4, 3, -3])]), np.array([81, -8, -1], np.int64)
    yield b.add("Cast", ["i"], to=of.INT32), INTS.astype(np.int32)
    yield b.add("ReduceSum", ["i", b.const([1])], keepdims=0), INTS.sum(1)
    yield b.add("ReduceMax", ["i"], keepdims=0), INTS.max()
    yield b.add("CumSum", ["i", b.const(1)], exclusive=1, reverse=1), np.cumsum(INTS[:, ::-1], 1)[:, ::-1] - INTS
    yield b.add("ArgMin", ["i"], axis=1, keepdims=0), INTS.argmin(1)
    top, place = b.add("TopK", ["i", b.const([2])], ["top", "place"], axis=-1)
    order = np.argsort(-INTS, 1, kind="stable")[:, :2]
    yield top, np.take_along_axis(INTS, order, 1)
    yield place, order


def movement(b):
    yield b.add("Slice", ["x", b.const([-1]), b.const([-(1 << 62)]), b.const([2]), b.const([-2])]), X[:, :, ::-2]
    yield b.add("Gather", ["x", b.const([[0, -1], [2, 1]])], axis=1), X[:, [[0, -1], [2, 1]]]
    yield b.add("GatherND", ["x", b.const([[1, -1], [0, 2]])]), X[[1, 0], [-1, 2]]
    yield b.add("GatherElements", ["x", b.const([[[1, 0, 1, -1]]])], axis=0), X[[1, 0, 1, -1], 0, [0, 1, 2, 3]].reshape(1, 1, 4)
    scattered = X.copy()
    scattered[1, 2] += Y
    scattered[0, 0] += 2 * Y
    updates = b.add("Concat", [b.add("Unsqueeze", ["y", b.const([0])]), b.add("Unsqueeze", [b.add("Add", ["y", "y"]), b.const([0])])],
                    axis=0)
    yield b.add("ScatterND", ["x", b.const([[1, 2], [0, 0]]), updates], reduction="add"), scattered
    yield b.add("Transpose", ["x"], perm=[2, 0, 1]), X.transpose(2, 0, 1)
    yield b.add("Reshape", ["x", b.const([0, -1])]), X.reshape(2, 12)
    yield b.add("Expand", ["y", b.const([2, 1, 1])]), np.broadcast_to(Y, (2, 1, 4))
    yield b.add("Tile", ["x", b.const([1, 2, 1])]), np.tile(X, (1, 2, 1))
    yield b.add("Pad", ["x", b.const([0, 1, 0, 0, 0, 2])], mode="reflect"), np.pad(X, ((0, 0), (1, 0), (0, 2)), mode="reflect")
    yield b.add("Trilu", ["x", b.const(1)]), np.triu(X, 1)
    first, second = b.add("Split", ["x"], ["first", "second"], axis=2, num_outputs=2)
    yield b.add("Concat", [second, first], axis=-1), np.concatenate([X[..., 2:], X[..., :2]], -1)
    yield b.add("ReduceMean", ["x", b.const([], np.int64)], noop_with_empty_axes=1), X
    # Shapes are numbers that other nodes compute with.
    rows = b.add("Gather", [b.add("Shape", ["x"]), b.const([1])])
    yield b.add("Reshape", ["x", b.add("Concat", [rows, b.const([-1])], axis=0)]), X.reshape(3, 8)


def attention(b):
    """A head of attention after a norm, with weights in a file."""
    norm = RNG.standard_normal(64).astype(np.float32)
    scale = b.weight("norm", norm)
    weights = {name: RNG.standard_normal((64, 64)).astype(np.float32) / 8 for name in ("q", "k", "v")}
    x = b.add("Expand", ["x", b.const([2, 3, 4])])
    x = b.add("Tile", [x, b.const([1, 1, 16])])
    normal = b.add("RMSNormalization", [x, scale], epsilon=1e-6)
    q, k, v = (b.add("MatMul", [normal, b.weight(name, value)]) for name, value in weights.items())
    scores = b.add("MatMul", [q, b.add("Transpose", [k], perm=[0, 2, 1])])
    out = b.add("MatMul", [b.add("Softmax", [b.add("Mul", [scores, b.const(0.125, np.float32)])]), v])
    wide = np.tile(X, (1, 1, 16)).astype(np.float64)
    normed = wide / np.sqrt((wide ** 2).mean(-1, keepdims=True) + 1e-6) * norm
    q, k, v = (normed @ weights[name].astype(np.float64) for name in weights)
    yield out, (softmax(q @ k.transpose(0, 2, 1) * 0.125) @ v).astype(np.float32)
    bytes_ = np.array([[0, 128, 255], [3, 129, 7]], np.uint8)
    real = b.add("DequantizeLinear", [b.weight("codes", bytes_), b.const([0.5, 0.25, 2], np.float32), b.const([128, 128, 0], np.uint8)],
                 axis=1)
    yield real, ((bytes_.astype(np.int32) - [128, 128, 0]) * np.float32([0.5, 0.25, 2])).astype(np.float32)
    yield b.add("QuantizeLinear", [real, b.const(0.5, np.float32), b.const(3, np.int8)]), \
        np.clip(np.round((bytes_.astype(np.int32) - [128, 128, 0]) * np.float32([0.5, 0.25, 2]) / 0.5) + 3, -128, 127).astype(np.int8)


CASES = {"elementwise": (elementwise, {"x": X, "y": Y}), "integers": (integers, {"i": INTS, "d": DIVISORS}),
         "movement": (movement, {"x": X, "y": Y}), "attention": (attention, {"x": X})}


def write(folder, make, inputs):
    """Writes a model whose outputs are what `make` yields; returns these with what they have to be."""
    builder = of.Builder(least_external=256)
    expected = list(make(builder))
    builder.write(folder, [of.value_info(name, value.shape, KINDS[value.dtype]) for name, value in inputs.items()],
                  [of.value_info(name, np.shape(value), KINDS[np.asarray(value).dtype]) for name, value in expected], opset=23)
    return expected


def check_case(name, hadalc, work):
    make, inputs = CASES[name]
    expected = write(work, make, inputs)
    harness.must_run([hadalc, work / "model.onnx", "-o", work / "run"], 120)
    command = [work / "run"]
    for each, value in inputs.items():
        np.save(work / f"{each}.npy", value)
        command += ["--input", f"{each}={work / each}.npy"]
    command += [part for each, _ in expected for part in ("--output", f"{each}={work}/out-{each}.npy")]
    harness.must_run(command, 60)
    for i, (each, value) in enumerate(expected):
        got, value = np.load(work / f"out-{each}.npy"), np.asarray(value)
        if got.shape != value.shape or got.dtype != value.dtype:
            raise Failure(f"result {i} is {got.dtype}{got.shape}, expected {value.dtype}{value.shape}")
        # Sums of 64 products, and functions of the mathematical library.
        bound = 1e-3 if value.dtype == np.float16 else 2e-5
        if value.dtype.kind == "f" and not np.allclose(got, value, rtol=bound, atol=bound):
            raise Failure(f"result {i} is off by {np.abs(got - value).max()}")
        if value.dtype.kind != "f" and not (got == value).all():
            raise Failure(f"result {i} is {got.tolist()}, expected {value.tolist()}")
    return f"{len(expected)} results"


def check_uses(hadalc, work):
    """Wrong inputs of a program are refused in one line."""
    builder = of.Builder()
    out = builder.add("Gather", ["x", "i"], ["taken"], axis=0)
    builder.write(work, [of.value_info("x", [3], of.FLOAT), of.value_info("i", [2])], [of.value_info(out, [2], of.FLOAT)], opset=23)
    harness.must_run([hadalc, work / "model.onnx", "-o", work / "run"], 120)
    listed = harness.must_run([work / "run", "--list"], 60)
    if listed != "input x f32[3]\ninput i i64[2]\noutput taken f32[2]\n":
        raise Failure(f"--list prints {listed!r}")
    files = {"x": np.arange(3, dtype=np.float32), "good": np.array([2, -3]), "far": np.array([3, 0]), "low": np.array([0, -4]),
             "wide": np.zeros(3, np.int64), "kind": np.zeros(2, np.int32), "big": np.zeros(2, ">i8")}
    for name, value in files.items():
        np.save(work / f"{name}.npy", value)
    (work / "cut.npy").write_bytes((work / "good.npy").read_bytes()[:-1])
    (work / "text.npy").write_text("0 1")

    def command(index):
        return [work / "run", "--input", f"x={work}/x.npy", "--input", f"i={work}/{index}.npy", "--output", f"taken={work}/out.npy"]

    harness.must_run(command("good"), 60)
    if np.load(work / "out.npy").tolist() != [2, 0]:
        raise Failure("a negative index does not count from the end")
    (work / "out.npy").unlink()
    for index, words in {"far": "out of range", "low": "out of range", "wide": "(3), expected (2)", "kind": "'<i4', expected '<i8'",
                         "big": "'>i8'", "cut": "16 bytes", "text": "not a .npy file", "none": "No such file"}.items():
        line = harness.must_refuse(command(index), 60)
        if words not in line:
            raise Failure(f"expected {words!r} in: {line}")
    if (work / "out.npy").exists():
        raise Failure("a run that failed has left an output")
    status, _, err = harness.run([work / "run", "--input", f"x={work}/x.npy"], 60)
    if status != 2 or "'i' is missing" not in err:
        raise Failure(f"a missing input gives {harness.describe(status, err)}")
    return f"{len(files)} inputs"


def bad_graphs():
    """Name, nodes, inputs, and words of the one line that refuses them."""
    x, i = of.value_info("x", [2, 3], of.FLOAT), of.value_info("i", [2])

    def one(name, op, operands, words, inputs=(x,), initializers=(), **attributes):
        return name, [of.node(op, operands, ["y"], "the_node", **attributes)], list(inputs), list(initializers), words

    yield one("unknown", "Frobnicate", ["x"], "operators that are not supported: 'Frobnicate' (node 'the_node', 1 of its kind)")
    yield one("foreign", "some.domain.Relu", ["x"], "'some.domain.Relu'")
    yield one("names", "Add", ["x", "w"], "dimensions of 3 and 4 cannot be broadcast", initializers=[of.tensor("w", np.zeros(4, np.float32))])
    yield one("types", "Add", ["x", "i"], "different types", inputs=(x, i))
    yield one("product", "MatMul", ["x", "x"], "rows of 3 elements are multiplied with columns of 2")
    yield one("axis", "Softmax", ["x"], "axis 5 is not one of 2 dimensions", axis=5)
    yield one("twice", "Transpose", ["x"], "axis 1 is given twice", perm=[1, 1])
    yield one("shape", "Reshape", ["x", "i"], "known when the graph is compiled", inputs=(x, i))
    yield one("fit", "Reshape", ["x", "s"], "fit 6 elements", initializers=[of.tensor("s", np.array([4, -1]))])
    yield one("huge", "Expand", ["x", "s"], "is not possible",
              initializers=[of.tensor("s", np.array([1 << 31, 1 << 31, 1, 1]))])
    yield one("negative", "ConstantOfShape", ["s"], "is not possible", initializers=[of.tensor("s", np.array([-2]))])
    yield one("step", "Slice", ["x", "s", "s", "s", "s"], "a step of 0", initializers=[of.tensor("s", np.array([0]))])
    yield one("parts", "Split", ["x", "s"], "do not add up", initializers=[of.tensor("s", np.array([1 << 62]))])
    yield one("many", "TopK", ["x", "s"], "looks for 4 of 3", initializers=[of.tensor("s", np.array([4]))])
    yield one("pads", "Pad", ["x", "s"], "absurd", initializers=[of.tensor("s", np.array([1 << 62, 0, 0, 0]))])
    yield one("names_of_none", "Relu", [""], "expects an operand")
    yield one("sizes", "Relu", ["x"], "needs sizes that are known", inputs=[of.value_info("x", ["n", 3], of.FLOAT)])
    yield ("cycle", [of.node("Relu", ["b"], ["a"], "the_node"), of.node("Relu", ["a"], ["y"])], [x], [],
           "reads 'b', which no node before it computes")


def check_bad(hadalc, work):
    count = 0
    for name, nodes, inputs, initializers, words in bad_graphs():
        path = work / f"{name}.onnx"
        domains = [("some.domain", 1)] if name == "foreign" else []
        path.write_bytes(of.model(nodes, initializers, inputs, [of.value_info("y", [2, 3], of.FLOAT)], opset=23, domains=domains))
        line = harness.must_refuse([hadalc, path, "-o", work / "bad"], 60)
        if words not in line or str(path) not in line:
            raise Failure(f"{name}: expected {words!r} in: {line}")
        count += 1
    if (work / "bad").exists():
        raise Failure("a graph that is refused has left a program")
    # Flags of language models are not ignored.
    builder = of.Builder()
    builder.write(work, [of.value_info("x", [2], of.FLOAT)], [of.value_info(builder.add("Relu", ["x"], ["y"]), [2], of.FLOAT)])
    line = harness.must_refuse([hadalc, work / "model.onnx", "-o", work / "bad", "--quantize=int8"], 60)
    if "--quantize is for language models" not in line:
        raise Failure(line)
    return f"{count} graphs"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hadalc", required=True)
    parser.add_argument("--only", help="one check by its name")
    args = parser.parse_args()
    checks = {name: (lambda work, name=name: check_case(name, args.hadalc, work)) for name in CASES}
    checks["uses"] = lambda work: check_uses(args.hadalc, work)
    checks["bad"] = lambda work: check_bad(args.hadalc, work)
    failed = 0
    for name, check in checks.items():
        if args.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="hadal-graphs-") as work:
            try:
                print(f"ok    {name}: {check(Path(work))}")
            except Failure as failure:
                failed += 1
                print(f"FAIL  {name}: {failure}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
