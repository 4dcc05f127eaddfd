# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes reference numbers for models/abyss-tiny with Hugging Face transformers, and checks the training code against it.

    python models/make_goldens.py [models/abyss-tiny]

golden/tokens.json  32 token ids
golden/logits.npy   their logits, float32 [32, vocab], computed in float32
golden/greedy.json  a prompt of 12 ids and the 48 that follow it, computed in float64, with no step whose two best logits are
                    closer than 1e-3 of the largest |logit|, so that a correct implementation cannot differ by rounding
golden/tokenizer.json  texts with their ids, without BOS
"""

import json
import pathlib
import sys

import numpy as np
import torch
from transformers import AutoTokenizer, DeepseekV3ForCausalLM

FOLDER = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "models/abyss-tiny")
sys.path.insert(0, str(pathlib.Path(__file__).parent / "train"))
import model as arch

TEXT = ("Once upon a time there was a little fox named Ivy. She lived in a warm den near the old mill. One morning she found a "
        "silver key in the tall grass, and she asked the owl what it could open.")
PROMPTS = ["Once upon a time there was a small bear who lived in", "Long ago, by the sea, there lived an old fisherman named",
           "Once upon a time there lived a little girl. She had", "There was a clever mouse who lived in a quiet farm. Every",
           "One day the king sent word to all the land. Whoever", "Once there was a kind baker called Tom. He lived in"]
TOKENIZER_TEXTS = ["Once upon a time there was a little fox.", "  two spaces, a tab\tand\n\nlines\r\n", "I'm sure they'll say \"no\"; don't you?", "In 1813, 12345 books: $3.50!",
                   "naïve café — “quotes” … ünïcödé", "深度求索 の テスト", "🦊 said hi", "x = foo_bar(a[0], b) # note", "", " ", "<｜User｜>Hello!<｜Assistant｜>Hi.<｜end▁of▁sentence｜>",
                   "ALL CAPS and MiXeD", "trailing spaces   ", "\n", "e\u0301a\u0300"]


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    # Eager attention and experts: the reference for every other kernel.
    net = DeepseekV3ForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    golden = FOLDER / "golden"
    golden.mkdir(exist_ok=True)

    ids = tokenizer(TEXT).input_ids[:32]
    assert len(ids) == 32 and ids[0] == 0 and ids[1] != 0, "expected BOS, once"
    logits = net(torch.tensor([ids])).logits[0]
    mine = arch.load(FOLDER)
    own = mine.lm_head(mine(torch.tensor([ids])))[0]
    difference = (own - logits).abs().max().item() / logits.abs().max().item()
    print(f"training code against transformers: max |difference| {difference:.1e} of max |logit|")
    assert difference < 1e-5
    (golden / "tokens.json").write_text(json.dumps({"tokens": ids}) + "\n")
    np.save(golden / "logits.npy", logits.numpy().astype(np.float32))

    net = net.double()
    for prompt in PROMPTS:
        ids = tokenizer(prompt).input_ids[:12]
        if len(ids) < 12:
            continue
        out, margin = list(ids), 1.0
        for _ in range(48):
            last = net(torch.tensor([out])).logits[0, -1]
            best = last.topk(2)
            margin = min(margin, ((best.values[0] - best.values[1]) / last.abs().max()).item())
            out.append(int(best.indices[0]))
        print(f"{prompt!r}: smallest margin {margin:.1e}")
        if margin >= 1e-3 and 1 not in out:
            break
    else:
        sys.exit("no prompt keeps its margin: add another")
    (golden / "greedy.json").write_text(json.dumps({"prompt": ids, "tokens": out[12:], "prompt_text": tokenizer.decode(ids[1:]),
                                                    "text": tokenizer.decode(out[12:]), "smallest_margin": margin}, indent=1) + "\n")
    cases = [{"text": t, "tokens": tokenizer(t, add_special_tokens=False).input_ids} for t in TOKENIZER_TEXTS]
    (golden / "tokenizer.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
    print(tokenizer.decode(out))


if __name__ == "__main__":
    main()
