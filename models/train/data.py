# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gets the training text: two Debian packages of public-domain books, and stories from the grammar in stories.py.

    r-cran-janeaustenr  the six novels of Jane Austen (public domain; the package's own code is MIT)
    sword-text-web      the World English Bible (public domain)

Only the packages' files are unpacked; nothing is installed.
"""

import pathlib
import random
import re
import struct
import subprocess
import zlib

import stories

PACKAGES = ["r-cran-janeaustenr", "sword-text-web"]
BOS, EOS, PAD, USER, ASSISTANT = SPECIALS = [
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜User｜>", "<｜Assistant｜>"]


def fetch(cache):
    """Unpacks PACKAGES below `cache`, once."""
    cache = pathlib.Path(cache)
    for name in PACKAGES:
        root = cache / name
        if root.exists():
            continue
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", name], cwd=cache, check=True)
        deb = next(cache.glob(name + "_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    return cache


def plain(text):
    """Typewriter punctuation, so that all sources share one alphabet."""
    for a, b in (("“", '"'), ("”", '"'), ("‘", "'"), ("’", "'"), ("—", "--"), ("–", "-"), ("…", "..."), ("\u00a0", " "), ("_", "")):
        text = text.replace(a, b)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n ?", "\n", re.sub(r"\n{2,}", "\n\n", text)).strip()


def austen(root):
    """The novels, a document a chapter.

    R's lazy-load database is a row of [length | 'Z'-less zlib stream], each a serialized character vector, a string a line of the book.
    """
    raw = next(root.rglob("janeaustenr/data/Rdata.rdb")).read_bytes()
    documents, at = [], 0
    while at + 6 < len(raw):
        stream = zlib.decompressobj()
        data = stream.decompress(raw[at + 4:])
        at = len(raw) - len(stream.unused_data)
        start = data.find(b"\0\0\0\x10") # STRSXP
        if start < 0:
            continue
        count, = struct.unpack_from(">I", data, start + 4)
        pos, lines = start + 8, []
        for _ in range(count):
            flags, length = struct.unpack_from(">Ii", data, pos)
            assert flags & 0xFF == 9, "expected a CHARSXP"
            pos += 8 + max(length, 0)
            lines.append(data[pos - max(length, 0):pos].decode("utf-8", "replace"))
        text = "\n".join(lines)
        for chapter in re.split(r"\n\s*(?:CHAPTER|Chapter|VOLUME)\b[^\n]*\n", text)[1:]:
            paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", chapter)]
            chapter = plain("\n\n".join(p for p in paragraphs if p))
            if len(chapter) > 500:
                documents.append(chapter)
    return documents


def bible(root):
    """The World English Bible, a document a chapter, without notes, titles and word numbers."""
    documents = []
    for index in sorted(root.rglob("*.bzs")):
        blocks, table = index.with_suffix(".bzz").read_bytes(), index.read_bytes()
        for i in range(0, len(table), 12):
            offset, size, _ = struct.unpack_from("<III", table, i)
            book = zlib.decompress(blocks[offset:offset + size]).decode("utf-8")
            for chapter in book.split("<chapter ")[1:]:
                text = re.sub(r"<(note|title)\b.*?</\1>", " ", "<c " + chapter, flags=re.S)
                text = re.sub(r'<div sID="[^"]*" type="x-p"/>', "\n\n", text)
                text = re.sub(r"<l [^>]*sID[^>]*>", "\n", text)
                text = plain(re.sub(r"<[^>]+>", "", text).replace("&amp;", "&"))
                text = re.sub(r"\s+([,.;:?!])", r"\1", text)
                if len(text) > 400:
                    documents.append(text)
    return documents


def books(cache):
    """Returns {source: (training documents, held-out documents)}; every twentieth chapter is held out."""
    cache = fetch(cache)
    result = {}
    for name, documents in (("austen", austen(cache / PACKAGES[0])), ("web", bible(cache / PACKAGES[1]))):
        result[name] = ([d for i, d in enumerate(documents) if i % 20 != 10], [d for i, d in enumerate(documents) if i % 20 == 10])
    return result


def story(rng):
    """One document of the grammar, in the chat form where it answers somebody; some begin in the middle."""
    user, text = stories.document(rng)
    if user:
        return USER + user + ASSISTANT + text
    starts = [m.end() for m in re.finditer(r"[.!?]\"?\s+(?=[A-Z])", text[:len(text) // 2])]
    return text[rng.choice(starts):] if starts and rng.random() < 0.25 else text


if __name__ == "__main__":
    import sys
    for name, (train, held) in books(sys.argv[1]).items():
        print(name, len(train), sum(map(len, train)), len(held), sum(map(len, held)))
        print(train[3][:700], "\n...")
