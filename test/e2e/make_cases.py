#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Writes the cases that check_goldens.py runs: tiny random checkpoints with the logits and greedy tokens that reference.py
# computes for them, and broken checkpoints under bad/. The same bytes on every run; nothing big need be checked in.
"""Writes tiny checkpoints, what they compute, and broken variants of one of them.

    make_cases.py OUT [--only NAME]
"""
import argparse
import hashlib
import json
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

sys.dont_write_bytecode = True
try:
    import numpy as np
except ImportError:
    sys.exit("make_cases.py: numpy is needed (Debian: python3-numpy)")

import adapt
import gguf
import onnx_graphs
import reference
import reference_v4
import tensors_v4

# A case is drawn again until every decision in it is clear: float32 must not turn a choice of float64 around.
LEAST_LEAD = 2e-3  # of a greedy token, as a share of the largest |logit|
LEAST_ROUTER_MARGIN = 1e-4  # of an expert or a group, in units of its score
LEAST_INDEX_MARGIN = 1e-5  # of a token that sparse attention sees, likewise

YARN_SHORT = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4, "beta_slow": 1,
              "mscale": 1.0, "mscale_all_dim": 1.0}


def llama(**changes):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 320, "hidden_size": 64,
            "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
            "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None, "attention_bias": False,
            "max_position_embeddings": 4096, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
            "torch_dtype": "bfloat16", **changes}


def qwen2(**changes):
    config = llama(architectures=["Qwen2ForCausalLM"], model_type="qwen2", num_key_value_heads=2, rope_theta=1000000.0,
                   **{"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 21, **changes})
    del config["attention_bias"], config["rope_scaling"]
    return config


def deepseek(**changes):
    return llama(architectures=["DeepseekForCausalLM"], model_type="deepseek", num_hidden_layers=3, intermediate_size=160,
                 moe_intermediate_size=24, n_routed_experts=12, n_shared_experts=2, num_experts_per_tok=3, scoring_func="softmax",
                 first_k_dense_replace=1, moe_layer_freq=1, norm_topk_prob=False, **changes)


def deepseek_v2(**changes):
    return {**deepseek(), "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "q_lora_rank": 40,
            "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 24, "routed_scaling_factor": 4.0,
            "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "rope_scaling": YARN_SHORT, **changes}


def deepseek_v3(**changes):
    return {**deepseek_v2(), "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "n_shared_experts": 1,
            "routed_scaling_factor": 2.5, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True,
            "n_group": 3, "topk_group": 2, "num_nextn_predict_layers": 1, **changes}


def deepseek_v32(**changes):
    return {**deepseek_v3(), "architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "index_n_heads": 6,
            "index_head_dim": 32, "index_topk": 9, **changes}


def deepseek_v4(**changes):
    return {"architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4", "vocab_size": 320, "hidden_size": 64,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32, "qk_rope_head_dim": 16,
            "q_lora_rank": 40, "o_lora_rank": 24, "o_groups": 2, "sliding_window": 16, "compress_ratios": [0, 4, 128, 4, 0],
            "index_n_heads": 8, "index_head_dim": 32, "index_topk": 5, "rope_theta": 10000, "compress_rope_theta": 160000,
            "rope_scaling": {"type": "yarn", "factor": 16, "original_max_position_embeddings": 64, "beta_fast": 4, "beta_slow": 1},
            "hc_mult": 4, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "moe_intermediate_size": 32, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "num_hash_layers": 1,
            "scoring_func": "sqrtsoftplus", "topk_method": "noaux_tc", "norm_topk_prob": True, "routed_scaling_factor": 1.5,
            "swiglu_limit": 1.5, "num_nextn_predict_layers": 1, "attention_bias": False, "max_position_embeddings": 4096,
            "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16", **changes}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
V2_YARN = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
           "mscale": 0.707, "mscale_all_dim": 0.707}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False, "damp_percent": 0.01}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "GEMM", "zero_point": True, "modules_to_not_convert": ["gate"]}


def compressed(format, **weights):
    given = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", **weights}
    return {"quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed", "ignore": ["lm_head"],
            "kv_cache_scheme": None, "config_groups": {"group_0": {"targets": ["Linear"], "weights": given,
                                                                   "input_activations": None, "output_activations": None}}}


