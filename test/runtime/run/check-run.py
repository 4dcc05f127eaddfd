#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks the command line of emitted executables, hadal-run and hadal-bench.

usage: check-run.py --product FILE --hadal-run FILE --hadal-bench FILE
"""
import argparse
import ast
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

VOCAB, CONTEXT = 260, 600
BOS, EOS, USER, ASSISTANT = 256, 257, 258, 259
SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>",
           "<｜Assistant｜>"]
ARGUMENTS = None


def next_token(tokens):
    return sum((p + 1) * (t + 1) for p, t in enumerate(tokens)) % 258


def greedy(prompt, count, stops=False):
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
        if stops and tokens[-1] == EOS:
            break
    return tokens[len(prompt):]


def tokenizer_json():
    """A byte-level BPE without merges: one token a byte, and four more."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    spelling = {b: chr(b) for b in printable}
    spelling.update({b: chr(256 + i) for i, b in enumerate(others)})
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": 256 + i, "content": s, "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False,
             "special": True} for i, s in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
                          "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True,
                    "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False,
                  "vocab": {spelling[b]: b for b in range(256)},
                  "merges": []}}).encode()


def tokenizer_config_json():
    return json.dumps({
        "add_bos_token": True, "add_eos_token": False,
        "bos_token": SPECIAL[0], "eos_token": SPECIAL[1],
        "tokenizer_class": "LlamaTokenizerFast"}).encode()


def weights_file(sections):
    header = bytearray(4096)
    body = bytearray()
    names = [("weights", bytes(4096)), ("manifest", b"{}"), *sections]
    for i, (name, data) in enumerate(names):
        struct.pack_into("<32sQQ", header, 40 + 48 * i, name.encode(),
                         4096 + len(body), len(data))
        body += data + bytes(-len(data) % 4096)
    struct.pack_into("<8sII16sQ", header, 0, b"HADALWTS", 1, len(names),
                     bytes([42]), 4096 + len(body))
    return bytes(header + body)


