"""Files of every family in the hands of others: the columns GGUF, tokenizer and chat template of `families.py`.

- GGUF: `convert` writes the model's `.gguf`; the log-probabilities of what we read back from it, and those that
  llama.cpp gives, against the model of `transformers` itself;
- tokenizer: ids against those of `tokenizers`, of texts that are made to be awkward;
- chat template: ids against `apply_chat_template` of `transformers`, of random conversations.

Tokenizers are small ones of the kind that the family ships, made by the tests' `kinds.py`, with its special tokens
and a short chat template in its style; or, where a folder of real ones has one by the name of the `Style`, that.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
import transformers
import xllamacpp
from torch import Tensor
from transformers import PreTrainedModel

from twofold.errors import UsageError
from twofold.models.convert import Converted, convert
from twofold.models.folder import load_config
from twofold.models.load import load_model
from twofold.text.world import Village, VillageSettings
from twofold.tokens.tokenizer import Tokenizer, bytes_only

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tokens"))
from kinds import NASTY, content_of

Rng = np.random.Generator

# ---- GGUF. ----
BY_LENGTH = (
    "length of its context"  # what `convert` tells of models that llama.cpp takes right for long rows alone
)
LENGTHS = 5  # rows that llama.cpp is asked about


@torch.no_grad()
def log_probabilities(model: torch.nn.Module, tokens: list[int]) -> Tensor:
    """After each token of one row, float64 [T, V]."""
    found = model(torch.tensor([tokens]))
    return getattr(found, "logits", found)[0].double().log_softmax(-1)


@contextmanager
def written(folder: Path) -> Iterator[Converted]:
    """The model of a folder as a GGUF in float32. Raises UsageError for one that a GGUF cannot say."""
    bytes_only().save(folder)
    with tempfile.TemporaryDirectory() as there:
        yield convert(folder, Path(there) / "model.gguf", type="f32")


def gguf_ours(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float | str:
    """Read back by us, a short row and a long one; or why no file was written."""
    try:
        with written(folder) as made:
            ours, _, _ = load_model(made.path)
    except UsageError as error:
        return f"not written: {error}"
    worst, longest = 0.0, theirs.config.max_position_embeddings
    for most in (8, longest):
        tokens = rng.integers(0, theirs.config.vocab_size, int(rng.integers(1, most + 1))).tolist()
        difference = log_probabilities(ours, tokens) - log_probabilities(theirs, tokens)
        worst = max(worst, float(difference.abs().max()))
    return worst


def gguf_llama_cpp(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float | str:
    """Opened by llama.cpp, the last token of rows of several lengths; or why it cannot give the same."""
    try:
        with written(folder) as made:
            notes = [note for note in made.notes if BY_LENGTH not in note]
            if notes:
                return notes[0]
            longest = theirs.config.max_position_embeddings
            least = load_config(folder).rope_scaling.original_max_position_embeddings + 1 if made.notes else 1
            lengths = [least, longest - 1, *rng.integers(least, longest, LENGTHS - 2)]
            rows = [rng.integers(0, theirs.config.vocab_size, n).tolist() for n in lengths]
            found = scores_of_llama_cpp(made.path, longest, theirs.config.vocab_size, rows)
    except UsageError as error:
        return f"not written: {error}"
    target = np.stack([log_probabilities(theirs, row)[-1].numpy() for row in rows])
    return float(np.abs(found - target).max())


def scores_of_llama_cpp(path: Path, context: int, vocabulary: int, rows: list[list[int]]) -> np.ndarray:
    """Its log-probabilities of the token after each row, [rows, V]; infinite where it does not tell."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = context, 1, False, -1
    params.cpuparams.n_threads = 1
    # Keys and values as they are: its flash attention rounds to float16.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    found = np.full((len(rows), vocabulary), np.inf)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:  # it does not open the file
        return found
    for scores, row in zip(found, rows, strict=True):
        # It tells no scores where the token that it takes is half a character: so the letter "a" is taken.
        ask = {"prompt": row, "max_tokens": 1, "temperature": 0.0, "cache_prompt": False}
        answer = server.handle_completions({**ask, "n_probs": vocabulary, "logit_bias": [[ord("a"), 1e3]]})
        for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            scores[one["id"]] = one["logprob"]
    return found


GGUF: Mapping[str, Callable[[PreTrainedModel, Path, Rng], float | str]] = {
    "GGUF, ours": gguf_ours, "GGUF, llama.cpp": gguf_llama_cpp,
}  # fmt: skip


# ---- Tokenizers. ----
class Style(NamedTuple):
    """What a family ships. kind: of tokenizer, in `kinds.py`. starts: <bos> is put before every text. strips: special
    tokens take the spaces after them. whole_first: a word that is a token is not joined from parts. system: a
    conversation may begin with such a message."""

    kind: str
    bos: str
    eos: str
    names: str = ""  # of other special tokens
    template: str | None = None
    starts: bool = False
    strips: bool = False
    whole_first: bool = False
    system: bool = True


