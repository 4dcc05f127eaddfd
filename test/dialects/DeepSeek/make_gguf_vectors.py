#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Writes the table of GGUFBlocksTest.cpp: what the Python package `gguf`, which
# belongs to llama.cpp, makes of blocks that both make from the same generator.
# Run by hand; needs numpy and gguf.
"""Prints a line of C++ for each block format: name, hash of the numbers of 64
blocks, first and last number."""

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

BLOCKS = 64
# Offsets, in a block, of the bytes with the exponent of a scale.
EXPONENTS = dict(Q4_0=[1], Q4_1=[1, 3], Q5_0=[1], Q5_1=[1, 3], Q8_0=[1],
                 Q2_K=[81, 83], Q3_K=[109], Q4_K=[1, 3], Q5_K=[1, 3],
                 Q6_K=[209], IQ4_NL=[1], IQ4_XS=[1], MXFP4=[0])


def blocks_of(name, size):
    state, data = 0, bytearray()
    for _ in range(BLOCKS * size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        data.append(state >> 56)
    blocks = np.frombuffer(bytes(data), np.uint8).reshape(BLOCKS, size).copy()
    # No infinities and NaNs: an f16 below 2, a power of two up to 1.
    blocks[:, EXPONENTS[name]] &= 0x7f if name == "MXFP4" else 0xbf
    return blocks


def hash_of(numbers):
    result = 0xcbf29ce484222325
    for byte in numbers.astype("<f4").tobytes():
        result = (result ^ byte) * 0x100000001b3 % 2**64
    return result


for name in EXPONENTS:
    kind = GGMLQuantizationType[name]
    numbers = dequantize(blocks_of(name, GGML_QUANT_SIZES[kind][1]), kind)
    first, last = (float(numbers.flat[i]).hex() for i in (0, -1))
    print(f"    {{GGUFFormat::{name}, {hash_of(numbers):#018x}, {first}f, {last}f}},")
