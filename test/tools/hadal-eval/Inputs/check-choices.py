# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Scores multiple-choice questions again, with NumPy, from the logits that hadal-run writes, and compares with hadal-eval.

usage: check-choices.py OUT QUESTIONS FOLDER
"""
import json
import subprocess
import sys

import numpy as np


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    out, questions, folder = sys.argv[1:]

    def encode(text):
        """The tokens of a text that is not empty, without bos, which is before all."""
        if not text:
            return []
        return json.loads(run(out, "--prompt", text, "-n", "1", "--json"))["prompt_tokens"][1:]

    bos = json.loads(run(out, "--prompt", "a", "-n", "1", "--json"))["prompt_tokens"][0]

    def log_likelihood(context, choice):
        stripped = context.rstrip()
        before = encode(stripped)
        after = encode(context + choice)[len(before):]
        tokens = [*before, *after]
        if tokens[0] != bos:  # A chat has its own.
            tokens.insert(0, bos)
        file = f"{folder}/logits.npy"
        run(out, "--tokens", ",".join(map(str, tokens)), "--logits", file)
        x = np.load(file).astype(np.float64)[-len(after) - 1:-1]
        x -= x.max(axis=1, keepdims=True)
        x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
        return x[np.arange(len(after)), after].sum()

    found = json.loads(run("hadal-eval", out, "--choices", questions, "--json"))
    with open(questions, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    assert found["questions"] == len(lines) == len(found["log_likelihoods"]), found
    assert found["choices"] == sum(len(line["choices"]) for line in lines), found
    right = {"acc": [], "acc_norm": [], "acc_bytes": []}
    for line, scores in zip(lines, found["log_likelihoods"]):
        choices = line["choices"]
        expected = np.array([log_likelihood(line["context"], choice) for choice in choices])
        # The logits are the same floats, and all sums are f64.
        if not np.allclose(scores, expected, rtol=1e-7, atol=0):
            sys.exit(f"{line}: {scores}, expected {expected}")
        for name, sizes in (("acc", 1), ("acc_norm", [len(choice) for choice in choices]),
                            ("acc_bytes", [len(choice.encode()) for choice in choices])):
            right[name].append(np.argmax(expected / sizes) == line["answer"])
    for name, values in right.items():
        values = np.array(values, dtype=float)
        assert abs(found[name] - values.mean()) < 1e-8, (name, found[name], values)
        error = values.std(ddof=1) / len(values)**0.5
        assert abs(found[f"{name}_standard_error"] - error) < 1e-5, (name, found, error)
    chance = np.mean([1 / len(line["choices"]) for line in lines])
    assert abs(found["chance"] - chance) < 1e-8, found
    print(json.dumps(found))


main()
