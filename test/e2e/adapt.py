# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# LoRA adapters as PEFT saves them, and checkpoints quantized as GPTQ, AWQ and compressed-tensors store them, with the
# float64 values that they stand for. Written from the formats' descriptions, not from what hadalc does.
"""Adapters and packed checkpoints for make_cases.py."""
import re

import numpy as np

import reference


EMBEDDINGS = "embed_tokens", "lm_head"


def module_of(name):
    return name.removesuffix(".weight")


def is_target(name, targets):
    return name.endswith(".weight") and module_of(name).rsplit(".", 1)[-1] in targets


# --- LoRA ---------------------------------------------------------------------------------------------------------------


def value_for(module, value, pattern):
    for key, other in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return other
    return value


def make_adapter(values, options, rng, encode):
    """Returns (adapter_config.json, tensors of adapter_model.safetensors, the model's values with the adapter merged)."""
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "lora_dropout": 0.0, "bias": "none",
              "fan_in_fan_out": False, "use_rslora": False, "use_dora": False, "target_modules": [], "modules_to_save": None,
              "rank_pattern": {}, "alpha_pattern": {}, "inference_mode": True, "base_model_name_or_path": "",
              # Of a PEFT that is newer than what is known of it.
              "kasa_config": None, "later_config": None, **options}
    dtype = config.pop("dtype", "F32")
    tensors, merged = {}, dict(values)

    def add(name, shape, scale):
        raw = encode(rng.uniform(-1, 1, shape) * scale, dtype)
        tensors["base_model.model." + name] = (dtype, shape, raw)
        return reference.decode(raw, dtype, shape)

    targets, saved = config["target_modules"], config["modules_to_save"] or []
    # PEFT saves both of them, as they are, if one is a target.
    embeddings = EMBEDDINGS if set(EMBEDDINGS) & set(targets) else ()
    for name, value in sorted(values.items()):
        module, kind = name.rsplit(".", 1)
        # What the module has of its own beside matrices of low rank.
        base = module + ".base_layer" * is_target(module + ".weight", targets)
        if kind == "weight" and module.rsplit(".", 1)[-1] in embeddings and not is_target(name, saved):
            merged[name] = value = add(base + ".weight", value.shape, 2 * (3 / value.shape[-1]) ** 0.5)
        if is_target(name, targets):
            rank = value_for(module, config["r"], config["rank_pattern"])
            alpha = value_for(module, config["lora_alpha"], config["alpha_pattern"])
            factor = alpha / (rank ** 0.5 if config["use_rslora"] else rank)
            rows, columns = value.shape
            if module.endswith("embed_tokens"):
                a, b = add(module + ".lora_embedding_A", (rank, rows), 1), add(module + ".lora_embedding_B", (columns, rank), 0.3)
                merged[name] = value + factor * (b @ a).T
            else:
                a = add(module + ".lora_A.weight", (rank, columns), (3 / columns) ** 0.5)
                b = add(module + ".lora_B.weight", (rows, rank), 0.3)
                merged[name] = value + factor * (b @ a)
        elif is_target(name, saved):
            merged[name] = add(name, value.shape, 2 * (3 / value.shape[-1]) ** 0.5)
        elif config["bias"] == "all" and kind == "bias":
            merged[name] = add(base + ".bias", value.shape, 1)
    # One pair of matrices for all experts of a layer; gate and up are one parameter, and down's pair is around theirs.
    for experts in sorted({name.split(".experts.")[0] + ".experts" for name in values if ".mlp.experts." in name}):
        count = len({name for name in values if name.startswith(experts) and name.endswith(".up_proj.weight")})
        for parameter, parts in ("gate_up_proj", ["gate_proj", "up_proj"]), ("down_proj", ["down_proj"]):
            if parameter not in config.get("target_parameters", ()):
                continue
            rank = value_for(f"{experts}.{parameter}", config["r"], config["rank_pattern"])
            factor = value_for(f"{experts}.{parameter}", config["lora_alpha"], config["alpha_pattern"]) / rank
            rows, columns = values[f"{experts}.0.{parts[0]}.weight"].shape
            place = experts + ".base_layer" * (parameter == "gate_up_proj" and "down_proj" in config["target_parameters"])
            a = add(place + ".lora_A.weight", (count * rank, columns), (3 / columns) ** 0.5).reshape(count, rank, columns)
            b = add(place + ".lora_B.weight", (len(parts) * rows, rank * count), 0.3).reshape(len(parts), rows, rank, count)
            for expert in range(count):
                for half, part in enumerate(parts):
                    merged[f"{experts}.{expert}.{part}.weight"] = \
                        values[f"{experts}.{expert}.{part}.weight"] + factor * (b[half, :, :, expert] @ a[expert])
    return config, tensors, merged


