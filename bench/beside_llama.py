#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# What docs/numerics.md and docs/performance.md say of llama.cpp on the file of examples/smollm2.
"""Compares hadalc's program of a chat model in a GGUF file with llama.cpp on the same file.

    bench/beside_llama.py --llama LLAMA.CPP/build --model SmolLM2-135M-Instruct.Q4_1.gguf [WHAT...]

WHAT (answers and perplexity, if not given):
  answers     20 prompts, greedily: where tokens part from llama.cpp's as it comes, and as it computes in f32
  itself      the same of llama.cpp and itself, with what changes the order of its sums, and how it rounds keys and values
  perplexity  of some text, both with inputs of products in 8 bits, and Hadal with f32
  speed       prefill of 512 and decode of 64, three rounds by turns; on a machine that does nothing else

LLAMA.CPP is built with -DBUILD_SHARED_LIBS=ON, and for products in f32 with -DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS. What it computes
is asked for by bench/llama_tokens.cpp, which is compiled here; speed is that of its llama-bench. Two answers are equal if all their tokens
are, up to the first position where llama.cpp's two best logits are within 0.01 of each other. Exit status: 1 if an answer differs from
llama.cpp's in f32, or the perplexity with inputs in f32 by more than 0.5 %.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEAR = 1e-2
WINDOW = 512
TEXTS = [ROOT / f"docs/{name}.md" for name in ("architecture", "security", "serving", "tutorial")]
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


# Settings of bench/llama_tokens.cpp: as it comes, and what should not matter.
ITSELF = ((), ("threads=2",), ("batch=1",), ("repack=0",), ("flash=0",), ("flash=0", "batch=1"), ("flash=0", "wide=1"))


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


def find_parting(ours, tokens, near):
    """The first position before `near` at which answers differ. A program leaves out the token that ends one, the last of theirs."""
    return next((i for i in range(near) if (ours[i] != tokens[i] if i < len(ours) else i + 1 < len(tokens))), None)


def compare(answers, theirs, kind):
    equal, to_the_end = 0, 0
    for prompt, ours, (tokens, near) in zip(PROMPTS, answers, theirs):
        parted = find_parting(ours, tokens, near)
        equal += parted is None
        to_the_end += parted is None and near == len(tokens)
        if parted is not None:
            print(f"  {prompt!r}: other from token {parted} on")
    print(f"{kind}: {equal} of {len(PROMPTS)} answers equal llama.cpp's up to the first near tie, {to_the_end} of them have none")
    return equal


def compare_answers(program, answer):
    equal = {how: compare(program, answer(how), kind) for how, kind in (("once", "inputs in 8 bits"), ("again", "products in f32"))}
    return equal["again"] == len(PROMPTS)


def compare_itself(answer):
    """Prints how many answers of llama.cpp with the settings of a column equal those with the settings of a row."""
    answers = [list(answer("once", *settings)) for settings in ITSELF]
    print("llama.cpp and itself, answers of", len(PROMPTS), "that are equal up to the first near tie of a row's:")
    for settings, rows in zip(ITSELF, answers):
        counts = [sum(find_parting(ours, *each) is None for (ours, _), each in zip(columns, rows)) for columns in answers]
        print(f"  {' '.join(settings) or 'as it comes':18}", *(f"{count:3}" for count in counts))


def compare_perplexity(args, folder, programs):
    tokens = []
    for text in TEXTS:
        tokens += json.loads(run(programs["f32"], "--prompt", text.read_text()[:5500], "-n", 1, "--json"))["prompt_tokens"]
    (folder / "ids").write_text(",".join(map(str, tokens)))
    # Windows overlap by half; the first guesses all of its tokens, others their second half.
    windows = [tokens[begin:begin + WINDOW] for begin in range(0, max(1, len(tokens) - WINDOW // 2), WINDOW // 2)]
    (folder / "windows").write_text("".join(",".join(map(str, window)) + "\n" for window in windows))
    lines = run(folder / "llama_tokens", args.model, folder / "windows", 0, "score").splitlines()
    scores = [list(map(float, line.split(","))) for line in lines]
    guessed = scores[0] + [score for line in scores[1:] for score in line[WINDOW // 2 - 1:]]
    theirs = math.exp(-sum(guessed) / len(guessed))
    print(f"perplexity of {len(guessed)} tokens: llama.cpp {theirs:.3f}")
    apart = {}
    for kind, program in programs.items():
        said = json.loads(run(args.hadalc.parent / "hadal-eval", program, "--tokens", f"@{folder / 'ids'}", "--context", WINDOW, "--json"))
        assert said["scored_tokens"] == len(guessed), said
        apart[kind] = said["perplexity"] / theirs - 1
        print(f"  Hadal, inputs in {kind}: {said['perplexity']:.3f}, {apart[kind]:+.2%}")
    return abs(apart["f32"]) <= 0.005


def compare_speed(args, programs):
    print("tokens/s of a prefill of 512 and a decode of 64:")
    for _ in range(3):
        results = json.loads(run(args.llama / "bin/llama-bench", "-m", args.model, "-p", 512, "-n", 64, "-r", 1, "-t", args.t, "-fa", 1,
                                 "-o", "json", stderr=subprocess.DEVNULL))
        prefill, decode = (each["avg_ts"] for each in sorted(results, key=lambda each: each["n_gen"]))
        print(f"  llama.cpp {prefill:.0f} {decode:.0f}")
        for kind, program in programs.items():
            runs = json.loads(run(program, "--bench", "-p", 512, "-n", 64, "-r", 1, "-t", args.t, "--json"))["runs"]
            speeds = [each["tokens_per_s"]["median"] for each in runs]
            print(f"  Hadal, inputs in {kind} {speeds[0]:.0f} {speeds[1]:.0f}: {speeds[0] / prefill:.1f} and {speeds[1] / decode:.2f} times")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="see above")
    parser.add_argument("--llama", required=True, type=Path, help="build folder of llama.cpp")
    parser.add_argument("--model", required=True, type=Path, help="a chat model, a .gguf")
    parser.add_argument("--hadalc", type=Path, default=ROOT / "build/bin/hadalc")
    parser.add_argument("-n", type=int, default=32, help="tokens of each answer (32)")
    parser.add_argument("-t", type=int, default=os.cpu_count(), help="threads for speed (all cores)")
    args = parser.parse_args()
    what = args.what or ["answers", "perplexity"]
    for each in what:
        if each not in ("answers", "itself", "perplexity", "speed"):
            parser.error(f"cannot compare '{each}'")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        programs = {"f32": folder / "chat"}
        run(args.hadalc, args.model, "-o", programs["f32"], "--context=2048", "--quiet")
        if "perplexity" in what or "speed" in what:
            programs["8 bits"] = folder / "chat8"
            run(args.hadalc, args.model, "-o", programs["8 bits"], "--context=2048", "--activations=int8", "--quiet")
        if what != ["speed"]:
            build_tokens(args.llama, folder)
        if "answers" in what or "itself" in what:
            said = [json.loads(run(programs["f32"], "--chat", prompt, "--temperature", "0", "-n", args.n, "--json")) for prompt in PROMPTS]
            (folder / "prompts").write_text("".join(",".join(map(str, each["prompt_tokens"])) + "\n" for each in said))

        def answer(how, *settings):
            return read_answers(run(folder / "llama_tokens", args.model, folder / "prompts", args.n, how, *settings))

        is_good = True
        if "answers" in what:
            is_good = compare_answers([each["tokens"] for each in said], answer)
        if "itself" in what:
            compare_itself(answer)
        if "perplexity" in what:
            is_good = compare_perplexity(args, folder, programs) and is_good
        if "speed" in what:
            compare_speed(args, programs)
    return int(not is_good)


if __name__ == "__main__":
    sys.exit(main())
