#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compares what is lost by rounding weights with what llama.cpp's quantizer loses: the tables of docs/passes.md.
"""Rounds a model by hadalc and by llama-quantize, and measures what either loses.

    bench/rounding.py --llama-quantize BIN/llama-quantize [--build build] > table.md
    bench/rounding.py --llama-quantize BIN/llama-quantize --model SmolLM2-135M-Instruct.Q4_1.gguf > table.md

Both round the same GGUF file (of models/abyss-tiny one is made) with the same mean squares of inputs, gathered by the compiled
model on the same text; llama-quantize gets them as an imatrix file. Its types are taken as they come, mixes and all. What it
writes is compiled by hadalc, as stored, and inputs of integers stay f32 everywhere, so that only what weights were rounded to
counts. Bits are those of all weights of the model. Texts are those of bench/passes.py.
"""
import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import numpy as np
import passes
from passes import ROOT, run

import gguf

OURS = ["int4-g128", "int4-g64", "int4-g32", "int5-g32", "int6-g32", "int8-g32"]
THEIRS = ["Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"]


def read_safetensors(path):
    """Yields (name, array) of a file of f32 and bf16, both as f32."""
    raw = memoryview(path.read_bytes())
    size = int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(bytes(raw[8:8 + size])).items():
        if name == "__metadata__":
            continue
        data = raw[8 + size:][slice(*entry["data_offsets"])]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        elif entry["dtype"] == "F32":
            values = np.frombuffer(data, "<f4")
        else:
            continue
        yield name, values.reshape(entry["shape"])


def write_gguf(path, keys, tensors):
    """llama.cpp expects the last tensor to be filled up, too."""
    raw = gguf.file_bytes(keys, tensors)
    path.write_bytes(raw + bytes(-len(raw) % 32))


def write_model(folder, path, kind="BF16"):
    """Writes the model of a Hugging Face folder as a GGUF file, with its tokenizer; matrices are of `kind`."""
    config = json.loads((folder / "config.json").read_text())
    values = {name: value.astype(np.float64) for name, value in read_safetensors(folder / "model.safetensors")}
    tensors, _ = gguf.convert(config, values, lambda name, shape: kind, is_split=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = {**tokenizer["model"]["vocab"], **{added["content"]: added["id"] for added in tokenizer["added_tokens"]}}
    special = {added["id"] for added in tokenizer["added_tokens"]}
    tokens = sorted(ids, key=ids.get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "deepseek-v3", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": np.array([3 if i in special else 1 for i in range(len(tokens))], np.int32),
            "tokenizer.ggml.merges": merges, "tokenizer.ggml.bos_token_id": config["bos_token_id"],
            "tokenizer.ggml.eos_token_id": config["eos_token_id"], "tokenizer.ggml.add_bos_token": True}
    write_gguf(path, {**gguf.keys_of(config, is_split=True), **keys}, tensors)


def write_importance(statistics, path):
    """Writes the mean squares of a file of statistics as llama.cpp's imatrix."""
    found = dict(read_safetensors(statistics))
    tensors = {}
    for name, moment in found.items():
        weight = name.removesuffix(".moment")
        if name == weight or not (weight.startswith("layers.") and weight.endswith("_proj") or "kv_a_proj" in weight):
            continue
        weight = weight.replace(".experts.", ".experts.0.")
        if ".experts." in weight:
            block, part = weight.split(".")[1], weight.split(".")[-1].removesuffix("_proj")
            new = f"blk.{block}.ffn_{part}_exps.weight"
        else:
            new = gguf.new_name(f"model.{weight}.weight")
        count = found[name + ".count"].reshape(-1, 1).astype("<f4")
        sums = moment.reshape(len(count), -1) * count
        for end, value in ((".in_sum2", sums), (".counts", count)):
            tensors[new + end] = ("F32", value.shape, value.astype("<f4").tobytes())
    keys = {"general.type": "imatrix", "imatrix.datasets": ["text"], "imatrix.chunk_count": 1, "imatrix.chunk_size": 512}
    write_gguf(path, keys, tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-quantize", type=Path, required=True)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--model", type=Path, default=ROOT / "models/abyss-tiny")
    parser.add_argument("--ours", nargs="*", default=OURS, help="schemes of hadalc")
    parser.add_argument("--theirs", nargs="*", default=THEIRS, help="types of llama-quantize")
    parser.add_argument("--keep", type=Path, help="a folder for what is made once, to go on with")
    args = parser.parse_args()
    hadalc, evaluate = args.build / "bin/hadalc", args.build / "bin/hadal-eval"
    with tempfile.TemporaryDirectory(prefix="hadal-rounding-") as name:
        scratch = Path(name)
        folder = args.keep or scratch
        folder.mkdir(exist_ok=True)
        model, text, base = folder / "model.gguf", folder / "text", folder / "base"
        statistics, importance = folder / "statistics.safetensors", folder / "imatrix.gguf"
        report, product = scratch / "report", scratch / "product"
        if not importance.exists():
            if args.model.is_dir():
                write_model(args.model, model)
            else:
                shutil.copy(args.model, model)
            if not statistics.exists():
                passes.gather(hadalc, model, passes.write_texts(folder, args.model), statistics, scratch)
            run([hadalc, model, "-o", base, "--activations=f32", "--quiet"])
            write_importance(statistics, importance)

        def measure(file, flags, label):
            run([hadalc, file, "-o", product, "--activations=f32", "--quiet", f"--report={report}", "--json", *flags])
            made = json.loads(report.read_text())
            found = json.loads(run([evaluate, product, "--against", base, "--text", text, "--json"]))
            return (8 * made["weight_bytes"] / made["parameters"], label, found["kl_divergence"]["mean"],
                    found["top_1_agreement"])

        rows = []
        for kind in args.theirs:
            rounded = scratch / "rounded.gguf"
            run([args.llama_quantize, "--imatrix", importance, "--allow-requantize", model, rounded, kind])
            rows.append(measure(rounded, [], f"llama.cpp, `{kind}`"))
            print(*rows[-1], file=sys.stderr, flush=True)
        for scheme in args.ours:
            rows.append(measure(model, [f"--quantize={scheme},method=gptq", f"--calibration={statistics}"], f"**`{scheme}`**"))
            print(*rows[-1], file=sys.stderr, flush=True)
        print("| bits a weight | | KL divergence | same top token |")
        print("| --- | --- | --- | --- |")
        for bits, label, divergence, agreement in sorted(rows):
            print(f"| {bits:.2f} | {label} | {divergence:.4f} | {100 * agreement:.1f} % |")


if __name__ == "__main__":
    main()
