# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Writes the graphs that exporters make of a Llama or a Qwen2: onnxruntime-genai's builder, and torch.onnx in two styles. It
# shares no code with the compiler, and needs only NumPy.
"""Writes ONNX graphs of the tensors of Hugging Face checkpoints."""
import numpy as np

import onnx_file as of

LOWEST = float(np.finfo(np.float32).min)


def frequencies(config):
    """Of plain rotary embedding, in float32 as torch computes them; linear scaling divides them."""
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    inverse = (1.0 / config["rope_theta"] ** (np.arange(0, dim, 2) / dim)).astype(np.float32)
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        return inverse / np.float32(scaling["factor"])
    if kind == "llama3":
        wavelength = 2 * np.pi / inverse
        turns = scaling["original_max_position_embeddings"] / wavelength
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return ((1 - kept) * inverse / scaling["factor"] + kept * inverse).astype(np.float32)
    assert kind == "default", kind
    return inverse


def pack_bits(codes, bits):
    """Codes of a row, [.., n], as bytes, the lowest bits first; the last byte is filled up."""
    per_byte = 8 // bits
    codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], -codes.shape[-1] % per_byte), codes.dtype)], axis=-1)
    codes = codes.reshape(*codes.shape[:-1], -1, per_byte).astype(np.uint32)
    return (codes << (bits * np.arange(per_byte, dtype=np.uint32))).sum(axis=-1).astype(np.uint8)


def quantize_nbits(values, bits, block, has_zeros):
    """What MatMulNBits reads of a matrix [n, k]: bytes, scales, zero points or None, and the numbers that they stand for."""
    rows, columns = values.shape
    padded = np.concatenate([values, np.zeros((rows, -columns % block))], axis=1).reshape(rows, -1, block)
    top = 2**bits - 1
    if has_zeros:
        low, high = np.minimum(padded.min(-1), 0), np.maximum(padded.max(-1), 0)
        scales = ((high - low) / top).astype(np.float32)
        zeros = np.clip(np.rint(-low / scales), 0, top)
    else:
        scales = (np.abs(padded).max(-1) / 2**(bits - 1)).astype(np.float32)
        zeros = np.full(scales.shape, 2**(bits - 1))
    codes = np.clip(np.rint(padded / scales[..., None]) + zeros[..., None], 0, top)
    numbers = ((codes - zeros[..., None]).astype(np.float32) * scales[..., None]).reshape(rows, -1)[:, :columns]
    packed_zeros = pack_bits(zeros.astype(np.uint8), bits) if has_zeros else None
    return pack_bits(codes.astype(np.uint8), bits), scales, packed_zeros, numbers.astype(np.float64)


def quantize_linear(matrix, unsigned, block):
    """Codes, scales, zero points or None, and the numbers that DequantizeLinear makes of them: a scale a row, or a block of one."""
    rows, columns = matrix.shape
    parts = matrix.astype(np.float32).reshape(rows, -1, block or columns)
    low, high = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    if unsigned:
        scales = ((high - low) / 255).astype(np.float32)
        zeros = np.round(-low / scales).astype(np.uint8)
        codes = np.clip(np.round(parts / scales[..., None]) + zeros[..., None], 0, 255).astype(np.uint8)
    else:
        scales, zeros = (np.maximum(high, -low) / 127).astype(np.float32), None
        codes = np.clip(np.round(parts / scales[..., None]), -127, 127).astype(np.int8)
    numbers = codes.astype(np.float32) - (0 if zeros is None else zeros[..., None].astype(np.float32))
    numbers = (numbers * scales[..., None]).astype(np.float64)
    if not block:
        scales, zeros = scales[:, 0], None if zeros is None else zeros[:, 0]
    return codes.reshape(rows, columns), scales, zeros, numbers.reshape(rows, columns)


