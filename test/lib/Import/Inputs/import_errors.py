# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Imports models that are wrong in one way each, and checks that each is
refused with exit status 1 and one line that says what is wrong.

    import_errors.py config|tensors HADAL_TRANSLATE FOLDER

Or writes to FOLDER a sound model with experts, in two files:

    import_errors.py write-experts - FOLDER
"""

import copy
import json
import math
import os
import shutil
import struct
import subprocess
import sys

LLAMA = dict(
    model_type="llama", vocab_size=40, hidden_size=32, intermediate_size=48,
    num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=10000.0,
    tie_word_embeddings=False, torch_dtype="bfloat16")
MOE = dict(
    LLAMA, model_type="deepseek", num_hidden_layers=2, n_routed_experts=4,
    n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=16,
    first_k_dense_replace=1, norm_topk_prob=False)
YARN = dict(type="yarn", factor=40, original_max_position_embeddings=4096,
            beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0)
V2 = dict(
    MOE, model_type="deepseek_v2", q_lora_rank=16, kv_lora_rank=16,
    qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
    routed_scaling_factor=2.0, topk_method="group_limited_greedy", n_group=2,
    topk_group=1, rope_scaling=YARN)
V3 = dict(V2, model_type="deepseek_v3", topk_method="noaux_tc",
          scoring_func="sigmoid", norm_topk_prob=True,
          num_nextn_predict_layers=1)
V4 = dict(
    model_type="deepseek_v4", vocab_size=40, hidden_size=32,
    num_hidden_layers=2, num_attention_heads=4, head_dim=8,
    qk_rope_head_dim=4, q_lora_rank=16, o_lora_rank=8, o_groups=2,
    sliding_window=16, compress_ratios=[4, 128, 0], index_n_heads=2,
    index_head_dim=8, index_topk=4, rope_theta=10000,
    compress_rope_theta=160000, rope_scaling=None, hc_mult=4,
    hc_sinkhorn_iters=20, hc_eps=1e-6, rms_norm_eps=1e-6,
    moe_intermediate_size=16, n_routed_experts=4, n_shared_experts=1,
    num_experts_per_tok=2, num_hash_layers=1, norm_topk_prob=True,
    routed_scaling_factor=1.5, swiglu_limit=10.0,
    max_position_embeddings=64, tie_word_embeddings=False,
    torch_dtype="bfloat16")
# Keys as transformers 5 writes them.
NEW = dict(
    LLAMA, architectures=["LlamaForCausalLM"], attention_bias=False,
    attention_dropout=0.0, bos_token_id=0, dtype="bfloat16", eos_token_id=None,
    head_dim=8, hidden_act="silu", initializer_range=0.02, mlp_bias=False,
    pad_token_id=3, pretraining_tp=1, transformers_version="5.24.0",
    rope_parameters=dict(rope_theta=10000.0, rope_type="default"),
    use_cache=True, rope_theta=..., torch_dtype=...)
NEW_V2 = {
    **{key: NEW[key] for key in NEW.keys() - V2.keys()}, **V2,
    **dict(output_router_logits=False, qk_head_dim=16, rope_theta=...,
           torch_dtype=..., rope_scaling=...,
           rope_parameters={**YARN, "type": ..., "rope_type": "yarn",
                            "rope_theta": 10000.0})}
NEW_V32 = dict(
    NEW_V2, model_type="deepseek_v32", topk_method="noaux_tc",
    index_n_heads=2, index_head_dim=16, index_topk=8,
    layer_types=["indexed_attention"] * 2, norm_topk_prob=True,
    mlp_layer_types=["dense", "sparse"], quantization_config=dict(
        quant_method="fp8", activation_scheme="dynamic", dequantize=False,
        expert_dtype="fp8", modules_to_convert=None, scale_fmt="float",
        modules_to_not_convert=["lm_head", "model.layers.1.mlp.gate"],
        weight_block_size=[128, 128]))
FP8 = dict(quant_method="fp8", fmt="e4m3", weight_block_size=[128, 128],
           activation_scheme="dynamic")

# A base, what is changed in it (a key set to ... is left out), and a part of
# the message. Text stands for the whole file.
CONFIGS = [
    (LLAMA, "", "empty, expected a JSON object"),
    (LLAMA, "[1]", "expected a JSON object, but got [1]"),
    (LLAMA, "{", "not JSON"),
    (LLAMA, '{"rope_theta": NaN}', "not JSON: [1:16, byte=16]: Invalid JSON"),
    (LLAMA, '{"x": ' + "[" * 100000, "nests deeper than 64 levels at byte 69"),
    (LLAMA, '{"a": 1, "\\u0061": 2}', "key 'a' appears twice"),
    (LLAMA, '{"a\\nb": 1, "a\\nb": 2}', "key 'a\\x0ab' appears twice"),
    (LLAMA, '{"a": "', "not JSON"),
    (LLAMA, dict(model_type=...), "has no key 'model_type'"),
    (LLAMA, dict(model_type=None), "'model_type' is null"),
    (LLAMA, dict(model_type=3), "'model_type' is 3, expected a string"),
    (LLAMA, dict(model_type="sea_cucumber"),
     "model_type 'sea_cucumber' is not known, expected one of llama"),
    (V4, dict(compress_ratios=...), "has no key 'compress_ratios'"),
    (V4, dict(compress_ratios=[4]),
     "'compress_ratios' is [4], expected a list of at least "
     "'num_hidden_layers', 2 numbers"),
    (V4, dict(compress_ratios=[4, 8]),
     "'compress_ratios' has 8, expected only 0, 4 and 128"),
    (V4, dict(compress_ratios=[4, -1]),
     "'compress_ratios' is -1, expected an integer from 0 to 128"),
    (V4, dict(o_groups=3),
     "'num_attention_heads' is 4, expected a multiple of 'o_groups', 3"),
    (V4, dict(qk_rope_head_dim=3),
     "'qk_rope_head_dim' is 3, expected an even number"),
    (V4, dict(head_dim=2),
     "'head_dim' is 2, expected more than 'qk_rope_head_dim', 4"),
    (V4, dict(index_head_dim=2),
     "'index_head_dim' is 2, expected more than 'qk_rope_head_dim', 4"),
    (V4, dict(index_topk=...), "has no key 'index_topk'"),
    (V4, dict(partial_rotary_factor=0.25),
     "'partial_rotary_factor' is 0.25, expected 'qk_rope_head_dim' / "
     "'head_dim', 4 / 8"),
    (V4, dict(hc_mult=9), "'hc_mult' is 9, expected an integer from 1 to 8"),
    (V4, dict(swiglu_limit=...), "has no key 'swiglu_limit'"),
    (V4, dict(expert_dtype="fp5"),
     "'expert_dtype' is \"fp5\", expected \"fp4\" or \"fp8\""),
    (V4, dict(expert_dtype="fp4"),
     "experts of FP4 have rows of 16, expected a multiple of 32"),
    (V4, dict(scoring_func="sigmoid"),
     "'scoring_func' is \"sigmoid\", expected \"sqrtsoftplus\""),
    (V4, dict(num_key_value_heads=2), "'num_key_value_heads' is 2, expected 1"),
    (V4, dict(layer_types=["compressed_sparse_attention"] * 2),
     "'layer_types' is a list with \"compressed_sparse_attention\", "
     "expected \"heavily_compressed_attention\" for layer 1"),
    (LLAMA, dict(model_type="deepseek_v41"),
     "model_type 'deepseek_v41' is not supported yet"),
    (LLAMA, dict(pose="lotus"), "unknown key 'pose' with value \"lotus\""),
    (LLAMA, {"a\nb": "c\nd"}, "unknown key 'a\\x0ab' with value \"c\\nd\""),
    (LLAMA, dict(qk_rope_head_dim=8), "unknown key 'qk_rope_head_dim'"),
    (LLAMA, dict(hidden_size="32"), "'hidden_size' is \"32\", expected an integer"),
    (LLAMA, dict(hidden_size=True), "'hidden_size' is true, expected an integer"),
    (LLAMA, dict(hidden_size=[32]), "'hidden_size' is [32], expected an integer"),
    (LLAMA, dict(hidden_size=None), "'hidden_size' is null, expected a value"),
    (LLAMA, dict(hidden_size=32.5), "'hidden_size' is 32.5, expected an integer"),
    (LLAMA, dict(hidden_size=0), "'hidden_size' is 0, expected an integer from 1"),
    (LLAMA, dict(hidden_size=-32), "'hidden_size' is -32"),
    (LLAMA, dict(hidden_size=10**12), "'hidden_size' is 1000000000000"),
    (LLAMA, dict(hidden_size=10**30), "'hidden_size' is 1"),
    (LLAMA, dict(vocab_size=2**63), "'vocab_size' is 9223372036854775808"),
    (LLAMA, dict(num_hidden_layers=10**9),
     "'num_hidden_layers' is 1000000000, expected an integer from 1 to 4096"),
    (LLAMA, dict(max_position_embeddings=2**31),
     "'max_position_embeddings' is 2147483648"),
    (LLAMA, dict(num_key_value_heads=3),
     "'num_attention_heads' is 4, expected a multiple of 'num_key_value_heads', 3"),
    (LLAMA, dict(num_attention_heads=5, num_key_value_heads=5),
     "'hidden_size' is 32, expected a multiple of 'num_attention_heads', 5"),
    (LLAMA, dict(hidden_size=12), "the width of a head is 3, expected an even"),
    (LLAMA, dict(num_attention_heads=4096, num_key_value_heads=1, head_dim=8192),
     "num_attention_heads x head_dim is 4096 x 8192"),
    (LLAMA, dict(rms_norm_eps=0), "'rms_norm_eps' is 0, expected a number"),
    (LLAMA, dict(rms_norm_eps="1e-6"), "'rms_norm_eps' is \"1e-6\""),
    (LLAMA, dict(hidden_act="gelu"), "'hidden_act' is \"gelu\", expected \"silu\""),
    (LLAMA, dict(tie_word_embeddings=0), "'tie_word_embeddings' is 0"),
    (LLAMA, dict(torch_dtype="int8"), "'torch_dtype' is \"int8\", expected"),
    (LLAMA, dict(dtype="float16"), "'dtype' is \"float16\", expected \"bfloat16\""),
    (LLAMA, dict(eos_token_id=[1, "2"]), "'eos_token_id' is \"2\""),
    (LLAMA, dict(partial_rotary_factor=0.5), "'partial_rotary_factor' is 0.5"),
    (LLAMA, dict(layer_types=["sliding_attention"]),
     "'layer_types' is a list with \"sliding_attention\""),
    (LLAMA, dict(index_topk=8), "unknown key 'index_topk'"),
    (LLAMA, dict(sliding_window=8), "unknown key 'sliding_window'"),
    (LLAMA, dict(model_type="qwen2", use_sliding_window="yes"),
     "'use_sliding_window' is \"yes\", expected true or false"),
    (LLAMA, dict(model_type="qwen2", use_sliding_window=True, sliding_window=0),
     "'sliding_window' is 0, expected an integer from 1"),
    (LLAMA, dict(model_type="qwen2", use_sliding_window=True, sliding_window=8,
                 max_window_layers=0, layer_types=["chunked_attention"]),
     "a list with \"chunked_attention\", expected \"full_attention\" or \"sliding_attention\" for layer 0"),
    # Rotary embedding.
    (LLAMA, dict(rope_theta="1e4"), "'rope_theta' is \"1e4\", expected a number"),
    (LLAMA, dict(rope_theta=1), "'rope_theta' is 1, expected a number"),
    (LLAMA, dict(rope_theta=-1e4), "'rope_theta' is -1"),
    (LLAMA, dict(rope_scaling=4), "'rope_scaling' is 4, expected an object"),
    (LLAMA, dict(rope_scaling=dict(factor=4.0)),
     "rope_scaling: has no key 'rope_type'"),
    (LLAMA, dict(rope_scaling=dict(type="dynamic", factor=4.0)),
     "rope_type 'dynamic' is not supported, expected default, linear, llama3"),
    (LLAMA, dict(rope_scaling=dict(type="linear", rope_type="yarn", factor=4)),
     "'type' is \"linear\", expected \"yarn\" as 'rope_type'"),
    (LLAMA, dict(rope_scaling=dict(type="linear")), "has no key 'factor'"),
    (LLAMA, dict(rope_scaling=dict(type="linear", factor=0.5)), "'factor' is 0.5"),
    (LLAMA, dict(rope_scaling=dict(type="linear", factor=4, mscale=1)),
     "unknown key 'mscale' with value 1 for rope_type 'linear'"),
    (LLAMA, dict(rope_scaling=dict(
        rope_type="llama3", factor=8, low_freq_factor=4, high_freq_factor=1,
        original_max_position_embeddings=64)),
     "'high_freq_factor' is 1, expected more than 'low_freq_factor', 4"),
    (LLAMA, dict(rope_scaling=dict(YARN, original_max_position_embeddings=...)),
     "has no key 'original_max_position_embeddings'"),
    (LLAMA, dict(rope_scaling=dict(YARN, beta_fast=1)),
     "'beta_fast' is 1, expected more than 'beta_slow', 1"),
    (LLAMA, dict(rope_scaling=dict(YARN, truncate=1)), "'truncate' is 1"),
    (LLAMA, dict(rope_scaling=YARN, rope_parameters=YARN),
     "has both 'rope_scaling' and 'rope_parameters'"),
    (LLAMA, dict(rope_parameters=dict(rope_type="default", rope_theta=5e5)),
     "'rope_theta' is 10000, expected 500000 as in"),
    # Experts.
    (MOE, dict(num_experts_per_tok=5), "'num_experts_per_tok' is 5"),
    (MOE, dict(num_experts_per_tok=...), "has no key 'num_experts_per_tok'"),
    (MOE, dict(moe_layer_freq=0), "'moe_layer_freq' is 0"),
    (MOE, dict(n_routed_experts=10**6), "'n_routed_experts' is 1000000"),
    (MOE, dict(scoring_func="sigmoid"), "'scoring_func' is \"sigmoid\""),
    (MOE, dict(routed_scaling_factor=2.5), "'routed_scaling_factor' is 2.5"),
    (V2, dict(norm_topk_prob=True), "'norm_topk_prob' is true, expected false"),
    (V2, dict(topk_method="noaux_tc"), "topk_method 'noaux_tc' is not supported"),
    (V2, dict(n_group=3), "'n_routed_experts' is 4, expected a multiple of 'n_group', 3"),
    (V2, dict(topk_group=3), "'topk_group' is 3, expected an integer from 1 to 2"),
    (V2, dict(num_experts_per_tok=3),
     "'num_experts_per_tok' is 3, expected at most the 2 experts"),
    (V2, dict(mlp_bias=True), "'mlp_bias' is true, expected false"),
    (V2, dict(use_mla=False), "'use_mla' is false, expected true"),
    (V2, dict(qk_rope_head_dim=7), "'qk_rope_head_dim' is 7, expected an even"),
    (V2, dict(kv_lora_rank=None), "'kv_lora_rank' is null"),
    (V3, dict(n_group=4, topk_group=2, num_experts_per_tok=2),
     "'n_group' is 4, expected groups of at least two of 4 experts"),
    (V3, dict(rope_interleave=False), "'rope_interleave' is false, expected true"),
    (V3, dict(topk_method="greedy"), "'topk_method' is \"greedy\""),
    (V3, dict(qk_head_dim=24), "'qk_head_dim' is 24, expected 16"),
    (V3, dict(vocab_size=2**24, hidden_size=2**24, intermediate_size=2**24,
              moe_intermediate_size=2**24, num_hidden_layers=4096),
     "the model has more than 72057594037927936 parameters"),
    # Quantization.
    (V3, dict(quantization_config=dict(quant_method="hqq", bits=4)),
     "quant_method 'hqq' is not supported, expected \"fp8\", \"gptq\", "
     "\"awq\" or \"compressed-tensors\""),
    (V3, dict(quantization_config=dict(FP8, fmt="e5m2")),
     "'fmt' is \"e5m2\", expected \"e4m3\""),
    (V3, dict(quantization_config=dict(FP8, weight_block_size=[32, 32])),
     "'weight_block_size' is [32,32], expected [128,128]"),
    (V3, dict(quantization_config=dict(FP8, weight_block_size=...)),
     "has no key 'weight_block_size'"),
    (V3, dict(quantization_config=dict(FP8, activation_scheme="static")),
     "'activation_scheme' is \"static\""),
    (V3, dict(quantization_config=dict(FP8, layers=3)), "unknown key 'layers'"),
    (V3, dict(quantization_config=dict(FP8, expert_dtype="fp4")),
     "'expert_dtype' is \"fp4\", expected \"fp8\""),
    (V3, dict(quantization_config=dict(FP8, modules_to_not_convert="lm_head")),
     "'modules_to_not_convert' is \"lm_head\", expected a list of strings"),
]


def without_ellipses(value):
    if isinstance(value, dict):
        return {k: without_ellipses(v) for k, v in value.items() if v is not ...}
    return value


class Checker:
    def __init__(self, tool, folder):
        self.tool = tool
        self.folder = folder
        self.failures = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def fresh(self, config):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        with open(self.path("config.json"), "w") as file:
            file.write(config if isinstance(config, str) else json.dumps(config))

    def run(self, *options):
        return subprocess.run([self.tool, "--import-hf", self.folder, *options],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=60)

    def refuses(self, message, *options):
        result = self.run(*options)
        lines = result.stderr.splitlines()
        if (result.returncode != 1 or len(lines) != 1 or result.stdout
                or message not in lines[0]):
            self.failures += 1
            print(f"expected one line with: {message}\n"
                  f"got exit status {result.returncode} and: {result.stderr}")

    def accepts(self, what, *options):
        result = self.run(*options)
        if result.returncode != 0 or result.stderr:
            self.failures += 1
            print(f"expected {what} to be accepted\n"
                  f"got exit status {result.returncode} and: {result.stderr}")


def check_configs(checker):
    for base in (LLAMA, MOE, V2, V3, NEW, NEW_V2, NEW_V32):
        checker.fresh(without_ellipses(base))
        checker.accepts(base["model_type"], "--weights=none")
    for base, change, message in CONFIGS:
        checker.fresh(change if isinstance(change, str)
                      else without_ellipses({**base, **change}))
        checker.refuses(message, "--weights=none")


SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "F8_E4M3": 1}


def tensors_of(config, dtype="BF16"):
    """Names, types and shapes of a llama's tensors, or of one with experts."""
    c = config
    hidden, ffn = c["hidden_size"], c["intermediate_size"]
    kv = hidden // c["num_attention_heads"] * c["num_key_value_heads"]
    shapes = {"model.embed_tokens": [c["vocab_size"], hidden],
              "lm_head": [c["vocab_size"], hidden], "model.norm": [hidden]}

    def add_ffn(prefix, width):
        for name in ("gate_proj", "up_proj", "down_proj"):
            shapes[prefix + name] = ([hidden, width] if name == "down_proj"
                                     else [width, hidden])
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[layer + name] = [hidden]
        for name, rows in dict(q=hidden, k=kv, v=kv, o=hidden).items():
            shapes[layer + f"self_attn.{name}_proj"] = [rows, hidden]
        if i < c.get("first_k_dense_replace", 1 << 30):
            add_ffn(layer + "mlp.", ffn)
            continue
        width = c["moe_intermediate_size"]
        shapes[layer + "mlp.gate"] = [c["n_routed_experts"], hidden]
        for e in range(c["n_routed_experts"]):
            add_ffn(layer + f"mlp.experts.{e}.", width)
        add_ffn(layer + "mlp.shared_experts.", width * c["n_shared_experts"])
    return {k + ".weight": (dtype, v) for k, v in shapes.items()}


