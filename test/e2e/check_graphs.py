#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compiles ONNX graphs that are no language models, runs them on .npy files, and compares with NumPy.
"""check_graphs.py --hadalc build/bin/hadalc"""
import argparse
import json
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
    yield b.add("Slice", ["x", b.const([3]), b.const([9]), b.const([1])]), X[:, 3:]
    # Three outputs that are one buffer.
    for _ in range(3):
        yield b.add("Neg", ["x"]), -X
    yield b.add("SpaceToDepth", [b.add("Reshape", ["x", b.const([1, 2, 6, 2])])], blocksize=2, mode="CRD"), \
        X.reshape(1, 2, 3, 2, 1, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 8, 3, 1)
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
    yield b.add("EyeLike", [b.const([[0, 0, 0], [0, 0, 0]], np.float32)], dtype=of.INT64, k=1), np.eye(2, 3, 1, np.int64)
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


def functions(b):
    """Functions of one number, on numbers where they are defined."""
    unit, above = b.add("Clip", ["x", b.const(-0.9, np.float32), b.const(0.9, np.float32)]), b.add("Add", [b.add("Abs", ["x"]), b.const(1, np.float32)])
    u, a = np.clip(X, np.float32(-0.9), np.float32(0.9)), np.abs(X) + np.float32(1)
    for op, values, of_ in (("Sqrt", a, above), ("Log", a, above), ("Acosh", a, above), ("Exp", X, "x"), ("Sin", X, "x"), ("Cos", X, "x"),
                            ("Tan", u, unit), ("Asin", u, unit), ("Acos", u, unit), ("Atanh", u, unit), ("Atan", X, "x"),
                            ("Sinh", X, "x"), ("Cosh", X, "x"), ("Asinh", X, "x"), ("Ceil", X, "x"), ("Floor", X, "x"), ("Sign", X, "x")):
        name = {"Acosh": "arccosh", "Asin": "arcsin", "Acos": "arccos", "Atanh": "arctanh", "Atan": "arctan",
                "Asinh": "arcsinh"}.get(op, op.lower())
        yield b.add(op, [of_]), getattr(np, name)(values)
    low = np.minimum(X, 0)
    yield b.add("Reciprocal", [above]), 1 / a
    yield b.add("LeakyRelu", ["x"], alpha=0.1), np.where(X < 0, np.float32(0.1) * X, X)
    yield b.add("Elu", ["x"], alpha=2.0), np.where(X > 0, X, 2 * np.expm1(low))
    yield b.add("HardSigmoid", ["x"]), np.clip(0.2 * X + 0.5, 0, 1)
    yield b.add("HardSwish", ["x"]), X * np.clip(X / 6 + 0.5, 0, 1)
    yield b.add("Mish", ["x"]), X * np.tanh(np.log1p(np.exp(X)))
    yield b.add("Swish", ["x"], alpha=0.5), X / (1 + np.exp(-0.5 * X))
    yield b.add("Softsign", ["x"]), X / (1 + np.abs(X))
    yield b.add("IsInf", [b.add("Log", [b.add("Relu", ["x"])])], detect_positive=0), X <= 0
    yield b.add("Not", [b.add("IsNaN", [b.add("Sqrt", ["x"])])]), X >= 0


