# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Perplexity of a written checkpoint on held-out text, beside a bigram model over the same tokens, and greedy samples.

    python models/train/evaluate.py models/abyss-tiny

Held out are every twentieth chapter of the books, and stories of a seed that training does not use. The text is cut into
rows of 256 tokens, each after BOS; all tokens of a row but BOS are scored. The bigram model interpolates bigram, unigram
and uniform. It is favored twice: there is one for each source, counted on that source's training text alone, and its
weights are those that serve the held-out text best.
"""

import argparse
import json
import math
import pathlib
import random
import sys

import numpy as np
import torch
from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import data
import model as arch

PROMPTS = ["Once upon a time", "Once upon a time there was a little fox", "Long ago, by the sea, there lived", "One morning the",
           "The old king", "In the beginning", "Emma was", "<｜User｜>Tell me a story about a rabbit.<｜Assistant｜>",
           "<｜User｜>What is two plus three?<｜Assistant｜>", "<｜User｜>What does a bear eat?<｜Assistant｜>"]


def windows(tokenizer, documents, length=256):
    stream = [t for d in documents for t in tokenizer.encode(d, add_special_tokens=False).ids + [1]]
    return torch.tensor([[0] + stream[i:i + length] for i in range(0, len(stream) - length, length)])


@torch.no_grad()
def nll(net, rows):
    total = 0.0
    for part in rows.split(16):
        logits = net.lm_head(net(part[:, :-1]))
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
    return total


class Bigram:
    def __init__(self, streams, vocab):
        self.uni, self.bi = np.zeros(vocab), np.zeros((vocab, vocab), np.float32)
        for s in streams:
            s = np.asarray(s)
            self.uni += np.bincount(s, minlength=vocab)
            np.add.at(self.bi, (s[:-1], s[1:]), 1)
        self.uni_p = self.uni / self.uni.sum()
        self.bi_p = self.bi / np.maximum(self.bi.sum(1, keepdims=True), 1)

    def nll(self, rows, a, b):
        x, y = rows[:, :-1].numpy().ravel(), rows[:, 1:].numpy().ravel()
        return -np.log(a * self.bi_p[x, y] + b * self.uni_p[y] + (1 - a - b) / len(self.uni)).sum()


@torch.no_grad()
def greedy(net, ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(int(net.lm_head(net(torch.tensor([ids]))[0, -1]).argmax()))
        if ids[-1] == 1:
            break
    return ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--cache", default="/tmp/hadal-train-data")
    parser.add_argument("--story-tokens", type=int, default=4_000_000, help="stories that the bigram model counts, in tokens (default 4M)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, tokenizer = arch.load(args.folder), Tokenizer.from_file(str(pathlib.Path(args.folder) / "tokenizer.json"))
    held, streams = {}, {}
    for name, (train, test) in data.books(args.cache).items():
        held[name] = test
        streams[name] = [[0] + e.ids + [1] for e in tokenizer.encode_batch(train, add_special_tokens=False)]
    rng, count, streams["stories"] = random.Random(1), 0, []
    while count < args.story_tokens:
        batch = tokenizer.encode_batch([data.story(rng) for _ in range(2000)], add_special_tokens=False)
        streams["stories"].append([t for e in batch for t in [0] + e.ids + [1]])
        count += len(streams["stories"][-1])
    rng = random.Random("held out")
    held["stories"] = [data.story(rng) for _ in range(400)]
    weights = [(a, b) for a in (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98) for b in (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3) if a + b < 1]
    report, all_model, all_bigram, all_tokens = {}, 0.0, 0.0, 0
    for name, documents in held.items():
        rows = windows(tokenizer, documents)
        n = rows[:, 1:].numel()
        bigram = Bigram(streams[name], net.c["vocab_size"])
        m, b = nll(net, rows), min(bigram.nll(rows, *w) for w in weights)
        report[name] = {"tokens": n, "perplexity": round(math.exp(m / n), 2), "bigram": round(math.exp(b / n), 2)}
        all_model, all_bigram, all_tokens = all_model + m, all_bigram + b, all_tokens + n
    report["all"] = {"tokens": all_tokens, "perplexity": round(math.exp(all_model / all_tokens), 2), "bigram": round(math.exp(all_bigram / all_tokens), 2)}
    print(json.dumps(report, indent=1))
    for prompt in PROMPTS:
        ids = [0] + tokenizer.encode(prompt, add_special_tokens=False).ids
        print("---\n" + tokenizer.decode(greedy(net, ids, 110), skip_special_tokens=False))


if __name__ == "__main__":
    main()
