#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs a checkpoint in the reference interpreter and compares its logits with those of PyTorch.

usage: check_golden.py MODEL WORK TOLERANCE [PASS...]

MODEL has golden/tokens.json and golden/logits.npy; files are made under WORK; hadal-translate and
hadal-opt are in PATH. PASSes run before the model does. TOLERANCE is a share of the largest logit.
"""

import json
import os
import subprocess
import sys

import numpy

model, work, tolerance, *passes = sys.argv[1:]
with open(f"{model}/golden/tokens.json") as file:
    tokens = json.load(file)["tokens"]
expected = numpy.load(f"{model}/golden/logits.npy").astype(numpy.float64)

os.makedirs(work, exist_ok=True)
subprocess.run(["hadal-translate", "--import-hf", model, "-o", f"{work}/model.mlir"], check=True)
options = f"tokens={','.join(map(str, tokens))} folder={model} npy={work}/logits.npy"
subprocess.run(["hadal-opt", f"{work}/model.mlir", *passes, f"-deepseek-run={options}", "-o", os.devnull], check=True)

logits = numpy.load(f"{work}/logits.npy")
if logits.shape != expected.shape:
    sys.exit(f"expected logits of shape {expected.shape}, but got {logits.shape}")
error = abs(logits - expected).max() / abs(expected).max()
print(f"largest difference: {error:.2e} of the largest logit")
if not error <= float(tolerance):
    sys.exit(f"expected at most {tolerance}")
