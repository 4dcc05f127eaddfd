# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Models that hadalc compiled to libraries."""
from __future__ import annotations

import ctypes
import json
import os
import re
import threading
from ctypes import byref, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Union

import numpy as np

from . import _native
from ._native import HadalError

Prompt = Union[str, Sequence[int], np.ndarray]


class Piece(NamedTuple):
    """One token that was generated, and the text that is complete with it, which may be none."""
    token: int
    text: str


def load(path: Union[str, "os.PathLike[str]"], *, weights: Union[str, "os.PathLike[str]", None] = None, threads: int = 0,
         context: Optional[int] = None, max_sequences: int = 4) -> "Model":
    """Loads `path` or `path`.so, which hadalc made with --emit=lib, and its weights.

    weights:        their file; None: the one beside the library.
    threads:        0: all cores.
    context:        tokens that the KV memory holds over all sequences; None: as many as the model's context.
    max_sequences:  streams that may run at once.

    Raises HadalError if a file is missing or broken, does not fit the other, or needs another processor.
    """
    return Model(Path(path), weights, threads, context, max_sequences)


class Model:
    """A model, its weights and memory to run it in. Close it, or use it in a `with` statement.

    Threads may share one; their steps run one after the other.
    """

    name: str
    vocab: int  #: Columns of the logits.
    hidden: int
    layers: int
    context: int  #: Most tokens of a sequence.
    manifest: Dict[str, Any]  #: How the model was made.

    def __init__(self, path: Path, weights: Union[str, "os.PathLike[str]", None], threads: int, context: Optional[int],
                 max_sequences: int) -> None:
        self._weights, self._session, self._text_handle = c_void_p(), c_void_p(), c_void_p()
        self._text: Optional[ctypes.CDLL] = None
        self._lock = threading.RLock()
        stem = path.with_name(path.name[:-3]) if path.name.endswith(".so") else path
        library = stem.with_name(stem.name + ".so")
        if not library.is_file():
            raise HadalError(f"there is no '{library}'; make one with hadal.compile(model, '{stem}')")
        self._runtime = _native.declare(_native.open_library(str(library.resolve())), _native.RUNTIME)
        symbol = re.sub(r"[^A-Za-z0-9]", "_", stem.name)
        symbol = ("model_" if not symbol or symbol[0].isdigit() else "") + symbol + "_model"
        try:
            self._model = _native.ModelStruct.in_dll(self._runtime, symbol)
        except ValueError:
            raise HadalError(f"'{library}' has no {symbol}; it must have the name that it was made with") from None
        if self._model.abi_version != _native.ABI_VERSION:
            raise HadalError(f"'{library}' has ABI version {self._model.abi_version}, expected {_native.ABI_VERSION}")
        self.name = self._model.name.decode()
        self.vocab, self.hidden, self.layers = self._model.vocab, self._model.hidden, self._model.layers
        self.context = self._model.context
        self.manifest = json.loads(self._model.manifest)
        #: Names of the adapters that it was compiled with, by --lora-runtime.
        self.adapters: List[str] = []
        while name := self._runtime.hadal_rt_model_adapter(byref(self._model), len(self.adapters)):
            self.adapters.append(name.decode())
        file = os.fsencode(weights if weights is not None else stem.with_name(stem.name + ".weights"))
        try:
            self._check(self._runtime.hadal_rt_weights_open(byref(self._model), file, byref(self._weights)))
            self._step_tokens = min(512, self.context)
            options = _native.SessionOptions(threads, self._step_tokens, max_sequences, context or 0, 0)
            self._check(self._runtime.hadal_rt_session_create(byref(self._model), self._weights, byref(options),
                                                              byref(self._session)))
        except HadalError:
            self.close()
            raise

    # Tokens and text

    def encode(self, text: str) -> np.ndarray:
        """Returns the token ids of a text, int32 [tokens], with those that the model wants around it."""
        library = self._open_text()
        data = text.encode()
        tokens, count = _native.TOKENS(), c_int64()
        with self._lock:
            self._check_text(library.hadal_text_encode(self._text_handle, data, len(data), byref(tokens), byref(count)))
            return np.array(tokens[:count.value], np.int32)

    def encode_chat(self, messages: Union[str, Sequence[Mapping[str, str]]], *, format: Optional[str] = None,
                    thinking: bool = False) -> np.ndarray:
        """Returns the token ids of a conversation, up to where the model's answer begins.

        messages: what a user says, or dictionaries with "role" (system, user, assistant) and "content".
        format:   as --chat-format of hadal-run; None: what the model says.
        """
        library = self._open_text()
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        array = (_native.Message * len(messages))(*((m["role"].encode(), m["content"].encode()) for m in messages))
        tokens, count = _native.TOKENS(), c_int64()
        with self._lock:
            self._check_text(library.hadal_text_chat(self._text_handle, array, len(messages), format and format.encode(),
                                                     int(thinking), byref(tokens), byref(count)))
            return np.array(tokens[:count.value], np.int32)

    def decode(self, tokens: Union[Sequence[int], np.ndarray]) -> str:
        """Returns the text of token ids; special ones have none."""
        library = self._open_text()
        with self._lock:
            text = b"".join(library.hadal_text_push(self._text_handle, int(token)) for token in tokens)
            return (text + library.hadal_text_flush(self._text_handle)).decode()

    # Running

    def logits(self, prompt: Prompt, *, adapter: Optional[str] = None) -> np.ndarray:
        """Runs a prompt, with one of `adapters` or none; returns the logits after each of its tokens, float32 [tokens, vocab]."""
        tokens = self._to_tokens(prompt)
        rows = np.empty((len(tokens), self.vocab), np.float32)
        with self._lock:
            sequence = self._new_sequence(adapter)
            try:
                for first in range(0, len(tokens), self._step_tokens):
                    piece = tokens[first:first + self._step_tokens]
                    self._step(sequence, piece, np.arange(len(piece), dtype=np.int32), rows[first:first + len(piece)])
            finally:
                self._runtime.hadal_rt_sequence_free(self._session, sequence)
        return rows

    def stream(self, prompt: Prompt, max_tokens: int = 256, *, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0,
               min_p: float = 0.0, repetition_penalty: float = 1.0, seed: int = 0,
               adapter: Optional[str] = None) -> Iterator[Piece]:
        """Continues a text or token ids, a token at a time; a text until the model ends it.

        temperature: 0 takes the likeliest token; the others choose as --temperature, --top-k, ... of hadal-run do.
        adapter:     one of `adapters`; None: the model without any.
        """
        library = self._open_text(is_needed=isinstance(prompt, str))
        tokens = self._to_tokens(prompt)
        sampling = _native.Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        return self._stream(library, tokens, max_tokens, sampling, isinstance(prompt, str), adapter)

    def chat(self, messages: Union[str, Sequence[Mapping[str, str]]], max_tokens: int = 256, *, format: Optional[str] = None,
             thinking: bool = False, **sampling: Any) -> str:
        """Answers a conversation; see `encode_chat` and `stream`."""
        tokens = self.encode_chat(messages, format=format, thinking=thinking)
        pieces = []
        for piece in self.stream(tokens, max_tokens, **sampling):
            if self.is_end(piece.token):
                break
            pieces.append(piece.text)
        return "".join(pieces)

    def generate(self, prompt: Prompt, max_tokens: int = 256, **sampling: Any) -> Any:
        """Continues a text with a text, or token ids with token ids, int32 [generated]; see `stream`."""
        pieces: List[Piece] = list(self.stream(prompt, max_tokens, **sampling))
        if isinstance(prompt, str):
            return "".join(piece.text for piece in pieces)
        return np.array([piece.token for piece in pieces], np.int32)

    def is_end(self, token: int) -> bool:
        """True if the token ends an answer."""
        return bool(self._open_text().hadal_text_is_end(self._text_handle, int(token)))

    @property
    def threads(self) -> int:
        """Threads that a step runs on."""
        return int(self._runtime.hadal_rt_session_threads(self._session))

    def close(self) -> None:
        """Gives memory and files back. Nothing may run, and nothing works after that."""
        with self._lock:
            if self._text and self._text_handle:
                self._text.hadal_text_free(self._text_handle)
            self._runtime.hadal_rt_session_free(self._session)
            self._runtime.hadal_rt_weights_close(self._weights)
            self._weights, self._session, self._text_handle = c_void_p(), c_void_p(), c_void_p()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_runtime"):
            self.close()

    def __repr__(self) -> str:
        return f"<hadal.Model {self.name}: {self.layers} layers, vocabulary {self.vocab}, context {self.context}>"

    # Inside

    def _check(self, status: int) -> None:
        if status:
            raise HadalError(self._runtime.hadal_rt_last_error().decode(errors="replace"))

    def _check_text(self, status: int) -> None:
        if status:
            assert self._text
            raise HadalError(self._text.hadal_text_last_error().decode(errors="replace"))

    def _open_text(self, is_needed: bool = True) -> ctypes.CDLL:
        """The text library, with the model's tokenizer; where it is not needed, maybe without one."""
        with self._lock:
            if not self._text:
                self._text = _native.open_text_library()
            if not self._weights:
                raise HadalError("the model is closed")
            if not self._text_handle:
                parts: List[Any] = []
                for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
                    parts.extend(_native.get_section(self._runtime, self._weights, name))
                status = self._text.hadal_text_create(byref(_native.TextFiles(*parts)), byref(self._text_handle))
                if is_needed:
                    self._check_text(status)
            return self._text

    def _to_tokens(self, prompt: Prompt) -> np.ndarray:
        tokens = self.encode(prompt) if isinstance(prompt, str) else np.asarray(prompt)
        if tokens.ndim != 1 or not len(tokens) or not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(f"expected a text or a list of token ids, one at least, but got {tokens.dtype} {tokens.shape}")
        if tokens.min() < 0 or tokens.max() >= self.vocab:
            raise ValueError(f"expected token ids of 0 to {self.vocab - 1}, but got {tokens.min()} to {tokens.max()}")
        return np.ascontiguousarray(tokens, np.int32)

    def _new_sequence(self, adapter: Optional[str]) -> int:
        if not self._session:
            raise HadalError("the model is closed")
        sequence, index = c_int32(), c_int32(-1)
        if adapter is not None:
            self._check(self._runtime.hadal_rt_model_find_adapter(byref(self._model), adapter.encode(), byref(index)))
        self._check(self._runtime.hadal_rt_sequence_create(self._session, byref(sequence)))
        self._check(self._runtime.hadal_rt_sequence_set_adapter(self._session, sequence, index))
        return sequence.value

    def _step(self, sequence: int, tokens: np.ndarray, rows: np.ndarray, logits: np.ndarray) -> None:
        """Runs tokens of one sequence; writes the logits of those at `rows`, [rows, vocab]."""
        if not self._session:
            raise HadalError("the model is closed")
        ids = np.full(len(tokens), sequence, np.int32)
        self._check(self._runtime.hadal_rt_session_step(self._session, tokens.ctypes.data, ids.ctypes.data, len(tokens),
                                                        rows.ctypes.data, len(rows), logits.ctypes.data))

    def _stream(self, library: ctypes.CDLL, tokens: np.ndarray, max_tokens: int, sampling: _native.Sampling,
                ends: bool, adapter: Optional[str]) -> Iterator[Piece]:
        sampler = c_void_p()
        self._check_text(library.hadal_text_sampler_create(byref(sampling), byref(sampler)))
        sequence = None
        # A stream of its own, since others may decode in between.
        pending: List[int] = []
        try:
            with self._lock:
                sequence = self._new_sequence(adapter)
            for token in tokens:
                library.hadal_text_sampler_accept(sampler, int(token))
            logits = np.empty((1, self.vocab), np.float32)
            for _ in range(max_tokens):
                for first in range(0, len(tokens), self._step_tokens):
                    piece = tokens[first:first + self._step_tokens]
                    with self._lock:
                        self._step(sequence, piece, np.array([len(piece) - 1], np.int32), logits)
                token = library.hadal_text_sample(sampler, logits.ctypes.data, self.vocab)
                if token < 0:
                    raise HadalError("no logit is finite")
                if ends and self.is_end(token):
                    return
                pending.append(token)
                yield Piece(token, self._take_text(library, pending))
                tokens = np.array([token], np.int32)
        finally:
            library.hadal_text_sampler_free(sampler)
            with self._lock:
                if sequence is not None and self._session:
                    self._runtime.hadal_rt_sequence_free(self._session, sequence)

    def _take_text(self, library: ctypes.CDLL, pending: List[int]) -> str:
        """The text that is complete; `pending` keeps the tokens whose last character is not."""
        if not self._text_handle:
            return ""
        with self._lock:
            text = b"".join(library.hadal_text_push(self._text_handle, token) for token in pending)
            rest = library.hadal_text_flush(self._text_handle)
        if rest and len(pending) < 4:
            return ""
        pending.clear()
        return (text + rest).decode()
