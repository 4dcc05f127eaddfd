# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes tiny models as GGUF files, and as Hugging Face folders of the same.

    gguf_models.py write KIND NAME FOLDER     FOLDER/NAME.gguf, in KIND such as Q8_0
    gguf_models.py same HADAL_TRANSLATE FOLDER
    gguf_models.py errors HADAL_TRANSLATE FOLDER
    gguf_models.py missing HADAL_TRANSLATE FOLDER
    gguf_models.py written HADAL_TRANSLATE FOLDER
    gguf_models.py pieces HADAL_TRANSLATE FOLDER

`same` imports each model from both and compares all but the recipes; `errors`
imports files that are wrong in one way each, and checks that each is refused
with exit status 1 and one line that says what is wrong; `missing` takes each
key away; `written` has folders
and files written as GGUF files, and compares these with the ones made here; `pieces` imports a tokenizer of
SentencePiece.
"""

import gzip
import itertools
import json
import os
import struct
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "e2e"))
import numpy as np

import gguf
import make_cases
from model_texts import run, values_of, without_recipes

SMALL = dict(vocab_size=320, hidden_size=64, intermediate_size=160,
             num_hidden_layers=2)
LITE = dict(q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1,
            routed_scaling_factor=1.0, rope_scaling=make_cases.V2_YARN)
MODELS = {
    "llama": make_cases.llama(
        **SMALL, num_key_value_heads=2,
        rope_scaling={"type": "linear", "factor": 4.0}),
    "llama3": make_cases.llama(
        **SMALL, num_key_value_heads=2, rope_theta=500000.0,
        rope_scaling=dict(make_cases.LLAMA3,
                          original_max_position_embeddings=8192)),
    "llama3_short": make_cases.llama(
        vocab_size=320, hidden_size=256, num_hidden_layers=1,
        rope_scaling=make_cases.LLAMA3),
    "tied": make_cases.llama(**SMALL, tie_word_embeddings=True),
    "qwen2": make_cases.qwen2(**SMALL),
    "deepseek": {**make_cases.deepseek(), **SMALL, "moe_intermediate_size": 32},
    "v2_lite": {**make_cases.deepseek_v2(**LITE), **SMALL,
                "moe_intermediate_size": 32, "v_head_dim": 32,
                "qk_nope_head_dim": 32},
    "v2": {**make_cases.deepseek_v2(), **SMALL, "moe_intermediate_size": 32},
    "v3": {**make_cases.deepseek_v3(), **SMALL, "moe_intermediate_size": 32,
           "num_nextn_predict_layers": 0},
    "v3_raw": {**make_cases.deepseek_v3(), **SMALL, "moe_intermediate_size": 32,
               "num_nextn_predict_layers": 0, "norm_topk_prob": False,
               "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1},
    "v3_split": {**make_cases.deepseek_v3(), **SMALL,
                 "moe_intermediate_size": 32, "num_nextn_predict_layers": 0,
                 "v_head_dim": 32, "qk_nope_head_dim": 32},
    "v32": {**make_cases.deepseek_v32(), **SMALL, "moe_intermediate_size": 32,
            "num_nextn_predict_layers": 0, "v_head_dim": 32,
            "qk_nope_head_dim": 32, "q_lora_rank": 64},
    "v4": {**make_cases.deepseek_v4(), "q_lora_rank": 64, "o_lora_rank": 32,
           "num_nextn_predict_layers": 0, "compress_ratios": [0, 4, 128, 4]},
}
MODELS["v2_lite_whole"] = MODELS["v2_lite"]


def is_split(name):
    return name in ("v2_lite", "v3_split", "v32")


def make(name, kind):
    """The keys and tensors of a model, with matrices of a type."""
    config = MODELS[name]
    keys = {**gguf.keys_of(config, is_split(name)),
            **gguf.tokenizer_keys(config["vocab_size"])}
    tensors, _ = gguf.convert(config, values_of(config)[1],
                              lambda name, shape: kind, is_split(name))
    return keys, tensors


def check_same(tool, folder):
    failures = 0
    for name, config in MODELS.items():
        # The file and the folder have the name of the model.
        path = folder / name
        path.mkdir(parents=True, exist_ok=True)
        make_cases.write_model(path, dict(config, torch_dtype="float32"),
                               values_of(config)[0])
        (folder / f"{name}.gguf").write_bytes(
            gguf.file_bytes(*make(name, "F32")))
        texts = []
        for flag, model in (("--import-hf", path),
                            ("--import-gguf", f"{path}.gguf")):
            result = run(tool, flag, model)
            if result.returncode:
                print(f"{name}: {result.stderr}")
                failures += 1
            texts.append(without_recipes(result.stdout).splitlines())
        different = [(a, b) for a, b in zip(*texts) if a != b]
        if len(texts[0]) != len(texts[1]) or different:
            print(f"{name}: {len(texts[0])} and {len(texts[1])} lines, of "
                  f"which {len(different)} differ, first {different[:1]}")
            failures += 1
    return failures


class Checker:
    def __init__(self, tool, folder):
        self.tool, self.folder, self.failures = tool, folder, 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name, data):
        path = self.folder / name
        if data is not None:
            path.write_bytes(data)
        return path

    def expect(self, condition, what):
        if not condition:
            self.failures += 1
            print(what)

    def refuses(self, message, data, name="model.gguf", *flags):
        path = self.write(name, data)
        result = run(self.tool, "--import-gguf", path, *flags)
        lines = result.stderr.splitlines()
        if message is None:
            if result.returncode:
                self.fail("success", result)
        elif result.returncode != 1 or len(lines) != 1 \
                or message not in lines[0] or str(self.folder) not in lines[0]:
            self.fail(f"one line with: {message}", result)

    def fail(self, expected, result):
        self.failures += 1
        print(f"expected {expected}\ngot exit status {result.returncode} and: "
              f"{result.stderr[:400]}")


def check_errors(tool, folder):
    checker = Checker(tool, folder)
    keys, tensors = make("llama", "Q8_0")
    sound = gguf.file_bytes(keys, tensors)
    q = "blk.0.attn_q.weight"

    def with_keys(message, base="llama", kind="F32", drop=(), **changes):
        """Dots in names of keys are double underscores here."""
        keys, tensors = make(base, kind)
        arch = keys["general.architecture"] + "."
        for key, value in changes.items():
            key = key.replace("__", ".")
            keys[key if "." in key and key.split(".")[0] in (
                "general", "tokenizer", "split") else arch + key] = value
        for key in drop:
            keys.pop(arch + key if arch + key in keys else key)
        checker.refuses(message, gguf.file_bytes(keys, tensors))

    def with_tensors(message, changes, base="llama", kind="Q8_0"):
        keys, tensors = make(base, kind)
        tensors.update(changes)
        checker.refuses(message, gguf.file_bytes(
            keys, {n: t for n, t in tensors.items() if t is not None}))

    # The container.
    checker.refuses(None, sound)
    checker.refuses(None, gguf.file_bytes(keys, tensors, version=2))
    checker.refuses(None, gguf.file_bytes(
        {**keys, "general.alignment": 64}, tensors, alignment=64))
    checker.refuses("empty, expected a GGUF file", b"")
    for size in (1, 3):
        checker.refuses("but the file ends at byte", sound[:size])
    checker.refuses("starts with the bytes 47474D46, expected 47475546",
                    b"GGMF" + sound[4:])
    for size in range(4, 400, 7):
        checker.refuses("", sound[:size])
    checker.refuses("is a GGUF file of version 1, expected 2 or 3",
                    sound[:4] + struct.pack("<I", 1) + sound[8:])
    checker.refuses("is a GGUF file of version 4, expected 2 or 3",
                    sound[:4] + struct.pack("<I", 4) + sound[8:])
    checker.refuses("is a big-endian GGUF file",
                    sound[:4] + struct.pack(">I", 3) + sound[8:])
    for count in (2**40, 2**63, 2**64 - 1):
        checker.refuses(f"says it has {count} tensors, expected at most",
                        sound[:8] + struct.pack("<Q", count) + sound[16:])
        checker.refuses(f"says it has {count} keys, expected at most",
                        sound[:16] + struct.pack("<Q", count) + sound[24:])
        checker.refuses(f"the name of key 0 has {count} bytes at byte 32",
                        sound[:24] + struct.pack("<Q", count) + sound[32:])
        checker.refuses(
            "key 'general.architecture' has an array of "
            f"{count} elements at byte", gguf.file_bytes({}, {})[:16] +
            struct.pack("<Q", 1) + gguf.encode_string("general.architecture") +
            struct.pack("<IIQ", gguf.ARRAY, gguf.U8, count) + bytes(64))
    checker.refuses("says it has 2 keys, expected at most 1",
                    sound[:8] + struct.pack("<QQ", 0, 2) + sound[24:48])

    def one_key(message, raw):
        checker.refuses(message, struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) +
                        raw + bytes(64))

    name = gguf.encode_string("a.b")
    one_key("key 'a.b' has a value of type 13 at byte 35, expected 0 to 12",
            name + struct.pack("<I", 13))
    one_key("key 'a.b' has an array of arrays",
            name + struct.pack("<IIQ", gguf.ARRAY, gguf.ARRAY, 1))
    one_key("key 'a.b' is 2 at byte 39, expected a boolean, 0 or 1",
            name + struct.pack("<IB", gguf.BOOL, 2))
    one_key("the string of key 'a.b' has 1099511627776 bytes at byte",
            name + struct.pack("<IQ", gguf.STRING, 2**40))
    one_key("the name of key 0 at byte 24 is not UTF-8",
            gguf.encode_string(b"\xff\xfe") + struct.pack("<IB", gguf.U8, 1))
    checker.refuses("key 'general.type' appears twice", struct.pack(
        "<4sIQQ", b"GGUF", 3, 0, 2) + gguf.encode_key("general.type", "a") * 2)
    checker.refuses("'general.alignment' is 0, expected a power of two",
                    gguf.file_bytes({**keys, "general.alignment": 0}, tensors))
    checker.refuses("'general.alignment' is 48, expected a power of two",
                    gguf.file_bytes({**keys, "general.alignment": 48}, tensors))
    checker.refuses("'general.alignment' is 'x', expected a power of two",
                    gguf.file_bytes({**keys, "general.alignment": "x"}, tensors))
    checker.refuses("has offset 32, expected a multiple of the alignment, 4096",
                    gguf.file_bytes({"general.alignment": 4096},
                                    {"a": ("F32", (1,), bytes(4)),
                                     "b": ("F32", (1,), bytes(4))}) +
                    bytes(8192))

    # Entries of tensors.
    checker.refuses("but the file ends at byte", sound[:-1])
    for shape, message in (((2**33, 2**33), "whose size overflows 64 bits"),
                           ((2**64 - 1, 32), "whose size overflows 64 bits"),
                           ((0, 32), "expected rows of a multiple of"),
                           ((64, 48), "expected rows of a multiple of 32"),
                           ((1,) * 5, "has 5 dimensions, expected 1 to 4"),
                           ((), "has 0 dimensions, expected 1 to 4"),
                           ((32, 64), "has shape [32, 64], but the file's keys "
                                      "make it [64, 64]")):
        with_tensors(message, {q: ("Q8_0", shape, tensors[q][2])})
    for kind in (4, 31, 97, 2**32 - 1):
        with_tensors(f"tensor '{q}' has the unknown type {kind}, expected one",
                     {q: (kind, (64, 64), bytes(8192))})
    with_tensors(f"tensor '{q}' is I8, which is not supported, expected F32",
                 {q: (24, (64, 64), bytes(4096))})
    with_tensors(f"has no tensor '{q}', expected one of shape [64, 64]",
                 {q: None})
    with_tensors("tensor 'blk.0.attn_q.scale' of shape [64] is not part of a "
                 "llama model with 2 layers",
                 {"blk.0.attn_q.scale": ("F32", (64,), bytes(256))})
    with_tensors("tensor 'blk.2.attn_norm.weight' of shape [64] is not part",
                 {"blk.2.attn_norm.weight": ("F32", (64,), bytes(256))})
    twice = gguf.encode_string("a") + struct.pack("<IQIQ", 1, 1, 0, 0)
    header = struct.pack("<4sIQQ", b"GGUF", 3, 2, 0)
    checker.refuses("tensor 'a' appears twice", header + twice * 2 + bytes(128))
    other = gguf.encode_string("b") + struct.pack("<IQIQ", 1, 1, 0, 0)
    checker.refuses("tensors 'a' and 'b' share byte",
                    header + twice + other + bytes(128))
    long = gguf.encode_string("b") + struct.pack("<IQIQ", 1, 16, 0, 32)
    longer = gguf.encode_string("a") + struct.pack("<IQIQ", 1, 16, 0, 0)
    checker.refuses("tensors 'a' and 'b' share byte",
                    header + longer + long + bytes(256))
    checker.refuses("has 64 bytes at offset 1099511627776 of the data",
                    header + longer + gguf.encode_string("b") +
                    struct.pack("<IQIQ", 1, 16, 0, 2**40) + bytes(256))
    checker.refuses("of the data, which starts at", header + longer +
                    gguf.encode_string("b") +
                    struct.pack("<IQIQ", 1, 16, 0, 2**64 - 32) + bytes(256))

    # Keys.
    with_keys("has no key 'general.architecture'",
              drop=["general.architecture"])
    with_keys("general.architecture 'whale' is not known, expected one of",
              general__architecture="whale")
    with_keys("general.architecture 'deepseek2-ocr' is not supported yet",
              general__architecture="deepseek2-ocr")
    with_keys("'general.architecture' is 3, expected a string",
              general__architecture=3)
    with_keys("'general.type' is 'adapter', expected 'model'",
              general__type="adapter")
    for key in ("block_count", "embedding_length", "feed_forward_length",
                "attention.head_count", "context_length",
                "attention.layer_norm_rms_epsilon"):
        with_keys(f"has no key 'llama.{key}'", drop=[key])
    with_keys("'llama.block_count' is 4000000000, expected an integer from 1",
              block_count=4000000000)
    with_keys("'llama.block_count' is 18446744073709551615, expected",
              block_count=(gguf.U64, 2**64 - 1))
    with_keys("'llama.block_count' is -1, expected", block_count=(gguf.I32, -1))
    with_keys("'llama.block_count' is 2.5, expected", block_count=2.5)
    with_keys("'llama.block_count' is 'two', expected", block_count="two")
    with_keys("'llama.attention.head_count_kv' is an array of 2 values, not "
              "all the same, expected", attention__head_count_kv=[1, 2])
    with_keys(None, attention__head_count_kv=[2, 2])
    with_keys("has no key 'llama.attention.head_count_kv', but heads of keys "
              "are fewer", drop=["attention.head_count_kv"])
    with_keys("has no key 'tokenizer.ggml.bos_token_id', but 'tokenizer.ggml."
              "add_bos_token' is true", drop=["tokenizer.ggml.bos_token_id"])
    with_keys(None, drop=["tokenizer.ggml.bos_token_id",
                          "tokenizer.ggml.add_bos_token"])
    keys_of_qwen2, biased = make("qwen2", "F32")
    checker.refuses("has no tensor 'blk.0.attn_q.bias'", gguf.file_bytes(
        keys_of_qwen2, {name: tensor for name, tensor in biased.items()
                        if not name.endswith(".bias")}))
    with_keys("'llama.attention.head_count' is 3, expected a multiple of "
              "'llama.attention.head_count_kv', 2", attention__head_count=3)
    with_keys("'llama.rope.dimension_count' is 8, expected 16, the width of a",
              rope__dimension_count=8)
    with_keys("'llama.rope.freq_base' is nan, expected a number from 1",
              rope__freq_base=float("nan"))
    with_keys("'llama.expert_count' is 8, expected 0", expert_count=8)
    with_keys("unknown key 'llama.attention.sliding_window' with value 512",
              attention__sliding_window=512)
    with_keys("'llama.rope.scaling.type' is 'longrope', which is not supported",
              rope__scaling__type="longrope")
    with_keys("has no key 'llama.rope.scaling.factor'",
              drop=["rope.scaling.factor"])
    with_keys("has no key 'llama.rope.scaling.type', but 'llama.rope.scaling."
              "factor', 4", drop=["rope.scaling.type"])
    with_keys("'llama.rope.scaling.attn_factor' is 2, expected 1",
              rope__scaling__attn_factor=2.0)
    with_keys("'tokenizer.ggml.bos_token_id' is 320, expected an integer from "
              "0 to 319", tokenizer__ggml__bos_token_id=320)
    with_keys("'tokenizer.ggml.tokens' has 321 elements, expected at most one",
              tokenizer__ggml__tokens=["a"] * 321)
    with_keys("'tokenizer.ggml.tokens' has element 1 that is not UTF-8",
              tokenizer__ggml__tokens=["a", b"\xff"])
    with_keys("'tokenizer.ggml.tokens' is 3, expected an array of strings",
              tokenizer__ggml__tokens=3)
    with_keys("'tokenizer.ggml.merges' has element 0, 'ab', expected two",
              tokenizer__ggml__merges=["ab"])
    with_keys("'tokenizer.ggml.token_type' is an array of 2, expected an array "
              "of 320 integers", tokenizer__ggml__token_type=[1, 1])
    with_keys(None, tokenizer__ggml__model="bert")
    for key in ("ggml.model", "ggml.pre", "chat_template"):
        with_keys(f"'tokenizer.{key}' is 7, expected a string",
                  **{f"tokenizer__{key.replace('.', '__')}": 7})
    for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        with_keys(f"'tokenizer.ggml.{key}' is 1, expected a boolean",
                  **{f"tokenizer__ggml__{key}": 1})
    pieces = {"tokenizer__ggml__model": "llama",
              "tokenizer__ggml__tokens": ["<unk>", "<s>", "</s>", "a"],
              "tokenizer__ggml__token_type": np.array([2, 3, 3, 1], np.int32)}
    scores = np.zeros(4, np.float32)
    with_keys(None, tokenizer__ggml__scores=scores, **pieces)
    with_keys("'tokenizer.ggml.scores' is missing, expected an array of 4",
              **pieces)
    with_keys("'tokenizer.ggml.scores' is an array of 3, expected an array of "
              "4 numbers", tokenizer__ggml__scores=scores[:3], **pieces)
    with_keys("'tokenizer.ggml.scores' has element 2 that is not finite",
              tokenizer__ggml__scores=np.array([0, 0, np.nan, 0], np.float32),
              **pieces)
    with_keys("'tokenizer.ggml.tokens' has element 3 of 257 bytes, expected at "
              "most 256", tokenizer__ggml__scores=scores,
              **{**pieces, "tokenizer__ggml__tokens": ["a", "b", "c",
                                                       "d" * 257]})
    with_keys(None, tokenizer__ggml__pre="sea-shanty")
    with_keys(None, tokenizer__ggml__pre="joyai-llm")

    # Latent attention and experts.
    for key in ("attention.kv_lora_rank", "attention.key_length",
                "attention.value_length", "rope.dimension_count",
                "rope.scaling.factor", "rope.scaling.original_context_length",
                "leading_dense_block_count", "feed_forward_length",
                "expert_count", "expert_used_count", "expert_shared_count",
                "expert_feed_forward_length"):
        with_keys(f"has no key 'deepseek2.{key}'", "v3", drop=[key])
    with_keys("has no key 'deepseek2.attention.q_lora_rank', but there is a "
              "tensor attn_q_a", "v3", drop=["attention.q_lora_rank"])
    for key in ("attention.key_length_mla", "attention.value_length_mla"):
        with_keys(f"deepseek2.{key}'", "v3_split", drop=[key])
    with_keys("'deepseek2.attention.head_count_kv' is 2, expected 4", "v3",
              attention__head_count_kv=2)
    with_keys("'deepseek2.attention.head_count_kv' is 4, expected 1, beside",
              "v3_split", attention__head_count_kv=4)
    with_keys("'deepseek2.attention.key_length' is 47, expected kv_lora_rank + "
              "rope.dimension_count, 32 + 16", "v3_split",
              attention__key_length=47)
    for key in ("expert_group_count", "expert_group_used_count",
                "rope.scaling.yarn_log_multiplier"):
        with_keys(f"has no key 'deepseek2.{key}', and the sizes are of no "
                  "published model", "v3", drop=[key])
    with_keys("has no key 'deepseek2.expert_weights_scale'", "v3",
              drop=["expert_weights_scale"])
    with_keys("'deepseek2.expert_gating_func' is 1, expected 2, as there is a "
              "tensor exp_probs_b", "v3", expert_gating_func=1)
    with_keys("'deepseek2.expert_gating_func' is 2, expected 1, as there is no "
              "tensor exp_probs_b", "v2", expert_gating_func=2)
    with_keys(None, "v3", drop=["expert_gating_func"])
    with_keys("has no key 'deepseek2.expert_weights_norm'", "v3",
              drop=["expert_weights_norm"])
    with_keys(None, "v2", drop=["expert_gating_func", "expert_weights_norm"])
    with_keys("'deepseek2.expert_weights_norm' is true, expected false", "v2",
              expert_weights_norm=True)
    with_keys("'deepseek2.expert_count' is 12, expected a multiple of "
              "'deepseek2.expert_group_count', 5", "v2", expert_group_count=5)
    with_keys("'deepseek.expert_weights_scale' is 2, expected 1", "deepseek",
              expert_weights_scale=2.0)
    with_keys("'deepseek2.leading_dense_block_count' is 'no', expected", "v2",
              leading_dense_block_count="no")
    with_tensors("has no tensor 'blk.0.attn_v_b.weight'",
                 {"blk.0.attn_v_b.weight": None}, "v3_split", "F32")
    with_tensors("has no tensor 'blk.0.attn_kv_b.weight'",
                 {"blk.0.attn_kv_b.weight": None}, "v3", "F32")

    # An indexer, and layers for multi-token prediction after the last.
    for key in ("head_count", "key_length", "top_k"):
        with_keys(f"has no key 'deepseek32.attention.indexer.{key}'", "v32",
                  drop=[f"attention.indexer.{key}"])
    with_keys("'deepseek32.attention.indexer.key_length' is 8, expected at "
              "least 'rope.dimension_count', 16", "v32",
              attention__indexer__key_length=8)
    with_keys("'deepseek32.expert_gating_func' is 1, expected 2, as all models "
              "of this architecture have it", "v32", expert_gating_func=1)
    with_tensors("has no tensor 'blk.0.indexer.k_norm.bias'",
                 {"blk.0.indexer.k_norm.bias": None}, "v32", "F32")
    base, own = make("v32", "F32")
    more = {name.replace("blk.1.", "blk.2."): tensor
            for name, tensor in own.items() if name.startswith("blk.1.")}
    more["blk.2.nextn.eh_proj.weight"] = ("F32", (64, 128), bytes(4 * 8192))
    extra = {"deepseek32.block_count": 3, "deepseek32.nextn_predict_layers": 1}
    one = run(tool, "--import-gguf", checker.write(
        "model.gguf", gguf.file_bytes(base, own))).stdout
    for added in ({}, more):
        two = run(tool, "--import-gguf", checker.write("model.gguf",
            gguf.file_bytes({**base, **extra}, {**own, **added}))).stdout
        checker.expect(one and without_recipes(one) == without_recipes(two),
                       "layers for multi-token prediction change the model")

    # Compressed attention.
    for key in ("attention.key_length", "attention.q_lora_rank",
                "attention.output_lora_rank", "attention.output_group_count",
                "attention.sliding_window", "attention.compress_ratios",
                "attention.compress_rope_freq_base", "rope.dimension_count",
                "attention.indexer.head_count", "attention.indexer.key_length",
                "attention.indexer.top_k", "hyper_connection.count",
                "hyper_connection.sinkhorn_iterations",
                "hyper_connection.epsilon", "hash_layer_count",
                "swiglu_clamp_exp", "expert_weights_scale",
                "expert_weights_norm", "expert_feed_forward_length"):
        with_keys(f"has no key 'deepseek4.{key}'", "v4", drop=[key])
    with_keys(None, "v4", drop=["expert_gating_func", "swiglu_clamp_shexp",
                                "embedding_length_out"])
    with_keys("'deepseek4.expert_gating_func' is 2, expected 4", "v4",
              expert_gating_func=2)
    with_keys("'deepseek4.attention.compress_ratios' is an array of 3, expected "
              "an array of at least 'deepseek4.block_count', 4", "v4",
              attention__compress_ratios=[0, 4, 128])
    with_keys("'deepseek4.attention.compress_ratios' has an element 1 that is "
              "not supported, expected only 0, 4 and 128", "v4",
              attention__compress_ratios=[0, 8, 128, 4])
    with_keys("'deepseek4.swiglu_clamp_exp' is an array of 2 values, not all "
              "the same", "v4", swiglu_clamp_exp=[1.0, 2.0])
    with_keys("'deepseek4.swiglu_clamp_shexp' is 2, expected 1.5 as", "v4",
              swiglu_clamp_shexp=2.0)
    with_keys("'deepseek4.attention.head_count' is 4, expected a multiple of "
              "'deepseek4.attention.output_group_count', 3", "v4",
              attention__output_group_count=3)
    with_keys("'deepseek4.embedding_length_out' is 64, expected 256", "v4",
              embedding_length_out=64)
    with_keys("'deepseek4.leading_dense_block_count' is 1, expected 0", "v4",
              leading_dense_block_count=1)
    images = {f"blk.{i}.exp_probs_b_vl.bias": ("F32", (8,), bytes(32))
              for i in range(4)}
    with_tensors(None, images, "v4", "F32")
    with_tensors("tensor 'blk.0.ffn_gate_tid2eid.weight' is F32, expected I64 "
                 "or I32", {"blk.0.ffn_gate_tid2eid.weight": (
                     "F32", (320, 2), bytes(4 * 640))}, "v4", "F32")

    # Keys that are given by hand.
    def with_given(message, dropped, *given, base="v3"):
        keys, tensors = make(base, "F32")
        arch = keys["general.architecture"] + "."
        for key in dropped:
            keys.pop(arch + key if arch + key in keys else key)
        checker.refuses(message, gguf.file_bytes(keys, tensors), "model.gguf",
                        *(f"--gguf-key={one}" for one in given))

    with_given("has no key 'deepseek2.expert_group_count', and the sizes are "
               "of no published model that would tell it; "
               "--gguf-key=deepseek2.expert_group_count=VALUE supplies it",
               ["expert_group_count"])
    with_given(None, ["expert_group_count", "expert_weights_norm",
                      "expert_weights_scale"],
               "deepseek2.expert_group_count=3,"
               "deepseek2.expert_weights_norm=true",
               "deepseek2.expert_weights_scale=2.5")
    with_given("'deepseek2.expert_group_count' is 'three', expected",
               ["expert_group_count"], "deepseek2.expert_group_count=three")
    with_given("has key 'deepseek2.expert_count', as 12, it cannot be given as "
               "'8'", [], "deepseek2.expert_count=8")
    with_given("key 'deepseek2.expert_cuont', which was given, is read by "
               "nothing", [], "deepseek2.expert_cuont=8")
    with_given("key 'general.name2', which was given, is read by nothing", [],
               "general.name2=x")
    with_given(None, ["tokenizer.ggml.pre"],
               "tokenizer.ggml.pre=deepseek-v3")

    # A table of factors that no rule of Llama 3 makes.
    for factors in ([1, 2, 1, 2, 1, 2, 1, 2], [float("nan")] * 8, [-1] * 8):
        raw = np.array(factors, np.float32).tobytes()
        with_tensors("tensor 'rope_freqs.weight' has factors from",
                     {"rope_freqs.weight": ("F32", (8,), raw)}, "tied")
    with_tensors("tensor 'rope_freqs.weight' is F32 of shape [4], expected F32 "
                 "of [8]", {"rope_freqs.weight": ("F32", (4,), bytes(16))},
                 "tied")
    ones = np.ones(8, np.float32).tobytes()
    with_tensors(None, {"rope_freqs.weight": ("F32", (8,), ones)}, "tied")

    # Files.
    (folder / "model.gguf").unlink()
    os.mkfifo(folder / "model.gguf")
    checker.refuses("is not a regular file", None)
    (folder / "model.gguf").unlink()
    outside = Path(str(folder) + ".outside.gguf")
    outside.write_bytes(sound)
    (folder / "model.gguf").symlink_to(outside)
    checker.refuses("is a symbolic link that leaves the model's folder", None)
    (folder / "model.gguf").unlink()

    first, second = (f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    gguf.write_split(folder, "m", keys, tensors, 2)
    checker.refuses(None, None, first)
    checker.refuses("'split.no' is 1, expected 0: the first of 2 files, "
                    "*-00001-of-00002.gguf", None, second)
    (folder / "other.gguf").write_bytes((folder / first).read_bytes())
    checker.refuses("is the first of 2 files, expected a name like "
                    "*-00001-of-00002.gguf", None, "other.gguf")
    (folder / second).write_bytes((folder / first).read_bytes())
    checker.refuses("is also in", None, first)
    for own, message in (
            ({"split.no": (gguf.U16, 3), "split.count": (gguf.U16, 2)},
             "'split.no' is 3, expected 1"),
            ({"split.no": (gguf.U16, 1)}, "'split.count' is missing, expected"),
            ({"split.no": (gguf.U16, 1), "split.count": (gguf.U16, 2)},
             "'split.tensors.count' is 21, but the 2 files have 11")):
        (folder / second).write_bytes(gguf.file_bytes(own, {}))
        checker.refuses(message, None, first)
    (folder / second).unlink()
    checker.refuses("No such file", None, first)
    checker.refuses("'split.count' is 60000, expected an integer from 0 to 1024",
                    gguf.file_bytes({**keys, "split.count": (gguf.U16, 60000)},
                                    tensors))

    # Without weights only the header has to be there.
    cut = sound[:len(sound) // 2]
    checker.refuses("but the file ends at byte", cut)
    checker.refuses(None, cut, "model.gguf", "--weights=none")
    return checker.failures


def check_missing(tool, folder):
    """Each key of each architecture in turn: without it the module is the same,
    or one line says how to give it, or a note says what was taken."""
    checker = Checker(tool, folder)
    for name in ("llama", "deepseek", "v3_split", "v32", "v4"):
        keys, tensors = make(name, "F32")
        whole = without_recipes(run(tool, "--import-gguf", checker.write(
            "model.gguf", gguf.file_bytes(keys, tensors))).stdout)
        checker.expect(whole, f"{name}: no module")
        for key in keys:
            if not key.startswith(keys["general.architecture"] + "."):
                continue
            without = {other: keys[other] for other in keys if other != key}
            path = checker.write("model.gguf",
                                 gguf.file_bytes(without, tensors))
            result = run(tool, "--import-gguf", path, "--verbose")
            if result.returncode == 1:
                checker.expect(
                    f"has no key '{key}'" in result.stderr and
                    f"; --gguf-key={key}=VALUE supplies it" in result.stderr,
                    f"{name} without {key}: {result.stderr}")
                value = keys[key]
                if isinstance(value, list):
                    continue
                text = str(value).lower() if isinstance(value, bool) else value
                result = run(tool, "--import-gguf", path,
                             f"--gguf-key={key}={text}")
                checker.expect(without_recipes(result.stdout) == whole,
                               f"{name} with {key} given: {result.stderr}")
            elif without_recipes(result.stdout) != whole:
                checker.expect(f"'{key}' is missing: took" in result.stderr,
                               f"{name} without {key} is another model")
    return checker.failures


def write_folder(path, name, dtype):
    """A model's folder; returns what is in it, and the same in float64."""
    config = dict(MODELS[name], torch_dtype={"F32": "float32",
                                             "BF16": "bfloat16"}[dtype])
    tensors, values = values_of(config, dtype)
    path.mkdir(parents=True, exist_ok=True)
    make_cases.write_model(path, config, tensors)
    return config, tensors, values


