# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Imports ONNX files that are wrong in one way each.

    onnx_errors.py HADAL_TRANSLATE FOLDER

Each must be refused with exit status 1 and one line that says what is wrong.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "e2e"))
import numpy as np

import onnx_file as of


class Checker:
    def __init__(self, tool, folder):
        self.tool, self.folder, self.failures = tool, folder, 0
        (folder / "model").mkdir(parents=True, exist_ok=True)
        (folder / "outside.data").write_bytes(bytes(512))
        (folder / "model" / "model.onnx.data").write_bytes(bytes(512))

    def check(self, message, data, *flags, name="model.onnx"):
        """No message: the file is sound. One of "": any error is right."""
        path = self.folder / "model" / name
        path.write_bytes(data)
        result = subprocess.run(
            [self.tool, "--import-onnx", *flags, path], capture_output=True,
            text=True, errors="replace", timeout=60)
        lines = result.stderr.splitlines()
        if message is None and result.returncode == 0:
            return
        if message is not None and result.returncode == 1 and \
                len(lines) == 1 and message in lines[0] and \
                str(path) in lines[0]:
            return
        self.failures += 1
        print(f"expected {message}\ngot exit status {result.returncode} and: "
              f"{result.stderr[:400]}")

    def graph(self, message, data):
        self.check(message, data, "--onnx-graph")

    def text(self, message, text):
        self.check(message, text.encode(), "--onnx-graph",
                   name="model.onnxtext")


IN = [of.value_info("input_ids", [1, "sequence"])]
OUT = [of.value_info("logits", [1, "sequence", 8], of.FLOAT)]
GATHER = [of.node("Gather", ["w", "input_ids"], ["logits"])]
WEIGHT = np.zeros((16, 8), np.float32)


def with_tensor(tensor):
    return of.model(GATHER, [tensor], IN, OUT)


def external(location, **keys):
    return with_tensor(of.tensor("w", WEIGHT, location, **keys))


def message(*fields):
    return b"".join(of.field(n, v) for n, v in fields)


def check_container(checker, sound):
    checker.graph("is empty", b"")
    checker.graph("so that this is not an ONNX model", b"\0" * 100)
    for size in range(1, len(sound), 5):
        checker.graph("", sound[:size])
    checker.graph("has wire type 3, expected 0, 1, 2 or 5", b"\x0b")
    checker.graph("has wire type 7", b"\x0f")
    for field in (b"\x08" + b"\xff" * 12, b"\x08\xff", b"\x09abc",
                  b"\x3a" + of.varint(2**40) + b"ab",
                  b"\x3a" + of.varint(2**64 - 1)):
        checker.graph("the field at byte 0 is cut short", field)
    checker.graph("the field at byte 0 has 3 bytes, but 2 are left",
                  b"\x3a\x03ab")
    checker.graph("has ir_version 0, expected 3 or more", of.field(2, "test"))
    checker.graph("has no graph", of.field(1, 10))
    checker.graph("ModelProto.graph at byte 4 is there for the second time",
                  message((1, 10), (7, b""), (7, b"")))
    checker.graph("ModelProto.graph has wire type 0, expected 2",
                  message((1, 10), (7, 3)))
    checker.graph("does not say which version of ONNX's operators",
                  message((1, 10), (7, b"")))
    for opset in (0, 6, 29, 2**40, -1):
        checker.graph(f"uses opset {opset} of ONNX's operators, expected 7 to",
                      of.model(GATHER, [of.tensor("w", WEIGHT)], IN, OUT,
                               opset=opset))
    checker.graph("imports two versions of the operators of 'ai.onnx'",
                  of.model([], [], [], [], domains=[("ai.onnx", 21)]))
    checker.graph("has functions of its own", sound + of.field(25, b""))
    checker.graph("more nodes, names and attributes than Hadal takes",
                  message((1, 10), (7, of.field(1, of.field(4, "A")) * 2**20)))


