# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes a LoRA adapter for models/abyss-tiny, as PEFT saves it, with numbers that follow from SEED.

    write-adapter.py FOLDER SEED [RANK [PROJECTION,...]]
    write-adapter.py FOLDER SEED RANK PROJECTION=INPUTSxOUTPUTS,... LAYERS    for another model
"""
import json
import random
import struct
import sys
from pathlib import Path

# Of each projection, inputs and outputs.
SHAPES = {"q_a_proj": (256, 128), "q_b_proj": (128, 384), "kv_a_proj_with_mqa": (256, 96), "o_proj": (256, 256),
          "mlp.gate_proj": (256, 640), "mlp.up_proj": (256, 640), "mlp.down_proj": (640, 256)}
LAYERS = 4


def main():
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    rank = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    names = sys.argv[4].split(",") if len(sys.argv) > 4 else ["q_a_proj", "o_proj", "mlp.down_proj"]
    shapes, layers = dict(SHAPES), LAYERS
    if len(sys.argv) > 5:
        shapes = {name: tuple(map(int, shape.split("x"))) for name, shape in (item.split("=") for item in names)}
        names, layers = list(shapes), int(sys.argv[5])
    draw = random.Random(seed)
    header, body = {}, bytearray()

    def add(name, rows, columns, size):
        values = [draw.uniform(-size, size) for _ in range(rows * columns)]
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [len(body), len(body) + 4 * len(values)]}
        body.extend(struct.pack(f"<{len(values)}f", *values))

    for layer in range(layers):
        for name in names:
            if name.startswith("mlp.") and layer > 0:
                continue  # Only the first layer has a plain network.
            inputs, outputs = shapes[name]
            module = f"base_model.model.model.layers.{layer}." + (name if "." in name else "self_attn." + name)
            add(module + ".lora_A.weight", rank, inputs, (3 / inputs) ** 0.5)
            add(module + ".lora_B.weight", outputs, rank, 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "use_rslora": False,
              "target_modules": sorted({name.rsplit(".", 1)[-1] for name in names})}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)


main()
