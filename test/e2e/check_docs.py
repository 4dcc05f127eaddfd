#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# A command that the documentation shows is a promise: each is run as it stands there.
"""Runs the commands of the documentation, page by page.

    check_docs.py --source . --build build [docs/serving.md ...]

Commands are those of ```sh blocks, and of lines that begin with four spaces and a dollar. They run in a folder that looks like
the source tree, with the tools in PATH, and must exit with 0. What a reader has and the tree lacks is put there: path/to/model,
path/to/adapter, some.txt, questions.jsonl, stories.txt, encoder.onnx, x.npy. A server is started, and ends with its page. Before a block, the page may
have one of these comments, which readers do not see:

    <!-- run first: COMMAND -->   makes what the block takes for granted
    <!-- not run: REASON -->      is printed, and counted: few may be
    <!-- prints an error -->      of the server, which no other block may
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
import numpy as np

import harness
import onnx_file as of
from harness import Failure

PAGES = ["README.md", "CONTRIBUTING.md", "docs/*.md"]
MOST_NOT_RUN = 14
SERVER = re.compile(r"^(.*\bhadal-serve [^#\n|;&]*?)(\s*#.*)?$", re.M)


def read_blocks(page):
    """Yields (line, commands, reason not to run them, whether they print an error of the server)."""
    comments, lines = [], page.read_text().splitlines()
    i = 0
    while i < len(lines):
        line = lines[i]
        found = re.match(r"<!-- (run first|not run|prints an error):? ?(.*) -->$", line)
        if found:
            comments.append(found.groups())
        elif line.startswith("```"):
            end = next(j for j in range(i + 1, len(lines)) if lines[j].startswith("```"))
            if line == "```sh":
                yield from make_block(i + 1, "\n".join(lines[i + 1:end]), comments)
            comments, i = [], end
        elif line.startswith("    $ "):
            yield from make_block(i + 1, line[6:], comments)
            comments = []
        elif line.strip():
            comments = []
        i += 1


def make_block(line, text, comments):
    isError = any(kind == "prints an error" for kind, _ in comments)
    reasons = [text for kind, text in comments if kind == "not run"]
    first = [text for kind, text in comments if kind == "run first"]
    yield line, "\n".join(first + [text]), reasons[0] if reasons else None, isError


def write_adapter(folder, model):
    """A LoRA adapter of rank 1 that adds nothing much to one matrix."""
    config = json.loads((model / "config.json").read_text())
    rows, columns = config["hidden_size"], config["num_attention_heads"] * config["v_head_dim"]
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["o_proj"],
                                                            "task_type": "CAUSAL_LM", "bias": "none"}))
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_{}.weight"
    header = json.dumps({name.format("A"): {"dtype": "F32", "shape": [1, columns], "data_offsets": [0, 4 * columns]},
                         name.format("B"): {"dtype": "F32", "shape": [rows, 1], "data_offsets": [4 * columns, 4 * (columns + rows)]}}).encode()
    header += b" " * (-len(header) % 8)
    values = [0.001] * (rows + columns)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack(f"<{len(values)}f", *values))


def write_graph(folder):
    """A graph of one node, and its input."""
    tensors = [[of.value_info(name, [4], of.FLOAT)] for name in "xy"]
    (folder / "encoder.onnx").write_bytes(of.model([of.node("Relu", ["x"], ["y"])], [], *tensors))
    np.save(folder / "x.npy", np.zeros(4, np.float32))


def make_tree(folder, source, build):
    """A folder like the source tree. What commands write into is a copy."""
    for entry in source.iterdir():
        if entry.name not in ("build", "build-debug", ".git", "runtime"):
            (folder / entry.name).symlink_to(entry)
    shutil.copytree(source / "runtime", folder / "runtime")
    (folder / "build").symlink_to(build)
    model = source / "models/abyss-tiny"
    (folder / "path/to").mkdir(parents=True)
    for name in ("model", "DeepSeek-V2-Lite"):
        (folder / "path/to" / name).symlink_to(model)
    write_adapter(folder / "path/to/adapter", model)
    write_graph(folder)
    inputs = source / "test/tools/hadal-eval/Inputs"
    for name in ("some.txt", "stories.txt"):
        shutil.copy(inputs / "story.txt", folder / name)
    shutil.copy(inputs / "choices.jsonl", folder / "questions.jsonl")
    (folder / "home").mkdir()


class Page:
    """One page's folder, port and servers."""

    def __init__(self, source, build, folder):
        self.folder, self.servers = folder, []
        make_tree(folder, source, build)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.environment = os.environ | {"PATH": f"{build / 'bin'}:{folder}:{os.environ['PATH']}", "HOME": str(folder / "home"),
                                         "MAKEFLAGS": "", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, commands, isError):
        commands = commands.replace(":8080", f":{self.port}")
        server = SERVER.search(commands)
        if server and "bench/" not in server[1]:
            self.shell(commands[:server.start()])
            self.start(server[1])
            commands = commands[server.end():]
        self.shell(commands, isError)

    def shell(self, commands, isError=False):
        if commands.strip():
            status, out, err = harness.run(["bash", "-euo", "pipefail", "-c", commands], 300, cwd=self.folder, env=self.environment)
            if status:
                raise Failure(f"exit status {status}: {commands.strip()[:200]}\n{out[-500:]}{err[-1000:]}")
            if ('"error":' in out) != isError:
                raise Failure(f"{'an error' if isError else 'no error'} was expected: {out[:500]}")

    def start(self, command):
        """Starts a server, and what makes its product before it, and waits until it listens."""
        self.servers.append(subprocess.Popen(["bash", "-euo", "pipefail", "-c", f"{command} --port {self.port} --quiet"], cwd=self.folder,
                                             env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True))
        for _ in range(1200):
            if self.servers[-1].poll() is not None:
                raise Failure(f"exit status {self.servers[-1].returncode}: {command}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise Failure(f"does not listen: {command}")

    def close(self):
        for server in self.servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def check_page(page, source, build, not_run):
    if not shutil.which("curl") and "curl " in page.read_text():
        raise harness.Failure("curl is not installed")
    count = 0
    with tempfile.TemporaryDirectory(prefix="hadal-docs-") as folder:
        runner = None
        try:
            for line, commands, reason, isError in read_blocks(page):
                if reason:
                    not_run.append(f"{page.relative_to(source)}:{line}: {reason}")
                    continue
                runner = runner or Page(source, build, Path(folder))
                try:
                    runner.run(commands, isError)
                except Failure as failure:
                    raise Failure(f"line {line}: {failure}")
                count += 1
        finally:
            if runner:
                runner.close()
    return f"{count} blocks"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--build", required=True, type=Path)
    parser.add_argument("pages", nargs="*", help="default: all")
    args = parser.parse_args()
    source, build = args.source.resolve(), args.build.resolve()
    pages = [source / page for page in args.pages] or [page for pattern in PAGES for page in sorted(source.glob(pattern))]
    not_run = []
    checks = [(str(page.relative_to(source)), lambda page=page: check_page(page, source, build, not_run))
              for page in pages if any(True for _ in read_blocks(page))]

    def check_not_run():
        if len(not_run) > MOST_NOT_RUN:
            raise Failure(f"{len(not_run)} blocks are not run, expected at most {MOST_NOT_RUN}")
        return "; ".join(not_run) or "none"
    return harness.run_checks(checks + [("not run", check_not_run)])


if __name__ == "__main__":
    sys.exit(main())
