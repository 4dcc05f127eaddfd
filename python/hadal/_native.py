# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The C interfaces, as hadal_rt/abi.h, hadal_rt/hadal_rt.h and hadal_text/hadal_text.h have them."""
from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int32, c_int64, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Iterator

ABI_VERSION = 4  # HADAL_RT_ABI_VERSION


class HadalError(Exception):
    """What went wrong, in one line."""


class ModelStruct(Structure):
    """hadal_rt_model_t"""
    _fields_ = [("abi_version", c_uint32), ("cpu_features", c_uint32), ("name", c_char_p), ("manifest", c_char_p),
                ("layout_hash", c_uint8 * 16), ("weights_bytes", c_int64), ("vocab", c_int64), ("hidden", c_int64),
                ("layers", c_int64), ("context", c_int64), ("page_tokens", c_int64), ("page_bytes", c_int64),
                ("arena_bytes_per_token", c_int64), ("arena_bytes_fixed", c_int64), ("window_tokens", c_int64),
                ("sink_tokens", c_int64), ("step", c_void_p), ("adapter_names", c_void_p), ("device", c_void_p),
                ("lesser", c_void_p)]


class SessionOptions(Structure):
    """hadal_rt_session_options_t"""
    _fields_ = [(name, c_int64) for name in ("threads", "max_step_tokens", "max_sequences", "kv_tokens", "memory_limit_bytes")]


class TextFiles(Structure):
    """hadal_text_files_t"""
    _fields_ = [field for name in ("tokenizer_json", "tokenizer_config_json", "generation_config_json", "chat_template_jinja")
                for field in ((name, c_void_p), (f"{name}_bytes", c_uint64))]


class Message(Structure):
    """hadal_text_message_t"""
    _fields_ = [("role", c_char_p), ("content", c_char_p)]


class Sampling(Structure):
    """hadal_text_sampling_t"""
    _fields_ = [("temperature", c_float), ("top_k", c_int32), ("top_p", c_float), ("min_p", c_float),
                ("repetition_penalty", c_float), ("seed", c_uint64)]


TOKENS = POINTER(c_int32)

# Name: what it returns, what it takes.
RUNTIME = {
    "hadal_rt_last_error": (c_char_p, []),
    "hadal_rt_weights_open": (c_int32, [POINTER(ModelStruct), c_char_p, POINTER(c_void_p)]),
    "hadal_rt_weights_section": (c_int32, [c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_uint64)]),
    "hadal_rt_weights_close": (None, [c_void_p]),
    "hadal_rt_session_create": (c_int32, [POINTER(ModelStruct), c_void_p, POINTER(SessionOptions), POINTER(c_void_p)]),
    "hadal_rt_session_free": (None, [c_void_p]),
    "hadal_rt_session_threads": (c_int64, [c_void_p]),
    "hadal_rt_session_step": (c_int32, [c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p]),
    "hadal_rt_sequence_create": (c_int32, [c_void_p, POINTER(c_int32)]),
    "hadal_rt_model_find_adapter": (c_int32, [POINTER(ModelStruct), c_char_p, POINTER(c_int32)]),
    "hadal_rt_model_adapter": (c_char_p, [POINTER(ModelStruct), c_int32]),
    "hadal_rt_sequence_set_adapter": (c_int32, [c_void_p, c_int32, c_int32]),
    "hadal_rt_sequence_free": (c_int32, [c_void_p, c_int32]),
}
TEXT = {
    "hadal_text_last_error": (c_char_p, []),
    "hadal_text_create": (c_int32, [POINTER(TextFiles), POINTER(c_void_p)]),
    "hadal_text_free": (None, [c_void_p]),
    "hadal_text_encode": (c_int32, [c_void_p, c_char_p, c_uint64, POINTER(TOKENS), POINTER(c_int64)]),
    "hadal_text_chat": (c_int32, [c_void_p, POINTER(Message), c_int64, c_char_p, c_int32, POINTER(TOKENS), POINTER(c_int64)]),
    "hadal_text_push": (c_char_p, [c_void_p, c_int32]),
    "hadal_text_flush": (c_char_p, [c_void_p]),
    "hadal_text_is_end": (c_int32, [c_void_p, c_int32]),
    "hadal_text_sampler_create": (c_int32, [POINTER(Sampling), POINTER(c_void_p)]),
    "hadal_text_sampler_free": (None, [c_void_p]),
    "hadal_text_sampler_accept": (None, [c_void_p, c_int32]),
    "hadal_text_sample": (c_int32, [c_void_p, c_void_p, c_int64]),
}


def declare(library: ctypes.CDLL, functions: dict) -> ctypes.CDLL:
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def open_library(path: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise HadalError(f"cannot load '{path}': {error}") from None


def text_library_places() -> Iterator[Path]:
    from ._compile import find_hadalc
    if "HADAL_LIBRARY_DIR" in os.environ:
        yield Path(os.environ["HADAL_LIBRARY_DIR"])
        return
    try:
        root = find_hadalc().parent.parent / "lib"
        yield root / "hadal"
        yield root
    except HadalError:
        pass
    yield Path("/usr/lib/hadal")
    yield Path("/usr/local/lib/hadal")


def open_text_library() -> ctypes.CDLL:
    for folder in text_library_places():
        if (folder / "libhadal_text.so").exists():
            return declare(open_library(str(folder / "libhadal_text.so")), TEXT)
    raise HadalError("cannot find libhadal_text.so beside hadalc, in ../lib/hadal; put its folder into HADAL_LIBRARY_DIR")


def get_section(runtime: ctypes.CDLL, weights: c_void_p, name: str) -> "tuple[c_void_p, int]":
    """Address and size of a section of a weights file; null and 0 if there is none."""
    data, count = c_void_p(), c_uint64()
    runtime.hadal_rt_weights_section(weights, name.encode(), byref(data), byref(count))
    return data, count.value