def rows(b):
    """Sums, norms and orders."""
    axis = b.const([1])
    for op, reduce in (("ReduceSum", np.sum), ("ReduceMean", np.mean), ("ReduceMax", np.max), ("ReduceMin", np.min), ("ReduceProd", np.prod)):
        yield b.add(op, ["x", axis], keepdims=0), reduce(X, axis=1)
    yield b.add("ReduceL1", ["x", b.const([0, -1])]), np.abs(X).sum((0, 2), keepdims=True)
    yield b.add("ReduceL2", ["x"], keepdims=0), np.sqrt((X ** 2).sum())
    yield b.add("ReduceLogSumExp", ["x", axis]), np.log(np.exp(X).sum(1, keepdims=True))
    yield b.add("ReduceSumSquare", ["x", axis]), (X ** 2).sum(1, keepdims=True)
    yield b.add("Softmax", ["x"], axis=1), softmax(X, 1)
    yield b.add("LogSoftmax", ["x"], axis=0), np.log(softmax(X, 0))
    yield b.add("ArgMax", ["t"], axis=1, select_last_index=1), 2 - TIES[:, ::-1].argmax(1)[:, None]
    yield b.add("CumSum", ["x", b.const(1)]), np.cumsum(X, 1)
    mean, variance = X.mean(-1, keepdims=True), X.var(-1, keepdims=True)
    yield b.add("LayerNormalization", ["x", "y", "y"], epsilon=1e-3), (X - mean) / np.sqrt(variance + 1e-3) * Y + Y
    rest = (1, 2)
    normal = (X - X.mean(rest, keepdims=True)) / np.sqrt(X.var(rest, keepdims=True) + 1e-5)
    three = b.add("Slice", ["y", b.const([0]), b.const([3])])
    yield b.add("GroupNormalization", ["x", three, three], num_groups=1), normal * Y[:3, None] + Y[:3, None]
    square = b.add("Mul", [three, three])
    yield b.add("BatchNormalization", ["x", three, three, three, square]), \
        (X - Y[:3, None]) / np.sqrt(Y[:3, None] ** 2 + 1e-5) * Y[:3, None] + Y[:3, None]
    places = b.add("ArgMax", ["x"], axis=2, keepdims=1)
    top, _ = b.add("TopK", ["x", b.const([1])], axis=2, outputs=["best", "best_place"])
    yield top, X.max(2, keepdims=True)
    yield b.add("GatherElements", ["x", places], axis=2), X.max(2, keepdims=True)
    yield b.add("ScatterElements", ["x", places, top], axis=2, reduction="mul"), np.where(X == X.max(2, keepdims=True), X * X, X)
    yield b.add("OneHot", ["t", b.const(4), b.const([0, 1])], axis=1), (np.arange(4)[None, :, None] == TIES[:, None] % 4).astype(np.int64)


def windows(b):
    """Convolutions and pooling of [2, 3, 4] as [1, 2, 3, 4]."""
    image, data = b.add("Unsqueeze", ["x", b.const([0])]), X[None]
    filters = b.add("Reshape", [b.add("Concat", ["y", "y"], axis=0), b.const([2, 1, 2, 2])])
    padded = np.pad(data, ((0, 0), (0, 0), (1, 0), (0, 1)))
    weights = np.concatenate([Y, Y]).reshape(2, 1, 2, 2)
    expected = np.zeros((1, 2, 3, 2), np.float32)
    for i in range(3):
        for j in range(2):
            expected[:, :, i, j] = (padded[:, :, i:i + 2, 2 * j:2 * j + 2] * weights[:, 0]).sum((2, 3))
    yield b.add("Conv", [image, filters], group=2, pads=[1, 0, 0, 1], strides=[1, 2]), expected
    windows_ = np.lib.stride_tricks.sliding_window_view(data, (2, 2), (2, 3))
    yield b.add("MaxPool", [image], kernel_shape=[2, 2]), windows_.max((4, 5))
    bytes_ = b.add("Cast", [b.add("Mul", [image, b.const(40, np.float32)])], to=of.INT8)
    yield b.add("MaxPool", [bytes_], kernel_shape=[2, 2]), np.trunc(windows_.max((4, 5)) * np.float32(40)).astype(np.int8)
    # Each number twice, so that the first of two is the place; one more row and column without numbers.
    pairs = b.add("Floor", [b.add("Mul", [image, b.const(2, np.float32)])])
    padded = np.pad(np.floor(data * 2), ((0, 0), (0, 0), (1, 0), (0, 1)), constant_values=-np.inf)
    for order in (0, 1):
        rows = np.arange(24).reshape(data.shape) if order == 0 else np.arange(24).reshape(1, 2, 4, 3).swapaxes(2, 3)
        rows = np.lib.stride_tricks.sliding_window_view(np.pad(rows, ((0, 0), (0, 0), (1, 0), (0, 1))), (2, 2), (2, 3))
        first = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), (2, 3)).reshape(1, 2, 3, 4, 4).argmax(-1)
        _, places = b.add("MaxPool", [pairs], outputs=[f"most{order}", f"places{order}"], kernel_shape=[2, 2], pads=[1, 0, 0, 1],
                          storage_order=order)
        yield places, np.take_along_axis(rows.reshape(1, 2, 3, 4, 4), first[..., None], -1)[..., 0]
    yield b.add("AveragePool", [image], kernel_shape=[2, 2]), windows_.mean((4, 5))
    yield b.add("AveragePool", [image], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), averages(data)
    yield b.add("GlobalAveragePool", [image]), data.mean((2, 3), keepdims=True)
    yield b.add("DepthToSpace", [b.add("Reshape", ["x", b.const([1, 4, 2, 3])])], blocksize=2), \
        X.reshape(1, 2, 2, 1, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 1, 4, 6)


