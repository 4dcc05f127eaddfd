# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains models/abyss-tiny from nothing: fetches the text, makes the tokenizer, trains, writes a Hugging Face folder.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r models/train/requirements.txt
    /tmp/venv/bin/python models/train/train.py --minutes 45 --out models/abyss-tiny

The learning rate follows the share of the time budget (or of --steps) that is spent. With --steps, two runs on one kind of
machine give the same weights.
"""

import argparse
import ctypes
import json
import math
import pathlib
import random
import sys
import time

import numpy as np
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import data
import model as arch

SPLITS = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
]
MIX = {"stories": 0.55, "austen": 0.2, "web": 0.25}  # share of the training rows
CHAT = ("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}"
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
        "{% elif message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
        "{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' + message['content'] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}")


def make_tokenizer(texts, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(s), "isolated") for s in SPLITS] + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, special_tokens=data.SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    assert tokenizer.get_vocab_size() == size
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{data.BOS} $A", pair=f"{data.BOS} $A {data.BOS}:1 $B:1", special_tokens=[(data.BOS, 0)])
    return tokenizer


class Rows:
    """Rows of tokens: each begins with BOS, documents follow one another, and the last is cut off."""

    def __init__(self, tokenizer, sources, seed):
        self.tokenizer, self.rng = tokenizer, random.Random(seed)
        newline = {i for t, i in tokenizer.get_vocab().items() if t.endswith("Ċ")}
        self.books = {}
        for name, documents in sources.items():
            ids = [e.ids for e in tokenizer.encode_batch(documents, add_special_tokens=False)]
            starts = [(d, i) for d, doc in enumerate(ids) for i in range(len(doc) - 32) if i == 0 or doc[i - 1] in newline]
            self.books[name] = (ids, starts)

    def row(self, length):
        source = self.rng.choices(list(MIX), list(MIX.values()))[0]
        out = []
        while len(out) < length:
            if source == "stories":
                doc = self.tokenizer.encode(data.story(self.rng), add_special_tokens=False).ids
            else:
                ids, starts = self.books[source]
                d, i = self.rng.choice(starts)
                doc = ids[d][i:i + length]
            out += [0] + doc + [1]
        return out[:length]

    def batch(self, rows, length):
        t = torch.from_numpy(np.array([self.row(length + 1) for _ in range(rows)], dtype=np.int64))
        return t[:, :-1].contiguous(), t[:, 1:].contiguous()


def write(out, net, tokenizer):
    out.mkdir(parents=True, exist_ok=True)
    save_file(net.tensors(), out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)

    def dump(name, value):
        (out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    dump("config.json", net.c)
    dump("generation_config.json", {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "do_sample": False})
    dump("tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "bos_token": data.BOS, "eos_token": data.EOS, "pad_token": data.PAD, "unk_token": None,
        "clean_up_tokenization_spaces": False, "model_max_length": net.c["max_position_embeddings"],
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT})
    tokenizer.save(str(out / "tokenizer.json"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=45, help="time budget for training (default 45)")
    parser.add_argument("--steps", type=int, help="train for this many steps instead")
    parser.add_argument("--out", default="models/abyss-tiny", help="folder to write (default models/abyss-tiny)")
    parser.add_argument("--cache", default="/tmp/hadal-train-data", help="where the text is kept (default /tmp/hadal-train-data)")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a step (default 4096)")
    parser.add_argument("--init", help="go on from this folder's weights and tokenizer")
    parser.add_argument("--lr", type=float, default=0.02, help="Muon's learning rate, the others in proportion (default 0.02)")
    args = parser.parse_args()
    if sys.platform == "linux":
        # Keeps freed memory: otherwise a third of the time goes to page faults of large, short-lived tensors.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(-3, 1 << 30), libc.mallopt(-1, (1 << 31) - 1), libc.mallopt(-2, 1 << 28)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    out = pathlib.Path(args.out)

    config = dict(arch.CONFIG)
    sources = {name: train for name, (train, _) in data.books(args.cache).items()}
    rng = random.Random(args.seed)
    sample = [data.story(rng) for _ in range(6000)] + [d for docs in sources.values() for d in docs]
    for token in data.SPECIALS:
        sample = [d.replace(token, "\n") for d in sample]
    tokenizer = Tokenizer.from_file(args.init + "/tokenizer.json") if args.init else make_tokenizer(sample, config["vocab_size"])
    rows = Rows(tokenizer, sources, args.seed)
    print("tokens:", {name: sum(map(len, ids)) for name, (ids, _) in rows.books.items()}, flush=True)

    net = arch.load(args.init).train() if args.init else arch.Model(config)
    net.compile_parts()
    print(f"parameters: {sum(p.numel() for p in net.parameters()):,}", flush=True)
    matrices = [p for n, p in net.named_parameters() if p.ndim >= 2 and not n.startswith(("embed", "lm_head")) and not n.endswith("mlp.gate")]
    vectors = [p for n, p in net.named_parameters() if p.ndim < 2]
    muon = arch.Muon(matrices, 0.02)
    adam = torch.optim.AdamW([
        {"params": [net.embed_tokens.weight], "lr": 6e-3, "weight_decay": 0.0},
        {"params": [net.lm_head.weight], "lr": 3e-3, "weight_decay": 0.01},
        {"params": [layer.mlp.gate for layer in net.layers if isinstance(layer.mlp, arch.MoE)], "lr": 2e-3, "weight_decay": 0.0},
        {"params": vectors, "lr": 2e-3, "weight_decay": 0.0}], betas=(0.9, 0.95), fused=True)
    peak = [(g, g["lr"]) for o in (muon, adam) for g in o.param_groups]
    moes = [layer.mlp for layer in net.layers if isinstance(layer.mlp, arch.MoE)]

    for length in (256, 512):  # compiles, before the clock starts
        tokens = torch.zeros(args.tokens // length, length, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16):
            net.loss(tokens, tokens).backward()
        net.zero_grad(set_to_none=True)
        for m in moes:
            m.load.zero_()

    begin, step, smooth, seen = time.time(), 0, None, 0
    while True:
        share = step / args.steps if args.steps else (time.time() - begin) / (60 * args.minutes)
        if share >= 1:
            break
        # The last fifth is at the full length of original_max_position_embeddings.
        length = config["rope_scaling"]["original_max_position_embeddings"] // (2 if share < 0.8 else 1)
        factor = min(1, (step + 1) / 100) * min(1, (1 - share) / 0.6)
        for group, lr in peak:
            group["lr"] = lr * factor * args.lr / 0.02
        tokens, targets = rows.batch(args.tokens // length, length)
        with torch.autocast("cpu", torch.bfloat16):
            loss = net.loss(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vectors + [net.embed_tokens.weight, net.lm_head.weight], 1.0)
        muon.step()
        adam.step()
        net.zero_grad(set_to_none=True)
        spread = max(m.balance(0.002 if share < 0.9 else 0.0) for m in moes)
        value = loss.item()
        assert math.isfinite(value), "the loss is not finite"
        smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
        step, seen = step + 1, seen + tokens.numel()
        if step % 50 == 0:
            spent = time.time() - begin
            left = spent * (1 - share) / max(share, 1e-9)
            print(f"step {step} loss {smooth:.3f} lr x{factor:.2f} fullest expert {spread:.2f}x {seen / spent:.0f} tok/s "
                  f"{seen / 1e6:.1f}M tokens, {left / 60:.1f} min left", flush=True)
        if step % 500 == 0:
            write(out, net, tokenizer)  # something to keep, should the run be cut short
    write(out, net, tokenizer)
    print(json.dumps({"steps": step, "tokens": seen, "minutes": round((time.time() - begin) / 60, 1), "loss": round(smooth, 4)}))


if __name__ == "__main__":
    main()
