#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compares greedy answers with those of llama.cpp on the same file: what docs/numerics.md says of them.
"""Answers 20 prompts with hadalc's program and with llama.cpp, and says where their tokens part.

    bench/beside_llama.py --llama LLAMA.CPP/build --model SmolLM2-135M-Instruct.Q4_1.gguf

LLAMA.CPP is built with -DBUILD_SHARED_LIBS=ON, and for products in f32 with -DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS. Its tokens are
those of bench/llama_tokens.cpp, which is compiled here. Two answers are equal if all their tokens are, up to the first position
where llama.cpp's two best logits are within 0.01 of each other. Exit status: 1 if one differs from llama.cpp's in f32.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEAR = 1e-2
PROMPTS = """Why is the sky blue?
What is the capital of France?
Write a short poem about the sea.
Explain how a refrigerator works.
List three uses of a paperclip.
What is 17 times 23?
Tell me a story about a fox and a crow.
How do I boil an egg?
What is the difference between a virus and a bacterium?
Give me a recipe for pancakes.
Who wrote Romeo and Juliet?
Translate 'good morning' into Spanish.
What causes the tides?
Write a Python function that reverses a string.
What are the planets of the solar system?
How does photosynthesis work?
Name five animals that live in the desert.
What is a prime number?
Why do leaves change color in autumn?
Describe the water cycle in two sentences.""".splitlines()


def run(*command, **options):
    ran = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, **options)
    if ran.returncode:
        sys.exit(f"beside_llama.py: {command[0]}: exit status {ran.returncode}")
    return ran.stdout


def build_tokens(llama, folder):
    source = llama.resolve().parent
    libraries = llama / "bin"
    run("c++", "-O2", "-std=c++17", ROOT / "bench/llama_tokens.cpp", f"-I{source}/include", f"-I{source}/ggml/include", f"-L{libraries}",
        f"-Wl,-rpath,{libraries.resolve()}", "-lllama", "-lggml", "-lggml-base", "-Wl,--allow-shlib-undefined", "-o", folder / "llama_tokens")


def read_answers(text):
    """The tokens of each answer, the one that ends it too, and how many come before the first near tie."""
    for line in text.splitlines():
        pairs = [(int(token), float(lead)) for token, _, lead in (each.partition(":") for each in line.split(","))]
        near = next((i for i, (_, lead) in enumerate(pairs) if lead < NEAR), len(pairs))
        yield [token for token, _ in pairs], near


def compare(answers, theirs, kind):
    equal, to_the_end = 0, 0
    for prompt, ours, (tokens, near) in zip(PROMPTS, answers, theirs):
        # A program leaves out the token that ends an answer, which is the last of theirs.
        parted = next((i for i in range(near) if (ours[i] != tokens[i] if i < len(ours) else i + 1 < len(tokens))), None)
        equal += parted is None
        to_the_end += parted is None and near == len(tokens)
        if parted is not None:
            print(f"  {prompt!r}: other from token {parted} on")
    print(f"{kind}: {equal} of {len(PROMPTS)} answers equal llama.cpp's up to the first near tie, {to_the_end} of them have none")
    return equal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, type=Path, help="build folder of llama.cpp")
    parser.add_argument("--model", required=True, type=Path, help="a chat model, a .gguf")
    parser.add_argument("--hadalc", type=Path, default=ROOT / "build/bin/hadalc")
    parser.add_argument("-n", type=int, default=32, help="tokens of each answer (32)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_tokens(args.llama, folder)
        run(args.hadalc, args.model, "-o", folder / "chat", "--context=2048", "--quiet")
        said = [json.loads(run(folder / "chat", "--chat", prompt, "--temperature", "0", "-n", args.n, "--json")) for prompt in PROMPTS]
        (folder / "prompts").write_text("".join(",".join(map(str, each["prompt_tokens"])) + "\n" for each in said))
        answers = [each["tokens"] for each in said]
        equal = {}
        for how, kind in (("once", "inputs in 8 bits"), ("again", "products in f32")):
            theirs = list(read_answers(run(folder / "llama_tokens", args.model, folder / "prompts", args.n, how)))
            equal[how] = compare(answers, theirs, kind)
    return int(equal["again"] < len(PROMPTS))


if __name__ == "__main__":
    sys.exit(main())
