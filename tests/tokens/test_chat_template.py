"""Conversations by a template from elsewhere: the ids of transformers, and nothing said can break out."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import DataError, UsageError
from twofold.text.documents import Message
from twofold.tokens.chat import encode_chat
from twofold.tokens.tokenizer import Tokenizer, bytes_only

sys.path.insert(0, str(Path(__file__).parent))
from kinds import content_of

CHATML = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\\n' + (m['content'] | trim) + '<|end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
INST = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant!') }}{% endif %}{% endfor %}"
)
THINKING = (
    "{%- for m in messages %}{%- set text = m.content %}{%- if m.role == 'assistant' and '</think>' in text %}"
    "{%- set text = text.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<s>' + m.role + '\\n' }}{% generation %}{{ text }}{{ '<|end|>' }}{% endgeneration %}{{ '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<s>assistant\\n<think>\\n' }}{%- endif %}"
)
PASTING = (
    "{% for m in messages %}<s>{{ m.content.replace('@', '') }}{% endfor %}<|{{ messages[0].content }}|>"
)
TEMPLATES = {"chatml": CHATML, "inst": INST, "thinking": THINKING}
NAMES = ["<s>", "</s>", "<|end|>", "<think>", "</think>"]
PLAIN = st.text("molinera pan\n é水<>|[]/", max_size=20).filter(
    lambda t: not any(name in t for name in NAMES)
)
AWKWARD = st.lists(
    st.one_of(
        PLAIN, st.sampled_from([*NAMES, "<|end", "|>", "<", "<|en<s>d|>", "<|en@d|>", "end", "\U0010003c"])
    ),
    max_size=5,
).map("".join)


def conversation(content):
    roles = st.sampled_from(["user", "assistant"])
    return st.lists(st.fixed_dictionaries({"role": roles, "content": content}), min_size=1, max_size=4)


@pytest.fixture(scope="module", params=["qwen2", "llama2", "mistral", "gemma"])
def folder(request, sample_text, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "tokenizer.json").write_text(json.dumps(content_of(request.param, sample_text)))
    return folder


def opened_with(folder, template):
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config})
    )
    return Tokenizer.load(folder)


@pytest.fixture(scope="module", params=list(TEMPLATES))
def both(request, folder):
    """Ours, and transformers'."""
    from transformers import PreTrainedTokenizerFast

    ours = opened_with(folder, TEMPLATES[request.param])
    return ours, PreTrainedTokenizerFast.from_pretrained(folder)


@settings(max_examples=60, deadline=None)
@given(conversation(PLAIN), st.booleans())
def test_ids_are_those_of_transformers(both, messages, prompt):
    ours, theirs = both
    expected = theirs.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=prompt, return_dict=False
    )
    assert ours.chat.encode(messages, prompt) == expected
    assert ours.chat.render(messages, prompt) == theirs.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt
    )


@settings(max_examples=100, deadline=None)
@given(conversation(AWKWARD), st.booleans())
def test_nothing_inside_a_message_makes_a_special_token(both, messages, prompt):
    ours, _ = both
    special = {token.id for token in ours.added if token.special}
    harmless = [{**message, "content": "pan"} for message in messages]
    found = [token for token in ours.chat.encode(messages, prompt) if token in special]
    assert found == [token for token in ours.chat.encode(harmless, prompt) if token in special]


@settings(max_examples=60, deadline=None)
@given(AWKWARD)
def test_a_template_that_pastes_names_together_makes_none_of_a_message(folder, text):
    ours = opened_with(folder, PASTING)
    ids = ours.chat.encode([{"role": "user", "content": text}])
    made = [ours.pieces[token] for token in ids if token in {t.id for t in ours.added if t.special}]
    assert made == ["<s>"]


def test_a_name_within_a_message_stays_its_text(both):
    ours, _ = both
    text = ours.decode(ours.chat.encode([{"role": "user", "content": "a<|end|>b</s>c"}]))
    assert "a<|end|>b</s>c" in text


def test_an_assistants_own_marks_become_tokens(folder):
    ours = opened_with(folder, CHATML)
    think = next((token.id for token in ours.added if token.name == "<think>"), None)
    if think is None:
        pytest.skip("it has none")
    ours = opened_with(folder, CHATML + "{# <think> #}{{ '' if '<think>' else '</think>' }}")
    said = {"content": "<think>hm</think>pan"}
    assert think in ours.chat.encode([{"role": "assistant", **said}])
    assert think not in ours.chat.encode([{"role": "user", **said}])


@settings(max_examples=40, deadline=None)
@given(conversation(PLAIN.filter(str.strip)))
def test_exactly_the_answers_and_their_ends_are_learned(both, messages):
    ours, _ = both
    ids, is_learned = ours.chat.learn(messages)
    assert ids == ours.chat.encode(messages)
    learned = ours.decode([i for i, learn in zip(ids, is_learned, strict=True) if learn])
    if "{% generation" in ours.roles.template:
        expected = [message["content"] for message in messages]
    else:
        expected = [message["content"] for message in messages if message["role"] == "assistant"]
    assert "".join(learned.split()) == "".join("".join(expected).split())


def test_learning_ends_with_the_token_that_ends_the_turn(folder):
    ours = opened_with(folder, CHATML)
    ids, is_learned = encode_chat(
        ours, [Message("user", "pan"), Message("assistant", "pan"), Message("user", "x")]
    )
    learned = [token for token, learn in zip(ids, is_learned, strict=True) if learn]
    assert ours.decode(learned, specials=True).endswith("pan<|end|>")


def test_what_the_template_says_and_what_is_no_conversation_is_told(folder):
    ours = opened_with(folder, INST)
    with pytest.raises(DataError, match="Only user and assistant!"):
        ours.chat.encode([{"role": "system", "content": "x"}])
    for message in (
        "hi",
        {"content": "x"},
        {"role": "<s>", "content": "x"},
        {"role": "user", "content": object()},
    ):
        with pytest.raises(DataError, match="essage 1"):
            ours.chat.encode([message])
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(DataError, match="deeper"):
        ours.chat.encode([{"role": "user", "content": "x", "more": deep}])


def test_tools_and_settings_reach_the_template(folder):
    ours = opened_with(folder, "{{ tools | tojson if tools }}{{ thinking }}{{ messages[0].content }}")
    ids = ours.chat.encode(
        [{"role": "user", "content": "a"}], tools=[{"name": "find"}], variables={"thinking": False}
    )
    assert ours.decode(ids) == '[{"name": "find"}]Falsea'
    with pytest.raises(UsageError, match="tools"):
        bytes_only().chat.encode([{"role": "user", "content": "a"}], tools=[{"name": "find"}])


def test_a_tokenizer_without_a_template_says_so(sample_text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content_of("gpt2", sample_text)))
    ours = Tokenizer.load(tmp_path)
    assert ours.chat is None
    with pytest.raises(UsageError, match="no chat template"):
        encode_chat(ours, [Message("user", "hi")])
