# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Holds hadalc to one line for each wrong option of a pass, and to leaving nothing behind.

    wrong-options.py MODEL SCRATCH ADAPTER

ADAPTER is one of MODEL, which has 4 layers, 16 experts, 4 of them a token, and 4 heads; it is made one of a deeper model.
"""
import os
import subprocess
import sys

model, scratch, adapter = sys.argv[1:]
tensors = os.path.join(adapter, "adapter_model.safetensors")
with open(tensors, "rb") as file:
    deeper = file.read().replace(b"layers.3.", b"layers.7.")
with open(tensors, "wb") as file:
    file.write(deeper)
# Numbers that none of the passes takes; the most that counts and percents can be wrong by.
NUMBERS = ["", "0", "-1", "-0", "x", "nan", "inf", "1e3", "0x1", "1.5", "99999999999999999999", " 1", "1 "]
PERCENTS = ["0%", "-1%", "100%", "140%", "nan%", "inf%", "1e9%", "%", "x%", "99999999999999999999%", "50%%", "50 %"]
WRONG = [[f"--prune={kind}:{amount}"] for kind in ("layers", "heads", "channels", "experts") for amount in NUMBERS + PERCENTS]
WRONG += [[f"--{option}={number}"] for option in ("top-k", "merge-experts", "window", "context", "max-batch") for number in NUMBERS]
WRONG += [[f"--window=8,sink={number}"] for number in NUMBERS if number not in ("0", "-0")]
WRONG += [[f"--skip-layers={count}:50%", "--weights=none"] for count in NUMBERS]
WRONG += [[f"--skip-layers=1:{share}", "--weights=none"] for share in NUMBERS + PERCENTS if share not in ("0%", "100%")]
WRONG += [[f"--skip-layers=exit={layer}:50%", "--weights=none"] for layer in NUMBERS + ["4", "99"]]
WRONG += [[f"--quantize=auto:{number}bpw"] for number in ("", "0", "-1", "nan", "inf", "33", "x")]
WRONG += [[f"--quantize={scheme}"] for scheme in (
    "", "int3", "int4", "int8-g0", "int8-g33", "int8-g-32", "int4-g", "int4-g32,", "experts", "experts=", "experts=int3", "norms=int8",
    "int8,method=gptq", "int8,method=best", "int8,method=", "auto:4.5", "auto:4.5bpw,method=best")]
WRONG += [[f"--quantize=int8,calibration={model}/config.json,method=smoothquant,alpha={alpha}"]
          for alpha in ("", "-0.1", "1.1", "nan", "inf", "x", "50%")]
WRONG += [
    # More than the model has.
    ["--top-k=5"], ["--top-k=99"], ["--merge-experts=17"], ["--prune=layers:4"], ["--prune=layers:99%"],
    ["--prune=heads:4"], ["--prune=heads:99%"], ["--prune=experts:16"], ["--prune=experts:99%"],
    ["--skip-layers=4:50%", "--weights=none"],
    # Names, and what does not go together.
    ["--prune="], ["--prune=layers"], ["--prune=rows:1"], ["--prune=layers:1,"], ["--prune=layers:1,layers:1"], ["--kv=int4"], ["--kv="],
    ["--attention=f16"], ["--activations=int4"], ["--window=8,sinks=1"], ["--window=8,sink"], ["--window=8,sink=1,sink=2"],
    ["--skip-layers="], ["--skip-layers=1"], ["--skip-layers=1:50%"], ["--order-experts"], ["--prune=experts:25%"],
    ["--skip-layers=1:50%", "--prune=layers:1", "--weights=none"], ["--save-statistics=s.safetensors"], ["--save-statistics="], ["--calibration="],
    # Files that are not there, or are another thing.
    *[[f"--{option}=/nonexistent"] for option in ("calibration", "lora", "lora-runtime", "skip-layers")],
    [f"--skip-layers={model}/model.safetensors"], [f"--calibration={model}/model.safetensors", "--prune=layers:1"],
    [f"--lora={adapter}"], [f"--lora-runtime={adapter}"], [f"--lora={model}"], [f"--lora-runtime=a={adapter},a={adapter}"],
    [f"--lora-runtime=={adapter}"]]

failures = 0
for flags in WRONG:
    output = os.path.join(scratch, "out")
    found = subprocess.run(["hadalc", model, "-o", output, "--quiet", *flags], capture_output=True, text=True)
    lines = found.stderr.splitlines()
    if found.returncode not in (1, 2) or len(lines) != 1 or not lines[0].startswith("hadalc: error: ") or os.listdir(scratch):
        failures += 1
        print(f"{' '.join(flags)!r}: exit {found.returncode}, {os.listdir(scratch)}, {found.stderr!r}")
        for name in os.listdir(scratch):
            os.remove(os.path.join(scratch, name))
print(f"{len(WRONG)} wrong options, {failures} that are not refused in a line")
sys.exit(failures != 0)