def averages(data):
    """Of the elements that windows of 2 x 2 have, one every two, with a row below."""
    out = np.zeros((1, 2, 2, 2), np.float32)
    for i in range(2):
        for j in range(2):
            out[:, :, i, j] = data[:, :, 2 * i:2 * i + 2, 2 * j:2 * j + 2].mean((2, 3))
    return out


def products(b):
    """Products, attention and rotary embedding."""
    yield b.add("Gemm", ["y2", "x2", "y"], transA=1, alpha=0.5, beta=2.0), 0.5 * Y2.T @ X2 + 2 * Y
    yield b.add("MatMul", ["x", "y"]), X @ Y
    yield b.add("MatMul", ["t", "square"]), TIES @ SQUARE
    q = b.add("Reshape", ["x", b.const([1, 3, 8])])
    out = b.add("Attention", [q, q, q], q_num_heads=2, kv_num_heads=2, is_causal=1)
    heads = X.reshape(1, 3, 2, 4).transpose(0, 2, 1, 3)
    scores = heads @ heads.transpose(0, 1, 3, 2) / 2 + np.triu(np.full((3, 3), -np.inf), 1)
    yield out, (softmax(scores) @ heads).transpose(0, 2, 1, 3).reshape(1, 3, 8)
    angles = X2[:3, :2][None]
    table = b.add("Unsqueeze", [b.add("Slice", ["x2", b.const([0, 0]), b.const([3, 2])]), b.const([0])])
    turned = b.add("RotaryEmbedding", [b.add("Reshape", ["x", b.const([1, 2, 3, 4])]), table, table])
    low, high = X[None, ..., :2], X[None, ..., 2:]
    yield turned, np.concatenate([angles * low - angles * high, angles * low + angles * high], -1)


def quantized(b):
    """Numbers that QuantizeLinear and DequantizeLinear round, before products of all kinds; weights of 8 and 4 bits."""
    rng = np.random.default_rng(3)

    def rounded(x, values, scale, zero):
        """As in training for rounded numbers: the name and the value of `x` on a grid."""
        limits = np.iinfo(zero.dtype)
        inputs = [b.const(scale, np.float32), b.const(zero, zero.dtype)]
        codes = np.clip(np.rint(values / np.float32(scale)) + zero, limits.min, limits.max)
        numbers = (codes - np.float64(zero)) * np.float32(scale)
        return b.add("DequantizeLinear", [b.add("QuantizeLinear", [x, *inputs]), *inputs]), numbers

    def weights(name, shape, axis, zeros=None):
        codes = rng.integers(-127, 128, shape).astype(np.int8)
        scales = rng.uniform(0.01, 0.03, shape[axis]).astype(np.float32)
        inputs = [b.weight(name, codes), b.weight(f"{name}.scales", scales)]
        wide = np.moveaxis(codes.astype(np.float64), axis, -1)
        if zeros is not None:
            inputs.append(b.weight(f"{name}.zeros", zeros))
            wide = wide - zeros
        return b.add("DequantizeLinear", inputs, axis=axis), np.moveaxis(wide * scales, -1, axis)

    x, numbers = rounded("x2", X2, 0.02, np.int8(0))
    w, matrix = weights("columns", (4, 5), 1, np.array([0, 3, -8, 1, 0], np.int8))
    yield b.add("MatMul", [x, w]), numbers @ matrix
    u, shifted = rounded("x2", X2, 0.015, np.uint8(130))
    w, matrix = weights("rows", (3, 4), 0)
    bias = b.weight("bias", np.arange(3, dtype=np.float32))
    yield b.add("Gemm", [u, w, bias], transB=1, alpha=0.5), 0.5 * shifted @ matrix.T + np.arange(3)
    image, pixels = rounded(b.add("Unsqueeze", ["x", b.const([0])]), X[None], 0.015, np.uint8(130))
    w, kernel = weights("kernel", (2, 2, 3, 3), 0)
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    convolved = np.zeros((1, 2, 3, 4))
    for i in range(3):
        for j in range(4):
            convolved[0, :, i, j] = (kernel * padded[:, :, i:i + 3, j:j + 3]).sum((1, 2, 3))
    yield b.add("Conv", [image, w], pads=[1, 1, 1, 1]), convolved
    scale = b.const(0.02, np.float32)
    yield b.add("QuantizeLinear", ["x2", scale], output_dtype=of.INT8), np.clip(np.rint(X2 / np.float32(0.02)), -128, 127).astype(np.int8)
    # Rows of seven, so that bytes hold ends of one and beginnings of the next.
    codes = rng.integers(-8, 8, (4, 7))
    scales = rng.uniform(0.1, 0.3, (2, 7)).astype(np.float32)
    w = b.add("DequantizeLinear", [b.weight("nibbles", of.Nibbles(codes, of.INT4)), b.weight("nibbles.scales", scales)], axis=0, block_size=2)
    yield b.add("MatMul", ["x2", w]), X2 @ (codes * np.repeat(scales, 2, axis=0))
    codes, zeros = rng.integers(0, 16, (4, 3)), rng.integers(0, 16, 3)
    scales = rng.uniform(0.1, 0.3, 3).astype(np.float32)
    yield b.add("DequantizeLinear", [b.weight("whole", of.Nibbles(codes, of.UINT4)), b.weight("whole.scales", scales),
                                     b.weight("whole.zeros", of.Nibbles(zeros, of.UINT4))], axis=1), (codes - zeros) * scales


