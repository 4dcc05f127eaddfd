#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Adapters that are kept at run time: each gives what it gives merged, in a batch with others what it gives alone, and the
# model without one what it gives without any.
"""Compiles a model with adapters, merged and kept at run time, and compares.

    check_adapters.py --hadalc build/bin/hadalc --model models/abyss-tiny [--hadal-serve build/bin/hadal-serve]
"""
import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, ids, must_run

np = harness.require_numpy("check_adapters.py")
SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "python"))
import hadal
from hadal import _native

TOKENS = [3, 1, 4, 15, 9, 26, 5, 35, 8, 97, 93, 23]
# As logits from those of the reference: roundings of f32 in another order, relative to the largest |logit|.
TOLERANCE = 1e-4
ADAPTERS = {"first": ["1", "4"], "second": ["2", "6", "q_b_proj,o_proj"]}


class Check:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        for name, parameters in ADAPTERS.items():
            must_run([sys.executable, SOURCE / "test/tools/hadalc/Inputs/write-adapter.py", folder / name, *parameters], 60)
        self.runtime = "--lora-runtime=" + ",".join(str(folder / name) for name in ADAPTERS)

    def compile(self, name, *flags):
        must_run([self.args.hadalc, self.args.model, "-o", self.folder / name, *flags], 120)
        return self.folder / name

    def logits(self, program, *flags):
        file = self.folder / "logits.npy"
        must_run([program, "--tokens", ids(TOKENS), "--logits", file, *flags], 60)
        return np.load(file)

    def alone(self, *flags):
        """A program with adapters against one without, and those with one that is merged."""
        kept, plain = self.compile("kept", self.runtime, *flags), self.logits(self.compile("plain", *flags))
        if not np.array_equal(self.logits(kept), plain):
            raise Failure("the model without an adapter is not what it is in a build that has none")
        found = []
        for name in ADAPTERS:
            merged = self.logits(self.compile("merged", f"--lora={self.folder / name}", *flags))
            adapted = self.logits(kept, "--adapter", name)
            largest = np.abs(merged).max()
            error, change = np.abs(adapted - merged).max() / largest, np.abs(plain - merged).max() / largest
            if not change > 0.01:
                raise Failure(f"adapter '{name}' changes logits by {change:.1e} of the largest only")
            # Rounding the sum and rounding the base alone are not the same.
            if not error <= (0.5 * change if flags else TOLERANCE):
                raise Failure(f"adapter '{name}': error {error:.1e} of the largest logit, which it changes by {change:.1e}")
            found.append(f"'{name}' within {error:.1e} of what it is merged, {change:.1e} from the model")
        return "; ".join(found)

    def batch(self):
        """Sequences with each adapter and with none, in steps of all of them, against each by itself."""
        library = self.compile("batched", self.runtime, "--emit=lib")
        runtime = _native.declare(_native.open_library(f"{library}.so"), _native.RUNTIME)
        model = _native.ModelStruct.in_dll(runtime, "batched_model")

        def check(status):
            if status:
                raise Failure(runtime.hadal_rt_last_error().decode())

        weights, session = ctypes.c_void_p(), ctypes.c_void_p()
        check(runtime.hadal_rt_weights_open(ctypes.byref(model), f"{library}.weights".encode(), ctypes.byref(weights)))
        options = _native.SessionOptions(2, 64, 8, 0, 0)
        check(runtime.hadal_rt_session_create(ctypes.byref(model), weights, ctypes.byref(options), ctypes.byref(session)))

        def start(adapter):
            sequence = ctypes.c_int32()
            check(runtime.hadal_rt_sequence_create(session, ctypes.byref(sequence)))
            check(runtime.hadal_rt_sequence_set_adapter(session, sequence, adapter))
            return sequence.value

        def step(sequences, tokens):
            of = np.array(sequences, np.int32)
            given = np.array(tokens, np.int32)
            rows, logits = np.arange(len(of), dtype=np.int32), np.empty((len(of), model.vocab), np.float32)
            check(runtime.hadal_rt_session_step(session, given.ctypes.data, of.ctypes.data, len(of), rows.ctypes.data,
                                                len(rows), logits.ctypes.data))
            return logits

        alone = [step([start(adapter)] * len(TOKENS), TOKENS) for adapter in (0, 1, -1)]
        mixed = [start(adapter) for adapter in (0, 1, -1)]
        # Tokens of all three side by side; the last ones a token at a time.
        half = len(TOKENS) // 2
        together = [step(mixed * half, [token for token in TOKENS[:half] for _ in mixed]).reshape(half, 3, -1)]
        together += [step(mixed, [token] * 3).reshape(1, 3, -1) for token in TOKENS[half:]]
        together = np.concatenate(together)
        for i, logits in enumerate(alone):
            if not np.array_equal(together[:, i], logits):
                raise Failure(f"sequence {i} is another in a batch: {np.abs(together[:, i] - logits).max():.1e}")
        if np.array_equal(alone[0], alone[1]) or np.array_equal(alone[0], alone[2]):
            raise Failure("the adapters change nothing")
        runtime.hadal_rt_session_free(session)
        runtime.hadal_rt_weights_close(weights)
        with hadal.load(library) as loaded:
            if loaded.adapters != list(ADAPTERS):
                raise Failure(f"the adapters are {loaded.adapters}")
            for name, logits in zip((*ADAPTERS, None), alone):
                if not np.array_equal(loaded.logits(TOKENS, adapter=name), logits):
                    raise Failure(f"adapter {name} is another in Python")
        return f"{len(TOKENS)} tokens of three sequences, bit by bit"

    def serve(self):
        library = self.compile("served", self.runtime, "--emit=lib")
        server = subprocess.Popen([str(self.args.hadal_serve), f"{library}.so", "--port", "0", "--threads", "2", "--quiet"],
                                  stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().split(" at ")[1].split(": ")[0]

            def ask(path, body=None):
                data = json.dumps(body).encode() if body else None
                request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)

            names = [model["id"] for model in ask("/v1/models")["data"]]
            if names != ["served", "served:first", "served:second"]:
                raise Failure(f"the models are {names}")
            if ask("/v1/models/served:second")["id"] != "served:second":
                raise Failure("a model is not found by its name")
            program, expected = self.compile("program", self.runtime), []
            for adapter in ([], *(["--adapter", name] for name in ADAPTERS)):
                command = [program, "--tokens", ids(TOKENS), "-n", "12", "--json", *adapter]
                expected.append(json.loads(must_run(command, 60))["text"])
            texts = []
            for name in names + names:
                answer = ask("/v1/completions", {"model": name, "prompt": TOKENS, "max_tokens": 12, "temperature": 0,
                                                 "ignore_eos": True})
                if answer["model"] != name:
                    raise Failure(f"the model is '{answer['model']}', expected '{name}'")
                texts.append(answer["choices"][0]["text"])
            # The second time the prefix comes from a sequence that is kept, of the same adapter.
            if texts != expected + expected or len(set(texts)) < 2:
                raise Failure(f"the answers are {texts}, those of a program {expected}")
            try:
                ask("/v1/completions", {"model": "served:third", "prompt": TOKENS})
                raise Failure("a model that is not there answers")
            except urllib.error.HTTPError as error:
                if error.code != 404 or "'served:second'" not in json.load(error)["error"]["message"]:
                    raise Failure(f"a model that is not there: {error}") from error
        finally:
            server.terminate()
            server.wait()
        return ", ".join(names)

    def refuse(self):
        """What is wrong is told in one line."""
        first, count = self.folder / "first", 0
        config = json.loads((first / "adapter_config.json").read_text())

        def expect(words, *flags):
            nonlocal count
            status, _, err = harness.run([self.args.hadalc, self.args.model, "-o", self.folder / "refused", *flags], 60)
            if status != 1 or len(err.strip().splitlines()) != 1 or words not in err:
                raise Failure(f"expected one error with '{words}', got {harness.describe(status, err)}")
            count += 1

        expect("two adapters are called 'first'", f"--lora-runtime={first},{first}")
        expect("an adapter is called 'a b'", f"--lora-runtime=a b={first}")
        expect("has no adapter_config.json", f"--lora-runtime={self.folder}")
        expect("not cut with --prune", self.runtime, "--prune=layers:1")
        other = self.folder / "other"
        must_run([sys.executable, SOURCE / "test/tools/hadalc/Inputs/write-adapter.py", other, "3", "4", "o_proj"], 60)
        (other / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["o_proj"], "r": 8}))
        expect("makes its rank 8", f"--lora-runtime={other}")
        (other / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj"]}))
        expect("'target_modules'", f"--lora-runtime={other}")
        kept = self.folder / "kept"
        status, _, err = harness.run([kept, "--tokens", "1", "-n", "1", "--adapter", "third"], 60)
        if status != 1 or "has no adapter 'third'" not in err:
            raise Failure(f"an adapter that is not there: {harness.describe(status, err)}")
        return f"{count + 1} mistakes"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=Path)
    parser.add_argument("--hadal-serve", type=Path)
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        check = Check(args, Path(folder))
        integers = ("--quantize=int8,head=none", "--activations=f32")
        checks = [("alone", check.alone), ("alone, int8 weights", lambda: check.alone(*integers)),
                  ("in a batch", check.batch), ("mistakes", check.refuse)]
        if args.hadal_serve:
            checks.append(("served", check.serve))
        return harness.run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