def packed_llama(packed, **changes):
    return llama(num_key_value_heads=2, intermediate_size=160, quantization_config=packed, torch_dtype="float16", **changes)


ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# name: (what it shows, config, options): dtype of the weights, number of shards, lengths of the run and of the prompt; or
# "window" is what --window=N,sink=K gets, "kv" what --kv gets; for a GGUF file: the type of its matrices, or of those whose names have a part, that of embedding and head, whether kv_b comes in halves, and in how many files.
CASES = {
    "llama": ("multi-head attention, no rope scaling, a vocabulary of 509", llama(vocab_size=509, num_hidden_layers=4), {}),
    "llama_f16_odd": ("F16, three heads, tied embeddings, sizes that no vector divides; keys with defaults left out",
                      without(llama(vocab_size=509, hidden_size=54, intermediate_size=101, num_attention_heads=3,
                                    tie_word_embeddings=True, torch_dtype="float16"), "num_key_value_heads", "rope_scaling"),
                      {"dtype": "F16"}),
    "llama_f32_linear": ("F32, grouped-query attention, head_dim given, linear rope scaling, three shards and an index",
                         llama(hidden_size=96, num_attention_heads=8, num_key_value_heads=2, head_dim=16, rope_theta=100000.0,
                               rope_scaling={"type": "linear", "factor": 4.0}, torch_dtype="float32"),
                         {"dtype": "F32", "shards": 3}),
    "llama_llama3_rope": ("llama3 rope scaling over a short original context; an epsilon that shows",
                          llama(hidden_size=96, num_attention_heads=6, num_key_value_heads=3, rms_norm_eps=1e-2,
                                rope_theta=500000.0, rope_scaling=LLAMA3), {}),
    "llama_rope_parameters": ("the newer spelling: rope_parameters holds rope_theta, and dtype the element type",
                              {**without(llama(), "rope_theta", "rope_scaling", "torch_dtype"), "dtype": "bfloat16",
                               "rope_parameters": {**LLAMA3, "rope_theta": 500000.0}}, {}),
    "llama_long": ("200 tokens at once, and a greedy run that starts from 60",
                   llama(num_key_value_heads=2, rope_theta=500000.0), {"tokens": 200, "prompt": 60}),
    "llama_window": ("a window of 40 tokens, which ends within pages, and a greedy run that leaves it",
                     llama(num_key_value_heads=2), {"tokens": 150, "prompt": 34, "window": (40, 0)}),
    "llama_window_sink": ("a window within a page, and a sink of three tokens", llama(), {"tokens": 100, "window": (5, 3)}),
    "llama_window_one": ("a window of the token itself, and a sink of two pages", llama(), {"tokens": 150, "window": (1, 64)}),
    # 1100 tokens are three segments of attention that is split over the context.
    "llama_window_long": ("a window wider than a segment of split attention, and a sink",
                          llama(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, hidden_size=32,
                                intermediate_size=64), {"tokens": 1300, "prompt": 1090, "window": (530, 40)}),
    "llama_kv_bf16": ("a cache of bf16, and enough tokens at once that a page is widened once for all of them",
                      llama(num_key_value_heads=2), {"tokens": 90, "prompt": 40, "kv": "bf16"}),
    "llama_kv_int8": ("a cache of 8 bits, heads with keys of their own", llama(), {"tokens": 90, "prompt": 40, "kv": "int8"}),
    "llama_f16_odd_kv_f16": ("a cache of f16, three heads, sizes that no vector divides",
                             llama(vocab_size=509, hidden_size=54, intermediate_size=101, num_attention_heads=3,
                                   num_key_value_heads=3, torch_dtype="float16"), {"dtype": "F16", "tokens": 40, "kv": "f16"}),
    "qwen2_kv_int8_window": ("a cache of 8 bits, a window and a sink", qwen2(),
                             {"tokens": 100, "window": (33, 3), "kv": "int8"}),
    "deepseek_v3_kv_bf16": ("latents of bf16", deepseek_v3(num_nextn_predict_layers=0), {"tokens": 80, "kv": "bf16"}),
    "deepseek_v2_lite_kv_int8": ("latents of 8 bits, in groups",
                                 deepseek_v2(q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1, v_head_dim=16,
                                             routed_scaling_factor=1.0), {"tokens": 80, "kv": "int8"}),
    # So many tokens of a step have their keys and values computed again. No router, which the least rounding may turn.
    "deepseek_v2_attention_bf16": ("latents of bf16 and products with them, and a step of many tokens",
                                   deepseek_v2(num_hidden_layers=2, first_k_dense_replace=2, kv_lora_rank=32, qk_nope_head_dim=32,
                                               qk_rope_head_dim=32, v_head_dim=32), {"tokens": 420, "prompt": 400, "kv": "bf16", "attention": "bf16"}),
    "deepseek_v2_attention_bf16_int8": ("latents of 8 bits, and products in bf16",
                                        deepseek_v2(num_hidden_layers=2, first_k_dense_replace=2, kv_lora_rank=32, qk_nope_head_dim=32,
                                                    qk_rope_head_dim=32, v_head_dim=32), {"tokens": 400, "prompt": 390, "kv": "int8", "attention": "bf16"}),
    "qwen2_window": ("Qwen2's own window, in the second of three layers alone",
                     qwen2(num_hidden_layers=3, use_sliding_window=True, sliding_window=9, max_window_layers=0,
                           layer_types=["full_attention", "sliding_attention", "full_attention"]), {}),
    "deepseek_v3_window": ("MLA with a window and a sink", deepseek_v3(num_nextn_predict_layers=0),
                           {"tokens": 100, "prompt": 30, "window": (33, 4)}),
    "qwen2": ("biases on q, k and v; a greedy run from one token", qwen2(vocab_size=509, hidden_size=96, num_attention_heads=6),
              {"prompt": 1}),
    "qwen2_wide": ("rows of more than 1024 elements, no multiple of 64, and biases", qwen2(intermediate_size=1120, num_hidden_layers=2), {}),
    "qwen2_tied": ("biases and tied embeddings, two shards", qwen2(tie_word_embeddings=True), {"shards": 2}),
    "deepseek": ("MoE-16B: first layer dense, shared experts, 12 experts", deepseek(vocab_size=509), {}),
    "deepseek_norm_freq": ("experts in every second layer, weights normalized",
                           {**deepseek(num_key_value_heads=2), "num_hidden_layers": 4, "moe_layer_freq": 2,
                                             "norm_topk_prob": True}, {"dtype": "F16"}),
    "deepseek_v2_lite": ("V2-Lite: q_lora_rank null, greedy router, YaRN with mscale 0.707",
                         deepseek_v2(q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1, routed_scaling_factor=1.0,
                                     v_head_dim=16, rope_scaling=V2_YARN, num_experts_per_tok=6, n_routed_experts=16), {}),
    "deepseek_v2": ("V2: q_lora, best of each group, scaled weights, YaRN over a short original context", deepseek_v2(), {}),
    "deepseek_v3": ("V3: sigmoid router with correction bias and three groups, MTP tensors; an epsilon that the norms of MLA do not share",
                    deepseek_v3(vocab_size=509, rms_norm_eps=1e-2), {}),
    "deepseek_v3_plain": ("V3 without rope scaling, groups or MTP, three heads, F32, two shards",
                          deepseek_v3(num_attention_heads=3, num_key_value_heads=3, n_group=1, topk_group=1, rope_scaling=None,
                                      num_nextn_predict_layers=0, first_k_dense_replace=0, num_hidden_layers=2,
                                      torch_dtype="float32"), {"dtype": "F32", "shards": 2}),
    "deepseek_v32": ("V3.2: an indexer of six heads chooses 9 tokens; MTP tensors", deepseek_v32(), {}),
    "deepseek_v32_pages": ("V3.2: 40 tokens of three pages, keys as wide as what rotates, F32",
                           deepseek_v32(index_n_heads=3, index_head_dim=16, index_topk=40, num_hidden_layers=2, num_nextn_predict_layers=0,
                                        torch_dtype="float32"), {"dtype": "F32", "tokens": 80, "prompt": 45}),
    "deepseek_v32_dense": ("V3.2: more tokens to choose than there are, an interleaved indexer",
                           deepseek_v32(index_topk=2048, indexer_rope_interleave=True, num_nextn_predict_layers=0), {"tokens": 40}),
    "deepseek_v32_fp8": ("V3.2 with e4m3 weights, those of the indexer, too",
                         deepseek_v32(vocab_size=260, hidden_size=160, intermediate_size=288, moe_intermediate_size=40,
                                      num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, kv_lora_rank=40,
                                      q_lora_rank=48, qk_nope_head_dim=24, index_topk=12, quantization_config=FP8), {"dtype": "FP8"}),
    "deepseek_v3_fp8": ("V3 with e4m3 weights and 128x128 blocks, with partial blocks at the edges",
                        deepseek_v3(vocab_size=260, hidden_size=160, intermediate_size=288, moe_intermediate_size=40,
                                    num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, kv_lora_rank=40,
                                    q_lora_rank=48, qk_nope_head_dim=24, quantization_config=FP8), {"dtype": "FP8"}),
    "deepseek_v4": ("V4: streams, window with sinks, entries of 4 and 128 tokens, indexer, experts by token and by score; more tokens "
                    "than two windows of 128", deepseek_v4(), {"tokens": 270}),
    "deepseek_v4_fp4": ("V4 as it is stored: e4m3 with powers of two, partial blocks, experts of FP4; six heads, two streams, "
                        "one iteration",
                        deepseek_v4(hidden_size=160, num_attention_heads=6, head_dim=48, qk_rope_head_dim=8, o_groups=3, hc_mult=2,
                                    hc_sinkhorn_iters=1, num_hidden_layers=3, compress_ratios=[4, 128, 4, 0], index_head_dim=16, index_topk=3,
                                    moe_intermediate_size=64, num_hash_layers=2, norm_topk_prob=False, rms_norm_eps=1e-3, hc_eps=1e-2,
                                    expert_dtype="fp4", quantization_config={**FP8, "scale_fmt": "ue8m0"}), {"dtype": "FP8", "tokens": 140}),
    "deepseek_v4_fp8": ("V4 with experts of e4m3, too; entries of 128 tokens in front, no token chooses experts",
                        deepseek_v4(num_hidden_layers=2, compress_ratios=[128, 4, 0], num_hash_layers=0, index_topk=3, expert_dtype="fp8",
                                    quantization_config={**FP8, "scale_fmt": "ue8m0"}), {"dtype": "FP8", "tokens": 140}),
    "deepseek_v4_window": ("V4 with windows alone, F32, three shards",
                           deepseek_v4(num_hidden_layers=2, compress_ratios=[0, 0], num_hash_layers=0, num_nextn_predict_layers=0,
                                       rope_scaling=None, torch_dtype="float32"), {"dtype": "F32", "shards": 3, "tokens": 40}),
    "lora": ("a LoRA adapter over some projections", llama(num_key_value_heads=2), {"lora": {"target_modules": ["q_proj", "v_proj", "down_proj"]}}),
    "lora_rslora": ("rank-stabilized, in F16, ranks and alphas of single modules, over a base in F16",
                    qwen2(), {"dtype": "F16", "lora": {"target_modules": ALL_LINEAR, "r": 8, "lora_alpha": 4, "use_rslora": True, "dtype": "F16",
                              "rank_pattern": {"k_proj": 2, "layers.1.mlp.up_proj": 3}, "alpha_pattern": {"^model.*o_proj": 1.5}}}),
    "lora_saved": ("embedding, head and norms as a whole, biases, and low rank of the rest; BF16",
                   qwen2(), {"lora": {"target_modules": ["gate_proj", "q_proj", "embed_tokens"], "modules_to_save": ["lm_head", "norm"], "bias": "all",
                                      "dtype": "BF16"}}),
    "lora_v3_fp8": ("MLA with kv_b absorbed, experts, FP8: all of it dequantized and added to",
                    deepseek_v3(vocab_size=260, hidden_size=160, intermediate_size=288, moe_intermediate_size=40,
                                num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, kv_lora_rank=40, num_nextn_predict_layers=0,
                                q_lora_rank=48, qk_nope_head_dim=24, quantization_config=FP8),
                    {"dtype": "FP8", "lora": {"target_modules": ["q_a_proj", "kv_b_proj", "kv_a_proj_with_mqa", "gate_proj", "down_proj"]}}),
    "lora_parameters": ("experts as parameters, gate and up in one, of a rank of their own",
                        deepseek_v3(num_hidden_layers=2, num_nextn_predict_layers=0),
                        {"lora": {"target_modules": ["o_proj"], "target_parameters": ["down_proj", "gate_up_proj"], "peft_version": "0.21.2",
                                  "rank_pattern": {r".*\.gate_up_proj": 6}, "alpha_pattern": {r".*\.gate_up_proj": 9}}}),
    "gptq_order": ("GPTQ, columns in groups in no order, symmetric, the newer zero points",
                   packed_llama({**GPTQ, "desc_act": True, "sym": True, "checkpoint_format": "gptq_v2", "group_size": 32}), {"dtype": "F16", "packed": True}),
    "gptq_ragged": ("GPTQ, 4 bits, a last group that is shorter", packed_llama({**GPTQ, "group_size": 48, "checkpoint_format": "gptq"}), {"dtype": "F16", "packed": True}),
    "gptq_3bit": ("GPTQ, 3 bits, one group", packed_llama({**GPTQ, "bits": 3, "group_size": -1}), {"dtype": "F16", "packed": True}),
    "gptq_dynamic": ("GPTQ, 4 bits, modules of 8 bits and of one group, and some that are not quantized",
                     packed_llama({**GPTQ, "dynamic": {"+:.*\\.1\\..*down_proj": {"bits": 8, "group_size": 16}, ".*q_proj": {"group_size": -1, "sym": True},
                                                       "-:.*up_proj": {}}}), {"dtype": "F16", "packed": True}),
    "gptq_8bit_moe": ("GPTQ, 8 bits, stacks of experts", {**deepseek(num_key_value_heads=2, quantization_config={**GPTQ, "bits": 8}), "moe_intermediate_size": 32},
                      {"dtype": "F16", "packed": True}),
    "awq_v2_lite": ("AWQ, MLA with kv_b, experts", deepseek_v2(quantization_config=AWQ), {"dtype": "F16", "packed": True}),
    "awq_gemv": ("AWQ, rows in order, groups filled up",
                 packed_llama({**AWQ, "version": "gemv"}), {"dtype": "F16", "packed": True}),
    "compressed_w4a16": ("compressed-tensors, packed 4 bits, symmetric", packed_llama(compressed("pack-quantized", group_size=32)), {"dtype": "F16", "packed": True}),
    "compressed_w4_asym": ("compressed-tensors, packed 4 bits, zero points, one scale a row",
                           packed_llama(compressed("pack-quantized", symmetric=False, strategy="channel")), {"dtype": "F16", "packed": True}),
    "compressed_w8": ("compressed-tensors, 8-bit integers with zero points",
                      packed_llama(compressed("int-quantized", num_bits=8, symmetric=False, strategy="channel")), {"dtype": "F16", "packed": True}),
    "compressed_fp8_channel": ("compressed-tensors, FP8, one scale a row", packed_llama(compressed("float-quantized", num_bits=8, type="float", strategy="channel")),
                               {"dtype": "F16", "packed": True}),
    "compressed_fp8_tensor": ("compressed-tensors, FP8, one scale in all", packed_llama(compressed("float-quantized", num_bits=8, type="float", strategy="tensor")),
                              {"dtype": "F16", "packed": True}),
    "compressed_fp8_block": ("compressed-tensors, FP8, blocks of 32 x 64",
                             packed_llama(compressed("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[32, 64])),
                             {"dtype": "F16", "packed": True}),
    "lora_gptq": ("an adapter over a GPTQ base", packed_llama(GPTQ), {"dtype": "F16", "packed": True, "lora": {"target_modules": ALL_LINEAR}}),
    "onnx_genai_int4": ("ONNX, genai's graph, 4 bits in blocks of 32, zero points for some, grouped queries, rows longer than blocks",
                        llama(hidden_size=80, num_attention_heads=5, num_key_value_heads=1, max_position_embeddings=128),
                        {"onnx": {"kind": "genai", "bits": 4, "zeros": ("gate_proj", "up_proj")}}),
    "onnx_genai_int8_packed": ("ONNX, genai's graph, 8 bits, q, k and v in one matrix, with biases; llama3 scaling in the caches",
                               {**qwen2(hidden_size=96, num_attention_heads=6, max_position_embeddings=512),
                                "rope_theta": 500000.0, "rope_scaling": LLAMA3},
                               {"onnx": {"kind": "genai", "bits": 8, "block": 16, "packed": True, "zeros": ("o_proj",)}}),
    "onnx_genai_interleaved": ("ONNX, genai's graph, F32, rotation by neighbors, tied embeddings",
                               llama(tie_word_embeddings=True, max_position_embeddings=128),
                               {"onnx": {"kind": "genai", "interleaved": True}}),
    "onnx_dynamo": ("ONNX, plain operators, one sequence, linear scaling", llama(rope_scaling={"type": "linear", "factor": 4.0}),
                    {"onnx": {"kind": "torch"}}),
    "onnx_qdq_int8": ("ONNX, plain operators, integers of 8 bits with a scale a row", llama(),
                      {"onnx": {"kind": "torch", "qdq": "int8", "block": 0}}),
    "onnx_qdq_uint8": ("ONNX, plain operators, integers of 8 bits with zero points, in blocks of 16", llama(num_key_value_heads=2),
                       {"onnx": {"kind": "torch", "style": "torchscript", "qdq": "uint8", "block": 16}}),
    "onnx_qdq_int4": ("ONNX, plain operators, integers of 4 bits with a sign, in blocks of 16", llama(num_key_value_heads=2),
                      {"onnx": {"kind": "torch", "qdq": "int4", "block": 16}}),
    "onnx_qdq_uint4": ("ONNX, plain operators, integers of 4 bits with zero points, in blocks of 16", llama(),
                       {"onnx": {"kind": "torch", "style": "torchscript", "qdq": "uint4", "block": 16}}),
    "onnx_qdq_tensor": ("ONNX, plain operators, integers of 8 bits with one scale a matrix", llama(),
                        {"onnx": {"kind": "torch", "qdq": "uint8", "block": -1}}),
    "onnx_qdq_inputs": ("ONNX, plain operators, integers of 8 bits, and inputs that the model rounds to 8 bits",
                        llama(num_key_value_heads=2),
                        {"onnx": {"kind": "torch", "qdq": "int8", "block": 0, "inputs": "layers"}}),
    "onnx_genai_order": ("ONNX, genai's graph, 4 bits, columns whose groups are in no order, zero points for some", llama(max_position_embeddings=128),
                         {"onnx": {"kind": "genai", "bits": 4, "block": 16, "order": True, "zeros": ("o_proj", "up_proj")}}),
    "onnx_genai_table": ("ONNX, genai's graph, an embedding of 4 bits", llama(max_position_embeddings=128),
                         {"onnx": {"kind": "genai", "bits": 4, "table_bits": 4}}),
    "onnx_genai_table_int4": ("ONNX, genai's graph, an embedding of integers of 4 bits with a sign", llama(max_position_embeddings=128),
                              {"onnx": {"kind": "genai", "table_kind": "int4"}}),
    "onnx_genai_taken_uint4": ("ONNX, genai's graph, an embedding whose rows are taken before they become numbers",
                               llama(max_position_embeddings=128), {"onnx": {"kind": "genai", "table_kind": "uint4", "taken": True}}),
    "onnx_genai_shared": ("ONNX, genai's graph, an embedding of 8 bits that is the output's matrix",
                          llama(tie_word_embeddings=True, max_position_embeddings=128),
                          {"onnx": {"kind": "genai", "bits": 8, "table_bits": 8}}),
    "onnx_torchscript": ("ONNX, plain operators, a batch with a past, biases, grouped queries, scores chosen by a condition",
                         qwen2(hidden_size=96, num_attention_heads=6),
                         {"onnx": {"kind": "torch", "style": "torchscript", "mask": "condition"}}),
    "onnx_genai_qmoe": ("ONNX, genai's graph, experts of 4 bits in blocks of 32 with zero points, gates between other rows, weights "
                        "normalized", {**deepseek(max_position_embeddings=128), "moe_intermediate_size": 32, "norm_topk_prob": True},
                        {"tokens": 16, "onnx": {"kind": "genai", "experts": {"bits": 4, "block": 32, "has_zeros": True}}}),
    "onnx_genai_qmoe_int8": ("ONNX, genai's graph, experts of 8 bits with a scale a row, three matrices",
                             deepseek(max_position_embeddings=128),
                             {"tokens": 16, "onnx": {"kind": "genai", "experts": {"bits": 8, "fusion": 0}}}),
    "onnx_dynamo_v2": ("ONNX, plain operators, latent attention, groups of experts, each on the rows of its tokens, "
                       "YaRN by its table alone",
                       deepseek_v2(), {"tokens": 16, "onnx": {"kind": "torch"}}),
    "onnx_torchscript_v3": ("ONNX, plain operators, a batch with a past, latent attention, a corrected choice of experts, whose matrices "
                            "are gathered", deepseek_v3(rope_scaling=None),
                            {"tokens": 16, "onnx": {"kind": "torch", "style": "torchscript", "experts": "stack"}}),
    "onnx_opset24": ("ONNX, operators of opsets 23 and 24, a batch with a past, grouped queries, biases",
                     qwen2(hidden_size=96, num_attention_heads=6, max_position_embeddings=128),
                     {"tokens": 16, "onnx": {"kind": "torch", "style": "torchscript", "operators": "rows"}}),
    "gguf_llama_bf16": ("GGUF, BF16, tied embeddings, linear rope scaling, head_dim given",
                        llama(head_dim=16, num_key_value_heads=2, tie_word_embeddings=True,
                              rope_scaling={"type": "linear", "factor": 4.0}), {"gguf": {"kind": "BF16"}}),
    "gguf_llama_llama3_rope": ("GGUF, F16, llama3 rope scaling as a table of factors",
                               llama(hidden_size=96, num_attention_heads=6, num_key_value_heads=3, rope_theta=500000.0,
                                     rope_scaling=LLAMA3), {"gguf": {"kind": "F16"}}),
    "gguf_qwen2_q8_0": ("GGUF, Q8_0, biases, rows that are not permuted, three files",
                        qwen2(hidden_size=96, intermediate_size=160, num_attention_heads=6), {"gguf": {"kind": "Q8_0", "files": 3}}),
    "gguf_deepseek_q4_0": ("GGUF, MoE-16B, Q4_0, stacked experts",
                           {**deepseek(num_key_value_heads=2), "moe_intermediate_size": 32}, {"gguf": {"kind": "Q4_0", "head": "Q8_0"}}),
    "gguf_deepseek_v2_q6_k": ("GGUF, V2 with kv_b whole, Q6_K, YaRN, groups of experts",
                              {**deepseek_v2(q_lora_rank=256, kv_lora_rank=256, hidden_size=256, intermediate_size=256, v_head_dim=64),
                               "moe_intermediate_size": 256, "num_hidden_layers": 2, "n_routed_experts": 8, "num_experts_per_tok": 2},
                              {"gguf": {"kind": "Q6_K"}}),
    "gguf_deepseek_v3_q8_0": ("GGUF, V3 with kv_b in halves, Q8_0, sigmoid router with correction bias, two files",
                              {**deepseek_v3(q_lora_rank=64, qk_nope_head_dim=32, v_head_dim=32), "moe_intermediate_size": 32},
                              {"gguf": {"kind": "Q8_0", "is_split": True, "files": 2}}),
    "gguf_deepseek_v32": ("GGUF, V3.2: an indexer, kv_b in halves, Q8_0",
                          deepseek_v32(q_lora_rank=64, v_head_dim=32, qk_nope_head_dim=32, moe_intermediate_size=32,
                                       num_nextn_predict_layers=0),
                          {"gguf": {"kind": "Q8_0", "is_split": True}}),
    "gguf_deepseek_v4": ("GGUF, V4: experts of MXFP4, other matrices Q8_0, and BF16 where the release has it",
                         deepseek_v4(q_lora_rank=64, o_lora_rank=32),
                         {"gguf": {"kind": {"_exps": "MXFP4", "compressor_": "BF16", "indexer.proj": "BF16", "token_embd": "BF16",
                                            "output.weight": "BF16", "": "Q8_0"}}, "tokens": 150}),
    "gguf_deepseek_v2_kv_b": ("GGUF, V2-Lite with kv_b whole, of another type in each layer",
                              {**deepseek_v2(q_lora_rank=None, kv_lora_rank=256, qk_nope_head_dim=32, v_head_dim=32),
                               "moe_intermediate_size": 32, "num_hidden_layers": 4},
                              {"tokens": 16, "prompt": 6,
                               "gguf": {"kind": {"0.attn_kv_b": "Q3_K", "1.attn_kv_b": "Q5_K", "2.attn_kv_b": "IQ4_XS",
                                                 "3.attn_kv_b": "Q4_1", "": "Q8_0"}}}),
    "gguf_deepseek_v2_kv_b_split": ("GGUF, V2-Lite with kv_b in halves, each of another type",
                                    {**deepseek_v2(q_lora_rank=None, kv_lora_rank=256, qk_nope_head_dim=32, v_head_dim=32),
                                     "moe_intermediate_size": 32, "num_hidden_layers": 3},
                                    {"tokens": 16, "prompt": 6,
                                     "gguf": {"kind": {"0.attn_k_b": "Q5_0", "0.attn_v_b": "Q4_K", "1.attn_k_b": "IQ4_NL",
                                                       "1.attn_v_b": "Q2_K", "2.attn_k_b": "Q5_1", "2.attn_v_b": "Q6_K",
                                                       "": "Q8_0"}, "is_split": True}}),
    "gguf_llama_kinds": ("GGUF, a matrix of each type that is stored as integers",
                         llama(hidden_size=256, intermediate_size=512),
                         {"gguf": {"kind": {"0.attn_q": "Q2_K", "0.attn_k": "Q3_K", "0.attn_v": "Q4_K", "0.attn_output": "Q5_K",
                                            "0.ffn_down": "Q5_0", "0.ffn": "Q6_K", "1.attn_q": "Q5_1", "1.attn_k": "IQ4_NL",
                                            "1.attn_v": "IQ4_XS", "1.attn_output": "MXFP4", "1.ffn_down": "Q8_K",
                                            "1.ffn": "Q4_1", "": "Q8_0"}, "head": "Q6_K"}}),
    "gguf_deepseek_kinds": ("GGUF, MoE-16B, experts whose down is of another type than gate and up, as in Q4_K_M",
                            {**deepseek(), "hidden_size": 256, "intermediate_size": 256, "moe_intermediate_size": 256,
                             "num_hidden_layers": 2, "n_routed_experts": 4, "num_experts_per_tok": 2},
                            {"tokens": 16, "prompt": 6,
                             "gguf": {"kind": {"ffn_down_exps": "Q6_K", "ffn_down": "Q5_0", "attn_v": "Q6_K", "": "Q4_K"},
                                      "head": "Q6_K"}}),
}


def shapes(config):
    """The tensors of a checkpoint: name to (shape, what kind of numbers)."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    all_tensors = {"model.embed_tokens.weight": ((config["vocab_size"], hidden), "embedding"),
                   "model.norm.weight": ((hidden,), "norm")}
    if not config.get("tie_word_embeddings"):
        all_tensors["lm_head.weight"] = ((config["vocab_size"], hidden), "head")

    def ffn(prefix, width, kind):
        all_tensors[f"{prefix}.gate_proj.weight"] = ((width, hidden), "linear")
        all_tensors[f"{prefix}.up_proj.weight"] = ((width, hidden), "linear")
        all_tensors[f"{prefix}.down_proj.weight"] = ((hidden, width), kind)

    def block(prefix, is_mixture):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            all_tensors[f"{prefix}.{norm}.weight"] = ((hidden,), "norm")
        if "kv_lora_rank" in config:
            nope, pe, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
            latent, q_lora = config["kv_lora_rank"], config["q_lora_rank"]
            if q_lora is None:
                parts = {"q_proj.weight": ((heads * (nope + pe), hidden), "query")}
            else:
                parts = {"q_a_proj.weight": ((q_lora, hidden), "linear"), "q_a_layernorm.weight": ((q_lora,), "norm"),
                         "q_b_proj.weight": ((heads * (nope + pe), q_lora), "query")}
            parts.update({"kv_a_proj_with_mqa.weight": ((latent + pe, hidden), "linear"),
                          "kv_a_layernorm.weight": ((latent,), "norm"),
                          "kv_b_proj.weight": ((heads * (nope + value), latent), "query"),
                          "o_proj.weight": ((hidden, heads * value), "output")})
            if config["model_type"] == "deepseek_v32":
                index, dim = config["index_n_heads"], config["index_head_dim"]
                parts.update({"indexer.wq_b.weight": ((index * dim, q_lora), "query"), "indexer.wk.weight": ((dim, hidden), "query"),
                              "indexer.k_norm.weight": ((dim,), "norm"), "indexer.k_norm.bias": ((dim,), "bias"),
                              "indexer.weights_proj.weight": ((index, hidden), "router")})
        else:
            dim = config.get("head_dim") or hidden // heads
            kv_heads = config.get("num_key_value_heads") or heads
            parts = {"q_proj.weight": ((heads * dim, hidden), "query"), "k_proj.weight": ((kv_heads * dim, hidden), "query"),
                     "v_proj.weight": ((kv_heads * dim, hidden), "linear"), "o_proj.weight": ((hidden, heads * dim), "output")}
            if config["model_type"] == "qwen2":
                parts.update({"q_proj.bias": ((heads * dim,), "bias"), "k_proj.bias": ((kv_heads * dim,), "bias"),
                              "v_proj.bias": ((kv_heads * dim,), "bias")})
        all_tensors.update({f"{prefix}.self_attn.{name}": value for name, value in parts.items()})
        if not is_mixture:
            ffn(f"{prefix}.mlp", config["intermediate_size"], "down")
            return
        width = config["moe_intermediate_size"]
        all_tensors[f"{prefix}.mlp.gate.weight"] = ((config["n_routed_experts"], hidden), "router")
        if config.get("topk_method") == "noaux_tc":
            all_tensors[f"{prefix}.mlp.gate.e_score_correction_bias"] = ((config["n_routed_experts"],), "correction")
        for expert in range(config["n_routed_experts"]):
            ffn(f"{prefix}.mlp.experts.{expert}", width, "expert_down")
        ffn(f"{prefix}.mlp.shared_experts", width * config["n_shared_experts"], "down")

    layers = config["num_hidden_layers"]
    for layer in range(layers):
        block(f"model.layers.{layer}", reference.is_mixture(config, layer))
    for layer in range(layers, layers + config.get("num_nextn_predict_layers", 0)):
        prefix = f"model.layers.{layer}"
        block(prefix, True)
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            all_tensors[f"{prefix}.{norm}.weight"] = ((hidden,), "norm")
        all_tensors[f"{prefix}.eh_proj.weight"] = ((hidden, 2 * hidden), "linear")
        all_tensors[f"{prefix}.embed_tokens.weight"] = ((config["vocab_size"], hidden), "embedding")
        all_tensors[f"{prefix}.shared_head.head.weight"] = ((config["vocab_size"], hidden), "head")
    return all_tensors


# Large enough that attention is not uniform, that experts differ and that leaving out a part is seen in the logits.
GAIN = {"linear": 1.0, "plain": 2.0, "hyper": 2.0, "query": 1.5, "output": 1.5, "down": 2.0, "expert_down": 3.0, "router": 1.5, "head": 2.0}


def draw(rng, shape, kind):
    if kind == "norm":
        return 1 + 0.3 * rng.uniform(-1, 1, shape)
    if kind == "scale":
        return rng.uniform(0.5, 1.5, shape)
    if kind == "bias":
        return rng.uniform(-1, 1, shape)
    if kind == "correction":
        return rng.uniform(0, 0.4, shape)  # Positive: implementations differ on what masks a group.
    if kind == "embedding":
        return rng.uniform(-1, 1, shape)
    return rng.uniform(-1, 1, shape) * GAIN[kind] * (3 / shape[-1])**0.5


def encode(values, dtype):
    """Rounds to the element type, to nearest, and returns its bytes."""
    single = np.asarray(values, np.float64).astype("<f4")
    if dtype == "F32":
        return single.tobytes()
    if dtype == "F16":
        return single.astype("<f2").tobytes()
    bits = single.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def encode_e4m3(values):
    positive = reference.E4M3_VALUES[:0x7F]
    middle = (positive[1:] + positive[:-1]) / 2
    codes = np.searchsorted(middle, np.abs(values)).astype(np.uint8)
    return (codes | np.where(np.signbit(values), 0x80, 0).astype(np.uint8)).tobytes()


def quantize_blocks(values, rng):
    """Returns (e4m3 bytes, float32 multipliers): the largest magnitude of a block lands between 224 and 448."""
    rows, columns = (-(-n // 128) for n in values.shape)
    scales = np.empty((rows, columns), np.float32)
    scaled = np.empty_like(values)
    for i in range(rows):
        for j in range(columns):
            block = np.s_[i * 128:(i + 1) * 128, j * 128:(j + 1) * 128]
            scales[i, j] = np.abs(values[block]).max() / 448 * rng.uniform(1, 2)
            scaled[block] = values[block] / scales[i, j]
    return encode_e4m3(scaled), scales


def random_tensors(config, dtype, rng):
    """Returns name to (element type, shape, bytes)."""
    if config["model_type"] == "deepseek_v4":
        return tensors_v4.random_tensors(config, dtype, rng, draw, encode, encode_e4m3)
    plain = "BF16" if dtype == "FP8" else dtype
    tensors = {}
    for name, (shape, kind) in sorted(shapes(config).items()):
        values = draw(rng, shape, kind)
        is_block = dtype == "FP8" and len(shape) == 2 and kind not in ("embedding", "head", "router") and "eh_proj" not in name
        if is_block:
            raw, scales = quantize_blocks(values, rng)
            tensors[name] = ("F8_E4M3", shape, raw)
            tensors[name + "_scale_inv"] = ("F32", scales.shape, scales.astype("<f4").tobytes())
        else:
            element = "F32" if kind == "correction" else plain
            tensors[name] = (element, shape, encode(values, element))
    return tensors


def safetensors(tensors, header_changes=None):
    """The bytes of a file; header_changes(header) may damage the header before it is written."""
    header, body = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, (dtype, shape, raw) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    if header_changes:
        header_changes(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(body)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_model(folder, config, tensors, shards=1):
    write_json(folder / "config.json", config)
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors(tensors))
        return
    names = sorted(tensors)
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    # Interleaved, so that one layer lies in several files.
    where = {name: files[i % shards] for i, name in enumerate(names)}
    for file in files:
        (folder / file).write_bytes(safetensors({n: tensors[n] for n in names if where[n] == file}))
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": sum(len(t[2]) for t in tensors.values())}, "weight_map": where})


def write_gguf(folder, config, tensors, kind, head=None, is_split=False, files=1):
    """Writes model.gguf, or several files, and returns what the tensors are once they are rounded."""
    layers = config["num_hidden_layers"]
    values = {name: reference.decode(raw, dtype, shape) for name, (dtype, shape, raw) in tensors.items()
              if not name.startswith(("mtp.", *(f"model.layers.{i}." for i in range(layers, layers + 2))))}

    def kind_of_tensor(name, shape):
        if head and name in ("token_embd.weight", "output.weight"):
            return head
        if isinstance(kind, dict):
            return next(kind[part] for part in kind if part in name)
        return kind

    tensors, rounded = gguf.convert(config, values, kind_of_tensor, is_split)
    keys = {**gguf.keys_of(config, is_split), **gguf.tokenizer_keys(config["vocab_size"])}
    folder.mkdir(parents=True)
    if files > 1:
        gguf.write_split(folder, "model", keys, tensors, files)
    else:
        (folder / "model.gguf").write_bytes(gguf.file_bytes(keys, tensors))
    return rounded


def write_onnx(folder, config, tensors, **options):
    """Writes model.onnx and its data, without a config.json, and returns what the tensors are once they are rounded."""
    values = {name: reference.decode(raw, dtype, shape) for name, (dtype, shape, raw) in tensors.items()}
    return onnx_graphs.write(folder, config, values, **options)


def make_case(folder, name, what, config, options):
    in_gguf, in_onnx = options.get("gguf"), options.get("onnx")
    for attempt in range(500):
        rng = np.random.default_rng([zlib.crc32(name.encode()), attempt])
        tensors = random_tensors(config, options.get("dtype", "BF16"), rng)
        count = options.get("tokens", 32)
        tokens = rng.integers(2, config["vocab_size"], count).tolist()
        prompt = rng.integers(2, config["vocab_size"], options.get("prompt", 12)).tolist()
        shutil.rmtree(folder, ignore_errors=True)
        # Computed from what the file says, after rounding.
        if in_gguf:
            values = write_gguf(folder, config, tensors, **in_gguf)
        elif options.get("packed"):
            tensors, values = adapt.pack_model(tensors, config["quantization_config"], rng, encode, encode_e4m3)
            write_model(folder, config, tensors, options.get("shards", 1))
        elif in_onnx:
            values = write_onnx(folder, config, tensors, **in_onnx)
        else:
            write_model(folder, config, tensors, options.get("shards", 1))
            values = reference.read_checkpoint(folder)[1]
        if "lora" in options:
            adapter, tensors, values = adapt.make_adapter(values, options["lora"], rng, encode)
            write_json(folder / "adapter" / "adapter_config.json", adapter)
            (folder / "adapter" / "adapter_model.safetensors").write_bytes(safetensors(tensors))
        run = {**config, **{"_" + key: options[key] for key in ("window", "kv") if key in options}}
        margins = reference.Margins()
        logits = reference.forward(run, values, tokens, margins)
        if margins.router < LEAST_ROUTER_MARGIN or margins.index < LEAST_INDEX_MARGIN:
            continue
        continuation, lead = reference.greedy(run, values, prompt, 16, margins)
        # An end-of-text token would end the run early; one token over and over would show little.
        if margins.router >= LEAST_ROUTER_MARGIN and margins.index >= LEAST_INDEX_MARGIN and lead >= LEAST_LEAD and config["eos_token_id"] not in continuation \
                and len(set(continuation)) >= 6:
            break
    else:
        sys.exit(f"make_cases.py: no clear draw for {name}")
    np.save(folder / "logits.npy", logits.astype(np.float32))
    write_json(folder / "tokens.json", {"tokens": tokens})
    write_json(folder / "greedy.json", {"prompt": prompt, "continuation": continuation})
    files = (in_gguf or {}).get("files", 1)
    model = {"model": "model.onnx"} if in_onnx else {"model": "model.gguf" if files == 1 else f"model-00001-of-{files:05}.gguf"} if in_gguf else {}
    flags = []
    if "window" in options:
        flags.append("--window={},sink={}".format(*options["window"]))
    if "kv" in options:
        flags.append(f"--kv={options['kv']}")
    if "attention" in options:
        flags.append(f"--attention={options['attention']}")
    if "lora" in options:
        flags.append("--lora=adapter")
    if flags:
        model["flags"] = flags
    # What lies next to the middle of two elements of the cache, or of a grid, is rounded to the other one in float32.
    is_rounded = options.get("kv", "f32") != "f32" or (in_onnx or {}).get("inputs")
    tolerance = 1e-3 if is_rounded else 1e-4
    if "attention" in options:
        tolerance = 3e-2  # The reference does not round queries and weights.
    write_json(folder / "case.json", {"name": name, "what": what, **model, "tolerance": tolerance, "lead": lead,
                                      "router_margin": margins.router if np.isfinite(margins.router) else None})
    print(f"{name:24} draw {attempt}, {len(set(continuation))} different tokens, lead {lead:.1e}, "
          f"router margin {margins.router:.1e}")


def bad_cases():
    """Yields (name, what is wrong, write(folder) or None, more of case.json)."""
    config = llama(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                   num_key_value_heads=2)
    tensors = random_tensors(config, "BF16", np.random.default_rng(1))
    v3 = deepseek_v3(vocab_size=40, hidden_size=32, num_hidden_layers=1, first_k_dense_replace=0, num_nextn_predict_layers=0)
    v3_tensors = random_tensors(v3, "BF16", np.random.default_rng(2))
    sound = safetensors(tensors)
    (header_size,) = struct.unpack_from("<Q", sound)

    def model(folder, text=None, data=sound):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) if text is None else text)
        if data is not None:
            (folder / "model.safetensors").write_bytes(data)

    def with_text(text):
        return lambda folder: model(folder, text=text)

    def with_config(base=config, base_tensors=tensors, drop=(), **changes):
        return lambda folder: write_model(folder, {**without(base, *drop), **changes}, base_tensors)

    def with_data(data):
        return lambda folder: model(folder, data=data)

    def with_header(change):
        return with_data(safetensors(tensors, change))

    def with_tensor(name, value):
        return with_data(safetensors({k: v for k, v in {**tensors, name: value}.items() if v is not None}))

    first, other = "lm_head.weight", "model.embed_tokens.weight"

    # config.json
    yield "config_missing", "there is no config.json", lambda f: (f.mkdir(parents=True), (f / "model.safetensors").write_bytes(sound)), {}
    yield "config_empty", "config.json is empty", with_text(""), {}
    yield "config_is_folder", "config.json is a folder", lambda f: (f / "config.json").mkdir(parents=True), {}
    yield "config_cut", "config.json ends in the middle", with_text(json.dumps(config)[:100]), {}
    yield "config_is_list", "config.json is a list", with_text("[1, 2]"), {}
    yield "config_not_utf8", "config.json is not UTF-8", lambda f: (model(f), (f / "config.json").write_bytes(b'{"model_type": "\xff\xfe"}')), {}
    yield "config_nested", "config.json nests 100000 arrays", with_text('{"model_type": "llama", "x": ' + "[" * 100000 + "]" * 100000 + "}"), {}
    yield "config_without_model_type", "no model_type and no architectures", with_config(drop=("model_type", "architectures")), {}
    yield "config_unknown_model_type", "a model_type that nobody knows", with_config(model_type="sea_cucumber", architectures=["SeaCucumberForCausalLM"]), {}
    for key, word in (("hidden_size", "hidden_size"), ("num_hidden_layers", "layers"), ("vocab_size", "vocab"), ("intermediate_size", "intermediate")):
        yield f"config_{word}_huge", f"{key} is 1e12", with_config(**{key: 10**12}), {}
        yield f"config_{word}_beyond_64_bits", f"{key} is 1e30", with_config(**{key: 10**30}), {}
        yield f"config_{word}_zero", f"{key} is zero", with_config(**{key: 0}), {}
        yield f"config_{word}_negative", f"{key} is negative", with_config(**{key: -4}), {}
        yield f"config_{word}_missing", f"{key} is missing", with_config(drop=(key,)), {}
    for kind, value in (("string", "thirty-two"), ("list", [32]), ("null", None), ("fraction", 32.5), ("object", {}), ("bool", True)):
        yield f"config_wrong_kind_{kind}", f"hidden_size is of the wrong kind: {kind}", with_config(hidden_size=value), {}
    yield "config_head_count_zero", "num_attention_heads is zero", with_config(num_attention_heads=0), {}
    yield "config_head_count_negative", "num_attention_heads is negative", with_config(num_attention_heads=-2, num_key_value_heads=-2), {}
    yield "config_head_count_uneven", "hidden_size is no multiple of num_attention_heads", with_config(num_attention_heads=5, num_key_value_heads=5), {}
    yield "config_head_groups", "query heads are no multiple of key heads", with_config(num_key_value_heads=3), {}
    yield "config_head_groups_zero", "num_key_value_heads is zero", with_config(num_key_value_heads=0), {}
    yield "config_head_dim_odd", "head_dim is odd, so rope has no pairs", with_config(head_dim=15), {}
    for kind, value in (("nan", float("nan")), ("infinite", float("inf")), ("zero", 0.0), ("negative", -1e4), ("string", "ten"), ("list", [1e4])):
        yield f"config_rope_theta_{kind}", f"rope_theta is no usable number: {kind}", with_config(rope_theta=value), {}
    yield "config_rms_norm_eps_negative", "rms_norm_eps is negative", with_config(rms_norm_eps=-1e-6), {}
    yield "config_rms_norm_eps_nan", "rms_norm_eps is not a number", with_config(rms_norm_eps=float("nan")), {}
    yield "config_rope_scaling_unknown", "a rope scaling that nobody knows", with_config(rope_scaling={"type": "whirlpool", "factor": 2.0}), {}
    yield "config_rope_scaling_factor_missing", "linear rope scaling without factor", with_config(rope_scaling={"type": "linear"}), {}
    yield "config_rope_scaling_factor_zero", "linear rope scaling by zero", with_config(rope_scaling={"type": "linear", "factor": 0.0}), {}
    yield "config_rope_scaling_wrong_kind", "rope_scaling is a number", with_config(rope_scaling=4.0), {}
    yield "config_hidden_act_unknown", "an activation that the family does not have", with_config(hidden_act="relu6"), {}
    yield "config_quantization_unknown", "a quantization method that nobody knows", with_config(quantization_config={"quant_method": "origami"}), {}
    yield "config_experts_per_token", "more experts a token than there are", with_config(v3, v3_tensors, num_experts_per_tok=13), {}
    yield "config_expert_groups", "experts are no multiple of groups", with_config(v3, v3_tensors, n_group=5), {}
    yield "config_expert_groups_chosen", "more groups chosen than there are", with_config(v3, v3_tensors, topk_group=4), {}
    yield "config_expert_groups_default", "fewer groups than are chosen by default", with_config(v3, v3_tensors, drop=("topk_group",)), {}
    yield "config_topk_method_unknown", "a routing rule that nobody knows", with_config(v3, v3_tensors, topk_method="by_weight_of_whale"), {}
    yield "config_kv_lora_rank_huge", "kv_lora_rank is 1e12", with_config(v3, v3_tensors, kv_lora_rank=10**12), {}
    yield "config_experts_huge", "n_routed_experts is 1e12", with_config(v3, v3_tensors, n_routed_experts=10**12), {}
    yield "config_rope_dim_odd", "qk_rope_head_dim is odd", with_config(v3, v3_tensors, qk_rope_head_dim=15), {}

    # model.gguf: what ends the work before, in and after its header; the importer's own tests have the rest.
    keys = gguf.keys_of(config)
    in_gguf, _ = gguf.convert(config, {n: reference.decode(raw, dtype, shape) for n, (dtype, shape, raw) in tensors.items()},
                              lambda name, shape: "F16" if shape[-1] % 32 else "Q8_0")
    sound_gguf = gguf.file_bytes(keys, in_gguf)

    def with_gguf(data):
        return lambda folder: (folder.mkdir(parents=True), (folder / "model.gguf").write_bytes(data))

    def with_block(name, raw):
        kind, shape, old = in_gguf[name]
        return with_gguf(gguf.file_bytes(keys, {**in_gguf, name: (kind, shape, raw + old[len(raw):])}))

    here = {"model": "model.gguf"}
    yield "gguf_empty", "model.gguf is empty", with_gguf(b""), here
    yield "gguf_is_folder", "model.gguf is a folder", lambda f: (f / "model.gguf").mkdir(parents=True), here
    yield "gguf_truncated", "model.gguf ends inside its tensors", with_gguf(sound_gguf[:-100]), here
    yield "gguf_truncated_header", "model.gguf ends inside its keys", with_gguf(sound_gguf[:300]), here
    yield "gguf_key_count", "model.gguf says it has 2^40 keys", with_gguf(sound_gguf[:16] + struct.pack("<Q", 1 << 40) + sound_gguf[24:]), here
    yield "gguf_scale_nan", "the scale of a block is NaN", with_block("blk.0.attn_v.weight", struct.pack("<H", 0x7E00)), here
    yield "gguf_scale_infinite", "the scale of a block is infinite", with_block("blk.0.attn_q.weight", struct.pack("<Hb", 0x7C00, 1)), here

    # model.safetensors
    yield "safetensors_missing", "no file of weights", with_data(None), {}
    yield "safetensors_empty", "model.safetensors is empty", with_data(b""), {}
    yield "safetensors_is_folder", "model.safetensors is a folder", lambda f: (model(f, data=None), (f / "model.safetensors").mkdir()), {}
    yield "safetensors_seven_bytes", "model.safetensors ends in its header length", with_data(sound[:7]), {}
    yield "safetensors_header_length", "the header length is far beyond the file", with_data(struct.pack("<Q", 1 << 40) + sound[8:]), {}
    yield "safetensors_header_length_max", "the header length overflows when added to", with_data(b"\xff" * 8 + sound[8:]), {}
    yield "safetensors_header_length_zero", "the header length is zero", with_data(bytes(8) + sound[8:]), {}
    yield "safetensors_header_not_json", "the header is not JSON", with_data(struct.pack("<Q", 8) + b'{"a": \xff}' + sound[8 + header_size:]), {}
    yield "safetensors_header_is_list", "the header is a list", with_data(struct.pack("<Q", 8) + b"[1,2,3] " + sound[8 + header_size:]), {}
    nest = b"[" * 200000
    yield "safetensors_header_nested", "the header nests 200000 arrays", with_data(struct.pack("<Q", len(nest)) + nest), {}
    yield "safetensors_truncated_header", "the file ends inside its header", with_data(sound[:200]), {}
    yield "safetensors_truncated", "the file ends inside the tensor data", with_data(sound[:len(sound) * 3 // 5]), {}
    yield "safetensors_truncated_last_byte", "the last byte is missing", with_data(sound[:-1]), {}

    def offsets(begin, end):
        return with_header(lambda h: h[first].update(data_offsets=[begin, end]))

    size = len(tensors[first][2])
    yield "safetensors_offsets_beyond", "data_offsets lie beyond the end of the file", offsets(1 << 30, (1 << 30) + size), {}
    yield "safetensors_offsets_beyond_64_bits", "data_offsets overflow 64 bits", offsets((1 << 64) - size, 1 << 64), {}
    yield "safetensors_offsets_backwards", "data_offsets run backwards", offsets(size, 0), {}
    yield "safetensors_offsets_negative", "data_offsets are negative", offsets(-size, 0), {}
    yield "safetensors_offsets_wrong", "data_offsets do not match the shape", offsets(0, size - 2), {}
    yield "safetensors_offsets_kind", "data_offsets are strings", offsets("0", str(size)), {}
    yield "safetensors_offsets_missing", "a tensor without data_offsets", with_header(lambda h: h[first].pop("data_offsets")), {}
    yield "safetensors_offsets_one", "data_offsets of one number", with_header(lambda h: h[first].update(data_offsets=[0])), {}
    yield "safetensors_overlap", "two tensors share bytes", with_header(lambda h: h[other].update(data_offsets=h[first]["data_offsets"])), {}
    yield "safetensors_overlap_partly", "two tensors share two bytes", with_header(
        lambda h: h[other].update(data_offsets=[h[other]["data_offsets"][0] - 2, h[other]["data_offsets"][1] - 2])), {}
    yield "safetensors_shape_overflow", "a shape overflows 64 bits when multiplied", with_header(lambda h: h[first].update(shape=[1 << 33, 1 << 33])), {}
    yield "safetensors_shape_wraps", "a shape wraps around 64 bits to the right size", with_header(lambda h: h[first].update(shape=[1 << 62, 4 * 40 * 32])), {}
    yield "safetensors_shape_negative", "a shape is negative", with_header(lambda h: h[first].update(shape=[-40, -32])), {}
    yield "safetensors_shape_kind", "a shape is a string", with_header(lambda h: h[first].update(shape="40x32")), {}
    yield "safetensors_unknown_dtype", "an element type that does not exist", with_header(lambda h: h[first].update(dtype="BF17")), {}
    yield "safetensors_integer_dtype", "a weight of integers", with_header(lambda h: h[first].update(dtype="I16")), {}
    yield "safetensors_dtype_kind", "an element type that is a number", with_header(lambda h: h[first].update(dtype=16)), {}
    yield "safetensors_tensor_kind", "a tensor's entry is a number", with_header(lambda h: h.update({first: 7})), {}

    # What the architecture needs.
    gone = "model.layers.0.self_attn.k_proj.weight"
    yield "tensor_missing", "a weight is missing", with_tensor(gone, None), {}
    yield "tensor_missing_norm", "a norm is missing", with_tensor("model.norm.weight", None), {}
    yield "tensor_missing_head", "no lm_head although embeddings are not tied", with_tensor(first, None), {}
    yield "tensor_missing_layer", "config.json has more layers than the checkpoint", with_config(num_hidden_layers=2), {}
    yield "tensor_missing_expert", "an expert is missing", with_config(v3, {k: v for k, v in v3_tensors.items() if ".experts.7." not in k}), {}
    yield "tensor_missing_bias", "qwen2 without biases", with_config(model_type="qwen2", architectures=["Qwen2ForCausalLM"]), {}
    yield "tensor_shape_mismatch", "a shape contradicts config.json", with_config(intermediate_size=64), {}
    yield "tensor_shape_transposed", "a weight is transposed", with_tensor(gone.replace("self_attn.k_proj", "mlp.up_proj"), ("BF16", (32, 48), bytes(2 * 32 * 48))), {}
    yield "tensor_shape_rank", "a weight has three dimensions", with_tensor(gone, ("BF16", (32, 32, 1), bytes(2 * 32 * 32))), {}
    yield "tensor_scale_missing", "e4m3 weights without their multipliers", with_config(
        {**config, "quantization_config": FP8}, {**tensors, gone: ("F8_E4M3", (32, 32), bytes(32 * 32))}), {}
    yield "tensor_scale_shape", "multipliers that do not cover the weight", with_config(
        {**config, "quantization_config": FP8}, {**tensors, gone: ("F8_E4M3", (32, 32), bytes(32 * 32)),
                                                 gone + "_scale_inv": ("F32", (2, 2), bytes(16))}), {}

    # model.safetensors.index.json
    def indexed(files, change):
        """A model folder inside the case's, so that there is a sound file outside it."""

        def write(folder):
            model(folder / "model", data=None)
            (folder / "outside.safetensors").write_bytes(sound)
            for file in files:
                (folder / "model" / file).write_bytes(sound)
            index = {"metadata": {}, "weight_map": {name: "model-1.safetensors" for name in sorted(tensors)}}
            index = change(index, folder) or index
            (folder / "model" / "model.safetensors.index.json").write_text(index if isinstance(index, str) else json.dumps(index))

        return write

    def pointing(target):
        return lambda index, folder: index["weight_map"].update({n: target(folder) for n in index["weight_map"]})

    inside = {"model": "model"}
    yield "index_missing_file", "the index names a file that is not there", indexed([], lambda i, f: None), inside
    yield "index_outside", "the index names a sound file outside the folder", indexed([], pointing(lambda f: "../outside.safetensors")), inside
    yield "index_outside_absolute", "the index names a sound file by an absolute path", indexed([], pointing(lambda f: str((f / "outside.safetensors").resolve()))), inside
    yield "index_not_json", "the index is not JSON", indexed(["model-1.safetensors"], lambda i, f: '{"weight_map": {'), inside
    yield "index_without_map", "the index has no weight_map", indexed(["model-1.safetensors"], lambda i, f: {"metadata": {}}), inside
    yield "index_file_kind", "the index names a number for a file", indexed(["model-1.safetensors"], pointing(lambda f: 1)), inside
    yield "index_file_empty", "the index names a file by an empty string", indexed(["model-1.safetensors"], pointing(lambda f: "")), inside

    def linked(folder):
        model(folder / "model", data=None)
        (folder / "outside.safetensors").write_bytes(sound)
        (folder / "model" / "model.safetensors").symlink_to("../outside.safetensors")

    # Adapters.
    base_values = {name: reference.decode(raw, dtype, shape) for name, (dtype, shape, raw) in tensors.items()}
    q_proj = "base_model.model.model.layers.0.self_attn.q_proj"

    def adapted(config_changes=None, text=None, drop=(), **changes):
        """An adapter of the model, with keys of its configuration, or tensors, that differ."""
        def write(folder):
            model(folder)
            adapter, own, _ = adapt.make_adapter(base_values, {"target_modules": ["q_proj", "embed_tokens"]}, np.random.default_rng(3), encode)
            own = {**without(own, *drop), **{k.replace("Q", q_proj): v for k, v in changes.items()}}
            adapter.update(config_changes or {})
            write_json(folder / "adapter" / "adapter_config.json", adapter)
            if text is not None:
                (folder / "adapter" / "adapter_config.json").write_text(text)
            (folder / "adapter" / "adapter_model.safetensors").write_bytes(safetensors(own))
        return write

    lora = {"flags": ["--lora=adapter"]}
    quiet = np.full((4, 32), np.nan, "<f4")
    yield "lora_missing", "the folder of the adapter is not there", model, lora
    yield "lora_config_cut", "adapter_config.json ends in the middle", adapted(text='{"r": 4'), lora
    yield "lora_rank_nan", "the rank is NaN", adapted(text='{"peft_type": "LORA", "r": NaN}'), lora
    yield "lora_rank_huge", "the rank is larger than anything", adapted({"r": 10**30}), lora
    yield "lora_rank_zero", "the rank is 0", adapted({"r": 0}), lora
    yield "lora_rank_differs", "the rank is not that of the tensors", adapted({"r": 8}), lora
    yield "lora_alpha_text", "alpha is a string", adapted({"lora_alpha": "6"}), lora
    yield "lora_parameters_of_before", "parameters of a PEFT that stores them another way", adapted(
        {"target_parameters": ["mlp.experts.down_proj"], "peft_version": "0.18.1"}), lora
    yield "lora_dora", "DoRA, which is not merged", adapted({"use_dora": True}), lora
    yield "lora_kasa", "KaSA, which is not merged", adapted({"kasa_config": {"beta": 1e-4}}), lora
    yield "lora_ia3", "another kind of adapter", adapted({"peft_type": "IA3"}), lora
    yield "lora_unknown_key", "a key that nobody knows", adapted({"use_magic": True}), lora
    yield "lora_pattern", "a pattern that is not plain", adapted({"rank_pattern": {"(?=q)q_proj": 4}}), lora
    yield "lora_pattern_conflict", "two patterns that say different things", adapted({"alpha_pattern": {"q_proj": 4, ".*proj": 5}}), lora
    yield "lora_not_target", "a tensor of a module that is no target", adapted({"target_modules": ["embed_tokens"]}), lora
    yield "lora_other_model", "a module that the model does not have", adapted(
        {"target_modules": ["q_proj", "embed_tokens", "w9"]}, **{q_proj.replace("q_proj", "w9") + ".lora_A.weight": ("F32", (4, 32), bytes(512)),
                                                                   q_proj.replace("q_proj", "w9") + ".lora_B.weight": ("F32", (32, 4), bytes(512))}), lora
    yield "lora_no_b", "A without B", adapted(drop=[q_proj + ".lora_B.weight"]), lora
    yield "lora_shape", "B for more outputs than there are", adapted(**{"Q.lora_B.weight": ("F32", (33, 4), bytes(33 * 16))}), lora
    yield "lora_integers", "A of integers", adapted(**{"Q.lora_A.weight": ("I32", (4, 32), bytes(512))}), lora
    yield "lora_nan", "A has a NaN", adapted(**{"Q.lora_A.weight": ("F32", (4, 32), quiet.tobytes())}), lora
    yield "lora_stranger", "a whole tensor that modules_to_save does not name", adapted(**{"base_model.model.model.norm.weight": ("F32", (32,), bytes(128))}), lora
    yield "lora_magnitude", "a tensor of DoRA", adapted(**{"Q.lora_magnitude_vector": ("F32", (32,), bytes(128))}), lora

    # Quantized checkpoints.
    def packed(options, changes=None, add=None):
        """A checkpoint quantized as `options` says, with keys of the configuration, or tensors, that differ."""
        def write(folder):
            parts, _ = adapt.pack_model(tensors, options, np.random.default_rng(4), encode, encode_e4m3)
            parts = {name: value for name, value in {**parts, **(add or {})}.items() if value is not None}
            write_model(folder, {**config, "quantization_config": {**options, **(changes or {})}}, parts)
        return write

    q = "model.layers.0.self_attn.q_proj"
    yield "gptq_bits", "GPTQ of 5 bits", packed(GPTQ, {"bits": 5}), {}
    yield "gptq_other_bits", "4-bit tensors that are said to have 8", packed(GPTQ, {"bits": 8}), {}
    yield "gptq_group_zero", "a group of no element", packed(GPTQ, {"group_size": 0}), {}
    yield "gptq_other_group", "groups of another size than the scales are for", packed(GPTQ, {"group_size": 16}), {}
    yield "gptq_marlin", "a layout for one kernel of one GPU", packed(GPTQ, {"checkpoint_format": "marlin"}), {}
    yield "gptq_dynamic_bits", "modules of 5 bits", packed(GPTQ, {"dynamic": {"+:.*q_proj": {"bits": 5}}}), {}
    yield "gptq_dynamic_key", "a key of some modules that nobody knows", packed(GPTQ, {"dynamic": {"+:.*q_proj": {"use_magic": True}}}), {}
    yield "gptq_dynamic_list", "patterns that are no object", packed(GPTQ, {"dynamic": [".*q_proj"]}), {}
    yield "gptq_dynamic_groups", "groups of two sizes, of which a row has as many", packed(
        {**GPTQ, "group_size": 24}, {"dynamic": {"+:.*q_proj": {"group_size": 20}}}), {}
    yield "gptq_dynamic_other", "4-bit tensors that are said to have 8 or 3", packed(GPTQ, {"bits": 8, "dynamic": {"+:.*q_proj": {"bits": 3}}}), {}
    yield "gptq_unknown_key", "a key that nobody knows", packed(GPTQ, {"use_magic": True}), {}
    yield "gptq_group_index", "a column in a group that is not there", packed(
        GPTQ, None, {q + ".g_idx": ("I32", (32,), np.full(32, 9, "<i4").tobytes())}), {}
    yield "gptq_negative_index", "a column in a group before the first", packed(
        GPTQ, None, {q + ".g_idx": ("I32", (32,), np.full(32, -1, "<i4").tobytes())}), {}
    yield "gptq_no_scales", "a matrix without scales", packed(GPTQ, None, {q + ".scales": None}), {}
    yield "gptq_scale_nan", "a scale that is NaN", packed(GPTQ, None, {q + ".scales": ("F16", (1, 32), np.full(32, np.nan, "<f2").tobytes())}), {}
    yield "gptq_both", "a matrix that is there twice", packed(GPTQ, None, {q + ".weight": ("BF16", (32, 32), bytes(2048))}), {}
    yield "awq_layout", "AWQ in a layout that is not supported", packed(AWQ, {"version": "gemv_fast"}), {}
    yield "awq_gemv", "AWQ in another layout than is said", packed(AWQ, {"version": "gemv"}), {}
    yield "awq_bits", "AWQ of 3 bits", packed(AWQ, {"bits": 3}), {}
    w4 = compressed("pack-quantized", group_size=32)
    yield "compressed_format", "a format that is not supported", packed(w4, {"format": "nvfp4-pack-quantized"}), {}
    yield "compressed_two_groups", "two groups of modules", packed(w4, {"config_groups": {**w4["config_groups"], "group_1": w4["config_groups"]["group_0"]}}), {}
    yield "compressed_kv", "a cache that is quantized, too", packed(w4, {"kv_cache_scheme": {"num_bits": 8}}), {}
    yield "compressed_shape", "a shape that is not that of the model", packed(
        w4, None, {q + ".weight_shape": ("I64", (2,), np.array([32, 31], "<i8").tobytes())}), {}
    yield "compressed_strategy", "a strategy that is not supported", packed(
        w4, {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "token"}}}}), {}

    yield "config_is_pipe", "config.json is a pipe that nobody writes", lambda f: (model(f), (f / "config.json").unlink(), os.mkfifo(f / "config.json")), {}
    yield "safetensors_is_pipe", "model.safetensors is a pipe that nobody writes", lambda f: (model(f, data=None), os.mkfifo(f / "model.safetensors")), {}
    yield "tokenizer_is_pipe", "tokenizer.json is a pipe that nobody writes", lambda f: (model(f), os.mkfifo(f / "tokenizer.json")), {}
    yield "tokenizer_outside", "tokenizer.json is a link to a file outside the folder", lambda f: (
        model(f / "model"), (f / "tokenizer.json").write_text("{}"), (f / "model" / "tokenizer.json").symlink_to("../tokenizer.json")), inside
    yield "link_outside", "model.safetensors is a link to a file outside the folder", linked, inside
    yield "path_missing", "a path that does not exist", None, {"model": "no-such-model"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write; what it had before is removed")
    parser.add_argument("--only", help="write one case, such as llama or bad/config_empty")
    args = parser.parse_args()

    # Made once for each version of these files.
    sources = [Path(__file__), Path(reference.__file__), Path(reference_v4.__file__), Path(tensors_v4.__file__),
               Path(gguf.__file__), Path(adapt.__file__), Path(onnx_graphs.__file__)]
    stamp = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()
    stamp_file = args.out / "stamp"
    if not args.only:
        if stamp_file.exists() and stamp_file.read_text() == stamp:
            print(f"{args.out} is up to date")
            return 0
        shutil.rmtree(args.out, ignore_errors=True)

    for name, (what, config, options) in CASES.items():
        if args.only in (None, name):
            make_case(args.out / name, name, what, config, options)
    count = 0
    for name, what, write, more in bad_cases():
        if args.only not in (None, f"bad/{name}"):
            continue
        folder = args.out / "bad" / name
        shutil.rmtree(folder, ignore_errors=True)
        if write:
            write(folder)
        write_json(folder / "case.json", {"name": name, "what": what, **more})
        count += 1
    print(f"{count} broken models")
    if not args.only:
        stamp_file.write_text(stamp)
    return 0


if __name__ == "__main__":
    sys.exit(main())