class Graph(of.Builder):
    """A graph of a model: what all exporters share."""

    def __init__(self, config, values, bits=None, block=32, zeros=(), packed=False, qdq=None):
        super().__init__()
        self.qdq = qdq
        self.config, self.values, self.rounded = config, values, dict(values)
        self.bits, self.block, self.zeros, self.packed = bits, block, zeros, packed
        self.heads, self.kv = config["num_attention_heads"], config.get("num_key_value_heads") or config["num_attention_heads"]
        self.dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.layers = config["num_hidden_layers"]

    def f32(self, name):
        return self.weight(name, self.values[name].astype(np.float32))

    def linear(self, x, names, out=None):
        """x * W^T + b, of one matrix or of several one after the other; stored transposed, or in few bits."""
        matrix = np.concatenate([self.values[n + ".weight"] for n in names])
        name = names[0] if len(names) == 1 else names[0].replace("q_proj", "qkv_proj")
        if self.bits:
            has_zeros = any(part in name for part in self.zeros)
            codes, scales, zeros, numbers = quantize_nbits(matrix, self.bits, self.block, has_zeros)
            inputs = [x, self.weight(name + ".qweight", codes), self.weight(name + ".scales", scales)]
            if has_zeros:
                inputs.append(self.weight(name + ".qzeros", zeros))
            begin = 0
            for part in names:
                rows = len(self.values[part + ".weight"])
                self.rounded[part + ".weight"] = numbers[begin:begin + rows]
                begin += rows
            y = self.add("com.microsoft.MatMulNBits", inputs, None if out is None else [out], K=matrix.shape[1], N=matrix.shape[0],
                         bits=self.bits, block_size=self.block)
        elif self.qdq:
            codes, scales, zeros, numbers = quantize_linear(matrix, self.qdq == "uint8", self.block)
            self.rounded[name + ".weight"] = numbers
            inputs = [self.weight(f"{name}.{what}", v.T) for what, v in (("codes", codes), ("scales", scales), ("zeros", zeros))
                      if v is not None]
            options = {"axis": 0, "block_size": self.block} if self.block else {"axis": 1}
            y = self.add("MatMul", [x, self.add("DequantizeLinear", inputs, **options)], None if out is None else [out])
        else:
            y = self.add("MatMul", [x, self.weight(name + ".transposed", matrix.T.astype(np.float32))],
                         None if out is None else [out])
        if names[0] + ".bias" in self.values:
            bias = np.concatenate([self.values[n + ".bias"] for n in names]).astype(np.float32)
            y = self.add("Add", [y, self.weight(name + ".bias", bias)])
        return y

    def head(self, x):
        if self.config.get("tie_word_embeddings"):
            return self.add("MatMul", [x, self.add("Transpose", ["model.embed_tokens.weight"], perm=[1, 0])], ["logits"])
        return self.linear(x, ["lm_head"], "logits")

    def swiglu(self, x, prefix):
        gate = self.linear(x, [prefix + "gate_proj"])
        up = self.linear(x, [prefix + "up_proj"])
        silu = self.add("Mul", [gate, self.add("Sigmoid", [gate])])
        return self.linear(self.add("Mul", [silu, up]), [prefix + "down_proj"])