def different_tensors(found, expected):
    """Names of those whose type, shape or bytes are not as expected.

    A table of factors is computed in f32, each time in another order."""
    def is_same(name):
        if name == "rope_freqs.weight" and name in found and name in expected:
            return np.allclose(*(np.frombuffer(t[name][2], "<f4")
                                 for t in (found, expected)), rtol=1e-6)
        return found.get(name) == expected.get(name)
    return sorted(n for n in {*found, *expected} if not is_same(n))


def check_written(tool, folder):
    """Vectors are F32 in a file, and matrices what the checkpoint has."""
    checker = Checker(tool, folder / "written")

    def export(source, target, *flags):
        target.unlink(missing_ok=True)
        return run(tool, "--to-gguf", source, "-o", target, *flags)

    expect = checker.expect
    for name in MODELS:
        for dtype in ("F32", "BF16"):
            path = checker.folder / name
            config, _, values = write_folder(path, name, dtype)
            is_latent = "kv_lora_rank" in config
            text = {**gguf.keys_of(config, is_latent),
                    **gguf.tokenizer_keys(config["vocab_size"])}
            # The tokenizer's files, as the importer makes them.
            made = checker.folder / "made.gguf"
            made.write_bytes(gguf.file_bytes(text, gguf.convert(
                config, values, lambda *_: "F32", is_latent)[0]))
            result = run(tool, "--import-gguf", made, "--text-files", path)
            expect(not result.returncode, f"{name}: {result.stderr}")
            target = path.with_suffix(".gguf")
            result = export(path, target)
            if result.returncode:
                expect(False, f"{name} in {dtype}: {result.stderr}")
                continue
            keys, tensors = gguf.read_file(target.read_bytes())
            # What decides which tokens V3.2 sees is kept in F32.
            expected, _ = gguf.convert(
                config, values, lambda tensor, _: "F32" if name == "v32" and
                "indexer.proj" in tensor else dtype, is_latent)
            names = different_tensors(tensors, expected)
            expect(not names, f"{name} in {dtype}: tensors {names} differ")
            # Numbers are f32 in a file; the width of a head may be said.
            wrong = {key: (keys.get(key), value) for key, value in text.items()
                     if key != "general.name" and not gguf.is_same(
                         keys.get(key), value)}
            expect(not wrong, f"{name} in {dtype}: keys differ: {wrong}")
            texts = [without_recipes(run(tool, flag, model).stdout)
                     for flag, model in (("--import-hf", path),
                                         ("--import-gguf", target))]
            expect(texts[0] and texts[0] == texts[1],
                   f"{name} in {dtype}: read again, it is another module")
            # The module as text is the model, too.
            module = path / "model.mlir"
            run(tool, "--import-hf", path, "-o", module)
            again = checker.folder / "again.gguf"
            result = export(module, again)
            expect(not result.returncode and
                   different_tensors(gguf.read_file(again.read_bytes())[1],
                                     expected) == [],
                   f"{name} in {dtype}: the .mlir differs: {result.stderr}")

    # Blocks stay what they are, those of kv_b in halves or whole, too.
    for name in ("llama", "tied", "qwen2", "deepseek", "v2_lite", "v32", "v4"):
        for kind, split in itertools.product(("Q4_0", "Q8_0"), (True, False)):
            config = MODELS[name]
            if split and name not in ("v2_lite", "v32"):
                continue
            keys = {**gguf.keys_of(config, split),
                    **gguf.tokenizer_keys(config["vocab_size"])}
            tensors, _ = gguf.convert(config, values_of(config)[1],
                                      lambda *_: kind, split)
            source = checker.folder / "blocks.gguf"
            source.write_bytes(gguf.file_bytes(keys, tensors))
            target = checker.folder / "again.gguf"
            result = export(source, target)
            if result.returncode:
                expect(False, f"{name} in {kind}: {result.stderr}")
                continue
            written, found = gguf.read_file(target.read_bytes())
            expect(written["general.quantization_version"] == 2,
                   f"{name} in {kind}: does not say which blocks it has")
            names = different_tensors(found, tensors)
            expect(not names, f"{name} in {kind}: tensors {names} differ")

    # What the format has no place for.
    def refuses(message, config):
        path = checker.folder / "refused"
        path.mkdir(exist_ok=True)
        make_cases.write_model(path, config, make_cases.random_tensors(
            config, "F32", np.random.default_rng(1)))
        target = checker.folder / "refused.gguf"
        result = export(path, target)
        lines = result.stderr.splitlines()
        expect(result.returncode == 1 and len(lines) == 1 and
               message in lines[0], f"expected {message}, got {result.stderr}")
        expect(not list(checker.folder.glob("refused.gguf*")),
               f"{message}: something is left")

    refuses("has attention over a window", make_cases.qwen2(
        **SMALL, use_sliding_window=True, sliding_window=64,
        max_window_layers=0))
    refuses("cannot say all of this model: ", make_cases.deepseek_v32(
        indexer_rope_interleave=True))
    refuses("cannot say all of this model: ", make_cases.llama(
        **SMALL, rope_scaling=dict(make_cases.LLAMA3, low_freq_factor=1.5)))
    path = checker.folder / "llama"
    for target, text, message in (
            ("no/such/llama.gguf", "{}", "No such file or directory"),
            ("refused.gguf", "{", "tokenizer.json: "),
            ("refused.gguf", None, "tokenizer.json")):
        (path / "tokenizer.json").unlink(missing_ok=True)
        if text is None:
            (path / "tokenizer.json").symlink_to(checker.folder / "again.gguf")
        else:
            (path / "tokenizer.json").write_text(text)
        result = run(tool, "--to-gguf", path, "-o", checker.folder / target)
        expect(result.returncode == 1 and
               len(result.stderr.splitlines()) == 1 and
               message in result.stderr and
               not list(checker.folder.glob("refused.gguf*")),
               f"expected {message}, got {result.stderr}")
    refuses("has no tensor 'blk.1.ffn_gate_inp.weight'", dict(
        make_cases.deepseek_v2(**LITE, **SMALL), first_k_dense_replace=0,
        moe_layer_freq=2))
    return checker.failures


