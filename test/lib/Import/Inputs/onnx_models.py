# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes ONNX files, and compares what they become.

    onnx_models.py write-graph FOLDER     nodes and tensors of many kinds
    onnx_models.py write MODEL FOLDER     a graph of a model
    onnx_models.py write-experts NAME FOLDER   one of a model with experts
    onnx_models.py same HADAL_TRANSLATE FOLDER
    onnx_models.py refuse HADAL_TRANSLATE FOLDER

`same` imports each model from a Hugging Face folder, a GGUF file and ONNX files
of several exporters and compares all but the recipes; `refuse` imports graphs
that are no model of the family, or not quite, and checks the message.
"""

import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "e2e"))
import numpy as np

import gguf
import make_cases
import onnx_file as of
import onnx_graphs
from model_texts import run, values_of, without_recipes

SMALL = dict(vocab_size=320, hidden_size=64, intermediate_size=160,
             num_hidden_layers=2, max_position_embeddings=256,
             torch_dtype="float32")
LLAMA3 = dict(make_cases.LLAMA3, original_max_position_embeddings=8192)
MOE = dict(SMALL, num_hidden_layers=3)
LATENT = dict(MOE, rope_scaling=None)
MODELS = {
    "llama": make_cases.llama(**SMALL, num_key_value_heads=2),
    "linear": make_cases.llama(
        **SMALL, rope_scaling={"type": "linear", "factor": 4.0}),
    "llama3": make_cases.llama(**SMALL, num_key_value_heads=1,
                               rope_theta=500000.0, rope_scaling=LLAMA3),
    "tied": make_cases.llama(**SMALL, tie_word_embeddings=True),
    "qwen2": make_cases.qwen2(**SMALL),
}
MIXTURES = {
    "moe": dict(make_cases.deepseek(), **MOE, moe_intermediate_size=32),
    "moe-normalized": dict(make_cases.deepseek(), **MOE,
                           moe_intermediate_size=32, norm_topk_prob=True),
}
LATENTS = {
    "v2": make_cases.deepseek_v2(**LATENT),
    "v2-lite": make_cases.deepseek_v2(
        **LATENT, q_lora_rank=None, topk_method="greedy",
        routed_scaling_factor=1.0),
    "v3": make_cases.deepseek_v3(**LATENT),
    # Tables give a rule of YaRN that is the same, not its numbers.
    "v3-yarn": make_cases.deepseek_v3(**MOE),
}
GRAPHS = {
    "genai": dict(kind="genai"),
    "genai-packed": dict(kind="genai", packed=True),
    "dynamo": dict(kind="torch"),
    "dynamo-qdq": dict(kind="torch", qdq="int8", block=0),
    "torchscript": dict(kind="torch", style="torchscript"),
    "torchscript-condition": dict(kind="torch", style="torchscript",
                                  mask="condition"),
    "operators": dict(kind="torch", operators="heads"),
    "operators-past": dict(kind="torch", style="torchscript", mask="condition",
                           operators="heads"),
    "operators-rows": dict(kind="torch", style="torchscript",
                           operators="rows"),
}
ROUNDED = {"rounded-inputs": dict(kind="torch", qdq="int8", block=0, inputs=True)}
EXPERTS = {
    "sigmoid": dict(scoring="sigmoid"),
    "sigmoid-bits": dict(scoring="sigmoid", bits=4),
    "limit": dict(limit=7),
    "limit-bits": dict(limit=7, bits=8, fusion=2),
}
WRITTEN = {
    "dynamo": dict(kind="torch"),
    "dynamo-stacked": dict(kind="torch", experts="stack"),
    "torchscript": dict(kind="torch", style="torchscript",
                        experts="elements"),
    "torchscript-places": dict(kind="torch", style="torchscript",
                               experts="places"),
    "dynamo-places": dict(kind="torch", experts="places"),
}
FUSED = {
    "moe": dict(kind="genai"),
    "moe-halves": dict(kind="genai", experts=dict(fusion=2)),
    "moe-three": dict(kind="genai", experts=dict(fusion=0)),
    "moe-silu": dict(kind="genai", experts=dict(fusion=0, activation="silu")),
    "qmoe-2": dict(kind="genai", experts=dict(bits=2, block=16)),
    "qmoe-2-zeros": dict(kind="genai", experts=dict(
        bits=2, has_zeros=True, fusion=0, activation="silu")),
    "qmoe-4": dict(kind="genai", experts=dict(bits=4)),
    "qmoe-4-zeros": dict(kind="genai", experts=dict(bits=4, has_zeros=True)),
    "qmoe-8-blocks": dict(kind="genai", experts=dict(
        bits=8, block=16, has_zeros=True, fusion=2)),
}


def write_graph(folder):
    graph = of.Builder(least_external=64)
    graph.weight("first", np.zeros(16, np.float32))
    graph.weight("table", np.zeros((16, 8), np.float32))
    graph.weight("scales", np.zeros(4, np.float32))
    graph.weight("scale", np.array(0.25, np.float32))
    graph.weight("flags", np.array([True, False]))
    graph.add("Gather", ["table", "input_ids"], ["rows"], axis=0)
    graph.add("Constant", [], ["shape"], value=np.array([1, -1, 2, 4]))
    graph.add("Reshape", ["rows", "shape"], ["heads"])
    graph.add("com.microsoft.Mystery", ["rows", "", "scale"],
              ["logits", "more"], name="", a=1.5, b=[1, 2], c="text")
    graph.write(folder, [of.value_info("input_ids", [1, "sequence"])],
                [of.value_info("logits", [1, "sequence", 8], of.FLOAT),
                 of.value_info("more", [1], of.FLOAT)],
                domains=[("com.microsoft", 1)])


def check_same(tool, folder):
    all_graphs = [(MODELS, GRAPHS), (MIXTURES, {**WRITTEN, **FUSED}),
                  (LATENTS, WRITTEN)]
    return sum(check_model(tool, folder, name, config, graphs)
               for models, graphs in all_graphs
               for name, config in models.items())


def check_model(tool, folder, name, config, graphs):
    tensors, values = values_of(config)
    # All have the name of the model; the graphs, with and without the
    # configuration beside them.
    models = {"hf": ("--import-hf", folder / "hf" / name)}
    make_cases.write_model(folder / "hf" / name, config, tensors)
    if name in MODELS:
        (folder / "gguf").mkdir(exist_ok=True)
        keys = {**gguf.keys_of(config, False),
                **gguf.tokenizer_keys(config["vocab_size"])}
        (folder / "gguf" / f"{name}.gguf").write_bytes(gguf.file_bytes(
            keys, gguf.convert(config, values, lambda *_: "F32", False)[0]))
        models["gguf"] = ("--import-gguf", folder / "gguf" / f"{name}.gguf")
    for kind, options in graphs.items():
        for given in ("alone", "beside"):
            if given == "alone" and name.endswith("yarn"):
                continue
            path = folder / kind / given / name
            shutil.rmtree(path, ignore_errors=True)
            onnx_graphs.write(path, config, values, **options)
            if given == "beside":
                make_cases.write_json(path / "config.json", config)
            else:
                make_cases.write_json(path / "genai_config.json", {
                    "model": {"context_length": 256, "bos_token_id": 0,
                              "eos_token_id": 1}})
            models[f"{kind} {given}"] = ("--import-onnx", path / "model.onnx")
    expected, failures = None, 0
    for what, (flag, path) in models.items():
        result = run(tool, flag, path)
        lines = without_recipes(result.stdout).splitlines()
        expected = expected or lines
        different = [(a, b) for a, b in zip(expected, lines) if a != b]
        if result.returncode or len(lines) != len(expected) or different:
            failures += 1
            print(f"{name}, {what}: {result.stderr}{len(lines)} lines, "
                  f"{len(expected)} expected, first different "
                  f"{different[:1]}")
    return failures


def check_rounded(tool, folder):
    """Tables of 16 bits, which genai's graphs of 16 bits have."""
    failures = 0
    for name in ("llama", "linear"):
        values = values_of(MODELS[name])[1]
        texts = []
        for is_half in (False, True):
            shutil.rmtree(folder, ignore_errors=True)
            onnx_graphs.write(folder, MODELS[name], values, kind="genai",
                              table=np.float16 if is_half else np.float32)
            result = run(tool, "--import-onnx", folder / "model.onnx")
            texts.append(without_recipes(result.stdout))
            print(result.stderr, end="")
        failures += not texts[0] or texts[0] != texts[1]
    return failures