def check_tensors(checker):
    checker.graph(None, with_tensor(of.tensor("w", WEIGHT)))
    checker.graph(None, external("model.onnx.data", offset=0, length=512))
    checker.graph(None, external("model.onnx.data"))
    nested = checker.folder / "model" / "more"
    nested.mkdir(exist_ok=True)
    (nested / "a.data").write_bytes(bytes(512))
    checker.graph(None, external("more/a.data", length=512))
    for location in ("../outside.data", "more/../../outside.data", "..",
                     str(checker.folder / "outside.data"), "/etc/passwd",
                     "..\\outside.data", "a\0b"):
        checker.graph("is not a path below the model's folder",
                      external(location, offset=0, length=512))
    checker.graph("tensor 'w' is external data, but has no location",
                  external("", length=512))
    checker.graph("location 'absent.data' cannot be opened",
                  external("absent.data", length=512))
    checker.graph("location 'more' is not a regular file",
                  external("more", length=512))
    folder = checker.folder / "model"
    for name, target in (("link", "../outside.data"), ("inner", "more/a.data"),
                         ("folder", "..")):
        if not os.path.lexists(folder / name):
            os.symlink(target, folder / name)
    for location in ("link", "inner", "folder/outside.data"):
        checker.graph("goes through a symbolic link",
                      external(location, length=512))
    if not (folder / "hard").exists():
        os.link(checker.folder / "outside.data", folder / "hard")
    checker.graph("is a hard link: the file has 2 names, expected one",
                  external("hard", length=512))
    if not (folder / "pipe").exists():
        os.mkfifo(folder / "pipe")
    checker.graph("is not a regular file", external("pipe", length=512))

    place = {"offset": 0, "length": 512}
    for key in place:
        for value in ("-1", "x", "1e3", "", str(2**64), "0x10", " 5"):
            checker.graph(f"has {key} '{value}', expected a number of bytes",
                          external("model.onnx.data", **{**place, key: value}))
    checker.graph("has 512 bytes at offset 64 of 'model.onnx.data', but the "
                  "file has 512", external("model.onnx.data", offset=64))
    checker.graph("has offset 9223372036854775807 in 'model.onnx.data', but",
                  external("model.onnx.data", offset=2**63 - 1, length=512))
    for length in (0, 511, 513, 2**62):
        checker.graph(f"has length {length}, but shape [16, 8] of FLOAT needs "
                      "512 bytes", external("model.onnx.data", length=length))

    def raw(dims, kind, data):
        return with_tensor(b"".join(of.field(1, d) for d in dims) +
                           message((2, kind), (8, "w"), (9, data)))

    checker.graph("has length 500, but shape [16, 8] of FLOAT needs 512",
                  raw([16, 8], of.FLOAT, bytes(500)))
    for dims in ([2**62, 2], [2**32, 2**32], [2**63 - 1]):
        checker.graph("whose size overflows 64 bits",
                      raw(dims, of.FLOAT, bytes(8)))
    checker.graph("has shape [-1], expected", raw([-1], of.FLOAT, b""))
    checker.graph("expected at most 8 sizes", raw([1] * 9, of.FLOAT, bytes(4)))
    for kind in (0, 8, 14, 15, 99, -1):
        checker.graph(f"is of data type {kind}, which is not supported",
                      raw([1], kind, bytes(4)))
    checker.graph("has a value that is not known: TensorProto.data_location",
                  with_tensor(of.tensor("w", WEIGHT) + of.field(14, 2)))
    checker.graph("tensor 'w' has elements in the file, and external_data",
                  with_tensor(of.tensor("w", WEIGHT) +
                              of.field(13, of.field(1, "location"))))
    checker.graph("its data_location is not EXTERNAL", with_tensor(
        message((2, of.FLOAT), (8, "w"), (13, of.field(1, "location")))))
    checker.graph("is a second piece of a tensor",
                  with_tensor(of.tensor("w", WEIGHT) + of.field(9, b"ab")))
    checker.graph("has 2 numbers, but shape [3] needs 3",
                  with_tensor(message((1, 3), (2, of.INT64), (8, "w"),
                                      (7, of.varint(1) + of.varint(2)))))
    checker.graph("numbers of type INT64 as fields of a message", with_tensor(
        message((1, 70000), (2, of.INT64), (8, "w"), (7, bytes(70000)))))