def check_pieces(tool, folder):
    """A vocabulary of SentencePiece becomes the tokenizer.json that the vectors
    of the text library were made with."""
    vectors = Path(__file__).resolve().parents[3] / "runtime/text/vectors"
    with gzip.open(vectors / "sentencepiece.json.gz") as file:
        expected = json.load(file)
    vocab = sorted(expected["model"]["vocab"].items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocab]
    kinds = [2, 3, 3] + [6 if token.startswith("<0x") else 1
                         for token in tokens[3:]]
    first = kinds.index(1)
    # The score of a merged token is its place; characters come last.
    scores = [0.0 if kind != 1 else float(first - i)
              for i, kind in enumerate(kinds)]
    config = make_cases.llama(**{**SMALL, "vocab_size": len(tokens)})
    keys = {**gguf.keys_of(config), "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": np.array(kinds, np.int32),
            "tokenizer.ggml.scores": np.array(scores, np.float32),
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    tensors, _ = gguf.convert(config, values_of(config)[1], lambda *_: "F32")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pieces.gguf").write_bytes(gguf.file_bytes(keys, tensors))
    result = run(tool, "--import-gguf", folder / "pieces.gguf", "--text-files",
                 folder)
    if result.returncode:
        print(result.stderr)
        return 1
    made = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    failures = 0

    def expect(name, found, wanted):
        nonlocal failures
        if found != wanted:
            failures += 1
            print(f"{name}: expected {str(wanted)[:200]}, got "
                  f"{str(found)[:200]}")

    for name in ("normalizer", "pre_tokenizer", "decoder"):
        expect(name, made[name], expected[name])
    for name in ("type", "vocab", "unk_token", "fuse_unk", "byte_fallback"):
        expect(name, made["model"][name], expected["model"][name])
    expect("merges", [merge.split(" ") for merge in made["model"]["merges"]],
           [list(merge) for merge in expected["model"]["merges"]])
    expect("bos", (settings["add_bos_token"], settings["bos_token"]),
           (True, "<s>"))
    expect("added_tokens", [(token["content"], token["special"])
                            for token in made["added_tokens"]],
           [("<s>", True), ("</s>", True)])

    # Written as a GGUF file, and read again, it is the same.
    text = (folder / "tokenizer.json").read_bytes()
    again = folder / "again.gguf"
    for arguments in (("--to-gguf", folder / "pieces.gguf", "-o", again),
                      ("--import-gguf", again, "--text-files", folder)):
        result = run(tool, *arguments)
        expect("exit status", result.returncode, 0)
    expect("text", (folder / "tokenizer.json").read_bytes(), text)
    written = gguf.read_file(again.read_bytes())[0]
    for name in ("tokens", "token_type"):
        key = f"tokenizer.ggml.{name}"
        expect(key, written[key], list(keys[key]))
    return failures


def main():
    what, *arguments = sys.argv[1:]
    if what == "write":
        kind, name, folder = arguments
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.gguf").write_bytes(
            gguf.file_bytes(*make(name, kind)))
        return 0
    tool, folder = arguments[0], Path(arguments[1])
    return {"same": check_same, "errors": check_errors,
            "missing": check_missing, "written": check_written, "pieces": check_pieces}[what](tool, folder)


sys.exit(1 if main() else 0)