TIES = np.array([[1, 3, 3], [2, 2, 0]], np.int64)
SQUARE = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.int64)
X2, Y2 = X.reshape(6, 4), np.tile(Y, (6, 1)) * np.arange(6, dtype=np.float32)[:, None]
CASES = {"elementwise": (elementwise, {"x": X, "y": Y}), "integers": (integers, {"i": INTS, "d": DIVISORS}),
         "movement": (movement, {"x": X, "y": Y}), "functions": (functions, {"x": X}), "rows": (rows, {"x": X, "y": Y, "t": TIES}),
         "windows": (windows, {"x": X, "y": Y}), "products": (products, {"x": X, "y": Y, "x2": X2, "y2": Y2, "t": TIES, "square": SQUARE}),
         "attention": (attention, {"x": X}), "quantized": (quantized, {"x": X, "x2": X2})}


def of_opset(b, opset):
    """The same nodes as versions 7 to 21 of the operators spell them: what were attributes became operands."""
    def either(since, op, operands, attribute, values, outputs=None, **more):
        if opset < since:
            return b.add(op, operands, outputs, **{attribute: values}, **more)
        return b.add(op, [*operands, b.const(values)], outputs, **more)

    wide = either(13, "Unsqueeze", ["x"], "axes", [1])
    yield either(13, "Squeeze", [wide], "axes", [1]), X
    yield either(13, "ReduceSum", ["x"], "axes", [0, 2], keepdims=0), X.sum((0, 2))
    yield either(18, "ReduceMean", ["x"], "axes", [1], keepdims=1), X.mean(1, keepdims=True)
    first, _ = either(13, "Split", ["x"], "split", [1, 3], ["first", "rest"], axis=2)
    yield first, X[..., :1]
    if opset < 10:
        yield b.add("Slice", ["x"], axes=[1, 2], starts=[1, 0], ends=[3, -1]), X[:, 1:3, :-1]
        yield b.add("TopK", ["x"], ["best", "places"], k=2)[0], -np.sort(-X, -1)[..., :2]
    else:
        yield b.add("Slice", ["x", b.const([1, 0]), b.const([3, -1]), b.const([1, 2])]), X[:, 1:3, :-1]
        yield b.add("TopK", ["x", b.const([2])], ["best", "places"])[0], -np.sort(-X, -1)[..., :2]
    if opset < 11:
        yield b.add("Clip", ["x"], min=-0.5, max=0.25), np.clip(X, -0.5, 0.25)
        yield b.add("Pad", ["x"], pads=[0, 1, 0, 0, 0, 2], value=1.5), np.pad(X, ((0, 0), (1, 0), (0, 2)), constant_values=1.5)
    else:
        yield b.add("Clip", ["x", b.const(-0.5, np.float32), b.const(0.25, np.float32)]), np.clip(X, -0.5, 0.25)
        yield b.add("Pad", ["x", b.const([0, 1, 0, 0, 0, 2]), b.const(1.5, np.float32)]), \
            np.pad(X, ((0, 0), (1, 0), (0, 2)), constant_values=1.5)
    # Before version 13 over all that follows the axis, too.
    yield b.add("Softmax", ["x"], axis=1), softmax(X.reshape(2, 12)).reshape(X.shape) if opset < 13 else softmax(X, 1)