def header_of(tensors):
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin = end
        end += SIZES[dtype] * math.prod(shape)
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=[begin, end])
    return header, end


def write_tensors(path, header, data_bytes, length=None, data=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text) if length is None else length))
        file.write(text)
        file.write(data or bytes(data_bytes))


def check_tensors(checker):
    tensors = tensors_of(LLAMA)
    header, size = header_of(tensors)
    q = "model.layers.0.self_attn.q_proj.weight"
    k = "model.layers.0.self_attn.k_proj.weight"

    def single(message, change=None, data_bytes=size, config=None, text=None,
               **options):
        checker.fresh(config or LLAMA)
        changed = copy.deepcopy(header)
        if change:
            change(changed)
        write_tensors(checker.path("model.safetensors"),
                      text if text is not None else changed, data_bytes,
                      **options)
        checker.refuses(message) if message else checker.accepts(str(change))

    def setting(name, **keys):
        return lambda header: header.setdefault(name, {}).update(keys)

    single(None)
    single(None, lambda h: h.update(__metadata__=dict(format="pt")))
    single("has 0 bytes of data", data_bytes=0)
    single("needs 2048", setting(q, shape=[32, 32], data_offsets=[0, 2]))
    single("data_offsets [-2,2046], expected", setting(q, data_offsets=[-2, 2046]))
    single("data_offsets [4096,2048], expected",
           setting(q, data_offsets=[4096, 2048]))
    single("data_offsets [0,2048,1], expected", setting(q, data_offsets=[0, 2048, 1]))
    single("data_offsets \"all\", expected", setting(q, data_offsets="all"))
    single(f"but the file has {size} bytes of data",
           setting(q, data_offsets=[2**40, 2**40 + 2048]))
    single("share byte", setting(q, data_offsets=header[k]["data_offsets"],
                                 shape=header[k]["shape"]))
    single("share byte", setting(q, data_offsets=[
        header[q]["data_offsets"][0] + 2, header[q]["data_offsets"][1] + 2]))
    single("whose size overflows 64 bits", setting(q, shape=[2**60, 1024]))
    single("whose size overflows 64 bits", setting(q, shape=[2**62, 2**62, 0]))
    single("has shape [-32,32], expected", setting(q, shape=[-32, 32]))
    single("has shape [1.5], expected", setting(q, shape=[1.5]))
    single("expected at most 8 sizes", setting(q, shape=[1] * 1000))
    single("has dtype \"F12\", expected", setting(q, dtype="F12"))
    single("has dtype missing, expected", lambda h: h[q].pop("dtype"))
    single("has the unknown key 'layout'", setting(q, layout="tiled"))
    single("has the entry 3, expected an object", lambda h: h.update({q: 3}))
    single(f"has no tensor '{q}', expected one of shape [32, 32]",
           lambda h: h.pop(q))
    single(f"tensor '{q}' has shape [16, 64], but config.json makes it [32, 32]",
           setting(q, shape=[16, 64]))
    single(f"tensor '{q}' is I64, expected BF16",
           setting(q, dtype="I64", data_offsets=[size, size + 8192]),
           data_bytes=size + 8192)
    single("'lm_head.weight' is F8_E4M3, expected BF16",
           setting("lm_head.weight", dtype="F8_E4M3", data_offsets=[0, 1280]),
           text=json.dumps({**header, "lm_head.weight": dict(
               dtype="F8_E4M3", shape=[40, 32],
               data_offsets=[size, size + 1280])}).encode(),
           data_bytes=size + 1280)
    extra = dict(dtype="BF16", shape=[2], data_offsets=[size, size + 4])
    for name, message in [
            ("model.layers.0.self_attn.q_proj.bias", "of shape [2] is not part of"),
            ("model.layers.1.input_layernorm.weight",
             "is not part of a llama model with 1 layers"),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", None)]:
        single(message, setting(name, **extra), data_bytes=size + 4)
    single("has no quantization_config of fp8",
           setting(q, dtype="F8_E4M3", data_offsets=[size, size + 1024]),
           data_bytes=size + 1024)
    fp8 = dict(LLAMA, quantization_config=FP8)
    single(f"has no tensor '{q}_scale_inv', expected one of shape [1, 1]",
           setting(q, dtype="F8_E4M3", data_offsets=[size, size + 1024]),
           data_bytes=size + 1024, config=fp8)

    def with_scales(header, dtype, shape, size_bytes):
        setting(q, dtype="F8_E4M3", data_offsets=[size, size + 1024])(header)
        setting(q + "_scale_inv", dtype=dtype, shape=shape,
                data_offsets=[size + 1024, size + 1024 + size_bytes])(header)
    single("_scale_inv' has shape [1, 2], but config.json makes it [1, 1]",
           lambda h: with_scales(h, "F32", [1, 2], 8), data_bytes=size + 1032,
           config=fp8)
    single("_scale_inv' is BF16, expected F32",
           lambda h: with_scales(h, "BF16", [1, 1], 2), data_bytes=size + 1026,
           config=fp8)
    single(None, lambda h: with_scales(h, "F32", [1, 1], 4),
           data_bytes=size + 1028, config=fp8)

    # Experts, and models that share the embedding.
    expert = "model.layers.1.mlp.experts.%d.up_proj.weight"
    moe = tensors_of(MOE)
    for changed, message in [
            ({}, None),
            ({expert % 2: ("F16", [16, 32])},
             f"'{expert % 2}' is F16, but that of expert 0 is BF16"),
            ({expert % e: ("F16", [16, 32]) for e in range(4)},
             "'layers.1.mlp.experts.up_proj' and 'layers.1.mlp.experts.gate_proj' "
             "differ in dtype"),
            ({expert % 3: ("BF16", [16, 31])},
             f"'{expert % 3}' has shape [16, 31], but config.json makes it"),
            ({expert % 4: ("BF16", [16, 32])},
             f"'{expert % 4}' of shape [16, 32] is not part of a deepseek model"),
            ({expert % 0: ("I64", [16, 32])}, "is BF16, but that of expert 0 is I64"),
    ]:
        checker.fresh(MOE)
        write_tensors(checker.path("model.safetensors"),
                      *header_of({**moe, **changed}))
        checker.refuses(message) if message else checker.accepts("experts")
    single(None, config=dict(LLAMA, tie_word_embeddings=True))
    tied = bytearray(size)
    tied[header["lm_head.weight"]["data_offsets"][0] + 2000] = 1
    single("'lm_head.weight' differs from 'model.embed_tokens.weight' at byte "
           "2000, but tie_word_embeddings", data=tied,
           config=dict(LLAMA, tie_word_embeddings=True))
    single("differs from 'model.embed_tokens.weight' in type or shape, F16 "
           "[40, 32] and BF16 [40, 32], but tie_word_embeddings",
           lambda h: h["lm_head.weight"].update(dtype="F16"),
           config=dict(LLAMA, tie_word_embeddings=True))
    single(None, lambda h: h.pop("lm_head.weight"),
           config=dict(LLAMA, tie_word_embeddings=True))
    single("has no tensor 'lm_head.weight'", lambda h: h.pop("lm_head.weight"))

    # The header as text.
    text = json.dumps(header).encode()
    single("says its header has 4611686018427387904 bytes", length=2**62)
    single("says its header has 18446744073709551615 bytes", length=2**64 - 1)
    single("not JSON", text=b"hello")
    single("not JSON", text=b"\xff\xfe{}")
    single("expected a JSON object", text=b"[]")
    single("empty, expected", text=b"")
    single("nests deeper than 64 levels", text=b'{"a":' * 100000)
    single(f"key '{q}' appears twice",
           text=text[:-1] + b', "' + q.encode() + b'": {}}')
    single("'a\\x0ab'", text=b'{"a\\nb": 1}')

    # Files and folders.
    checker.fresh(LLAMA)
    checker.refuses("has neither 'model.safetensors' nor")
    checker.accepts("no weights", "--weights=none")
    checker.accepts("a shorter context", "--weights=none", "--context=32")
    checker.refuses("context is 9999999999, expected", "--weights=none",
                    "--context=9999999999")
    with open(checker.path("model.safetensors"), "wb") as file:
        file.write(b"1234567")
    checker.refuses("has 7 bytes, expected at least the 8")
    os.remove(checker.path("model.safetensors"))
    os.mkfifo(checker.path("model.safetensors"))
    checker.refuses("is not a regular file")
    os.remove(checker.path("model.safetensors"))
    outside = checker.folder + ".outside.safetensors"
    write_tensors(outside, header, size)
    os.symlink(outside, checker.path("model.safetensors"))
    checker.refuses("is a symbolic link that leaves the model's folder")
    os.rename(outside, checker.path("real.safetensors"))
    os.remove(checker.path("model.safetensors"))
    os.symlink("real.safetensors", checker.path("model.safetensors"))
    checker.accepts("a link within the folder")
    os.remove(checker.path("config.json"))
    checker.refuses("has no config.json")
    os.mkdir(checker.path("config.json"))
    checker.refuses("is not a regular file")

    # An index.
    def sharded(message, change=None):
        checker.fresh(LLAMA)
        names = list(tensors)
        shards = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
        index = {}
        for shard, names in shards.items():
            write_tensors(checker.path(shard),
                          *header_of({n: tensors[n] for n in names}))
            index.update({n: shard for n in names})
        document = dict(metadata=dict(total_size=size), weight_map=index)
        if change:
            change(document, index)
        with open(checker.path("model.safetensors.index.json"), "w") as file:
            json.dump(document, file)
        checker.refuses(message) if message else checker.accepts("two shards")

    sharded(None)
    sharded("has no object 'weight_map'", lambda d, m: d.pop("weight_map"))
    sharded("is in 3, expected the name of a file", lambda d, m: m.update({q: 3}))
    for name in ("../x.safetensors", "/etc/passwd", "..", "x/y.safetensors",
                 "x\0y", ""):
        sharded("is not a plain file name", lambda d, m: m.update({q: name}))
    sharded("c.safetensors': No such file", lambda d, m: m.update(
        {q: "c.safetensors"}))
    sharded(f"tensor '{q}' is not in the file 'a.safetensors' but in "
            "'b.safetensors'", lambda d, m: m.update({q: "a.safetensors"}))
    sharded("tensor 'x' is not in the file 'a.safetensors' but in none",
            lambda d, m: m.update(x="a.safetensors"))
    sharded(f"does not list tensor '{q}'", lambda d, m: m.pop(q))
    sharded("is also in 'a.safetensors'", lambda d, m: shutil.copy(
        checker.path("a.safetensors"), checker.path("b.safetensors")))


def write_experts(checker):
    checker.fresh(MOE)
    tensors = tensors_of(MOE)
    names = [n for n in tensors if "experts.2." in n or "experts.3." in n]
    rest = [n for n in tensors if n not in names]
    index = {}
    for shard, names in (("a.safetensors", rest), ("b.safetensors", names)):
        header, size = header_of({n: tensors[n] for n in names})
        # Offsets that are easy to tell: each header has 8184 bytes.
        text = json.dumps(header).encode().ljust(8184)
        write_tensors(checker.path(shard), text, size)
        index.update({n: shard for n in names})
    with open(checker.path("model.safetensors.index.json"), "w") as file:
        json.dump(dict(weight_map=index), file)


def main():
    what, tool, folder = sys.argv[1:]
    checker = Checker(tool, folder)
    {"config": check_configs, "tensors": check_tensors,
     "write-experts": write_experts}[what](checker)
    sys.exit(1 if checker.failures else 0)


main()