# --- Packed integers ----------------------------------------------------------------------------------------------------


def pack_bits(codes, bits, contiguous=True):
    """Packs along the last dimension, lowest bits first, into int32: over words, or as many as fit in each."""
    codes = codes.astype(np.uint64)
    *lead, count = codes.shape
    if contiguous:
        stream = ((codes[..., None] >> np.arange(bits, dtype=np.uint64)) & 1).reshape(*lead, count * bits)
        words = stream.reshape(*lead, count * bits // 32, 32)
        return (words << np.arange(32, dtype=np.uint64)).sum(-1).astype("<u4")
    each = 32 // bits
    padded = np.zeros((*lead, -(-count // each) * each), np.uint64)
    padded[..., :count] = codes
    words = padded.reshape(*lead, -1, each)
    return (words << (np.arange(each, dtype=np.uint64) * np.uint64(bits))).sum(-1).astype("<u4")


def quantize(value, bits, group, rng, symmetric, groups_of=None):
    """Rounds rows of `group` columns, or of the columns that groups_of names, to codes; scales are float16.

    Returns codes [n, k], zero points and scales [n, groups], and what they stand for."""
    rows, columns = value.shape
    groups_of = np.arange(columns) // group if groups_of is None else groups_of
    count = -(-columns // group)
    most = 2 ** bits - 1
    scales, zeros = np.ones((rows, count), np.float16), np.full((rows, count), 2 ** (bits - 1), np.int64)
    for g in range(count):
        part = value[:, groups_of == g]
        if symmetric:
            scale = np.abs(part).max(1) / (2 ** (bits - 1) - 0.5)
        else:
            low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
            scale = (high - low) / most
        scales[:, g] = np.maximum(scale, 1e-4)
        if not symmetric:
            zeros[:, g] = np.clip(np.round(-low / scales[:, g].astype(np.float64)), 0, most)
    wide = scales.astype(np.float64)[:, groups_of]
    codes = np.clip(np.round(value / wide) + zeros[:, groups_of], 0, most).astype(np.int64)
    return codes, zeros, scales, (codes - zeros[:, groups_of]) * wide


def i32(words):
    return ("I32", words.shape, np.ascontiguousarray(words).tobytes())


def f16(scales):
    return ("F16", scales.shape, np.ascontiguousarray(scales).astype("<f2").tobytes())


def gptq(module, value, options, rng):
    bits, group = options["bits"], options["group_size"]
    columns = value.shape[1]
    group = columns if group == -1 else group
    order = np.arange(columns) // group
    if options.get("desc_act"):
        order = rng.permutation(order)
    codes, zeros, scales, meant = quantize(value, bits, group, rng, options.get("sym", False), order)
    less = 0 if options.get("checkpoint_format") == "gptq_v2" else 1
    stored = (zeros - less) % 2 ** bits  # 0 less one is the largest code, and read as 0 again.
    parts = {module + ".qweight": i32(pack_bits(codes, bits).T), module + ".qzeros": i32(pack_bits(stored.T, bits)),
             module + ".scales": f16(scales.T), module + ".g_idx": ("I32", order.shape, order.astype("<i4").tobytes())}
    return parts, meant


def awq(module, value, options, rng):
    group = options["group_size"]
    group = value.shape[1] if group == -1 else group
    codes, zeros, scales, meant = quantize(value, 4, group, rng, False)
    if options["version"] == "gemv":
        # Rows as they are; groups of a row are filled up to words, and those to 128 channels' worth of them.
        multiple = 1 if group >= 128 else 128 // group
        words = -(-(-(-zeros.shape[1] // 8)) // multiple) * multiple
        filled = [np.concatenate([part, np.zeros((len(part), 8 * words - part.shape[1]), part.dtype)], 1) for part in (zeros, scales)]
        return {module + ".qweight": i32(pack_bits(codes, 4)), module + ".qzeros": i32(pack_bits(filled[0], 4)),
                module + ".scales": f16(filled[1])}, meant

    def pack(rows):
        ordered = rows.reshape(rows.shape[0], -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]].reshape(rows.shape)
        return i32(pack_bits(ordered, 4))

    return {module + ".qweight": pack(codes.T), module + ".qzeros": pack(zeros.T), module + ".scales": f16(scales.T)}, meant


def compressed(module, value, options, rng, encode, encode_e4m3):
    weights = options["config_groups"]["group_0"]["weights"]
    rows, columns = value.shape
    bits, strategy = weights["num_bits"], weights["strategy"]
    if weights["type"] == "float":
        block = {"tensor": (rows, columns), "channel": (1, columns), "block": tuple(weights.get("block_structure") or ())}[strategy]
        grid = tuple(-(-size // step) for size, step in zip(value.shape, block))
        raw_scales = encode(rng.uniform(0.5, 1, grid) * np.abs(value).max() / 448, "BF16")
        scales = reference.decode(raw_scales, "BF16", grid)
        wide = np.repeat(np.repeat(scales, block[0], 0), block[1], 1)[:rows, :columns]
        raw = encode_e4m3(value / wide)
        shape = (1,) if strategy == "tensor" else grid
        return {module + ".weight": ("F8_E4M3", value.shape, raw), module + ".weight_scale": ("BF16", shape, raw_scales)}, \
            reference.decode(raw, "F8_E4M3", value.shape) * wide
    group = weights["group_size"] if strategy == "group" else columns
    codes, zeros, scales, meant = quantize(value, bits, group, rng, weights["symmetric"])
    half = 2 ** (bits - 1)
    if options["format"] == "int-quantized":
        parts = {module + ".weight": ("I8", value.shape, (codes - half).astype(np.int8).tobytes()), module + ".weight_scale": f16(scales)}
        if not weights["symmetric"]:
            parts[module + ".weight_zero_point"] = ("I8", zeros.shape, (zeros - half).astype(np.int8).tobytes())
        return parts, meant
    parts = {module + ".weight_packed": i32(pack_bits(codes, bits, contiguous=False)), module + ".weight_scale": f16(scales),
             module + ".weight_shape": ("I64", (2,), np.array(value.shape, "<i8").tobytes())}
    if not weights["symmetric"]:
        parts[module + ".weight_zero_point"] = i32(pack_bits(zeros.T, bits, contiguous=False).T)
    return parts, meant


def pack_model(tensors, options, rng, encode, encode_e4m3):
    """Returns the tensors with matrices quantized as quantization_config `options` says, and the values that are meant."""
    packed, values = {}, {}
    for name, (dtype, shape, raw) in sorted(tensors.items()):
        value = reference.decode(raw, dtype, shape)
        is_linear = name.endswith("_proj.weight") or name.endswith("_proj_with_mqa.weight")
        if not is_linear:
            packed[name], values[name] = (dtype, shape, raw), value
            continue
        module = module_of(name)
        if options["quant_method"] == "gptq":
            own = [(pattern, other) for pattern, other in options.get("dynamic", {}).items() if re.match(pattern[2:], module)]
            if any(pattern.startswith("-:") for pattern, _ in own):
                packed[name], values[name] = (dtype, shape, raw), value
                continue
            parts, values[name] = gptq(module, value, {**options, **(own[0][1] if own else {})}, rng)
        elif options["quant_method"] == "awq":
            parts, values[name] = awq(module, value, options, rng)
        else:
            parts, values[name] = compressed(module, value, options, rng, encode, encode_e4m3)
        packed.update(parts)
    return packed, values