def as_ever(b):
    """Operators that are the same in all versions."""
    yield b.add("Transpose", ["x"], perm=[2, 0, 1]), X.transpose(2, 0, 1)
    yield b.add("Softsign", ["x"]), X / (1 + np.abs(X))


def write(folder, make, inputs, opset=23):
    """Writes a model whose outputs are what `make` yields; returns these with what they have to be."""
    builder = of.Builder(least_external=256)
    expected = [(name, np.asarray(value)) for name, value in make(builder)]
    expected = [(name, value.astype(np.float32) if value.dtype == np.float64 else value) for name, value in expected]
    builder.write(folder, [of.value_info(name, value.shape, KINDS[value.dtype]) for name, value in inputs.items()],
                  [of.value_info(name, value.shape, KINDS[value.dtype]) for name, value in expected], opset=opset)
    return expected


def check_opsets(hadalc, work):
    for opset in (7, 10, 11, 12, 13, 17, 18, 21):
        check_case((lambda b: of_opset(b, opset), {"x": X}), hadalc, work, opset)
    check_case((as_ever, {"x": X}), hadalc, work, 1)
    return "8 versions"


def check_case(case, hadalc, work, opset=23):
    make, inputs = case
    expected = write(work, make, inputs, opset)
    harness.must_run([hadalc, work / "model.onnx", "-o", work / "run"], 120)
    command = [work / "run"]
    for each, value in inputs.items():
        np.save(work / f"{each}.npy", value)
        command += ["--input", f"{each}={work / each}.npy"]
    command += [part for each, _ in expected for part in ("--output", f"{each}={work}/out-{each}.npy")]
    harness.must_run(command, 60)
    for i, (each, value) in enumerate(expected):
        got = np.load(work / f"out-{each}.npy")
        if got.shape != value.shape or got.dtype != value.dtype:
            raise Failure(f"opset {opset}, result {i} is {got.dtype}{got.shape}, expected {value.dtype}{value.shape}")
        # Sums of 64 products, and functions of the mathematical library.
        bound = 1e-3 if value.dtype == np.float16 else 2e-5
        if value.dtype.kind == "f" and not np.allclose(got, value, rtol=bound, atol=bound):
            raise Failure(f"opset {opset}, result {i} is off by {np.abs(got - value).max()}")
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


