r"""How text is cut before pairs are joined: the patterns in use, and which others may run.

A cut is a row of steps; each cuts what the one before left, at every match of a regular expression. Ids
depend on it to the letter, so a GGUF names its cut ("llama-bpe") and a `tokenizer.json` writes it down.

Key idea of the check: a pattern is a program from a stranger, and `(a+)+$` runs for years. Every branch of a
pattern must be one of those in use here, or plainly linear: items one after the other, of which none that
may repeat without end is followed by one that must match, so that a branch never tries a text twice.
Sources: the libraries' own definitions (tiktoken's `openai_public.py`, the models' `tokenizer.json`) and the
names of llama.cpp's `llama-vocab.cpp`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from twofold.tokens.vocabulary import PATTERN as QWEN2

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = _SHORT + _WORDS + r"|\p{N}{1,3}" + _TAIL
QWEN35 = (
    _SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASH_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _cased(end: str) -> str:
    lead = r"[^\r\n\p{L}\p{N}]?"
    return f"{lead}{_UPPER}*{_LOWER}+{end}|{lead}{_UPPER}+{_LOWER}*{end}"


O200K = _cased(_SHORT + "?") + r"|\p{N}{1,3}" + _SLASH_TAIL
TEKKEN = _cased("") + r"|\p{N}" + _SLASH_TAIL
# As tiktoken spells them: possessive, and `\s++$` keeps the spaces that end a text together.
R50K_RANKS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K_RANKS = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_DIGIT, _DIGITS, _THREE = r"\p{N}", r"\p{N}+", "[0-9][0-9][0-9]"
_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SEED = _SHORT + _WORDS + r"|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_EXAONE_SHORT = r"'(?i:[sdmt]|ll|ve|re)"
_BAILING = (
    _EXAONE_SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_DEEPSEEK_HAN = "[一-龥ࠀ-一가-\ud7ff]+"
_CASED = (  # letters that have case, as DeepSeek's first models list them
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376-377 37B-37D 37F 386 388-38A 38C 38E-3A1 "
    "3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A "
    "1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 "
    "1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 "
    "212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183-2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2-2CF3 A640-A66D "
    "A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 "
    "104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"
)
_CASED_CLASS = re.sub(r"[0-9A-F]+", lambda code: chr(int(code[0], 16)), _CASED).replace(" ", "")
_DEEPSEEK1 = (
    "[\r\n]",
    rf"\s?[{_CASED_CLASS}]+",
    r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+".replace(r"\u3000", "\u3000"),
)

# The names that a GGUF's `tokenizer.ggml.pre` has, with their steps.
CUTS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", GPT2, _DIGITS, _THREE),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, _THREE),
    "deepseek-llm": (*_DEEPSEEK1, r"\s+$", _DEEPSEEK_HAN, _DIGITS),
    "deepseek-coder": ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_HAN, _DIGIT),
    "gpt3-finnish": (_BLOOM,),
    "bloom": (_BLOOM,),
    "poro-chat": (_BLOOM,),
    "viking": (_BLOOM, _DIGIT),
    "seed-coder": (_SEED,),
    "tekken": (TEKKEN,),
    "qwen35": (QWEN35,),
}
for _names, _steps in {
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano "
    "dbrx smaug-bpe chatglm-bpe glm4 glm5": (LLAMA3,),
    "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open megrez grok-2": (QWEN2,),
    "gpt-4o llama4 kanana2 talkie minimax-m2": (O200K,),
    "gpt-2 phi-2 mpt olmo jais jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert "
    "trillion granite-docling exaone4": (GPT2,),
    "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2": (_DIGIT, GPT2),
    "deepseek-v3 hunyuan-dense joyai-llm hy_v4": (r"\p{N}{1,3}", _CJK, _DEEPSEEK3),
    "bailingmoe bailingmoe2 llada-moe": (_BAILING,),
}.items():
    CUTS |= dict.fromkeys(_names.split(), _steps)
# These take a piece that is a token as it is, before any merge.
WHOLE_FIRST = frozenset(
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken")
)


@dataclass(frozen=True)
class RankFile:
    """What a file of ranks does not say: its cut, and the special tokens by id."""

    pattern: str
    special: dict[str, int]


def _numbered(names: str, first: int) -> dict[str, int]:
    return {name: first + place for place, name in enumerate(names.split())}


_END, _FIM = "<|endoftext|>", "<|fim_prefix|> <|fim_middle|> <|fim_suffix|>"
_LLAMA3_NAMES = (
    "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> "
    "<|finetune_right_pad_id|> <|reserved_special_token_2|> <|start_header_id|> <|end_header_id|> <|eom_id|> "
    "<|eot_id|> <|python_tag|>"
)
# By name (OpenAI's), and by how many ranks there are, for files called otherwise.
RANK_FILES: dict[str, RankFile] = {
    "r50k_base": RankFile(R50K_RANKS, {_END: 50256}),
    "p50k_base": RankFile(R50K_RANKS, {_END: 50256}),
    "p50k_edit": RankFile(R50K_RANKS, {_END: 50256} | _numbered(_FIM, 50281)),
    "cl100k_base": RankFile(
        CL100K_RANKS, {_END: 100257} | _numbered(_FIM, 100258) | {"<|endofprompt|>": 100276}
    ),
    "o200k_base": RankFile(O200K, {_END: 199999, "<|endofprompt|>": 200018}),
    "llama3": RankFile(
        LLAMA3,
        _numbered(_LLAMA3_NAMES, 128000)
        | {f"<|reserved_special_token_{place}|>": 128008 + place for place in range(3, 248)},
    ),
    "qwen": RankFile(
        QWEN2,
        _numbered(f"{_END} <|im_start|> <|im_end|>", 151643)
        | {f"<|extra_{place}|>": 151646 + place for place in range(205)},
    ),
}
RANK_COUNTS = {
    50256: "r50k_base",
    50280: "p50k_base",
    100256: "cl100k_base",
    199998: "o200k_base",
    128000: "llama3",
    151643: "qwen",
}


def joined(steps: tuple[str, ...]) -> str | None:
    """One pattern that cuts as `steps` do one after the other, where one is known; spelled for tiktoken."""
    if len(steps) == 1:
        return _ONE_STEP.get(steps[0])
    if steps == (_DIGIT, GPT2):  # digits are alone, so spaces before one end a piece, and stay together
        return GPT2.replace(r"| ?\p{N}+", r"|\p{N}").replace(r"(?!\S)", r"(?![^\s\p{N}])")
    return None


def for_tokenizers(pattern: str) -> str:
    """A pattern of tiktoken's as `tokenizers` reads it, which takes `$` for the end of a line, and
    {1,3}+ for a repetition of the whole."""
    return pattern.replace("$", r"\z").replace("{1,3}+", "{1,3}")


_ONE_STEP = {pattern: pattern for pattern in (GPT2, LLAMA3, QWEN2, QWEN35, O200K, TEKKEN)}
_ONE_STEP |= {for_tokenizers(pattern): pattern for pattern in (R50K_RANKS, CL100K_RANKS)}


# --- which patterns may run -----------------------------------------------------------------------------

LONGEST_PATTERN = 4_000  # characters
_ITEM = re.compile(
    r"""(?P<atom>
        \\[pP]\{\^?\w{1,40}\} | \\x\{[0-9a-fA-F]{1,6}\} | \\x[0-9a-fA-F]{2} | \\u[0-9a-fA-F]{4} | \\[^pPxukgK1-9GAXR]
      | \[ (?: [^\[\]\\] | \\. | \[ (?: [^\[\]\\] | \\. )* \] )+ \]
      | \(\?(?:i)?:(?P<choice>[^()*+{}?\\]*)\)
      | \((?P<plain>[^()*+{}?\\]*)\)
      | [^\\\[\]()*+?{}|^$]
    )
    (?P<times>(?:[*+?]|\{\d{1,3}\}|\{\d{1,3},\d{0,3}\})?)(?P<how>[+?]?)""",
    re.X | re.S,
)
_LOOK = re.compile(r"\(\?[!=](?:\\[sSdDwWbB]|\\[pP]\{\w{1,40}\}|\[(?:[^\[\]\\]|\\.)+\])\)|\$|\\z|\^|\\b")


def refusal(pattern: str) -> str | None:
    """Why a pattern may not run, for a person; None if it may."""
    if len(pattern) > LONGEST_PATTERN:
        return f"the pattern has {len(pattern):,} characters; at most {LONGEST_PATTERN:,} are read"
    parts = branches(pattern)
    for branch in parts:
        tries_again = branch in _ONLY_TOGETHER and len(parts) > 1 and _SPACES not in parts
        if tries_again or (branch not in _KNOWN_BRANCHES and not _plainly_linear(branch)):
            return f"the part {branch[:60]!r} of its pattern could take very long, or is of an unknown form"
    return None


def branches(pattern: str) -> list[str]:
    """The alternatives of a pattern, at its highest level."""
    found, depth, in_class, start, place = [], 0, 0, 0, 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == "\\":
            place += 1
        elif letter == "[":
            in_class += 1
        elif letter == "]" and in_class:
            in_class -= 1
        elif not in_class and letter in "()":
            depth += 1 if letter == "(" else -1
        elif not in_class and not depth and letter == "|":
            found.append(pattern[start:place])
            start = place + 1
        place += 1
    return [*found, pattern[start:]]


def _plainly_linear(branch: str) -> bool:
    """Whether nothing that must match comes behind a repetition without end, or behind many optional items."""
    place, endless, optional, items = 0, False, 0, 0
    while place < len(branch):
        if look := _LOOK.match(branch, place):
            if endless:
                return False
            place = look.end()
            continue
        item = _ITEM.match(branch, place)
        if item is None:
            return False
        times, is_group = item["times"], item["choice"] is not None or item["plain"] is not None
        least, most = _LIMITS.get(times) or _limits(times)
        if is_group and most > 1:
            return False
        if least and (endless or optional > _MOST_OPTIONAL):
            return False
        endless = endless or most > max(least, _SHORT_REPEAT)
        optional += most > least
        items += least > 0
        place = item.end()
    return items > 0


_LIMITS = {"": (1, 1), "?": (0, 1), "*": (0, 1 << 30), "+": (1, 1 << 30)}
_SPACES = r"\s+(?!\S)"  # takes a run of spaces at once, where others have looked at all of it in vain
_ONLY_TOGETHER = frozenset((r"\s*[\r\n]", r"\s*[\r\n]+", r"\s+$", r"\s++$", r"\s++\z"))
_SHORT_REPEAT = 8
_MOST_OPTIONAL = 2


def _limits(times: str) -> tuple[int, int]:
    """Of {3}, {1,3} and {2,}."""
    least, comma, most = times.strip("{}").partition(",")
    return int(least), int(most) if most else (1 << 30 if comma else int(least))


_KNOWN_BRANCHES = frozenset(
    branch
    for pattern in (
        *(step for steps in CUTS.values() for step in steps),
        *(form(entry.pattern) for entry in RANK_FILES.values() for form in (str, for_tokenizers)),
    )
    for branch in branches(pattern)
)