def check_graph(checker):
    w = of.tensor("w", WEIGHT)

    def nodes(*nodes, tensors=(w,), inputs=IN, outputs=OUT):
        return of.model(nodes, list(tensors), inputs, outputs)

    checker.graph("node 'a' ('Relu') reads 'late', which no node before it "
                  "computes", nodes(
                      of.node("Relu", ["late"], ["x"], name="a"),
                      of.node("Relu", ["x"], ["late"], name="b"), *GATHER))
    checker.graph("reads 'x', which no node before it computes",
                  nodes(of.node("Relu", ["x"], ["x"]), *GATHER))
    checker.graph("two values are called 'logits'", nodes(*GATHER, *GATHER))
    checker.graph("two values are called 'w'", nodes(*GATHER, tensors=(w, w)))
    checker.graph("no node computes the output 'logits'", nodes())
    checker.graph("node 'a' has no op_type",
                  nodes(of.node("", [], ["x"], name="a"), *GATHER))
    checker.graph("has the attribute 'axis' twice", nodes(
        GATHER[0] + 2 * of.field(5, of.attribute("axis", 0))))
    checker.graph("has the attribute 'axis' of type 13, without a value",
                  nodes(GATHER[0] + of.field(5, message((1, "axis"), (20, 13)))))
    checker.graph("has the attribute 'then_branch' of a kind that is not",
                  nodes(GATHER[0] + of.field(5, message(
                      (1, "then_branch"), (6, b""), (20, 5)))))
    checker.graph("input 'input_ids' is of data type 8, which is not supported",
                  nodes(*GATHER, inputs=[of.value_info("input_ids", [1], 8)]))
    checker.graph("input 'input_ids' has no shape", nodes(
        *GATHER, inputs=[message((1, "input_ids"), (2, of.field(
            1, of.field(1, of.INT64))))]))
    checker.graph("'input_ids' has a dimension of -7", nodes(
        *GATHER, inputs=[of.value_info("input_ids", [-7])]))


def check_operators(checker):
    """What the checker of the onnx library says of nodes whose opset it knows."""
    def nodes(*nodes, opset=17):
        return of.model(nodes, [of.tensor("w", WEIGHT)], IN, OUT, opset=opset)

    axes = of.node("Gather", ["w", "input_ids"], ["logits"], name="a", axes=0)
    checker.graph("node 'a' ('Gather'): 'Unrecognized attribute: axes for "
                  "operator Gather'", nodes(axes))
    checker.graph(None, nodes(axes, opset=18))
    checker.graph("node 'logits' ('Gather'): 'Node () has input size 1 not in "
                  "range [min=2, max=2].", nodes(
                      of.node("Gather", ["w"], ["logits"], name="")))
    checker.graph("Mismatched attribute type in 'a : axis'", nodes(
        of.node("Gather", ["w", "input_ids"], ["logits"], name="a", axis=0.5)))
    checker.graph("'No opset import for domain 'elsewhere''", nodes(
        of.node("elsewhere.Gather", ["w"], ["logits"], name="a")))
    # Of onnxruntime, in the standard's domain.
    checker.graph(None, nodes(of.node("SimplifiedLayerNormalization",
                                      ["w", "w"], ["logits"], name="a")))