def check_dims(hadalc, work):
    """Dimensions that have names, or none, get sizes, which the manifest has."""
    builder = of.Builder(least_external=8)
    product = builder.add("MatMul", ["x", builder.weight("w", np.arange(6, dtype=np.float32).reshape(3, 2))])
    builder.add("Add", [product, "y"], ["sum"])
    builder.add("Concat", [product, "y"], ["joined"], axis=0)
    builder.write(work, [of.value_info("x", ["rows", 3], of.FLOAT), of.value_info("y", [1, ""], of.FLOAT)],
                  [of.value_info("sum", ["rows", 2], of.FLOAT), of.value_info("joined", ["more", 2], of.FLOAT)], opset=23)
    path = work / "model.onnx"
    for dims, words in {"rows=4,y.1=2,n=1": "has no dimension 'n', it has 'rows', 'y.1'", "rows=4": "needs sizes that are known",
                        "rows=4,y.1=3": "dimensions of 2 and 3 cannot be broadcast"}.items():
        line = harness.must_refuse([hadalc, path, "-o", work / "run", f"--dims={dims}"], 60)
        if words not in line:
            raise Failure(f"--dims={dims}: expected {words!r} in: {line}")
    for dims in ("rows", "rows=-1", "=3", ""):
        status, _, err = harness.run([hadalc, path, "-o", work / "run", f"--dims={dims}"], 60)
        if status != 2 or "NAME=N" not in err:
            raise Failure(f"--dims={dims} gives {harness.describe(status, err)}")
    harness.must_run([hadalc, path, "-o", work / "run", "--dims=rows=4,y.1=2"], 120)
    listed = harness.must_run([work / "run", "--list"], 60)
    if listed != "input x f32[4,3]\ninput y f32[1,2]\noutput sum f32[4,2]\noutput joined f32[5,2]\n":
        raise Failure(f"--list prints {listed!r}")
    manifest = json.loads(harness.must_run([hadalc, "--manifest", work / "run"], 60))
    if manifest["options"]["dims"] != {"rows": 4, "y.1": 2} or manifest["model"]["type"] != "graph" or \
            [source["name"] for source in manifest["sources"]] != ["model.onnx", "model.onnx.data"]:
        raise Failure(f"the manifest is {manifest}")
    harness.must_run([hadalc, path, "-o", work / "part.o", "--emit=obj", "--dims=rows=4,y.1=2"], 120)
    part = json.loads(harness.must_run([hadalc, "--manifest", work / "part.o"], 60))
    if part["layout_hash"] != manifest["layout_hash"]:
        raise Failure("an object and a program of one graph have different weights")
    # A decoder that is not understood, and its steps.
    decoder = of.Builder(least_external=8)
    decoder.add("Gather", [decoder.weight("table", np.zeros((4, 2), np.float32)), "input_ids"], ["logits"])
    decoder.write(work / "decoder", [of.value_info("input_ids", ["batch", ""])], [of.value_info("logits", ["batch", "", 2], of.FLOAT)])
    line = harness.must_refuse([hadalc, work / "decoder" / "model.onnx", "-o", work / "bad"], 60)
    if not line.endswith("; --dims=batch=N,input_ids.1=N compiles it as a graph of tensors"):
        raise Failure(f"a decoder that is not understood is refused by: {line}")
    # As a past is before the first step.
    harness.must_run([hadalc, path, "-o", work / "none", "--dims=rows=0,y.1=2"], 120)
    inputs = {"x": np.zeros((0, 3), np.float32), "y": np.array([[3, 5]], np.float32)}
    command = [work / "none"]
    for name, value in inputs.items():
        np.save(work / f"{name}.npy", value)
        command.append(f"--input={name}={work / name}.npy")
    harness.must_run([*command, f"--output=sum={work}/sum.npy", f"--output=joined={work}/joined.npy"], 60)
    if np.load(work / "sum.npy").shape != (0, 2) or not np.array_equal(np.load(work / "joined.npy"), inputs["y"]):
        raise Failure("--dims=rows=0 gives other numbers")
    return "3 products"


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
    yield one("attribute", "Neg", ["x"], "has the attribute 'scale', which is not known", scale=2)
    yield one("step", "Slice", ["x", "s", "s", "s", "s"], "a step of 0", initializers=[of.tensor("s", np.array([0]))])
    yield one("parts", "Split", ["x", "s"], "do not add up", initializers=[of.tensor("s", np.array([1 << 62]))])
    yield one("many", "TopK", ["x", "s"], "looks for 4 of 3", initializers=[of.tensor("s", np.array([4]))])
    yield one("pads", "Pad", ["x", "s"], "absurd", initializers=[of.tensor("s", np.array([1 << 62, 0, 0, 0]))])
    yield one("names_of_none", "Relu", [""], "expects an operand")
    yield one("vast", "Relu", ["x"], "is not possible", inputs=[of.value_info("x", [1 << 40, 1 << 40], of.FLOAT)])
    yield ("no_output", [of.node("Relu", ["x"], [], "the_node"), of.node("Relu", ["x"], ["y"])], [x], [], "has no output")
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
    checks = {name: (lambda work, name=name: check_case(CASES[name], args.hadalc, work)) for name in CASES}
    checks["opsets"] = lambda work: check_opsets(args.hadalc, work)
    checks["uses"] = lambda work: check_uses(args.hadalc, work)
    checks["dims"] = lambda work: check_dims(args.hadalc, work)
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
