"""Small tokenizers of every kind, trained by the library that defines the format, and texts to try them on."""

import json
from functools import cache

from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from twofold.tokens.patterns import LLAMA3, O200K, QWEN2

SPECIAL = ["<s>", "</s>", "<|end|>"]
NASTY = (
    "", " ", "   a  b", "a\r\n\r\n b\t\n", "x\x00y\x7f", "e\u0301\u0323 \u212b", "👩\u200d🌾🏳️\u200d🌈", "1234567 8 90",
    "水車小屋の老人", "a" * 24, " " * 40, "\n" * 20, "a\u00a0b\u3000c\u2028d", "▁▁ ▁a", "\U00050000\U0010fffd",
    "'S 'ſ 'll don't", "x\ud83cy", "\ud83c\udf3e", "<s>a</s> <|end|>", "<think>b</think>", "half <|end", "½⅓Ⅷ ﬁ",
)  # fmt: skip
CHARACTERS = st.one_of(
    st.characters(),
    st.sampled_from(" \t\r\n\x0b\x85\u00a0\u2028\u3000a'.9sStT▁<>/|"),
    st.sampled_from("molinerpasdt éñ水老人"),
)
TEXT = st.one_of(
    st.text(CHARACTERS, max_size=40),
    st.sampled_from(NASTY),
    st.lists(st.one_of(st.sampled_from(NASTY), st.text(CHARACTERS, max_size=8)), max_size=5).map("".join),
)


def _byte_level(text, cut, **model):
    made = Tokenizer(models.BPE(**model))
    made.pre_tokenizer = cut
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text], trainer)
    return made


def _split(pattern):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def gpt2(text):
    return _byte_level(text, pre_tokenizers.ByteLevel(add_prefix_space=False))


def llama3(text):
    made = _byte_level(text, _split(LLAMA3), ignore_merges=True)
    start = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), start])
    return made


def qwen2(text):
    made = _byte_level(text, _split(QWEN2))
    made.normalizer = normalizers.NFC()
    made.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return made


def o200k(text):
    return _byte_level(text, _split(O200K))


def digits(text):
    cut = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return _byte_level(text, pre_tokenizers.Sequence(cut))


def unusual(text):
    """A cut that only the library knows."""
    cut = [pre_tokenizers.Split(Regex(r"[aeiou]+|\s?[^\saeiou]+|\s+"), "isolated")]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _byte_level(text, pre_tokenizers.Sequence([*cut, byte_level]))


def _with_bytes(made):
    """The same with the 256 byte tokens of SentencePiece behind the special ones."""
    content = json.loads(made.to_str())
    old = content["model"]["vocab"]
    names = [*SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*names, *(p for p in sorted(old, key=old.__getitem__) if p not in names)]
    content["model"].update(
        vocab={piece: token for token, piece in enumerate(pieces)},
        byte_fallback=True, fuse_unk=True, unk_token="<unk>",
    )  # fmt: skip
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    content["added_tokens"] = [{"id": i, "content": name, **flags} for i, name in enumerate(pieces[:4])]
    return content


def _metaspace(text):
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator([text], trainer)
    return _with_bytes(made)


def llama2(text):
    """Spaces by a normaliser, which puts one before each stretch of text."""
    content = _metaspace(text)
    content["pre_tokenizer"] = None
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    steps = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    content["decoder"] = {"type": "Sequence", "decoders": steps}
    return content


def mistral(text):
    """Spaces by a pre-tokenizer, which puts one before the first stretch of text."""
    content = llama2(text)
    content["normalizer"] = None
    content["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    return content


def words(text):
    """Words are cut apart, so that no two spaces are joined."""
    content = mistral(text)
    content["pre_tokenizer"].update(prepend_scheme="always", split=True)
    content["decoder"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return content


def gemma(text):
    """Nothing is put before a text; runs of line ends are tokens that the text may name."""
    content = llama2(text)
    content["normalizer"] = content["normalizer"]["normalizers"][1]
    content["pre_tokenizer"] = {
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
    }  # fmt: skip
    content["decoder"]["decoders"].pop()
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    vocab = content["model"]["vocab"]
    for name in ("\n\n", "\n\n\n\n", "\t\t"):
        vocab.setdefault(name, len(vocab))
        content["added_tokens"].append({"id": vocab[name], "content": name, **flags})
    return content


def unigram(text):
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    made.decoder = decoders.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator([text], trainer)
    return made


def wordpiece(text):
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    made.train_from_iterator([text], trainer)
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return made


BYTE_LEVEL = (gpt2, llama3, qwen2, o200k, digits, unusual)
SPACED = (llama2, mistral, words, gemma)
OTHERS = (unigram, wordpiece)
FAST = {gpt2, llama3, qwen2, o200k, digits, *SPACED}
KINDS = {make.__name__: make for make in (*BYTE_LEVEL, *SPACED, *OTHERS)}


@cache
def _written(name, text):
    made = KINDS[name](text)
    return json.dumps(made) if isinstance(made, dict) else made.to_str()


def content_of(name, text):
    """The tokenizer.json of a kind, as a fresh dict."""
    return json.loads(_written(name, text))
