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
    dim = config.get("qk_rope_head_dim") or config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
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
    if kind == "yarn":
        def pair_of(turns):
            length = scaling["original_max_position_embeddings"]
            return dim * np.log(length / (turns * 2 * np.pi)) / (2 * np.log(config["rope_theta"]))
        low = max(np.floor(pair_of(scaling["beta_fast"])), 0)
        high = min(np.ceil(pair_of(scaling["beta_slow"])), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
        return (inverse / scaling["factor"] * ramp + inverse * (1 - ramp)).astype(np.float32)
    assert kind == "default", kind
    return inverse


def pack_bits(codes, bits):
    """Codes of a row, [.., n], as bytes, the lowest bits first; the last byte is filled up."""
    per_byte = 8 // bits
    codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], -codes.shape[-1] % per_byte), codes.dtype)], axis=-1)
    codes = codes.reshape(*codes.shape[:-1], -1, per_byte).astype(np.uint32)
    return (codes << (bits * np.arange(per_byte, dtype=np.uint32))).sum(axis=-1).astype(np.uint8)


def unpack_bits(packed, bits):
    return (packed[..., None] >> np.arange(0, 8, bits) & 2**bits - 1).reshape(*packed.shape[:-1], -1).astype(np.int64)


def quantize_nbits(values, bits, block, has_zeros, order=None):
    """What MatMulNBits reads of a matrix [n, k]: bytes, scales, zero points or None, and the numbers that they stand for. `order`
    has the group of each column, of which each group has as many as a block."""
    rows, columns = values.shape
    if order is not None:
        sorted_by = np.argsort(order, kind="stable")
        _, scales, packed_zeros, numbers = quantize_nbits(values[:, sorted_by], bits, block, has_zeros)
        by_column = scales[:, order]
        zeros = unpack_bits(packed_zeros, bits)[:, order] if has_zeros else 2**(bits - 1)
        numbers = numbers[:, np.argsort(sorted_by)]
        codes = np.rint(numbers / by_column) + zeros
        return pack_bits(codes.astype(np.uint8).reshape(rows, -1, block), bits), scales, packed_zeros, numbers
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