# Short templates in the families' styles; {%- and -%} as theirs have them.
LLAMA2 = r"""{% set turns = messages[1:] if messages[0].role == 'system' else messages %}
{%- for m in turns %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('They take turns.') }}{% endif %}
    {%- set note = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' if loop.first and turns != messages else '' %}
    {%- if m.role == 'user' %}{{ bos_token + '[INST] ' + (note + m.content).strip() + ' [/INST]' }}
    {%- else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}
{%- endfor %}"""
MISTRAL = r"""{{- bos_token }}{%- for m in messages %}
    {%- if m.role == 'user' %}{{- '[INST] ' }}
        {%- if messages[0].role == 'system' and loop.revindex <= 2 %}{{- messages[0].content + '\n\n' }}{%- endif %}
        {{- m.content + ' [/INST]' }}
    {%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}{%- endif %}
{%- endfor %}"""
LLAMA3 = r"""{%- set head = '<|start_header_id|>' %}{{- bos_token }}
{%- if tools %}{{- head + 'system<|end_header_id|>\n\n' }}
    {%- for tool in tools %}{{- tool | tojson(indent=4) + '\n\n' }}{%- endfor %}{{- '<|eot_id|>' }}
{%- endif %}
{%- for m in messages %}
    {{- head + ('ipython' if m.role == 'tool' else m.role) + '<|end_header_id|>\n\n' }}
    {%- if m.tool_calls %}{{- '{"name": "' + m.tool_calls[0].function.name + '"}' }}{%- endif %}
    {{- m.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- head + 'assistant<|end_header_id|>\n\n' }}{%- endif %}
"""
CHATML = r"""{% for m in messages %}
    {%- if loop.first and m.role != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}
    {{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
THINKING = r"""{%- set seen = namespace(last=-1) %}
{%- for m in messages if m.role == 'user' %}{%- set seen.last = messages.index(m) %}{%- endfor %}
{%- if tools %}{{- '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}
{% endfor %}{{- '<|im_end|>\n' }}{%- endif %}
{%- for m in messages %}
    {%- set text = m.content %}
    {%- if m.role == 'assistant' and '</think>' in text and loop.index0 < seen.last %}
        {%- set text = text.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {%- if m.role == 'tool' %}{%- set text = '<tool_response>\n' + text + '\n</tool_response>' %}{%- endif %}
    {{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\n' + text }}
    {%- for call in m.tool_calls or [] %}
        {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}
    {%- endfor %}{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""
SMOLLM3 = r"""{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}
{{- '<|im_start|>system\nReasoning Mode: ' + ('/think' if enable_thinking else '/no_think') + '\n\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content.rstrip() }}{%- endif %}{{- '<|im_end|>\n' }}
{%- for m in messages if m.role != 'system' %}
    {%- if m.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}{% generation %}{{- m.content.lstrip('\n') + '<|im_end|>\n' }}
        {%- endgeneration %}
    {%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
GEMMA2 = r"""{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('No such role.') }}{% endif %}
{%- for m in messages %}
    {%- set role = 'model' if m.role == 'assistant' else m.role %}
    {{- '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""
GEMMA3 = r"""{{ bos_token }}
{%- set note = messages[0].content + '\n\n' if messages[0].role == 'system' else '' -%}
{%- for m in messages if m.role != 'system' -%}
    {{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '
' + (note if loop.first else "") }}
    {%- if m.content is string -%}{{ m.content | trim }}
    {%- else -%}{%- for part in m.content -%}{{ part.text | trim }}{%- endfor -%}{%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model
' }}{%- endif -%}
"""
PHI3 = r"""{% for m in messages %}{{ '<|' + m.role + '|>
' + m.content + '<|end|>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}"""
OLMO2 = r"""{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}
    {%- if m.role == 'assistant' and not loop.last %}{{ eos_token }}{% endif %}{{ '\n' if not loop.last }}
{%- endfor %}{% if add_generation_prompt %}{{ '\n<|assistant|>\n' }}{% endif %}"""
_IM, _HEADERS = "<|im_start|> <|im_end|>", "<|start_header_id|> <|end_header_id|> <|eot_id|>"
STYLES: Mapping[str, Style] = {
    "gpt2": Style("gpt2", "<|endoftext|>", "<|endoftext|>"),
    "llama2": Style("llama2", "<s>", "</s>", template=LLAMA2, starts=True),
    "llama3": Style("llama3", "<|begin_of_text|>", "<|eot_id|>", _HEADERS, LLAMA3, starts=True, whole_first=True),
    "mistral": Style("mistral", "<s>", "</s>", template=MISTRAL, starts=True),
    "qwen2": Style("qwen2", "<|endoftext|>", "<|im_end|>", _IM, CHATML),
    "qwen3": Style("qwen2", "<|endoftext|>", "<|im_end|>", _IM, THINKING),
    "smollm2": Style("digits", "<|im_start|>", "<|im_end|>", _IM, CHATML),
    "smollm3": Style("llama3", "<|begin_of_text|>", "<|im_end|>", _IM, SMOLLM3, whole_first=True),
    "gemma2": Style("gemma", "<bos>", "<eos>", "<start_of_turn> <end_of_turn>", GEMMA2, starts=True, system=False),
    "gemma3": Style("gemma", "<bos>", "<eos>", "<start_of_turn> <end_of_turn>", GEMMA3, starts=True),
    "phi3": Style(
        "llama2", "<s>", "<|endoftext|>", "<|system|> <|user|> <|assistant|> <|end|>", PHI3, strips=True
    ),
    "olmo2": Style("llama3", "<|endoftext|>", "<|endoftext|>", template=OLMO2),
}  # fmt: skip

OTHER_SCRIPTS = """Die Müllerin mahlt süßes Mehl. Мельник печёт хлеб. 粉屋は毎朝パンを焼く。磨坊主烤面包。
방앗간 주인은 빵을 الطحان يخبز الخبز הטוחן אופה לחם चक्कीवाला रोटी बनाता है ο μυλωνάς
👩\u200d🌾🌾 if (n != 123) {\n\t\treturn ["a", 4.5];\n}\n"""


@cache
def words() -> str:
    """What small tokenizers are trained on: the village's texts in two languages, and some of other scripts."""
    village = Village(VillageSettings(villagers=20)).documents(60_000)
    return "\n".join([*(document.text for document in village), OTHER_SCRIPTS * 30])


def made(style: Style) -> dict[str, Any]:
    """The `tokenizer.json` of a small tokenizer of the family's kind."""
    content = content_of(style.kind, words())
    added, model = content["added_tokens"], content["model"]
    flags = dict(single_word=False, lstrip=False, rstrip=style.strips, normalized=False, special=True)
    ids = {token["content"]: token["id"] for token in added}
    for name in (style.bos, style.eos, *style.names.split()):
        if name not in ids:
            ids[name] = max(*model["vocab"].values(), *ids.values()) + 1
            added.append({"id": ids[name], "content": name, **flags})
    content["post_processor"] = None
    if style.starts:
        parts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
        bos = {"SpecialToken": {"id": style.bos, "type_id": 0}}
        content["post_processor"] = {
            "type": "TemplateProcessing", "single": [bos, parts[0]], "pair": [bos, *parts],
            "special_tokens": {style.bos: {"id": style.bos, "ids": [ids[style.bos]], "tokens": [style.bos]}},
        }  # fmt: skip
    if style.kind == "llama3":
        model["ignore_merges"] = style.whole_first
        del model["merges"][-20 * style.whole_first :]  # some tokens that no merges make
    return content


@contextmanager
def shipped(style: Style, real: Path | None) -> Iterator[Path]:
    """A folder with a tokenizer and its chat template: those in the folder `real`, or small ones."""
    with tempfile.TemporaryDirectory() as there:
        folder, config = Path(there), {}
        if real is None:
            (folder / "tokenizer.json").write_text(json.dumps(made(style)))
        else:
            packed = real / "tokenizer.json.gz"
            data = (
                gzip.decompress(packed.read_bytes())
                if packed.exists()
                else (real / "tokenizer.json").read_bytes()
            )
            (folder / "tokenizer.json").write_bytes(data)
            if (real / "tokenizer_config.json").exists():
                config = json.loads((real / "tokenizer_config.json").read_text())
        given = {"bos_token": style.bos, "eos_token": style.eos, "chat_template": style.template}
        config = given | config | {"tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        yield folder


# ---- Texts. ----
BLOCKS = (0x41, 0xC0, 0x370, 0x410, 0x5D0, 0x621, 0x905, 0xE01, 0x10A0, 0x1100, 0x1E00, 0x2190, 0x3041, 0x4E00, 0xAC00,
          0xFB00, 0xFF10, 0x10330, 0x1D400, 0x1F600)  # fmt: skip
SPACES = (" ", " ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "")


def planes(rng: Rng) -> str:
    """Any characters at all, halves of pairs too."""
    return "".join(chr(int(rng.integers(plane << 16, plane + 1 << 16))) for plane in rng.integers(0, 17, 12))


def scripts(rng: Rng) -> str:
    """Letters of some scripts beside each other."""
    starts = rng.choice(BLOCKS, int(rng.integers(1, 4)))
    return "".join(chr(int(start + rng.integers(0, 60))) for start in np.repeat(starts, rng.integers(1, 9)))


def digits(rng: Rng) -> str:
    return "".join(map(str, rng.integers(0, 10, int(rng.integers(1, 30))))) + str(
        rng.choice(["", ".5", "²", "٣", "½"])
    )


def run(rng: Rng) -> str:
    """The same again and again."""
    return str(rng.choice([" ", "a", "\n", "é", "\t", "水", "=", "ab", "0", "👩", "▁", "\r\n"])) * int(
        rng.integers(2, 400)
    )


def broken(rng: Rng) -> str:
    """Bytes that are no UTF-8."""
    return rng.bytes(int(rng.integers(1, 20))).decode(
        "utf-8", str(rng.choice(["replace", "surrogateescape"]))
    )


def sentence(rng: Rng) -> str:
    known = words().split(" ")
    start = int(rng.integers(len(known)))
    return "".join(word + str(rng.choice(SPACES)) for word in known[start : start + int(rng.integers(1, 30))])


def nasty(rng: Rng) -> str:
    return NASTY[rng.integers(len(NASTY))]


KINDS = (planes, scripts, digits, run, broken, sentence, nasty)


def text(rng: Rng, names: list[str]) -> str:
    """A few of all that, with the names of special tokens here and there; a surrogate without its partner is U+FFFD."""
    parts = [KINDS[rng.integers(len(KINDS))](rng) for _ in range(int(rng.integers(1, 6)))]
    if names and rng.random() < 0.2:
        parts.insert(int(rng.integers(len(parts) + 1)), names[rng.integers(len(names))])
    joined = str(rng.choice(SPACES)).join(parts)
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def differing_texts(folder: Path, rng: Rng, count: int) -> int:
    """Texts whose ids are not those of `tokenizers`, half of them with what is put before a text."""
    ours, peer = Tokenizer.load(folder), tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    peer.encode_special_tokens = True  # their names in a text stay text
    names = [token.name for token in ours.added]
    found = 0
    for start in (False, True):
        texts = [text(rng, names) for _ in range((count + start) // 2)]
        theirs = peer.encode_batch(texts, add_special_tokens=start)
        found += sum(ours.encode(t, start=start) != e.ids for t, e in zip(texts, theirs, strict=True))
    return found


# ---- Conversations. ----
def conversation(rng: Rng, style: Style, template: str, forbidden: list[str]) -> dict[str, Any]:
    """Arguments of `apply_chat_template`: turns, tools and settings that the template knows."""

    def said() -> str:
        while (
            True
        ):  # names of special tokens in a message stay text with us; characters of the last plane are ours
            found = text(rng, [])
            if not any(name in found for name in forbidden) and max(found, default="") < "\U00100000":
                return found

    def content() -> Any:
        if re.search(r"content(.\])? is string", template) and rng.random() < 0.3:
            return [{"type": "text", "text": said()} for _ in range(int(rng.integers(1, 3)))]
        return said()

    turns: list[dict[str, Any]] = []
    if style.system and rng.random() < 0.4:
        turns.append({"role": "system", "content": said()})
    for _ in range(int(rng.integers(1, 4))):
        turns.append({"role": "user", "content": content()})
        if "tool_calls" in template and rng.random() < 0.3:
            call = {"name": "find", "arguments": {"for": said(), "most": int(rng.integers(9))}}
            calls = [{"type": "function", "function": call}]
            turns += [
                {"role": "assistant", "content": "", "tool_calls": calls},
                {"role": "tool", "content": said()},
            ]
        thought = f"<think>\n{said()}\n</think>\n\n" if "</think>" in template and rng.random() < 0.5 else ""
        turns.append({"role": "assistant", "content": thought + said()})
    prompt = bool(rng.random() < 0.5)
    found: dict[str, Any] = {
        "messages": turns[: len(turns) - prompt],
        "prompt": prompt,
        "tools": [],
        "variables": {},
    }
    if "tools" in template and rng.random() < 0.4:
        size = {"type": "object", "properties": {"for": {"type": "string", "description": said()}}}
        found["tools"] = [{"type": "function", "function": {"name": "find", "parameters": size}}]
    if "enable_thinking" in template and rng.random() < 0.5:
        found["variables"] = {"enable_thinking": bool(rng.random() < 0.5)}
    return found


def differing_conversations(folder: Path, style: Style, rng: Rng, count: int) -> int:
    """Conversations whose ids are not those of `transformers`."""
    ours, theirs = Tokenizer.load(folder), transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    template = ours.roles.template
    forbidden = [t.name for t in ours.added if t.name.strip() and (t.special or t.name in template)]
    found = 0
    for _ in range(count):
        asked = conversation(rng, style, template, forbidden)
        messages, prompt, tools, variables = asked.values()
        expected = theirs.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=prompt, return_dict=False, **variables
        )
        found += ours.chat.encode(messages, prompt, tools=tools, variables=variables) != expected
    return found