def check_text(checker):
    head = '<ir_version: 8, opset_import: ["" : 17]>\n'
    graph = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> "
    checker.text(None, head + graph + "{ y = Add (x, w) }")
    checker.text("[ParseError at position (line: 1 column: 1)] Error context:",
                 "")
    checker.text("(line: 2 column: 64)] Error context: ",
                 head + graph + "{ y = Add [x, w] }")
    checker.text("has a number that is none",
                 head.replace("17", "9" * 30) + graph + "{ y = Add (x, w) }")
    checker.text("has 3 numbers, but shape [2] needs 2",
                 head + graph.replace("1, 2", "1, 2, 3") + "{ y = Add (x, w) }")
    checker.text("has a byte of zero", head + "\0")
    checker.text("has 1048577 bytes of text, expected at most 1048576",
                 "#" * (2**20 + 1))
    checker.text("has brackets in more than 32 others", head + graph +
                 "{ y = If <a = " + "h () => () { y = If <a = " * 10000)
    # Brackets in a comment are none.
    checker.text(None, head + "# " + "(" * 99 + "\n" + graph +
                 "{ y = Add (x, w) }")


def check_shapes(checker):
    """Operands and attributes that say where numbers go, evaluated before a rule looks at them."""
    for order in ([9, 0], [-1, 0], [0, 0], [0], [0, 1, 2]):
        checker.check("", of.model(
            [of.node("Transpose", ["w"], ["t"], perm=order),
             of.node("Gather", ["t", "input_ids"], ["logits"])],
            [of.tensor("w", WEIGHT)], IN, OUT))


def check_idioms(checker):
    """Nodes that fit where a norm is looked for, but have too little or too much, in an opset that the checker does not know."""
    weight = of.tensor("g", np.ones(8, np.float32))
    small = of.tensor("e", np.float32(1e-5))

    def norm(axes, of_root=("s",), results=("y",)):
        return of.model(
            [of.node("Mul", ["x", "x"], ["q"]),
             of.node("ReduceMean", ["q", "axes"], ["m"]),
             of.node("Add", ["m", "e"], ["s"]),
             of.node("Sqrt", list(of_root), ["r"]),
             of.node("Div", ["x", "r"], ["u"]),
             of.node("Mul", ["u", "g"], list(results), name="n"),
             of.node("Sigmoid", list(of_root), ["p"]),
             of.node("Mul", ["x", "p"], ["logits"])],
            [weight, small, of.tensor("axes", np.array(axes))],
            [of.value_info("x", [2, 8], of.FLOAT)],
            [of.value_info("logits", [2, 8], of.FLOAT)])

    checker.check("", norm([-1]))  # No decoder.
    checker.check("", norm([-1], of_root=()))
    checker.check("", norm([-1], results=("y", "z")))
    checker.check("", norm([-1], results=()))
    checker.check("", norm(np.array([-1], np.float32)))


def check_mutations(checker, sound):
    """Bytes at random: refused or not, but never a crash."""
    rng = random.Random(0)
    for _ in range(150):
        data = bytearray(sound)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice(
                (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path = checker.folder / "model" / "model.onnx"
        path.write_bytes(data)
        result = subprocess.run([checker.tool, "--import-onnx", path],
                                capture_output=True, timeout=60)
        lines = result.stderr.decode(errors="replace").splitlines()
        if result.returncode not in (0, 1) or \
                len(lines) != result.returncode:
            checker.failures += 1
            kept = checker.folder / f"crash{checker.failures}.onnx"
            kept.write_bytes(data)
            print(f"{kept}: exit status {result.returncode}: {lines[:1]}")


def main():
    checker = Checker(sys.argv[1], Path(sys.argv[2]))
    sound = with_tensor(of.tensor("w", WEIGHT))
    check_container(checker, sound)
    check_tensors(checker)
    check_graph(checker)
    check_operators(checker)
    check_text(checker)
    check_shapes(checker)
    check_idioms(checker)
    check_mutations(checker, sound)
    sys.exit(1 if checker.failures else 0)


if __name__ == "__main__":
    main()
