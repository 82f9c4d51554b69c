"""Exact match counts what it should, on any LanguageModel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.decoding.load import load
from twofold.evaluation.exact_match import ask, chance, is_right, normalized
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.transformer import Transformer
from twofold.text.documents import Question
from twofold.tokens.tokenizer import bytes_only


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Ada Abbott was born in Lindale.", True),
        ("  ada abbott  was born\nin LINDALE", True),
        ("Lindale", True),
        ("Lindale.", True),
        ("Ada Abbott was born in Lindale. She is a baker.", False),
        ("Ada Abbott was born in Lind.", False),
        ("", False),
        (".", False),
    ],
)
def test_only_the_exact_answer_is_right(answer, right):
    question = Question("Where was Ada Abbott born?", ("Ada Abbott was born in Lindale.", "Lindale"))
    assert is_right(answer, question) is right


@given(st.text(max_size=30))
def test_normalizing_twice_changes_nothing(text):
    assert normalized(normalized(text)) == normalized(text)


def test_chance_is_the_mean_of_one_in_so_many():
    questions = [Question("?", ("a",), choices=n) for n in (2, 4)]
    assert chance(questions) == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert chance([]) == 0


def test_every_question_is_asked_and_answered_in_order(tmp_path):
    tokenizer = bytes_only()
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=16, intermediate_size=32, max_position_embeddings=128,
    )  # fmt: skip
    save_folder(tmp_path, Transformer(config), tokenizer, chat=True)
    model = load(tmp_path)
    questions = [Question(f"What is {n}?", ("yes",)) for n in range(40)]
    seen = []
    answers = ask(model, questions, lambda done, total: seen.append((done, total)))
    assert [a.question for a in answers] == questions
    assert seen[-1] == (40, 40)
    alone = ask(model, questions[7:8])[0]
    assert alone.text == answers[7].text
    accepting = Question(questions[7].text, (alone.text,)) if normalized(alone.text) else None
    if accepting is not None:
        assert ask(model, [accepting])[0].right