def quantize_linear(matrix, kind, block):
    """Codes, scales, zero points or None, and the numbers that DequantizeLinear makes of them: a scale a row, a block of one, or,
    with a block of -1, one in all. Kinds: int8, uint8, int4, uint4."""
    rows, columns = matrix.shape
    top = 2**int(kind.removeprefix("u")[3:]) - 1
    parts = matrix.astype(np.float32).reshape((1, 1, -1) if block < 0 else (rows, -1, block or columns))
    low, high = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    if kind.startswith("u"):
        scales = ((high - low) / top).astype(np.float32)
        zeros = np.round(-low / scales).astype(np.uint8)
        codes = np.clip(np.round(parts / scales[..., None]) + zeros[..., None], 0, top).astype(np.uint8)
    else:
        scales, zeros = (np.maximum(high, -low) / (top // 2)).astype(np.float32), None
        codes = np.clip(np.round(parts / scales[..., None]), -(top // 2), top // 2).astype(np.int8)
    numbers = codes.astype(np.float32) - (0 if zeros is None else zeros[..., None].astype(np.float32))
    numbers = (numbers * scales[..., None]).astype(np.float64)
    if block <= 0:
        scales, zeros = (None if v is None else v[0, 0] if block else v[:, 0] for v in (scales, zeros))
    return codes.reshape(rows, columns), scales, zeros, numbers.reshape(rows, columns)


def pack_experts(values, bits, block, has_zeros):
    """What QMoE reads of matrices [experts, n, k]: as quantize_nbits, of all experts; a scale a row if there is no block."""
    parts = [quantize_nbits(matrix, bits, block or matrix.shape[1], has_zeros) for matrix in values]
    codes, scales, zeros, numbers = (None if column[0] is None else np.stack(column) for column in zip(*parts))
    codes = codes.reshape(*values.shape[:2], -1)
    if not block:
        scales = scales[..., 0]
        if has_zeros:  # Along the rows of all, not of each.
            zeros = pack_bits(zeros[..., 0] & (2**bits - 1), bits)
    return codes, scales, zeros, numbers


def store(codes, kind):
    return of.Nibbles(codes, of.INT4 if kind == "int4" else of.UINT4) if kind.endswith("int4") else codes


class Graph(of.Builder):
    """A graph of a model: what all exporters share."""

    def __init__(self, config, values, bits=None, block=32, zeros=(), packed=False, qdq=None, order=False, inputs=False):
        super().__init__()
        self.qdq, self.order, self.inputs = qdq, order, inputs
        self.config, self.values, self.rounded = config, values, dict(values)
        self.bits, self.block, self.zeros, self.packed = bits, block, zeros, packed
        self.heads, self.kv = config["num_attention_heads"], config.get("num_key_value_heads") or config["num_attention_heads"]
        self.dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.layers = config["num_hidden_layers"]
        self.has_swish = False

    def f32(self, name):
        return self.weight(name, self.values[name].astype(np.float32))

    def linear(self, x, names, out=None):
        """x * W^T + b, of one matrix or of several one after the other; stored transposed, or in few bits."""
        matrix = np.concatenate([self.values[n + ".weight"] for n in names])
        name = names[0] if len(names) == 1 else names[0].replace("q_proj", "qkv_proj")
        if self.bits:
            has_zeros = any(part in name for part in self.zeros)
            columns = matrix.shape[1]
            order = np.random.default_rng(columns).permutation(columns) // self.block if self.order else None
            codes, scales, zeros, numbers = quantize_nbits(matrix, self.bits, self.block, has_zeros, order)
            inputs = [x, self.weight(name + ".qweight", codes), self.weight(name + ".scales", scales)]
            if has_zeros or self.order:
                inputs.append(self.weight(name + ".qzeros", zeros) if has_zeros else "")
            if self.order:
                order[0] += columns // self.block if self.order == "far" else 0
                inputs.append(self.weight(f"order{columns}", order[self.order == "short":].astype(np.int32)))
            begin = 0
            for part in names:
                rows = len(self.values[part + ".weight"])
                self.rounded[part + ".weight"] = numbers[begin:begin + rows]
                begin += rows
            y = self.add("com.microsoft.MatMulNBits", inputs, None if out is None else [out], K=matrix.shape[1], N=matrix.shape[0],
                         bits=self.bits, block_size=self.block)
        elif self.qdq:
            codes, scales, zeros, numbers = quantize_linear(matrix, self.qdq, self.block)
            self.rounded[name + ".weight"] = numbers
            inputs = [self.weight(f"{name}.{what}", store(v.T, self.qdq) if what != "scales" else v.T)
                      for what, v in (("codes", codes), ("scales", scales), ("zeros", None if "none" in self.zeros else zeros))
                      if v is not None]
            if self.inputs:
                x = self.round_input(x, names[0])
            options = {"axis": 0, "block_size": self.block} if self.block > 0 else {"axis": 1} if self.block == 0 else {}
            y = self.add("MatMul", [x, self.add("DequantizeLinear", inputs, **options)], None if out is None else [out])
        else:
            y = self.add("MatMul", [x, self.weight(name + ".transposed", matrix.T.astype(np.float32))],
                         None if out is None else [out])
        if names[0] + ".bias" in self.values:
            bias = np.concatenate([self.values[n + ".bias"] for n in names]).astype(np.float32)
            y = self.add("Add", [y, self.weight(name + ".bias", bias)])
        return y

    def round_input(self, x, name):
        """x as it is rounded in training for rounded numbers: int8, and uint8 with a zero point before o_proj and down_proj."""
        scale, zero = (0.03, np.uint8(119)) if name.endswith(("o_proj", "down_proj")) else (0.05, np.int8(0))
        if self.inputs == "layers":
            scale *= 1 + len(self.rounded) % 7 / 8
        self.rounded[name + ".grid"] = np.array([scale, int(zero) - 128 * (zero.dtype == np.uint8)], np.float32)
        grid = [self.const(scale, np.float32), self.const(zero, zero.dtype)]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [x, *grid]), *grid])

    def head(self, x):
        if self.config.get("tie_word_embeddings"):
            if "lm_head.qweight" in self.names:
                rows, columns = self.values["model.embed_tokens.weight"].shape
                return self.add("com.microsoft.MatMulNBits", [x, "lm_head.qweight", "lm_head.scales"], ["logits"], K=columns, N=rows,
                                bits=self.bits, block_size=32)
            return self.add("MatMul", [x, self.add("Transpose", ["model.embed_tokens.weight"], perm=[1, 0])], ["logits"])
        return self.linear(x, ["lm_head"], "logits")

    def experts(self, prefix, part):
        """The matrices of all experts, as one stack."""
        count = self.config["n_routed_experts"]
        return np.stack([self.values[f"{prefix}experts.{e}.{part}.weight"] for e in range(count)])

    def fused_experts(self, x, prefix, bits=None, block=0, has_zeros=False, fusion=1, activation="swiglu", limit=None,
                      alpha=None, scoring="softmax"):
        """com.microsoft.MoE, or QMoE if there are bits, and the shared experts. With the scoring "sigmoid" weights of experts are
        one of the logits, and the choice is by them and a correction."""
        config, count = self.config, self.config["n_routed_experts"]
        logits = self.linear(x, [prefix + "gate"])
        flat, weights = self.add("Reshape", [logits, self.const([-1, count])]), None
        if scoring == "sigmoid":
            weights = self.add("Sigmoid", [flat])
            flat = self.add("Add", [weights, self.weight(prefix + "correction", np.linspace(-1, 1, count).astype(np.float32))])
        gate, up, down = (self.experts(prefix, part) for part in ("gate_proj", "up_proj", "down_proj"))
        if fusion == 1:
            first = np.stack([gate, up], axis=2).reshape(count, -1, gate.shape[2])
        elif fusion == 2:
            first = np.concatenate([gate, up], axis=1)
        else:
            first = gate
        stacks = {"fc1": first, "fc2": down, **({"fc3": up} if fusion == 0 else {})}
        options = {"k": config["num_experts_per_tok"], "normalize_routing_weights": int(config["norm_topk_prob"]),
                   "activation_type": activation, "swiglu_fusion": fusion}
        if limit is not None:
            options["swiglu_limit"] = float(limit)
        if alpha is not None:
            options["activation_alpha"] = float(alpha)
        if not bits:
            inputs = [x, flat]
            for name, stack in stacks.items():
                inputs += [self.weight(prefix + name, stack.astype(np.float32)), ""]
            if weights:
                inputs += [""] * (8 - len(inputs)) + [weights]
            return self.add_shared(self.add("com.microsoft.MoE", inputs, **options), x, prefix)
        inputs, zeros, rounded = [x, flat] + [""] * 12, [], {}
        for i, (name, stack) in enumerate(stacks.items()):
            codes, scales, points, rounded[name] = pack_experts(stack, bits, block, has_zeros)
            inputs[2 + 3 * i] = self.weight(prefix + name, codes)
            inputs[3 + 3 * i] = self.weight(prefix + name + ".scales", scales)
            if has_zeros:
                inputs[11 + i] = self.weight(prefix + name + ".zeros", points)
        if fusion == 1:
            gate, up = rounded["fc1"][:, 0::2], rounded["fc1"][:, 1::2]
        elif fusion == 2:
            gate, up = np.split(rounded["fc1"], 2, axis=1)
        else:
            gate, up = rounded["fc1"], rounded["fc3"]
        for e in range(count):
            for part, stack in (("gate_proj", gate), ("up_proj", up), ("down_proj", rounded["fc2"])):
                self.rounded[f"{prefix}experts.{e}.{part}.weight"] = stack[e]
        if block:
            options["block_size"] = block
        if weights:
            inputs.append(weights)
        while inputs[-1] == "":
            inputs.pop()
        return self.add_shared(self.add("com.microsoft.QMoE", inputs, expert_weight_bits=bits, **options), x, prefix)

    def add_shared(self, routed, x, prefix):
        if not self.config.get("n_shared_experts"):
            return routed
        return self.add("Add", [routed, self.swiglu(x, prefix + "shared_experts.")])

    def route(self, x, prefix, **scatter):
        """The experts of each token and their weights, [tokens, k], by the rule of the generation."""
        config, count = self.config, self.config["n_routed_experts"]
        k, groups = config["num_experts_per_tok"], config.get("n_group") or 1
        one, last = self.const([1]), self.const([-1])
        flat = self.add("Reshape", [x, self.const([-1, config["hidden_size"]])])
        logits = self.linear(flat, [prefix + "gate"])
        is_v3 = config.get("topk_method") == "noaux_tc"
        scores = self.add("Sigmoid", [logits]) if is_v3 else self.add("Softmax", [logits], axis=-1)
        choice = scores
        if is_v3:
            bias = self.f32(prefix + "gate.e_score_correction_bias")
            choice = self.add("Add", [scores, self.add("Unsqueeze", [bias, self.const([0])])])
        if groups > 1 and config.get("topk_method") != "greedy":
            grouped = self.add("Reshape", [choice, self.const([-1, groups, count // groups])])
            if is_v3:
                n = len(self.nodes)
                best, _ = self.add("TopK", [grouped, self.const([2])], [f"best{n}", f"unused{n}"], axis=-1)
                of_groups = self.add("ReduceSum", [best, last], keepdims=0)
            else:
                of_groups = self.add("ReduceMax", [grouped, last], keepdims=0)
            n = len(self.nodes)
            _, chosen = self.add("TopK", [of_groups, self.const([config["topk_group"]])], [f"unused{n}", f"groups{n}"], axis=-1, sorted=0)
            zeros = self.add("ConstantOfShape", [self.add("Shape", [of_groups])], value=np.zeros(1, np.float32))
            ones = self.add("ConstantOfShape", [self.add("Shape", [chosen])], value=np.ones(1, np.float32))
            mask = self.add("Unsqueeze", [self.add("ScatterElements", [zeros, chosen, ones], axis=1, **scatter), last])
            wide = self.add("Expand", [mask, self.const([1, groups, count // groups])])
            mask = self.add("Cast", [self.add("Reshape", [wide, self.const([-1, count])])], to=of.BOOL)
            choice = self.add("Where", [self.add("Not", [mask]), self.const(0, np.float32), choice])
        n = len(self.nodes)
        weights, ids = self.add("TopK", [choice, self.const([k])], [f"values{n}", f"ids{n}"], axis=-1, sorted=0)
        if is_v3:
            weights = self.add("GatherElements", [scores, ids], axis=1)
        if config["norm_topk_prob"]:
            total = self.add("ReduceSum", [weights, last], keepdims=1)
            weights = self.add("Div", [weights, self.add("Add", [total, self.const(1e-20, np.float32)])])
        if config.get("routed_scaling_factor", 1.0) != 1.0:
            weights = self.add("Mul", [weights, self.const(config["routed_scaling_factor"], np.float32)])
        return flat, ids, weights

    def written_experts(self, x, prefix, style):
        """The experts of torch.onnx: "loop", each on the rows of its tokens; "stack", each token on its experts' matrices;
        "elements" and "places", both by other nodes. What "swapped" makes is none: it takes tokens for experts."""
        config, count = self.config, self.config["n_routed_experts"]
        k, hidden = config["num_experts_per_tok"], config["hidden_size"]
        zero, one = self.const([0]), self.const([1])
        flat, ids, weights = self.route(x, prefix, **({"reduction": "none"} if style == "places" else {}))
        if style not in ("stack", "places"):
            if style == "elements":
                numbers = self.add("Range", [self.const(0), self.const(count), self.const(1)])
                hot = self.add("Equal", [self.add("Unsqueeze", [ids, self.const([-1])]), numbers])
                hot = self.add("Cast", [hot], to=of.INT64)
            else:
                hot = self.add("OneHot", [ids, self.const(count), self.const([0, 1])], axis=-1)
            hot = self.add("Transpose", [hot], perm=[2, 0, 1])
            total = self.add("Expand", [self.const(0, np.float32), self.add("Shape", [flat])])
            for e in range(count):
                found = self.add("NonZero", [self.add("Gather", [hot, self.const(e)], axis=0)])
                n = len(self.nodes)
                rows, slots = self.add("Split", [found, self.const([1, 1])], [f"rows{n}", f"slots{n}"], axis=0)
                rows, slots = (self.add("Squeeze", [v, zero]) for v in ((slots, rows) if style == "swapped" else (rows, slots)))
                pairs = self.add("Concat", [self.add("Unsqueeze", [v, self.const([-1])]) for v in (rows, slots)], axis=-1)
                column = self.add("Unsqueeze", [rows, self.const([-1])])
                if style == "elements":
                    y = self.swiglu(self.add("GatherND", [flat, column]), f"{prefix}experts.{e}.")
                else:
                    y = self.swiglu(self.add("Gather", [flat, rows], axis=0), f"{prefix}experts.{e}.")
                y = self.add("Mul", [y, self.add("Unsqueeze", [self.add("GatherND", [weights, pairs]), self.const([-1])])])
                if style == "elements":
                    wide = self.add("Expand", [column, self.add("Shape", [y])])
                    total = self.add("ScatterElements", [total, wide, y], axis=0, reduction="add")
                else:
                    total = self.add("ScatterND", [total, column, y], reduction="add")
        else:
            gate, up, down = (self.experts(prefix, part) for part in ("gate_proj", "up_proj", "down_proj"))
            first = self.weight(prefix + "gate_up", np.concatenate([gate, up], axis=1).astype(np.float32))
            second = self.weight(prefix + "down", down.astype(np.float32))
            numbers = self.add("Reshape", [ids, self.const([-1])])

            def take(stack):
                if style == "stack":
                    return self.add("Gather", [stack, numbers], axis=0)
                return self.add("GatherND", [stack, self.add("Unsqueeze", [numbers, self.const([-1])])], batch_dims=0)

            tokens = self.add("Gather", [self.add("Shape", [flat]), self.const(0)], axis=0)
            rows = self.add("Unsqueeze", [self.add("Range", [self.const(0), tokens, self.const(1)]), one])
            rows = self.add("Reshape", [self.add("Expand", [rows, self.const([1, k])]), self.const([-1])])
            taken = self.add("Gather", [flat, rows], axis=0)
            if style == "places":
                tiled = self.add("Tile", [self.add("Unsqueeze", [flat, one]), self.const([1, k, 1])])
                taken = self.add("Reshape", [tiled, self.const([-1, hidden])])
            taken = self.add("Unsqueeze", [taken, self.const([-1])])
            both = self.add("Squeeze", [self.add("MatMul", [take(first), taken]), self.const([-1])])
            n, width = len(self.nodes), gate.shape[1]
            gates, ups = self.add("Split", [both, self.const([width, width])], [f"gate{n}", f"up{n}"], axis=-1)
            gated = self.add("Mul", [self.add("Mul", [gates, self.add("Sigmoid", [gates])]), ups])
            y = self.add("MatMul", [take(second), self.add("Unsqueeze", [gated, self.const([-1])])])
            y = self.add("Squeeze", [y, self.const([-1])])
            y = self.add("Mul", [y, self.add("Unsqueeze", [self.add("Reshape", [weights, self.const([-1])]), self.const([-1])])])
            total = self.add("ReduceSum", [self.add("Reshape", [y, self.const([-1, k, hidden])]), one], keepdims=0)
        shape = self.add("Shape", [x])
        return self.add_shared(self.add("Reshape", [total, shape]), x, prefix)

    def swiglu(self, x, prefix):
        gate = self.linear(x, [prefix + "gate_proj"])
        up = self.linear(x, [prefix + "up_proj"])
        silu = self.add("Swish", [gate]) if self.has_swish else self.add("Mul", [gate, self.add("Sigmoid", [gate])])
        return self.linear(self.add("Mul", [silu, up]), [prefix + "down_proj"])


def is_mixture(config, layer):
    return "n_routed_experts" in config and layer >= config["first_k_dense_replace"]


def write_genai(folder, config, values, interleaved=False, experts=None, table=np.float32, table_bits=None, table_kind=None,
                taken=False, **options):
    """The graph of onnxruntime-genai's builder; returns the tensors as they were rounded. The embedding may be bytes of
    `table_bits`, or integers of `table_kind`, of which rows may be `taken` before they become numbers."""
    g = Graph(config, values, **options)
    inputs = [of.value_info("input_ids", ["batch", "sequence"]), of.value_info("attention_mask", ["batch", "total"])]
    outputs = [of.value_info("logits", ["batch", "sequence", config["vocab_size"]], of.FLOAT)]
    one = g.const([1])
    ones = g.add("ReduceSum", ["attention_mask", one], keepdims=0)
    lengths = g.add("Cast", [g.add("Sub", [ones, one])], to=of.INT32)
    total = g.add("Cast", [g.add("Gather", [g.add("Shape", ["attention_mask"]), g.const(1)], axis=0)], to=of.INT32)
    angles = np.outer(np.arange(config["max_position_embeddings"]), frequencies(config).astype(np.float64))
    cos = g.weight("cos_cache", np.cos(angles).astype(table))
    sin = g.weight("sin_cache", np.sin(angles).astype(table))
    if table_kind:
        codes, scales, zeros, numbers = quantize_linear(values["model.embed_tokens.weight"], table_kind, 16)
        g.rounded["model.embed_tokens.weight"] = numbers
        tables = [g.weight("embed.codes", store(codes, table_kind)), g.weight("embed.scales", scales)]
        if zeros is not None:
            tables.append(g.weight("embed.zeros", store(zeros, table_kind)))
        if taken:
            x = g.add("DequantizeLinear", [g.add("Gather", [each, "input_ids"]) for each in tables], axis=2, block_size=16)
        else:
            x = g.add("com.microsoft.GatherBlockQuantized", [tables[0], "input_ids", *tables[1:]], block_size=16, gather_axis=0,
                      quantize_axis=1)
    elif table_bits:
        codes, scales, zeros, numbers = quantize_nbits(values["model.embed_tokens.weight"], table_bits, 32, has_zeros=False)
        g.rounded["model.embed_tokens.weight"] = numbers
        if config.get("tie_word_embeddings"):
            # One matrix, which both read, in the shape of MatMulNBits.
            table = g.weight("lm_head.qweight", codes)
            table = g.add("Reshape", [table, g.const([codes.shape[0], -1])])
            scales = g.add("Reshape", [g.weight("lm_head.scales", scales), g.const([codes.shape[0], -1])])
        else:
            table, scales = g.weight("embed.qweight", codes.reshape(len(codes), -1)), g.weight("embed.scales", scales)
        x = g.add("com.microsoft.GatherBlockQuantized", [table, "input_ids", scales], bits=table_bits, block_size=32,
                  gather_axis=0, quantize_axis=1)
    else:
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
        if is_mixture(config, i):
            added = g.fused_experts(normed, prefix + "mlp.", **(experts or {}))
        else:
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


def write_torch(folder, config, values, style="dynamo", mask="where", window=None, experts="loop", operators=None,
                **options):
    """The graph of torch.onnx.export, by plain operators. Styles: "dynamo", one sequence and no past; "torchscript", a batch with
    a past, positions and shapes computed by nodes. Masks: "where", numbers that are added; "condition", scores that are chosen.
    Operators: those of opsets 23 and 24, with attention over "heads", or over "rows", which are causal and have the past in it."""
    g = Graph(config, values, **options)
    scripted = style == "torchscript"
    g.has_swish = bool(operators)
    turned = value_dim = g.dim  # Columns of a head that are rotated, and that are values.
    if "kv_lora_rank" in config:
        turned, value_dim = config["qk_rope_head_dim"], config["v_head_dim"]
        g.dim, g.kv = config["qk_nope_head_dim"] + turned, g.heads
    scaling = config.get("rope_scaling") or {}
    scale = g.dim**-0.5
    if scaling.get("mscale_all_dim"):
        scale *= (0.1 * scaling["mscale_all_dim"] * np.log(scaling["factor"]) + 1)**2
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
    half_cos, half_sin = (g.add(f, [angles]) for f in ("Cos", "Sin")) if operators else (None, None)
    if operators == "rows":
        table = np.outer(np.arange(config["max_position_embeddings"]), frequencies(config).astype(np.float64))
        half_cos, half_sin = (g.weight(name, f(table).astype(np.float32)) for name, f in (("cos", np.cos), ("sin", np.sin)))
    angles = g.add("Concat", [angles, angles], axis=-1)
    cos = g.add("Unsqueeze", [g.add("Cos", [angles]), one])
    sin = g.add("Unsqueeze", [g.add("Sin", [angles]), one])

    def norm(x, name):
        if operators:
            return g.add("RMSNormalization", [x, g.f32(name)], axis=-1, epsilon=config["rms_norm_eps"])
        square = g.add("Pow", [x, g.const(2, np.float32)])
        if scripted:
            mean = g.add("ReduceMean", [square, last], keepdims=1)
            root = g.add("Sqrt", [g.add("Add", [mean, g.const(config["rms_norm_eps"], np.float32)])])
            return g.add("Mul", [g.f32(name), g.add("Mul", [x, g.add("Div", [g.const(1, np.float32), root])])])
        mean = g.add("ReduceMean", [square, last], keepdims=1, noop_with_empty_axes=0)
        root = g.add("Sqrt", [g.add("Add", [mean, g.const(config["rms_norm_eps"], np.float32)])])
        return g.add("Mul", [g.f32(name), g.add("Mul", [x, g.add("Reciprocal", [root])])])

    def split(x, heads, dim):
        if scripted:
            sizes = [g.add("Unsqueeze", [rows, zero]), g.add("Unsqueeze", [length, zero]), g.const([heads]), g.const([dim])]
            shape = g.add("Concat", sizes, axis=0)
        else:
            shape = g.const([1, -1, heads, dim])
        return g.add("Transpose", [g.add("Reshape", [x, shape])], perm=[0, 2, 1, 3])

    def rotate(x):
        if operators:
            return g.add("RotaryEmbedding", [x, half_cos, half_sin])
        if scripted:
            # The half of a width that is read from a shape.
            width = g.add("Gather", [g.add("Shape", [x]), g.const(3)], axis=0)
            half = g.add("Unsqueeze", [g.add("Cast", [g.add("Div", [width, g.const(2)])], to=of.INT64), zero])
        else:
            half = g.const([turned // 2])
        low = g.add("Slice", [x, zero, half, g.const([3]), one])
        high = g.add("Slice", [x, half, end, g.const([3]), one])
        swapped = g.add("Concat", [g.add("Neg", [high]), low], axis=-1)
        return g.add("Add", [g.add("Mul", [x, cos]), g.add("Mul", [swapped, sin])])

    def parts(x, *sizes):
        n = len(g.nodes)
        return g.add("Split", [x, g.const(sizes)], [f"part{n}_{i}" for i in range(len(sizes))], axis=-1)

    def neighbors(x, heads):
        """Rotates neighbors: they become halves first."""
        if scripted:
            length_of = g.add("Unsqueeze", [g.add("Gather", [g.add("Shape", [x]), g.const(2)], axis=0), zero])
            begin = [g.add("Unsqueeze", [rows, zero]), g.const([heads]), length_of]
            pairs = g.add("Concat", [*begin, g.const([turned // 2, 2])], axis=0)
            whole = g.add("Concat", [*begin, g.const([turned])], axis=0)
        else:
            pairs, whole = g.const([1, heads, -1, turned // 2, 2]), g.const([1, heads, -1, turned])
        pairs = g.add("Transpose", [g.add("Reshape", [x, pairs])], perm=[0, 1, 2, 4, 3])
        return rotate(g.add("Reshape", [pairs, whole]))

    def neighbors_of_slices(x):
        """The same, of every second element and of the others."""
        a, b = (g.add("Slice", [x, g.const([i]), end, g.const([3]), g.const([2])]) for i in (0, 1))
        c, s = (g.add("Slice", [table, zero, g.const([turned // 2]), g.const([-1]), one]) for table in (cos, sin))
        low = g.add("Sub", [g.add("Mul", [a, c]), g.add("Mul", [b, s])])
        high = g.add("Add", [g.add("Mul", [b, c]), g.add("Mul", [a, s])])
        return g.add("Concat", [low, high], axis=-1)

    def write_slices(plain, moved, size):
        """Keys, of which parts are written to slices."""
        order = [3, 1, 2, 0]
        whole = g.add("ConstantOfShape", [g.add("Concat", [g.add("Shape", [plain], end=3), g.const([size + turned])], axis=0)])
        for part, places in ((plain, range(size)), (moved, range(size, size + turned))):
            whole = g.add("Transpose", [whole], perm=order)
            part = g.add("Transpose", [part], perm=order)
            whole = g.add("ScatterND", [whole, g.const([[i] for i in places]), part], reduction="none")
            whole = g.add("Transpose", [whole], perm=order)
        return whole

    def latent(x, attention):
        """Queries, keys and values of multi-head latent attention."""
        by_slices = experts == "places" and not scripted
        nope = config["qk_nope_head_dim"]
        if config["q_lora_rank"] is None:
            q = g.linear(x, [attention + "q_proj"])
        else:
            q = norm(g.linear(x, [attention + "q_a_proj"]), attention + "q_a_layernorm.weight")
            q = g.linear(q, [attention + "q_b_proj"])
        plain, moved = parts(split(q, g.heads, g.dim), nope, turned)
        q = g.add("Concat", [plain, neighbors_of_slices(moved) if by_slices else neighbors(moved, g.heads)], axis=-1)
        compressed, moved = parts(g.linear(x, [attention + "kv_a_proj_with_mqa"]), config["kv_lora_rank"], turned)
        kv = g.linear(norm(compressed, attention + "kv_a_layernorm.weight"), [attention + "kv_b_proj"])
        plain, v = parts(split(kv, g.heads, nope + value_dim), nope, value_dim)
        moved = split(moved, 1, turned)
        moved = neighbors_of_slices(moved) if by_slices else neighbors(moved, 1)
        moved = g.add("Expand", [moved, g.add("Concat", [g.add("Shape", [plain], end=3), g.const([turned])], axis=0)])
        if by_slices:
            return q, write_slices(plain, moved, nope), v
        return q, g.add("Concat", [plain, moved], axis=-1), v

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
        if operators == "rows":
            q, k, v = (g.linear(normed, [attention + part]) for part in ("q_proj", "k_proj", "v_proj"))
            q, k = (g.add("RotaryEmbedding", [part, half_cos, half_sin, positions], num_heads=heads)
                    for part, heads in ((q, g.heads), (k, g.kv)))
        elif "kv_lora_rank" in config:
            q, k, v = latent(normed, attention)
        else:
            q = rotate(split(g.linear(normed, [attention + "q_proj"]), g.heads, g.dim))
            k = rotate(split(g.linear(normed, [attention + "k_proj"]), g.kv, g.dim))
            v = split(g.linear(normed, [attention + "v_proj"]), g.kv, g.dim)
        if scripted:
            past_names = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
            inputs += [of.value_info(n, ["batch", g.kv, "past", size], of.FLOAT) for n, size in zip(past_names, (g.dim, value_dim))]
            if operators != "rows":
                # torch's cache joins the past to nothing before.
                earlier = [g.add("Concat", [name], axis=-2) for name in past_names]
                k = g.add("Concat", [earlier[0], k], [f"present.{i}.key"], axis=-2)
                v = g.add("Concat", [earlier[1], v], [f"present.{i}.value"], axis=-2)
            outputs += [of.value_info(f"present.{i}.{n}", ["batch", g.kv, "total", size], of.FLOAT)
                        for n, size in (("key", g.dim), ("value", value_dim))]
        if operators == "rows":
            merged, _, _ = g.add("Attention", [q, k, v, "", *past_names], [f"merged{i}", f"present.{i}.key", f"present.{i}.value"],
                                 q_num_heads=g.heads, kv_num_heads=g.kv, is_causal=1)
        elif operators:
            heads = g.add("Attention", [q, k, v, seen if mask == "condition" else added], scale=float(scale))
            merged = g.add("Reshape", [g.add("Transpose", [heads], perm=[0, 2, 1, 3]), g.const([0, 0, -1])])
        else:
            transposed = g.add("Transpose", [repeat(k)], perm=[0, 1, 3, 2])
            if scripted:
                # The root of the scale on either side.
                root = g.const(scale**0.5, np.float32)
                scores = g.add("MatMul", [g.add("Mul", [q, root]), g.add("Mul", [transposed, root])])
            else:
                scores = g.add("Mul", [g.add("MatMul", [q, transposed]), g.const(scale, np.float32)])
            scores = g.add("Where", [seen, scores, lowest]) if mask == "condition" else g.add("Add", [scores, added])
            heads = g.add("MatMul", [g.add("Softmax", [scores], axis=-1), repeat(v)])
            merged = g.add("Reshape", [g.add("Transpose", [heads], perm=[0, 2, 1, 3]), g.const([0, 0, g.heads * value_dim])])
        x = g.add("Add", [x, g.linear(merged, [attention + "o_proj"])])
        normed = norm(x, prefix + "post_attention_layernorm.weight")
        is_dense = not is_mixture(config, i)
        y = g.swiglu(normed, prefix + "mlp.") if is_dense else g.written_experts(normed, prefix + "mlp.", experts)
        x = g.add("Add", [y, x] if is_dense else [x, y])
    g.head(norm(x, "model.norm.weight"))
    g.write(folder, inputs, outputs, opset=24 if operators else 18)
    return g.rounded


def write(folder, config, values, kind, **options):
    return (write_genai if kind == "genai" else write_torch)(folder, config, values, **options)
