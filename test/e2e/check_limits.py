#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Holds hadalc to its promises of time and memory: published configurations compile in seconds and in little memory, and
# packing weights takes no more memory than a part of one tensor.
"""Measures hadalc on real sizes.

    check_limits.py --hadalc build/bin/hadalc --configs test/lib/Import/Inputs     time and memory of compiling
    check_limits.py --hadalc build/bin/hadalc --passes test/lib/Import/Inputs/DeepSeek-V3   with each pass
    check_limits.py --hadalc build/bin/hadalc --pack build/test/e2e/pack           memory of packing

Times are printed beside what is promised, and only fail at three times that or more, since machines are noisy. Exit
status 77: the disk has too little room for --pack.
"""
import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
import sparse
from harness import Failure

GIB = 1 << 30

# Folder: seconds that are promised, seconds that fail.
CONFIGS = {"DeepSeek-V3": (10, 30), "DeepSeek-V3.2-Exp": (10, 30), "DeepSeek-V2-Lite": (5, 20), "DeepSeek-V4-Pro": (10, 30)}


# What each pass is asked for, of a model of FP8 and, where that is refused, of bf16. None needs a weight.
PASSES = [["--top-k=4"], ["--prune=layers:32%"], ["--prune=experts:25%"], ["--merge-experts=128"], ["--order-experts"],
          ["--lora={adapter}"], ["--lora-runtime=one={adapter}"], ["--skip-layers=4:50%"], ["--skip-layers=exit=30:25%,exit=45:50%"],
          ["--window=4096,sink=4"], ["--kv=int8"], ["--quantize=mixed"], ["--quantize=int4-g32,method=imatrix"], ["--quantize=int4-g128,method=awq"],
          ["--quantize=int8,method=smoothquant"],
          ["--prune=layers:10%,experts:50%", "--top-k=6", "--window=8192", "--quantize=experts=int4-g32,attention=int8-g128"]]
WIDE_PASSES = [["--prune=channels:25%"], ["--prune=heads:25%"]]


def check_memory(bytes):
    if bytes > GIB:
        raise Failure(f"{bytes / 1e6:.0f} MB resident, expected at most {GIB / 1e6:.0f} MB")


def check_config(folder, promised, most, hadalc):
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as out:
        seconds, memory = harness.measure([hadalc, folder, "-o", Path(out) / "model.o", "--weights=none", "--emit=obj"], 4 * most)
        size = (Path(out) / "model.o").stat().st_size
        made = sorted(p.name for p in Path(out).iterdir())
    line = f"{seconds:.2f} s (promised: {promised} s), {memory / 1e6:.0f} MB resident, an object of {size / 1e3:.0f} kB"
    if made != ["model.o"]:
        raise Failure(f"made {', '.join(made)}")
    if seconds > most:
        raise Failure(line)
    check_memory(memory)
    return line


def write_adapter(folder, config, rank=16):
    """Writes a LoRA adapter of what reads and ends each attention, of zeros."""
    folder.mkdir()
    hidden, rows = config["hidden_size"], config["num_attention_heads"] * config["v_head_dim"]
    shapes = {"q_a_proj": (config["q_lora_rank"], hidden), "o_proj": (hidden, rows)}
    names = [(f"base_model.model.model.layers.{layer}.self_attn.{name}", shape)
             for layer in range(config["num_hidden_layers"]) for name, shape in shapes.items()]
    sparse.write_tensors(folder / "adapter_model.safetensors",
                         [tensor for name, (outputs, inputs) in names
                          for tensor in ((f"{name}.lora_A.weight", "F32", (rank, inputs)), (f"{name}.lora_B.weight", "F32", (outputs, rank)))])
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "target_modules": list(shapes)}))


def check_passes(source, hadalc):
    """Compiles a DeepSeek-V3 with each pass. The statistics, and an adapter, are holes in files."""
    config = json.loads((source / "config.json").read_text())
    wide = {key: value for key, value in config.items() if key != "quantization_config"}
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as work:
        work = Path(work)
        sparse.write_tensors(work / "statistics.safetensors", sparse.statistics(config))
        write_adapter(work / "adapter", config)
        (work / "wide").mkdir()
        (work / "wide/config.json").write_text(json.dumps(wide))

        def check(folder, flags):
            seconds, memory = harness.measure([hadalc, folder, "-o", work / "model.o", "--weights=none", "--emit=obj",
                                               f"--calibration={work / 'statistics.safetensors'}",
                                               *(flag.format(adapter=work / "adapter") for flag in flags)], 120)
            line = f"{seconds:.2f} s (promised: 10 s), {memory / 1e6:.0f} MB resident"
            if seconds > 30:
                raise Failure(line)
            check_memory(memory)
            return line

        return harness.run_checks([(" ".join(flags), lambda folder=folder, flags=flags: check(folder, flags))
                                   for folder, cases in ((source, PASSES), (work / "wide", WIDE_PASSES)) for flags in cases])


def check_pack(folder, hadalc):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pack-", dir=folder) as work:
        work = Path(work)
        stored = sparse.write_model(work / "model", sparse.DEEPSEEK_V3)
        free = shutil.disk_usage(work).free
        if free < stored + 2 * GIB:
            print(f"skip  {free / 1e9:.1f} GB are free in {folder}, {(stored + 2 * GIB) / 1e9:.1f} GB are needed")
            sys.exit(harness.SKIPPED)
        seconds, memory = harness.measure([hadalc, work / "model", "-o", work / "out", "--emit=exe", "--context=128"], 500)
        written = (work / "out.weights").stat().st_size
        line = (f"{written / 1e9:.2f} GB of weights in {seconds:.1f} s, {written / 1e9 / seconds:.2f} GB/s, "
                f"{memory / 1e6:.0f} MB resident")
        if written < stored:
            raise Failure(f"{written} bytes written, but the tensors have {stored}")
        check_memory(memory)
        return line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--configs", type=Path, help="folder of published configurations")
    what.add_argument("--passes", type=Path, help="folder of the configuration of a DeepSeek-V3")
    what.add_argument("--pack", type=Path, help="folder on a disk with 7 GB of room")
    args = parser.parse_args()
    if args.pack:
        return harness.run_checks([("pack DeepSeek-V3, one layer", lambda: check_pack(args.pack, args.hadalc))])
    if args.passes:
        return check_passes(args.passes, args.hadalc)
    return harness.run_checks([(name, lambda name=name, limits=limits: check_config(args.configs / name, *limits, args.hadalc))
                               for name, limits in CONFIGS.items()])


if __name__ == "__main__":
    sys.exit(main())