def read_npy(path):
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    size, = struct.unpack_from("<H", data, 8)
    assert (size + 10) % 64 == 0
    header = ast.literal_eval(data[10:10 + size].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"]
    rows, columns = header["shape"]
    values = struct.unpack_from(f"<{rows * columns}f", data, 10 + size)
    assert len(data) == 10 + size + 4 * rows * columns
    return [values[r * columns:(r + 1) * columns] for r in range(rows)]


class RunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="hadal-run-test-"))
        cls.product = cls.folder / "out"
        shutil.copy(ARGUMENTS.product, cls.product)
        cls.weights = weights_file([
            ("tokenizer.json", tokenizer_json()),
            ("tokenizer_config.json", tokenizer_config_json())])
        (cls.folder / "out.weights").write_bytes(cls.weights)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def call(self, *command, code=0):
        result = subprocess.run([str(c) for c in command],
                                stdin=subprocess.DEVNULL, capture_output=True,
                                timeout=120)
        out, err = result.stdout.decode(), result.stderr.decode()
        self.assertEqual(result.returncode, code, err)
        if code:
            self.assertEqual(err.count("\n"), 1, err)
            self.assertIn(": error: ", err)
            return err
        self.assertEqual(err, "")
        return out

    def run_out(self, *options, code=0):
        return self.call(self.product, *options, code=code)

    def run_json(self, *options):
        return json.loads(self.run_out(*options, "--json"))

    def test_tokens_generate_exactly_n(self):
        # The greedy continuation of some prompt meets eos; it goes on.
        prompt = next([p, p] for p in range(256)
                      if EOS in greedy([p, p], 20)[:10])
        result = self.run_json("--tokens", f"{prompt[0]},{prompt[1]}",
                               "-n", 20, "--temperature", 0)
        self.assertEqual(result["prompt_tokens"], prompt)
        self.assertEqual(result["tokens"], greedy(prompt, 20))
        self.assertEqual(result["stop"], "length")
        self.assertEqual(result["timings"]["generated_tokens"], 20)

    def test_threads_and_chunks_do_not_matter(self):
        prompt = [(i * i) % 251 for i in range(90)]
        expected = greedy(prompt, 30)
        listed = ",".join(map(str, prompt))
        for options in ([], ["--threads", 1], ["--threads", 5],
                        ["--chunk", 1], ["--chunk", 7], ["--chunk", 1000],
                        ["--context", 119]):
            result = self.run_json("--tokens", listed, "-n", 30, *options)
            self.assertEqual(result["tokens"], expected, options)

    def test_tokens_from_a_file(self):
        prompt = [i % 256 for i in range(570)]
        path = self.folder / "tokens.txt"
        path.write_text("\n".join(map(str, prompt)) + "\n")
        result = self.run_json("--tokens", f"@{path}", "-n", 3)
        self.assertEqual(result["prompt_tokens"], prompt)
        self.assertEqual(result["tokens"], greedy(prompt, 3))

    def test_logits(self):
        prompt = [5, 6, 7, 200, 3]
        path = self.folder / "logits.npy"
        for options in ([], ["--chunk", 2], ["--chunk", 1]):
            out = self.run_out("--tokens", "5,6,7,200,3", "--logits", path,
                               *options)
            self.assertEqual(out, "")
            rows = read_npy(path)
            self.assertEqual(len(rows), 5)
            for i, row in enumerate(rows):
                target = next_token(prompt[:i + 1])
                self.assertEqual(list(row),
                                 [-abs(v - target) for v in range(VOCAB)])
        # With -n, the text goes on from the last row.
        for options in ([], ["--chunk", 2]):
            result = self.run_json("--tokens", "5,6,7,200,3", "--logits", path,
                                   "-n", 4, *options)
            self.assertEqual(result["tokens"], greedy(prompt, 4))
        self.assertEqual(list(self.folder.glob("*.tmp.*")), [])

    def test_prompt_streams_text_and_stops_at_eos(self):
        # A prompt whose continuation meets eos after at least two tokens.
        for i in range(10000):
            prompt = [BOS, *f"p{i}".encode()]
            tokens = greedy(prompt, 60, stops=True)
            if tokens[-1] == EOS and len(tokens) > 2:
                break
        result = self.run_json("--prompt", f"p{i}", "-n", 60)
        self.assertEqual(result["prompt_tokens"], prompt)
        self.assertEqual(result["tokens"], tokens)
        self.assertEqual(result["stop"], "eos")
        text = bytes(t for t in tokens if t < 256).decode(errors="replace")
        self.assertEqual(result["text"], text)
        out = self.run_out("--prompt", f"p{i}", "-n", 60)
        self.assertEqual(out, text if text.endswith("\n") else text + "\n")

    def test_chat(self):
        result = self.run_json("--chat", "Hi", "--system", "S", "-n", 2,
                               "--chat-format", "deepseek-v3")
        expected = [BOS, ord("S"), USER, *b"Hi", ASSISTANT]
        self.assertEqual(result["prompt_tokens"], expected)
        self.assertEqual(result["tokens"], greedy(expected, 2, stops=True))
        error = self.run_out("--chat", "Hi", code=1)
        self.assertIn("--chat-format", error)
        self.run_out("--chat", "Hi", "--chat-format", "nothing", code=2)

    def test_sampling_is_reproducible(self):
        def sample(seed):
            return self.run_json("--tokens", "1,2", "-n", 40, "--temperature",
                                 2, "--top-k", 9, "--top-p", 0.9, "--seed",
                                 seed)["tokens"]
        self.assertEqual(sample(1), sample(1))
        self.assertNotEqual(sample(1), sample(2))

    def test_without_tokenizer(self):
        path = self.folder / "bare.weights"
        path.write_bytes(weights_file([]))
        out = self.run_out("--tokens", "1,2", "-n", 3, "--weights", path)
        self.assertEqual(out, ",".join(map(str, greedy([1, 2], 3))) + "\n")
        result = self.run_json("--tokens", "1", "-n", 3, "--weights", path)
        self.assertEqual(result["text"], "")
        error = self.run_out("--prompt", "x", "--weights", path, code=1)
        self.assertIn("--tokens", error)

    def test_embedded_weights(self):
        alone = self.folder / "alone"
        program = self.product.read_bytes()
        program += bytes(-len(program) % 4096)
        trailer = struct.pack("<QQ8s", len(program), len(self.weights),
                              b"HADALEMB")
        alone.write_bytes(program + self.weights + trailer)
        alone.chmod(0o755)
        out = json.loads(self.call(alone, "--tokens", "9", "-n", "3",
                                   "--json"))
        self.assertEqual(out["tokens"], greedy([9], 3))

    def test_wrong_usage(self):
        for options in ([], ["--unknown"], ["--tokens"], ["--tokens", ""],
                        ["--tokens", "1,,2"], ["--tokens", "1,"],
                        ["--tokens", "-1"], ["--tokens", "a"],
                        ["--tokens", "99999999999"], ["--tokens", "1", "x"],
                        ["--tokens", "1", "--prompt", "x"],
                        ["--tokens", "1", "-n", "-1"],
                        ["--tokens", "1", "-n", "1x"],
                        ["--tokens", "1", "--temperature", "-1"],
                        ["--tokens", "1", "--temperature", "nan"],
                        ["--tokens", "1", "--top-p", "2"],
                        ["--tokens", "1", "--threads", "-2"],
                        ["--tokens", "1", "--context", "0"],
                        ["--tokens", "1", "--system", "x"]):
            error = self.run_out(*options, code=2)
            self.assertTrue(error.startswith("out: error: "), error)

    def test_bad_input(self):
        self.assertIn("token 1 is 260, expected 0 .. 259",
                      self.run_out("--tokens", "1,260", code=1))
        self.assertIn("601 tokens, but the context has 600", self.run_out(
            "--tokens", ",".join(["1"] * 601), code=1))
        self.assertIn("room for 600", self.run_out(
            "--tokens", "1", "-n", "601", code=1))
        self.assertIn("room for 2", self.run_out(
            "--tokens", "1,2", "-n", "3", "--context", "3", code=1))
        self.assertIn("no tokens", self.run_out(
            "--prompt", "", "--weights", self.no_bos(), code=1))
        self.assertIn("missing.weights", self.run_out(
            "--tokens", "1", "--weights", "missing.weights", code=1))
        self.assertIn("nowhere", self.run_out(
            "--tokens", "1", "--logits", "/nowhere/x.npy", code=1))
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        self.assertIn("cannot write: Operation not supported", self.run_out(
            "--tokens", "1", "--logits", pipe, code=1))
        self.assertTrue(pipe.is_fifo())
        self.assertIn("missing.txt", self.run_out(
            "--tokens", "@missing.txt", code=1))

    def no_bos(self):
        path = self.folder / "no-bos.weights"
        path.write_bytes(weights_file([("tokenizer.json", tokenizer_json())]))
        return path

    def test_full_output_device(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([self.product, "--tokens", "1", "-n", "3"],
                                    stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(result.returncode, 1)

    def test_help_fits_a_screen(self):
        for command in ([self.product], [ARGUMENTS.hadal_run],
                        [ARGUMENTS.hadal_bench], [self.product, "--bench"]):
            lines = self.call(*command, "--help").splitlines()
            self.assertLessEqual(len(lines), 24)
            for line in lines:
                self.assertLessEqual(len(line), 80, line)
            self.assertTrue(lines[0].startswith("usage: "))

    def test_hadal_run(self):
        out = self.call(ARGUMENTS.hadal_run, self.product, "--tokens", "1,2",
                        "-n", "3", "--json")
        self.assertEqual(json.loads(out)["tokens"], greedy([1, 2], 3))
        self.call(ARGUMENTS.hadal_run, self.product, "--nothing", code=2)
        self.call(ARGUMENTS.hadal_run, code=2)
        self.call(ARGUMENTS.hadal_run, "--json", code=2)

    def test_hadal_run_executes_nothing_else(self):
        run = ARGUMENTS.hadal_run
        self.call(run, self.folder / "missing", code=1)
        self.call(run, self.folder, code=1)
        self.call(run, "/dev/null", code=1)
        script = self.folder / "script"
        script.write_text("#!/bin/sh\ntouch ran\n")
        script.chmod(0o755)
        self.assertIn("not an ELF file", self.call(run, script, code=1))
        self.assertIn(".hadal.manifest", self.call(run, sys.executable,
                                                   code=1))
        unmarked = self.folder / "unmarked"
        program = bytearray(self.product.read_bytes())
        unmarked.write_bytes(program.replace(b".hadal.manifest",
                                             b".hadal.manifexx"))
        unmarked.chmod(0o755)
        self.assertIn(".hadal.manifest", self.call(run, unmarked, code=1))
        plain = self.folder / "plain"
        plain.write_bytes(program)
        plain.chmod(0o644)
        self.assertIn("cannot execute", self.call(run, plain, code=1))

    def test_hadal_run_survives_damaged_elf(self):
        program = self.product.read_bytes()
        damaged = self.folder / "damaged"
        for size in (0, 3, 16, 63, 64, 100, len(program) // 2):
            damaged.write_bytes(program[:size])
            self.call(ARGUMENTS.hadal_run, damaged, code=1)
        # Offset and size of the section headers, their count and names.
        for at, size in ((0x28, 8), (0x3a, 2), (0x3c, 2), (0x3e, 2)):
            for value in (0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1):
                copy = bytearray(program)
                copy[at:at + size] = value.to_bytes(size, "little")
                damaged.write_bytes(copy)
                # Not executable, so even one that passes is not run.
                damaged.chmod(0o644)
                self.call(ARGUMENTS.hadal_run, damaged, code=1)

    def test_hadal_bench(self):
        out = json.loads(self.call(
            ARGUMENTS.hadal_bench, self.product, "-p", "20", "-n", "4", "-d",
            "0,50", "-t", "2", "-r", "1", "--json"))
        self.assertEqual(out["threads"], 2)
        self.assertGreater(out["read_bytes_per_s"]["median"], 1e8)
        self.assertEqual([(r["kind"], r["tokens"], r["depth"])
                          for r in out["runs"]],
                         [("prefill", 20, 0), ("decode", 4, 0),
                          ("prefill", 20, 50), ("decode", 4, 50)])
        # 2048 of weights as the manifest says, and 8 a token of context.
        self.assertEqual(out["runs"][3]["bytes_per_token"], 2048 + 8 * 52.5)
        self.assertEqual(out["runs"][3]["f32_operations_per_token"], 1000)
        # Of a prefill, one row has logits.
        self.assertEqual(out["runs"][0]["bytes_per_token"], (2048 + 8 * 20) / 20)
        self.assertEqual(out["runs"][0]["f32_operations_per_token"], 50)
        self.assertEqual(out["runs"][0]["int8_operations_per_token"], 500)
        for key in ("f32_operations_per_s", "int8_operations_per_s"):
            self.assertGreater(out[key]["median"], 1e8)
        self.assertLess(out["dispatch_s"]["median"], 1e-3)
        # What there is of caches and loops, on this processor.
        for cache in out["caches"]:
            self.assertGreater(cache["read_bytes_per_s"]["median"], 1e8)
        self.assertIn([some["bits"] for some in out["products"]], ([], [4.5, 5, 8.125, 8.5, 16]))
        for some in out["products"]:
            self.assertGreater(some["row_bytes_per_s"]["median"], 1e8)
            self.assertGreater(some["share_of_memory"]["median"], 0)
            # Those that are not products would be faster than the peak.
            self.assertLess(some["operations_per_s"]["median"],
                            1.5 * out["int8_operations_per_s"]["max"])
        # Each repeat is held to what was measured beside it.
        read = out["read_bytes_per_s"]
        for run in out["runs"]:
            for key in ("share_of_bandwidth", "share_of_peak"):
                share = run[key]
                self.assertLess(0, share["min"])
                self.assertLessEqual(share["min"], share["median"])
                self.assertLessEqual(share["median"], share["max"])
                self.assertIn(share["steady_repeats"], (0, 1))
            [repeat] = run["repeats"]
            self.assertEqual(repeat["tokens_per_s"], run["tokens_per_s"]["median"])
            beside = repeat["machine"]
            self.assertLessEqual(beside["read_bytes_per_s"]["max"], read["max"])
            self.assertLessEqual(set(beside), set(out))
            self.assertEqual(beside["int8_instruction"], out["int8_instruction"])
            for what in ("handover", "rows"):
                self.assertGreater(beside[f"{what}_bytes_per_s"]["median"], 1e6)
            for some in beside["products"]:
                self.assertGreater(some["operations_per_s"]["median"], 1e6)
                self.assertGreater(some["share_of_memory"]["median"], 0)
            speed, size = run["tokens_per_s"], run["bytes_per_token"]
            share = run["share_of_bandwidth"]
            self.assertGreater(share["min"] * 1.01,
                               speed["min"] * size / read["max"])
            self.assertLess(share["max"],
                            speed["max"] * size / read["min"] * 1.01)
        text = self.call(ARGUMENTS.hadal_bench, self.product, "-p", "0", "-n",
                         "2", "-r", "1")
        self.assertIn("bandwidth", text)
        self.call(ARGUMENTS.hadal_bench, self.product, "-p", "601", code=1)

    def check_trace(self, path, steps):
        events = json.loads(path.read_text())["traceEvents"]
        tracks = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
        self.assertEqual(tracks, {0: "dispatches", 1: "thread 0", 2: "thread 1"})
        dispatches = [e for e in events if e["ph"] == "X" and e["tid"] == 0]
        self.assertEqual([(e["name"], e["cat"]) for e in dispatches],
                         steps * [("layers.0.write_tokens", "embed"),
                                  ("write_logits", "lm_head")])
        # Threads run nothing outside of a dispatch.
        for event in events:
            if event["ph"] == "X" and event["tid"]:
                self.assertTrue(any(
                    d["name"] == event["name"] and d["ts"] <= event["ts"] + 1e-3
                    and event["ts"] + event["dur"] <= d["ts"] + d["dur"] + 2e-3
                    for d in dispatches), event)

    def test_profile(self):
        trace = self.folder / "trace.json"
        out = json.loads(self.call(
            ARGUMENTS.hadal_bench, self.product, "-p", "20", "-n", "4", "-d",
            "3", "-t", "2", "-r", "1", "--json", "--profile", "--trace", trace))
        for run, calls in zip(out["runs"], (1, 4)):
            entries = {e["kernel"]: e for e in run["profile"]}
            self.assertEqual({k: e["calls"] for k, e in entries.items()},
                             {"write_tokens_8": calls,
                              "write_logits_260": calls})
            self.assertEqual(entries["write_tokens_8"]["bytes"],
                             8 * run["tokens"])
            self.assertEqual(entries["write_logits_260"]["f32_operations"],
                             1000 * calls)
        self.check_trace(trace, 5)
        result = subprocess.run(
            [self.product, "--tokens", "1,2", "-n", "3", "--threads", "2",
             "--profile", "--trace", trace, "--json"], capture_output=True,
            text=True, check=True)
        out = json.loads(result.stdout)
        self.assertEqual(out["tokens"], greedy([1, 2], 3))
        self.assertLess(0, out["timings"]["first_step_s"])
        self.assertLess(out["timings"]["first_step_s"],
                        out["timings"]["first_token_s"])
        self.assertRegex(result.stderr, r"generate\n.*limit\n(.*\n)* +write_tok")
        self.check_trace(trace, 3)
        self.call(ARGUMENTS.hadal_bench, self.product, "-p", "2", "-n", "0",
                  "--trace", "/nowhere/x", code=1)

    def test_bench_usage(self):
        self.call(ARGUMENTS.hadal_bench, self.product, "-x", code=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--product")
    parser.add_argument("--hadal-run")
    parser.add_argument("--hadal-bench")
    parser.add_argument("--write-weights", type=Path,
                        help="write the made-up weights and do no more")
    ARGUMENTS, rest = parser.parse_known_args()
    if ARGUMENTS.write_weights:
        ARGUMENTS.write_weights.write_bytes(weights_file([
            ("tokenizer.json", tokenizer_json()),
            ("tokenizer_config.json", tokenizer_config_json())]))
        sys.exit()
    unittest.main(argv=[sys.argv[0], *rest])
