#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes vectors/: tokenizers like those of each family, and what they do.

The reference is the `tokenizers` package (0.23.3 made the files here), and for
sentencepiece that package (0.2.3), too: both have to agree. Run from this
folder with a Python of Unicode 14 (3.11):

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python3 make_tokenizer_vectors.py

Each tokenizer has the family's exact pre-tokenizer and a small vocabulary that
is trained on a text made here. Per tokenizer there are two files:
- NAME.json.gz, the tokenizer.json;
- NAME.vec.gz, one vector a line, fields separated by tabs:
      E FLAGS HEX IDS   encoding the bytes HEX gives IDS. FLAGS: s, special
                        tokens are parsed; a, they are added; r, decoding IDS
                        gives the text back
      D IDS HEX         decoding IDS gives the UTF-8 text HEX

Text that is not UTF-8 is decoded with errors='replace' before it is encoded.

PCRE2 10.42 knows Unicode 14, the Oniguruma of `tokenizers` a later version, so
the texts here hold only characters that Unicode 14 assigns.
"""
import gzip
import io
import json
import pathlib
import random
import unicodedata

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models
from tokenizers import normalizers, pre_tokenizers, processors, trainers

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version

LETTERS = """41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373
376 377 37B-37D 37F 386 388-38A 38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556
10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A
1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D
1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC
1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D
212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE
2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06
FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2
10CC0-10CF2 118A0-118DF 1E900-1E943""".split()
assert len(LETTERS) == 87
LETTERS = "".join("-".join(chr(int(end, 16)) for end in item.split("-"))
                  for item in LETTERS)

CJK_LLM = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPLITS = {
    "deepseek-llm": [
        r"[\r\n]",
        rf"\s?[{LETTERS}]+",
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$",
        CJK_LLM,
        "digits",
    ],
    "deepseek-coder": [
        r"[\r\n]",
        r"\s?\p{L}+",
        r"\s?\p{P}+",
        CJK_LLM,
        "digits",
    ],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"""
         r"""[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
         r"""\s*[\r\n]+|\s+(?!\S)|\s+"""),
    ],
    "deepseek-r1-qwen": [QWEN % r"\p{N}"],
    "llama-bpe": [QWEN % r"\p{N}{1,3}"],
}

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
SPECIALS = [BOS, EOS, "<｜▁pad▁｜>", "<｜User｜>", "<｜Assistant｜>", "<|EOT|>",
            "<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"]
PLAIN_ADDED = ["<think>", "</think>"]
# The bytes that UTF-8 never has: Coder V1 added their characters as tokens.
CODER_ADDED = list("õ÷ÁýÀÿøúþüùöû")

SENTENCES = """
The quick brown fox jumps over the lazy dog, and it doesn't care who's there.
We'll see what they've done; I'm sure you'd agree, isn't that so? It's 10:45 PM.
In 2024 the model had 671,000,000,000 parameters, 37 billion of them active.
Der schnelle braune Fuchs springt über den faulen Hund; größer, schöner, weißer.
Le renard brun saute par-dessus le chien paresseux, n'est-ce pas ? Où ça, là-bas ?
El zorro marrón salta sobre el perro perezoso. ¿Qué pasa, señor? ¡Mañana será!
Быстрая коричневая лиса прыгает через ленивую собаку, и это хорошо.
Η γρήγορη αλεπού πηδάει πάνω από το τεμπέλικο σκυλί, και όλα είναι καλά.
Արագ շագանակագույն աղվեսը ցատկում է ծույլ շան վրայով։
השועל החום המהיר קופץ מעל הכלב העצלן, והכול בסדר.
الثعلب البني السريع يقفز فوق الكلب الكسول، وكل شيء على ما يرام.
तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर से कूदती है और सब ठीक है।
দ্রুত বাদামী শিয়াল অলস কুকুরের উপর দিয়ে লাফ দেয়।
விரைவான பழுப்பு நரி சோம்பேறி நாய் மீது குதிக்கிறது.
สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ และทุกอย่างก็ดี
敏捷的棕色狐狸跳过了懒狗,一切都很好。深度求索的大语言模型能够理解中文。
我們今天去圖書館看書,明天去公園散步。2024年12月26日,星期四!
素早い茶色の狐がのろまな犬を飛び越える。カタカナとひらがなとｶﾀｶﾅ。
빠른 갈색 여우가 게으른 개를 뛰어넘는다. 한국어 문장도 있습니다.
Con cáo nâu nhanh nhẹn nhảy qua con chó lười biếng, thế là tốt đẹp.
სწრაფი ყავისფერი მელა ახტება ზარმაც ძაღლს.
ፈጣኑ ቡናማ ቀበሮ በሰነፉ ውሻ ላይ ይዘላል።
Ꭰ ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ 𐐀𐐨𐐩 𞤀𞤣𞤤𞤢𞤥 𝒜𝓁𝓅𝒽𝒶 ＦＵＬＬ ｗｉｄｔｈ
∀x ∈ ℝ: ∃y ≤ x², ∫₀^∞ e^{-x²} dx = √π/2 ≈ 0.886; ∑ₙ 1/n² = π²/6 ± ε → ∞
def fib(n):\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)\n
int main(int argc, char **argv) {\n\tprintf("%d\\n", argc);\r\n\treturn 0;\r\n}
#include <vector>\nstd::vector<int32_t> ids = {1, 2, 3}; // ids[0] == 0x1F && !ok
SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name ORDER BY 2 DESC;
<html><body class="main">&nbsp;<a href='https://example.com/?q=1&r=2'>x</a></html>
{"key": [1, 2.5e-3, null, true], "text": "a\\u00e9b", "nested": {"a": {"b": []}}}
😀 😃 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇨🇳🇺🇸 ❤️ ✨ 🚀🚀🚀 1️⃣ ☎️ ©®™ ♥♦♣♠
""".strip().split("\n")
SENTENCES = [line.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")
             for line in SENTENCES]

SPACES = (" ", " ", " ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", "\v",
          "\f", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2000",
          "\u2003", "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f",
          "\u205f", "\u2060", "\u3000", "\ufeff")
EMOJI = ("😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇨🇳🇺🇸", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🧑🏿‍🚀", "☎",
         "♥", "🀄", "⌚", "🫠")
QUIRKS = ("'s", "'S", "'t", "'RE", "'ve", "'LL", "'d", "’s", "'ſ", "'ll", "'x",
          "don't", "CAN'T", "_", "__init__", "-", "--", "...", "…", "—", "«»",
          "“”", "‘’", "‛", "‟", "、", "。", "！", "～", "／", "：", "$1", "€5", "^",
          "`", "~", "+=", "<|", "|>", "<｜", "｜>", "▁", "<think", "think>",
          "½", "²", "Ⅷ", "①", "٣", "३", "๓", "１２３", "𝟘𝟙", "〇", "百", "㊀",
          "K", "Å", "ﬁ", "ß", "İ", "ǅ", "ʰ", "ª", "e\u0301", "n\u0303o",
          "a\u0323\u0307\u0301", "q\u0307\u0323", "\u0301", "\u0344", "\u0958",
          "ｶﾞ", "\u1112\u1161\u11ab", "\uac00\u11a8", "\ufb1d", "\u2126",
          "\U0002f800", "क्षि", "ก็", "\u200d", "\u200c", "\ufe0f", "\ufffd",
          "\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\x9f", "\ue000",
          "\U000f0000", "ͺ")
BAD_BYTES = (b"\x80", b"\xff", b"\xc0\xaf", b"\xc3", b"\xe2\x82", b"\xe2\x28",
             b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf8\x88",
             b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xfe", b"\xc1\xbf")

ASSIGNED = [chr(code) for code in range(0x110000)
            if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
# Most of those are CJK and Hangul; give the others their turn.
RARE = [char for char in ASSIGNED if not 0x3400 <= ord(char) <= 0xD7FF and
        ord(char) < 0x17000 or 0x1AFF0 <= ord(char) < 0x20000]
BY_CATEGORY = {}
for char in ASSIGNED:
    BY_CATEGORY.setdefault(unicodedata.category(char), []).append(char)


def make_corpus(rng):
    """Sentences, over and over in another order, so that words merge."""
    words = [word for line in SENTENCES for word in line.split(" ")]
    lines = []
    for _ in range(60):
        lines += rng.sample(SENTENCES, len(SENTENCES))
        lines.append(" ".join(rng.choices(words, k=30)))
    return lines


def make_atom(rng):
    kind = rng.random()
    if kind < 0.30:
        words = rng.choice(SENTENCES).split(" ")
        return (rng.choice(("", " ")) + rng.choice(words)).encode()
    if kind < 0.45:
        return (rng.choice(SPACES) * rng.choice((1, 1, 1, 2, 3))).encode()
    if kind < 0.58:
        return rng.choice(QUIRKS).encode()
    if kind < 0.63:
        return rng.choice(EMOJI).encode()
    if kind < 0.70:
        digits = rng.choice(("0123456789", "0123456789", "٠١٢٣٤", "०१२३", "０１２"))
        return "".join(rng.choices(digits, k=rng.randint(1, 8))).encode()
    if kind < 0.78:
        return "".join(rng.choices(RARE, k=rng.randint(1, 3))).encode()
    if kind < 0.86:
        chars = BY_CATEGORY[rng.choice(sorted(BY_CATEGORY))]
        return "".join(rng.choices(chars, k=rng.randint(1, 2))).encode()
    if kind < 0.90:
        return "".join(rng.choices("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
                                   k=rng.randint(1, 4))).encode()
    if kind < 0.95:
        return rng.choice(SPECIALS + PLAIN_ADDED + CODER_ADDED).encode()
    if kind < 0.97:
        return bytes([rng.randrange(32)])
    return rng.choice(BAD_BYTES) if rng.random() < 0.5 else b"x"


def make_texts(rng, count):
    texts = [b"", b" ", b"\n", b"  \n  \n x", b"a" * 300, b" " * 200 + b"1",
             b"\n" * 100, b"'s's'S", "字".encode() * 100, b"\xff" * 5]
    texts += [line.encode() for line in SENTENCES]
    texts += [b.join((b"x", b"y")) for b in BAD_BYTES]
    texts += [item.encode() for item in QUIRKS + EMOJI + SPACES]
    texts += [f"a{space}b{space}\n{space}{space}c{space}".encode()
              for space in SPACES]
    while len(texts) < count:
        size = rng.choice((1, 2, 3, 4, 6, 8, 12, 20))
        texts.append(b"".join(make_atom(rng) for _ in range(size)))
    return texts


def train(name, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=1400, show_progress=False, max_token_length=24,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(make_corpus(random.Random(name)), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in SPECIALS])
    tokenizer.add_tokens(
        [AddedToken(text, normalized=name == "deepseek-r1-qwen")
         for text in PLAIN_ADDED])
    return tokenizer


def make_pre_tokenizer(splits):
    steps = [pre_tokenizers.Digits(individual_digits=True) if split == "digits"
             else pre_tokenizers.Split(Regex(split), "isolated")
             for split in splits]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False,
                                          use_regex=False))
    return pre_tokenizers.Sequence(steps)


def make_tokenizers():
    for name, splits in SPLITS.items():
        tokenizer = train(name, make_pre_tokenizer(splits),
                          normalizers.NFC() if name == "deepseek-r1-qwen" else
                          normalizers.Sequence([]))
        if name == "deepseek-coder":
            tokenizer.add_tokens([AddedToken(text, normalized=True)
                                  for text in CODER_ADDED])
        bos = tokenizer.token_to_id(BOS)
        eos = tokenizer.token_to_id(EOS)
        template = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B:1",
            special_tokens=[(BOS, bos)])
        if name == "llama-bpe":
            tokenizer.post_processor = processors.Sequence(
                [processors.ByteLevel(trim_offsets=False), template])
        elif name == "deepseek-r1-qwen":
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{BOS} $A {EOS}", special_tokens=[(BOS, bos),
                                                          (EOS, eos)])
        else:
            tokenizer.post_processor = processors.ByteLevel()
        yield name, tokenizer

    yield "gpt2", train("gpt2", pre_tokenizers.ByteLevel(add_prefix_space=True,
                                                         use_regex=True))

    # Every behavior of Split, and every flag of an added token.
    tokenizer = train("behaviors", pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[\r\n]+"), "merged_with_previous"),
        pre_tokenizers.Split("x", "removed"),
        pre_tokenizers.Split(Regex(r"\p{Han}"), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\w{1,5}+|\b[^\w\s]++"), "isolated",
                             invert=True),
        pre_tokenizers.Split(Regex(r"(?<=[a-z])(?=[A-Z])|\h{4}|\p{^Lu}-"),
                             "isolated"),
        pre_tokenizers.Split(Regex(r"[[:space:]\S-]"), "contiguous"),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)]))
    tokenizer.add_tokens([
        AddedToken("fox", single_word=True),
        AddedToken("<think", lstrip=True, normalized=False),
        AddedToken("|>", rstrip=True),
        AddedToken("Ⅷ", lstrip=True, rstrip=True),
        AddedToken("dog", single_word=True, normalized=False),
        AddedToken("   ", normalized=False),
        AddedToken(" the ", normalized=True)])
    yield "behaviors", tokenizer

    plain, metaspace = make_sentencepiece()
    yield "sentencepiece", plain
    yield "metaspace", metaspace


def make_merges(scores):
    """The pairs that make each token, as `transformers` finds them.

    Better tokens first, whose score is that of the pair."""
    merges = []
    for token, score in scores.items():
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += [(score, pair) for pair in pairs
                   if pair[0] in scores and pair[1] in scores]
    ids = {token: i for i, token in enumerate(scores)}
    merges.sort(key=lambda item: (-item[0], ids[item[1][0]], ids[item[1][1]]))
    return [pair for _, pair in merges]


def make_sentencepiece():
    """A model of SentencePiece with the settings of Llama 2, as that and as a
    tokenizer.json, and the same with the blanks replaced by Metaspace."""
    lines = [line for line in make_corpus(random.Random("sentencepiece"))
             if "\x00" not in line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe",
        vocab_size=1400, character_coverage=0.98, byte_fallback=True,
        split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        num_threads=1, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(
        model_proto=model.getvalue())
    scores = {processor.id_to_piece(i): processor.get_score(i)
              for i in range(processor.get_piece_size())}
    vocab = {piece: i for i, piece in enumerate(scores)}
    normal = {piece: score for piece, score in scores.items()
              if not processor.is_control(vocab[piece]) and
              not processor.is_unknown(vocab[piece]) and
              not processor.is_byte(vocab[piece])}
    made = []
    for is_metaspace in (False, True):
        tokenizer = Tokenizer(models.BPE(
            vocab=vocab, merges=make_merges(normal), unk_token="<unk>",
            fuse_unk=True, byte_fallback=True))
        tokenizer.add_special_tokens(
            [AddedToken(text, normalized=False, special=True)
             for text in ("<unk>", "<s>", "</s>")])
        if is_metaspace:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
                prepend_scheme="first", split=False)
            tokenizer.add_tokens([AddedToken("[INST]", normalized=False)])
        else:
            tokenizer.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(),
             decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B:1",
            special_tokens=[("<s>", vocab["<s>"])])
        made.append(tokenizer)
    for raw in make_texts(random.Random("sentencepiece check"), 1700):
        text = raw.decode("utf-8", "replace")
        ids = processor.encode(text)
        # It does not look for control tokens in texts, and ends texts at NUL
        # and in some versions takes U+FFFD for an error.
        if any(mark in text for mark in ("\x00", "\ufffd", "▁", "<s>")):
            continue
        got = made[0].encode(text, add_special_tokens=False).ids
        assert got == ids, (text, got, ids)
    return made


def write(path, text):
    with open(path, "wb") as file:
        with gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
            zipped.write(text.encode())


def main():
    folder = pathlib.Path(__file__).resolve().parent / "vectors"
    folder.mkdir(exist_ok=True)
    total = 0
    for name, tokenizer in make_tokenizers():
        rng = random.Random(name + " vectors")
        lines = []
        for i, raw in enumerate(make_texts(rng, 1700)):
            text = raw.decode("utf-8", "replace")
            parse, add = i % 5 != 4, i % 7 == 6
            tokenizer.encode_special_tokens = not parse
            ids = tokenizer.encode(text, add_special_tokens=add).ids
            back = tokenizer.decode(ids, skip_special_tokens=False) == text
            flags = ("s" if parse else "") + ("a" if add else "")
            flags += "r" if back else ""
            lines.append(f"E\t{flags}\t{raw.hex()}\t" +
                         " ".join(map(str, ids)))
        for _ in range(200):
            ids = rng.choices(range(tokenizer.get_vocab_size()),
                              k=rng.randint(1, 12))
            text = tokenizer.decode(ids, skip_special_tokens=False)
            while name in ("sentencepiece", "metaspace") and "\ufffd" in text:
                # `tokenizers` gives as many U+FFFD as a run has bytes.
                ids = rng.choices(range(tokenizer.get_vocab_size()),
                                  k=rng.randint(1, 12))
                text = tokenizer.decode(ids, skip_special_tokens=False)
            lines.append("D\t" + " ".join(map(str, ids)) + "\t" +
                         text.encode().hex())
        document = json.loads(tokenizer.to_str())
        if name in ("deepseek-coder", "gpt2"):  # the older spelling of merges
            document["model"]["merges"] = [
                " ".join(pair) for pair in document["model"]["merges"]]
        write(folder / f"{name}.json.gz",
              json.dumps(document, ensure_ascii=False, separators=(",", ":")))
        write(folder / f"{name}.vec.gz", "\n".join(lines) + "\n")
        total += len(lines)
    print(f"tokenizers {tokenizers.__version__}: {total} vectors")


if __name__ == "__main__":
    main()
