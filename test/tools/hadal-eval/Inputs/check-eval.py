# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Computes what hadal-eval says of a text again, with NumPy, from the logits that hadal-run writes.

usage: check-eval.py OUT BASE TEXT CONTEXT FOLDER
"""
import json
import subprocess
import sys

import numpy as np


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def close(what, found, expected, tolerance):
    if not abs(found - expected) <= tolerance * abs(expected):
        sys.exit(f"{what} is {found}, expected {expected}")


def main():
    out, base, text, context, folder = sys.argv[1:]
    context = int(context)
    content = open(text, encoding="utf-8").read()
    tokens = json.loads(run(out, "--prompt", content, "-n", "1", "--json"))["prompt_tokens"]
    bos, tokens = tokens[0], tokens[1:]

    def rows(product):
        """Log-probabilities before each token, by the windows that hadal-eval documents."""
        result, first, scored, body = [], 0, 0, context - 1
        while scored < len(tokens):
            end = min(first + body, len(tokens))
            ids = [bos, *tokens[first:end - 1]]
            file = f"{folder}/logits.npy"
            run(product, "--tokens", ",".join(map(str, ids)), "--logits", file)
            result.append(log_softmax(np.load(file))[scored - first:])
            scored, first = end, first + body // 2
        return np.concatenate(result)

    p, q = rows(base), rows(out)
    assert len(p) == len(tokens)
    at = np.arange(len(tokens))
    base_nll, nll = -p[at, tokens], -q[at, tokens]
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    found = json.loads(run("hadal-eval", out, "--text", text, "--context", str(context), "--against", base, "--json"))
    alone = json.loads(run("hadal-eval", out, "--text", text, "--context", str(context), "--json"))

    # The logits are the same floats, and both sums are f64: only their order differs.
    for member in ("scored_tokens", "nll", "nll_standard_error", "perplexity", "window_tokens"):
        close(member, alone[member], found[member], 1e-8)
    n = len(tokens)
    close("scored_tokens", found["scored_tokens"], n, 0)
    close("nll", found["nll"], nll.mean(), 1e-8)
    close("nll_standard_error", found["nll_standard_error"], nll.std(ddof=1) / n**0.5, 1e-5)
    close("perplexity", found["perplexity"], np.exp(nll.mean()), 1e-8)
    close("base perplexity", found["base"]["perplexity"], np.exp(base_nll.mean()), 1e-8)
    close("perplexity_ratio", found["perplexity_ratio"], np.exp((nll - base_nll).mean()), 1e-8)
    close("kl mean", found["kl_divergence"]["mean"], kl.mean(), 1e-6)
    close("kl max", found["kl_divergence"]["max"], kl.max(), 1e-6)
    close("kl p99", found["kl_divergence"]["p99"], np.sort(kl)[int(0.99 * (n - 1) + 0.5)], 1e-6)
    close("agreement", found["top_1_agreement"], (p.argmax(axis=1) == q.argmax(axis=1)).mean(), 1e-8)
    print(json.dumps(found))


main()
