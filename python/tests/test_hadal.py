#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tests of the package, as pip installs it: HADALC=build/bin/hadalc HADAL_SOURCE=. python3 python/tests/test_hadal.py"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
SOURCE = Path(os.environ.get("HADAL_SOURCE", Path(__file__).resolve().parents[2])).resolve()
MODEL = SOURCE / "models" / "abyss-tiny"


def install(folder):
    """Installs the package where nothing can be downloaded; a copy, since pip leaves files beside what it builds."""
    shutil.copytree(SOURCE / "python", folder / "source" / "python")
    shutil.copy(SOURCE / "pyproject.toml", folder / "source")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", folder / "site",
                    "--disable-pip-version-check", folder / "source"], check=True,
                   env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})
    return folder / "site"


class HadalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="hadal-python-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0
        sys.path.insert(0, str(install(cls.folder) if has_pip else SOURCE / "python"))
        global hadal, np
        import hadal
        import numpy as np
        cls.output = hadal.compile(MODEL, cls.folder / "story")
        cls.model = hadal.load(cls.output)
        cls.addClassCleanup(cls.model.close)
        cls.greedy = json.loads((MODEL / "golden" / "greedy.json").read_text())

    def test_version(self):
        out = subprocess.run([str(hadal.find_hadalc()), "--version"], capture_output=True, text=True).stdout
        self.assertEqual(out.split()[1].rstrip(","), hadal.__version__)

    def test_constants(self):
        self.assertEqual((self.model.name, self.model.vocab, self.model.layers), ("abyss_tiny", 2048, 4))
        self.assertIn("passes", self.model.manifest)
        self.assertGreaterEqual(self.model.threads, 1)

    def test_generates_tokens(self):
        expected = self.greedy["tokens"]
        found = self.model.generate(np.array(self.greedy["prompt"]), len(expected))
        self.assertEqual((found.dtype, found.tolist()), (np.int32, expected))

    def test_logits(self):
        tokens = json.loads((MODEL / "golden" / "tokens.json").read_text())["tokens"]
        expected = np.load(MODEL / "golden" / "logits.npy")
        found = self.model.logits(tokens)
        self.assertEqual((found.dtype, found.shape), (np.float32, expected.shape))
        self.assertLessEqual(np.abs(found - expected).max(), 1e-4 * np.abs(expected).max())

    def test_streams_text(self):
        whole = self.model.generate("Once upon a time", 20)
        pieces = list(self.model.stream("Once upon a time", 20))
        self.assertEqual("".join(piece.text for piece in pieces), whole)
        self.assertEqual(self.model.decode([piece.token for piece in pieces]), whole)
        self.assertGreater(len(whole), 20)

    def test_streams_at_once(self):
        """Two streams take turns, and neither sees the other."""
        prompts = ("Once upon a time", "One morning the")
        alone = [self.model.generate(prompt, 12) for prompt in prompts]
        pairs = list(zip(*(self.model.stream(prompt, 12) for prompt in prompts)))
        self.assertEqual(["".join(piece.text for piece in column) for column in zip(*pairs)], alone)

    def test_streams_give_back(self):
        """A stream that is dropped gives its sequence back."""
        for _ in range(10):
            next(self.model.stream("Once", 10))

    def test_samples(self):
        options = dict(temperature=1.0, top_k=50, top_p=0.9)
        first = self.model.generate("Once", 20, seed=1, **options)
        self.assertEqual(first, self.model.generate("Once", 20, seed=1, **options))
        self.assertNotEqual(first, self.model.generate("Once", 20, seed=2, **options))

    def test_chats(self):
        answer = self.model.chat("Tell me a story.", 30, format="deepseek-v3")
        self.assertTrue(answer.strip())
        messages = [{"role": "user", "content": "Tell me a story."}]
        self.assertEqual(answer, self.model.chat(messages, 30, format="deepseek-v3"))

    def test_encodes(self):
        text = "the brave boy \N{SNOWMAN}"
        tokens = self.model.encode(text)
        self.assertEqual(tokens.dtype, np.int32)
        self.assertTrue(self.model.decode(tokens).endswith(text))

    def test_refuses(self):
        for prompt in ([], [[1]], [-1], [2048], [0.5]):
            with self.assertRaises(ValueError):
                self.model.logits(prompt)
        with self.assertRaisesRegex(hadal.HadalError, "temperature"):
            self.model.generate("a", temperature=-1)
        with self.assertRaisesRegex(hadal.HadalError, "chat"):
            self.model.chat("Hi", format="none")
        with self.assertRaisesRegex(hadal.HadalError, "does not exist"):
            hadal.compile(self.folder / "none", self.folder / "out")
        with self.assertRaisesRegex(hadal.HadalError, "there is no"):
            hadal.load(self.folder / "none")
        with self.assertRaisesRegex(hadal.HadalError, "weights"):
            hadal.load(self.output, weights=MODEL / "config.json")
        closed = hadal.load(self.output)
        closed.close()
        with self.assertRaisesRegex(hadal.HadalError, "closed"):
            closed.logits([1])


if __name__ == "__main__":
    unittest.main()
