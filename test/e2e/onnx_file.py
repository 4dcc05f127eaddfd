# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Writes ONNX files: the messages of onnx.proto, field by field. It shares no code with the compiler, and needs only NumPy.
"""Writes ONNX files."""
import struct

import numpy as np

FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, BFLOAT16, UINT4, INT4 = 1, 2, 3, 6, 7, 9, 10, 16, 21, 22
_NUMPY = {"float32": FLOAT, "uint8": UINT8, "int8": INT8, "int32": INT32, "int64": INT64, "bool": BOOL, "float16": FLOAT16}


class Nibbles:
    """Integers of 4 bits, UINT4 or INT4, two to a byte, the lower half first, whatever rows they are of."""

    def __init__(self, values, kind):
        flat = np.asarray(values).astype(np.int64).ravel() & 15
        flat = np.concatenate([flat, np.zeros(flat.size % 2, np.int64)]).reshape(-1, 2)
        self.kind, self.shape = kind, np.shape(values)
        self.bytes = (flat[:, 0] | flat[:, 1] << 4).astype(np.uint8)
        self.nbytes = self.bytes.nbytes

    def tobytes(self):
        return self.bytes.tobytes()


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, value):
    """An integer, a float, or what has a length: text, a message, packed numbers."""
    if isinstance(value, (int, np.integer)):
        return varint(number << 3) + varint(int(value))
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    raw = value.encode() if isinstance(value, str) else bytes(value)
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def tensor(name, values, location=None, **external):
    """A TensorProto of a NumPy array, with raw_data; or in the file `location`, with offset and length."""
    values = values if isinstance(values, Nibbles) else np.asarray(values)
    kind = values.kind if isinstance(values, Nibbles) else _NUMPY[values.dtype.name]
    out = b"".join(field(1, size) for size in values.shape) + field(2, kind) + field(8, name)
    if location is None:
        return out + field(9, values.tobytes() if isinstance(values, Nibbles) else np.ascontiguousarray(values).tobytes())
    for key, value in {"location": location, **external}.items():
        out += field(13, field(1, key) + field(2, str(value)))
    return out + field(14, 1)


def attribute(name, value):
    out = field(1, name)
    if isinstance(value, np.ndarray):
        return out + field(5, tensor("", value)) + field(20, 4)
    if isinstance(value, float):
        return out + field(2, value) + field(20, 1)
    if isinstance(value, (int, np.integer)):
        return out + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return out + field(4, value) + field(20, 3)
    return out + b"".join(field(8, v) for v in value) + field(20, 7)


def node(op, inputs, outputs, name=None, **attributes):
    """`op` may have its domain before it: "com.microsoft.MatMulNBits"."""
    domain, _, op = op.rpartition(".")
    out = b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs)
    out += field(3, f"/{outputs[0]}" if name is None else name) + field(4, op)
    out += b"".join(field(5, attribute(k, v)) for k, v in attributes.items())
    return out + (field(7, domain) if domain else b"")


def value_info(name, shape, kind=INT64):
    """Text for a dimension that has a name."""
    dims = b"".join(field(1, field(2, s) if isinstance(s, str) else field(1, s)) for s in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def model(nodes, initializers, inputs, outputs, opset=21, domains=(), ir_version=10):
    graph = b"".join(field(1, n) for n in nodes) + field(2, "main_graph") + b"".join(field(5, t) for t in initializers)
    graph += b"".join(field(11, i) for i in inputs) + b"".join(field(12, o) for o in outputs)
    out = field(1, ir_version) + field(2, "test") + field(7, graph)
    for domain, version in (("", opset), *domains):
        out += field(8, (field(1, domain) if domain else b"") + field(2, version))
    return out


class Builder:
    """Collects nodes and tensors of a graph; big tensors go to a file beside the model."""

    def __init__(self, least_external=512):
        self.nodes, self.initializers, self.names, self.data = [], [], set(), bytearray()
        self.least_external = least_external

    def add(self, op, inputs, outputs=None, **attributes):
        """Adds a node and returns the name of its output, or its names if there are several."""
        outputs = outputs or [f"v{len(self.nodes)}"]
        self.nodes.append(node(op, inputs, outputs, **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def weight(self, name, values):
        values = values if isinstance(values, Nibbles) else np.ascontiguousarray(values).reshape(np.shape(values))
        if name not in self.names:
            self.names.add(name)
            if values.nbytes >= self.least_external:
                self.data += bytes(-len(self.data) % 64)
                self.initializers.append(tensor(name, values, "model.onnx.data", offset=len(self.data), length=values.nbytes))
                self.data += values.tobytes()
            else:
                self.initializers.append(tensor(name, values))
        return name

    def const(self, values, dtype=np.int64):
        values = np.asarray(values, dtype)
        return self.weight(f"c_{values.dtype.name}_{'x'.join(map(str, values.shape))}_{'_'.join(map(str, values.ravel().tolist()))}",
                           values)

    def write(self, folder, inputs, outputs, **options):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(model(self.nodes, self.initializers, inputs, outputs, **options))
        (folder / "model.onnx.data").write_bytes(bytes(self.data))