def check_refusals(tool, folder):
    failures = 0

    def refuse(message, change=None, beside=None, config=MODELS["llama"],
               **options):
        nonlocal failures
        values = values_of(config)[1]
        shutil.rmtree(folder, ignore_errors=True)
        onnx_graphs.write(folder, config, values, **options)
        path = folder / "model.onnx"
        if change:
            old, new = change
            data = path.read_bytes()
            if old not in data:
                failures += 1
                print(f"the graph has no {old}")
            path.write_bytes(data.replace(old, new))
        if beside:
            make_cases.write_json(folder / "config.json", beside)
        result = run(tool, "--import-onnx", path)
        lines = result.stderr.splitlines()
        if result.returncode != 1 or len(lines) != 1 or \
                message not in lines[0] or str(folder) not in lines[0]:
            failures += 1
            print(f"expected: {message}\ngot exit status {result.returncode} "
                  f"and: {result.stderr[:500]}")

    llama = MODELS["llama"]
    torch = dict(kind="torch")
    genai = dict(kind="genai")
    refuse("position 0 is not seen", None, **torch,
           window=4096)
    refuse("expected a softmax of scores", (b"Softmax", b"Sigmoid"), **torch)
    refuse("expected x * sigmoid(x) as one factor",
           (b"Sigmoid", b"Sigmoie"), **torch)
    refuse("rotate_half(x) * sin", (b"\"\x03Neg", b"\"\x03Abs"), **torch)
    refuse("expected a softmax over the last of four dimensions",
           (b"\x0bLessOrEqual", b"\x0bGreaterOrEx"), **torch)
    refuse("has no output 'logits', its first is 'logitz'",
           (b"logits", b"logitz"), **torch)
    refuse("the graph has no input 'input_ids'", (b"input_ids", b"input_idz"), **torch)
    refuse("expected do_rotary 1", (b"do_rotary\x18\x01", b"do_rotary\x18\x00"),
           **genai)
    refuse("expected heads that are a multiple of those of the keys",
           (b"kv_num_heads\x18\x02", b"kv_num_heads\x18\x03"), **genai)
    refuse("expected lengths of whole sequences as input 5",
           (b"\"\x03Sub", b"\"\x03Add"), **genai)
    refuse("bits 2, 4 or 8, N and K from 1 on",
           (b"bits\x18\x04", b"bits\x18\x05"), **genai, bits=4)
    refuse("'num_hidden_layers' is 3, but the graph has 2",
           beside=dict(llama, num_hidden_layers=3), **torch)
    refuse("'rms_norm_eps' is 0.000010, but the graph has 0.000001",
           beside=dict(llama, rms_norm_eps=1e-5), **torch)
    refuse("expected heads of a projection, rotated by halves as the positions "
           "say", beside=dict(llama, rope_theta=20000.0), **torch)
    refuse("expected a cosine of", beside=dict(llama, rope_theta=20000.0),
           **genai)
    refuse("a g_idx from 0 to 3, but got ", None, **genai, bits=4, block=16,
           order="far")
    refuse("a g_idx that is a tensor of the file of 64 integers", None, **genai,
           bits=4, block=16, order="short")
    refuse("zero points if they are unsigned", None, **torch, qdq="uint4",
           block=16, zeros=["none"])
    refuse("a block_size that is a power of two from 16 on, but got 33", (b"block_size\x18\x20", b"block_size\x18\x21"),
           **genai, table_bits=4)
    moe, v3 = MIXTURES["moe"], LATENTS["v3"]
    fused = dict(kind="genai", config=moe)
    for message, old, new in (
            ("activation_type 'swiglu' or 'silu', but got 'swaglu'",
             b"\x06swiglu", b"\x06swaglu"),
            ("swiglu_fusion 0, 1 or 2", b"swiglu_fusion\x18\x01",
             b"swiglu_fusion\x18\x03"),
            ("no attribute 'swiglu_fusiom'", b"swiglu_fusion",
             b"swiglu_fusiom"),
            ("k from 1 to the number of experts, 12, but got 13",
             b"\x01k\x18\x03", b"\x01k\x18\x0d")):
        refuse(message, (old, new), **fused)
    refuse("activation_alpha 1 and activation_beta 0, but got 1.702000",
           None, **fused, experts=dict(alpha=1.702))
    refuse("a swiglu_limit, which the shared experts and the layers without "
           "experts do not have", None, **fused, experts=dict(limit=7))
    refuse("swiglu_limit above 0, with 'swiglu', but got 7", None, **fused,
           experts=dict(limit=7, fusion=0, activation="silu"))
    refuse("expert_weight_bits 2, 4 or 8, but got 5",
           (b"expert_weight_bits\x18\x04", b"expert_weight_bits\x18\x05"),
           **fused, experts=dict(bits=4))
    refuse("'num_experts_per_tok' is 2, but the graph has 3",
           beside=dict(moe, num_experts_per_tok=2), **fused)
    written = dict(kind="torch", config=v3)
    refuse("expected weights that are divided by their sum",
           (b"GatherElements", b"GatherElementz"), **written)
    refuse("expected rows that are chosen by nodes that are known",
           (b"OneHot", b"OneHut"), **written)
    refuse("expected a weight of the router for each row", **written,
           experts="swapped")
    refuse("expected epsilon 0.000001 for the norm of a latent", kind="torch",
           config=dict(v3, rms_norm_eps=1e-5))
    operators = dict(kind="torch", style="torchscript", operators="rows")
    refuse("expected is_causal 1, or a mask",
           (b"is_causal\x18\x01", b"is_causal\x18\x00"), **operators)
    refuse("expected a mask that lets a token see itself", None,
           **dict(operators, operators="heads"), window=4)
    refuse("'kv_lora_rank' is 32, but the graph has 0",
           beside=dict(v3, num_hidden_layers=2), **torch)
    refuse("rotated by neighbors, as the positions say",
           beside=LATENTS["v3-yarn"], **written)
    refuse("'v_head_dim' is 16, but the graph has 24",
           beside=dict(v3, v_head_dim=16), **written)
    # Caches that are off in one place.
    shutil.rmtree(folder, ignore_errors=True)
    onnx_graphs.write(folder, llama, values_of(llama)[1], **genai)
    data = bytearray((folder / "model.onnx.data").read_bytes())
    data[16 * 8 * 4 + 3] ^= 1
    (folder / "model.onnx.data").write_bytes(data)
    result = run(tool, "--import-onnx", folder / "model.onnx")
    if result.returncode != 1 or "expected a cosine of" not in result.stderr:
        failures += 1
        print(f"a changed cache: {result.returncode}: {result.stderr[:300]}")
    return failures


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[-1])
    if command == "write-graph":
        write_graph(folder)
    elif command == "write":
        name = sys.argv[2]
        onnx_graphs.write(folder, MODELS["llama"], values_of(
            MODELS["llama"])[1], **{**GRAPHS, **ROUNDED}[name])
    elif command == "write-experts":
        config = dict(MIXTURES["moe"], first_k_dense_replace=0)
        values = values_of(config)[1]
        onnx_graphs.write(folder, dict(config, n_shared_experts=0), values,
                          kind="genai", experts=EXPERTS[sys.argv[2]])
    elif command == "same":
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(check_same(sys.argv[2], folder) +
                 check_rounded(sys.argv[2], folder / "rounded"))
    elif command == "refuse":
        sys.exit(check_refusals(sys.argv[2], folder / "model"))
    else:
        sys.exit(__doc__)