def write_genai(folder, config, values, interleaved=False, **options):
    """The graph of onnxruntime-genai's builder; returns the tensors as they were rounded."""
    g = Graph(config, values, **options)
    inputs = [of.value_info("input_ids", ["batch", "sequence"]), of.value_info("attention_mask", ["batch", "total"])]
    outputs = [of.value_info("logits", ["batch", "sequence", config["vocab_size"]], of.FLOAT)]
    one = g.const([1])
    ones = g.add("ReduceSum", ["attention_mask", one], keepdims=0)
    lengths = g.add("Cast", [g.add("Sub", [ones, one])], to=of.INT32)
    total = g.add("Cast", [g.add("Gather", [g.add("Shape", ["attention_mask"]), g.const(1)], axis=0)], to=of.INT32)
    angles = np.outer(np.arange(config["max_position_embeddings"]), frequencies(config).astype(np.float64))
    cos = g.weight("cos_cache", np.cos(angles).astype(np.float32))
    sin = g.weight("sin_cache", np.sin(angles).astype(np.float32))
    x = g.add("Gather", [g.f32("model.embed_tokens.weight"), "input_ids"])
    epsilon, added = config["rms_norm_eps"], None
    stored = dict(values)
    if interleaved:
        # As the rows of a model that is rotated by neighbors: (head, i, j) for (head, j, i).
        for name in values:
            for part, heads in (("q_proj", g.heads), ("k_proj", g.kv)):
                if part in name:
                    v = values[name].reshape(heads, 2, g.dim // 2, -1).swapaxes(1, 2)
                    stored[name] = v.reshape(values[name].shape)
        g.values, g.rounded = stored, dict(stored)

    def norm(name):
        nonlocal x, added
        weight = g.f32(name)
        if added is None:
            return g.add("SimplifiedLayerNormalization", [x, weight], axis=-1, epsilon=epsilon, stash_type=1)
        n = len(g.nodes)
        normed, _, _, x = g.add("com.microsoft.SkipSimplifiedLayerNormalization", [x, added, weight],
                                [f"n{n}", "", "", f"s{n}"], name=f"/norm{n}", epsilon=epsilon)
        return normed

    for i in range(g.layers):
        prefix = f"model.layers.{i}."
        attention = prefix + "self_attn."
        normed = norm(prefix + "input_layernorm.weight")
        names = [attention + p for p in ("q_proj", "k_proj", "v_proj")]
        qkv = [g.linear(normed, names), "", ""] if g.packed else [g.linear(normed, [n]) for n in names]
        past = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
        present = [f"present.{i}.key", f"present.{i}.value"]
        inputs += [of.value_info(n, ["batch", g.kv, "past", g.dim], of.FLOAT) for n in past]
        outputs += [of.value_info(n, ["batch", g.kv, "total", g.dim], of.FLOAT) for n in present]
        heads, _, _ = g.add("com.microsoft.GroupQueryAttention", [*qkv, *past, lengths, total, cos, sin], [f"heads{i}", *present],
                      num_heads=g.heads, kv_num_heads=g.kv, do_rotary=1, rotary_interleaved=int(interleaved),
                      scale=float(g.dim**-0.5), softcap=0.0, local_window_size=-1)
        added = g.linear(heads, [attention + "o_proj"])
        normed = norm(prefix + "post_attention_layernorm.weight")
        added = g.swiglu(normed, prefix + "mlp.")
    g.head(norm("model.norm.weight"))
    g.write(folder, inputs, outputs, domains=[("com.microsoft", 1)])
    if interleaved:
        # What was rounded, with its rows where they were.
        for name in values:
            for part, heads in (("q_proj", g.heads), ("k_proj", g.kv)):
                if part in name:
                    v = g.rounded[name].reshape(heads, g.dim // 2, 2, -1).swapaxes(1, 2)
                    g.rounded[name] = v.reshape(values[name].shape)
    return g.rounded


def write_torch(folder, config, values, style="dynamo", mask="where", window=None, **options):
    """The graph of torch.onnx.export, by plain operators. Styles: "dynamo", one sequence and no past; "torchscript", a batch with
    a past, positions and shapes computed by nodes. Masks: "where", numbers that are added; "condition", scores that are chosen."""
    g = Graph(config, values, **options)
    scripted = style == "torchscript"
    batch = "batch" if scripted else 1
    inputs = [of.value_info("input_ids", [batch, "sequence"])]
    outputs = [of.value_info("logits", [batch, "sequence", config["vocab_size"]], of.FLOAT)]
    if scripted:
        inputs += [of.value_info("attention_mask", ["batch", "total"]), of.value_info("position_ids", ["batch", "sequence"])]
    zero, one, last = g.const([0]), g.const([1]), g.const([-1])
    end = g.const([2**63 - 1])
    shape = g.add("Shape", ["input_ids"])
    rows = g.add("Gather", [shape, g.const(0)], axis=0)
    length = g.add("Gather", [shape, g.const(1)], axis=0)
    x = g.add("Gather", [g.f32("model.embed_tokens.weight"), "input_ids"], axis=0)
    if scripted:
        positions, total = "position_ids", g.add("Gather", [g.add("Shape", ["attention_mask"]), g.const(1)], axis=0)
        past = g.add("Sub", [total, length])
    else:
        positions = g.add("Unsqueeze", [g.add("Range", [g.const(0), length, g.const(1)]), zero])
        total, past = length, g.const(0)
    # Who sees whom: [1, 1, tokens, all tokens].
    own = g.add("Unsqueeze", [g.add("Range", [past, total, g.const(1)]), g.const([0, 1, 3])])
    others = g.add("Unsqueeze", [g.add("Range", [g.const(0), total, g.const(1)]), g.const([0, 1, 2])])
    seen = g.add("LessOrEqual", [others, own])
    if window:
        seen = g.add("And", [seen, g.add("Greater", [others, g.add("Sub", [own, g.const(window)])])])
    if scripted:
        padding = g.add("Cast", [g.add("Unsqueeze", ["attention_mask", g.const([1, 2])])], to=of.BOOL)
        seen = g.add("And", [seen, padding])
    lowest = g.const(LOWEST, np.float32)
    added = g.add("Where", [seen, g.const(0, np.float32), lowest])
    # Cosines and sines: [batch, 1, tokens, dim].
    spread = g.add("Cast", [g.add("Unsqueeze", [positions, g.const([1] if scripted else [2])])], to=of.FLOAT)
    inverse = g.weight("inv_freq", frequencies(config).reshape(1, -1, 1) if scripted else frequencies(config))
    if scripted:
        angles = g.add("Transpose", [g.add("MatMul", [inverse, spread])], perm=[0, 2, 1])
    else:
        angles = g.add("Mul", [spread, inverse])
    angles = g.add("Concat", [angles, angles], axis=-1)
    cos = g.add("Unsqueeze", [g.add("Cos", [angles]), one])
    sin = g.add("Unsqueeze", [g.add("Sin", [angles]), one])

    def norm(x, name):
        square = g.add("Pow", [x, g.const(2, np.float32)])
        if scripted:
            mean = g.add("ReduceMean", [square, last], keepdims=1)
            root = g.add("Sqrt", [g.add("Add", [mean, g.const(config["rms_norm_eps"], np.float32)])])
            return g.add("Mul", [g.f32(name), g.add("Mul", [x, g.add("Div", [g.const(1, np.float32), root])])])
        mean = g.add("ReduceMean", [square, last], keepdims=1, noop_with_empty_axes=0)
        root = g.add("Sqrt", [g.add("Add", [mean, g.const(config["rms_norm_eps"], np.float32)])])
        return g.add("Mul", [g.f32(name), g.add("Mul", [x, g.add("Reciprocal", [root])])])

    def split(x, heads):
        if scripted:
            sizes = [g.add("Unsqueeze", [rows, zero]), g.add("Unsqueeze", [length, zero]), g.const([heads]), g.const([g.dim])]
            shape = g.add("Concat", sizes, axis=0)
        else:
            shape = g.const([1, -1, heads, g.dim])
        return g.add("Transpose", [g.add("Reshape", [x, shape])], perm=[0, 2, 1, 3])

    def rotate(x):
        if scripted:
            # The half of a width that is read from a shape.
            width = g.add("Gather", [g.add("Shape", [x]), g.const(3)], axis=0)
            half = g.add("Unsqueeze", [g.add("Cast", [g.add("Div", [width, g.const(2)])], to=of.INT64), zero])
        else:
            half = g.const([g.dim // 2])
        low = g.add("Slice", [x, zero, half, g.const([3]), one])
        high = g.add("Slice", [x, half, end, g.const([3]), one])
        swapped = g.add("Concat", [g.add("Neg", [high]), low], axis=-1)
        return g.add("Add", [g.add("Mul", [x, cos]), g.add("Mul", [swapped, sin])])

    def repeat(x):
        if g.kv == g.heads:
            return x
        repeats = g.heads // g.kv
        sizes = [g.add("Unsqueeze", [rows, zero]), g.const([g.kv]), g.const([repeats]), g.add("Unsqueeze", [total, zero]), g.const([g.dim])]
        wide = g.add("Expand", [g.add("Unsqueeze", [x, g.const([2])]), g.add("Concat", sizes, axis=0)])
        flat = g.add("Concat", [sizes[0], g.const([g.heads]), sizes[3], sizes[4]], axis=0)
        return g.add("Reshape", [wide, flat])

    for i in range(g.layers):
        prefix = f"model.layers.{i}."
        attention = prefix + "self_attn."
        normed = norm(x, prefix + "input_layernorm.weight")
        q = rotate(split(g.linear(normed, [attention + "q_proj"]), g.heads))
        k = rotate(split(g.linear(normed, [attention + "k_proj"]), g.kv))
        v = split(g.linear(normed, [attention + "v_proj"]), g.kv)
        if scripted:
            past_names = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
            inputs += [of.value_info(n, ["batch", g.kv, "past", g.dim], of.FLOAT) for n in past_names]
            k = g.add("Concat", [past_names[0], k], [f"present.{i}.key"], axis=-2)
            v = g.add("Concat", [past_names[1], v], [f"present.{i}.value"], axis=-2)
            outputs += [of.value_info(f"present.{i}.{n}", ["batch", g.kv, "total", g.dim], of.FLOAT) for n in ("key", "value")]
        transposed = g.add("Transpose", [repeat(k)], perm=[0, 1, 3, 2])
        if scripted:
            # The root of the scale on either side.
            root = g.const(g.dim**-0.25, np.float32)
            scores = g.add("MatMul", [g.add("Mul", [q, root]), g.add("Mul", [transposed, root])])
        else:
            scores = g.add("Mul", [g.add("MatMul", [q, transposed]), g.const(g.dim**-0.5, np.float32)])
        scores = g.add("Where", [seen, scores, lowest]) if mask == "condition" else g.add("Add", [scores, added])
        heads = g.add("MatMul", [g.add("Softmax", [scores], axis=-1), repeat(v)])
        merged = g.add("Reshape", [g.add("Transpose", [heads], perm=[0, 2, 1, 3]), g.const([0, 0, g.heads * g.dim])])
        x = g.add("Add", [x, g.linear(merged, [attention + "o_proj"])])
        x = g.add("Add", [g.swiglu(norm(x, prefix + "post_attention_layernorm.weight"), prefix + "mlp."), x])
    g.head(norm(x, "model.norm.weight"))
    g.write(folder, inputs, outputs, opset=18)
    return g.rounded


def write(folder, config, values, kind, **options):
    return (write_genai if kind == "genai" else write_torch)(folder, config, values, **options)
