"""What `twofold.load` returns, over a saved folder and over a model of a few lines."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import twofold
from twofold.decoding.chat import ChatSession
from twofold.decoding.sampling import Sampling
from twofold.decoding.session import LoadedModel
from twofold.errors import DataError, FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

TOKENIZER = bytes_only()
END, TURN = TOKENIZER.end_of_text, TOKENIZER.im_end
CONTEXT = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=TOKENIZER.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=48, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.25).add_(parameter.ndim == 1)
    folder = tmp_path_factory.mktemp("session") / "model"
    save_folder(folder, model, TOKENIZER, chat=True)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return twofold.load(folder)


def test_what_there_is_not_is_told_by_name(folder):
    for asked in (
        {"engine": "rust"},
        {"precision": "f32"},
        {"precision": None},
        {"device": "cdua"},
        {"device": "mps"},
        {"device": "meta"},
    ):
        [(what, name)] = asked.items()
        with pytest.raises(UsageError, match=f"{what} {name!r}"):
            twofold.load(folder, **asked)


def test_a_context_can_be_asked_for(folder):
    model = twofold.load(folder, context_length=20)
    assert model.model.context_length == 20
    with pytest.raises(UsageError, match="context holds 20"):
        model.generate("a" * 30)
    for asked in (0, CONTEXT + 1):
        with pytest.raises(
            UsageError, match=f"{asked} tokens was asked for, and the model's positions allow 1 to 96"
        ):
            twofold.load(folder, context_length=asked)


class Parrot:
    """A LanguageModel that says `answer`, byte by byte, after any prompt, and then <|im_end|>. It finds
    where the answer begins by the last <|im_start|> (or <|endoftext|>)."""

    vocab_size = TOKENIZER.vocab_size
    page_size = 1 << 20  # no page is ever full, so nothing is kept between requests

    def __init__(self, answer, context_length=CONTEXT):
        self.answer = [*TOKENIZER.encode(answer), TURN]
        self.context_length = context_length
        self.prompts = []
        self.lengths = {}
        self.given = {}

    def new_memory(self, pages=None):
        return self

    def new(self, source=None):
        self.lengths[len(self.lengths)] = 0
        return len(self.lengths) - 1

    def free(self, sequence):
        self.lengths[sequence] = None

    def pages_free(self):
        return None

    def length(self, sequence):
        return self.lengths[sequence]

    def scores(self, memory, questions):
        scores = np.full((len(questions), self.vocab_size), -30, np.float32)
        for row, ask in enumerate(questions):
            if not self.lengths[ask.sequence]:
                self.prompts.append(list(ask.tokens))
                self.given[ask.sequence] = 0
            self.lengths[ask.sequence] += len(ask.tokens)
            scores[row, self.answer[self.given[ask.sequence]]] = 0
            self.given[ask.sequence] += 1
        return scores


def parrot(answer, **options):
    return LoadedModel(Parrot(answer, **options), TOKENIZER, (TURN, END), is_chat=True)


def test_greedy_text_equals_transformers(folder, model):
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([TOKENIZER.encode("Ada and", start=True)])
    expected = theirs.generate(prompt, max_new_tokens=40, do_sample=False)[0, prompt.shape[1] :]
    expected = TOKENIZER.decode(expected.tolist())
    assert model.generate("Ada and", max_tokens=40, temperature=0) == expected


def test_one_prompt_gives_text_and_a_list_gives_a_list(model):
    texts = model.generate(["Ada", "Bo"], max_tokens=9, seed=4)
    assert model.generate("Ada", max_tokens=9, seed=4) == texts[0]
    assert model.generate("Bo", max_tokens=9, seed=5) == texts[1]
    assert model.generate([], max_tokens=9) == []


def test_the_stream_joins_to_the_text(model):
    pieces = list(model.stream("Ada", max_tokens=60, seed=1, temperature=1.5))
    assert len(pieces) > 5
    assert "".join(pieces) == model.generate("Ada", max_tokens=60, seed=1, temperature=1.5)


def test_an_empty_prompt_starts_a_text(model):
    assert model.start("") == [END]
    assert isinstance(model.generate("", max_tokens=5, seed=0), str)


def test_a_prompt_beyond_the_context_is_told_with_both_counts(model):
    with pytest.raises(UsageError, match=f"201 tokens.*holds {CONTEXT}"):
        model.generate("x" * 200)
    with pytest.raises(UsageError, match=f"holds {CONTEXT}"):
        model.chat([{"role": "user", "content": "x" * 200}])


def test_a_text_stops_before_the_stop_string():
    model = parrot("one two three. four five")
    assert model.generate("", stop="four") == "one two three. "
    assert "".join(model.stream("", stop=["thr", "two t"])) == "one "
    done = model.complete([[END]], settings=Sampling(), stop=["two"])[0]
    assert (done.text, done.finish, len(done.tokens)) == ("one ", "stop", 7)
    assert model.generate("", stop="absent") == "one two three. four five"


def test_special_tokens_are_not_part_of_the_text():
    done = parrot("hé").complete([[END]], settings=Sampling(temperature=0))[0]
    assert done.text == "hé"
    assert done.tokens[-1] == TURN
    assert done.log_probability == pytest.approx(0, abs=1e-6)


def test_half_a_character_is_not_lost_at_the_end():
    model = parrot("aé")
    assert model.generate("", max_tokens=2) == "a\ufffd"
    assert "".join(model.stream("", max_tokens=2)) == "a\ufffd"


def test_chat_asks_in_the_chat_form():
    model = parrot("Hello.")
    assert (
        model.chat([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]) == "Hello."
    )
    shown = TOKENIZER.decode(model.model.prompts[0], specials=True)
    assert shown == (
        "<|endoftext|><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    with pytest.raises(DataError):
        model.chat([{"role": "king", "content": "Hi"}])


def score_by_hand(folder, text):
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.tensor(TOKENIZER.encode(text, start=True))
    with torch.no_grad():
        logs = theirs(tokens[None]).logits[0].log_softmax(-1)
    return float(logs[:-1].gather(1, tokens[1:, None]).sum())


@pytest.mark.parametrize("length", [1, 4, CONTEXT - 2, CONTEXT - 1])
def test_the_score_of_a_text_within_the_context_is_transformers(folder, model, length, monkeypatch):
    text = ("— " + "Ada has a cat. " * 20)[: max(1, length - 2)]  # the first takes three bytes
    score = model.score(text)
    assert score.log_probability == pytest.approx(score_by_hand(folder, text), abs=1e-3)
    assert score.tokens == score.bytes == len(text.encode())
    assert score.bits_per_byte == pytest.approx(-score.log_probability / math.log(2) / len(text.encode()))
    monkeypatch.setattr("twofold.decoding.session._SCORES_AT_ONCE", 7 * TOKENIZER.vocab_size)
    assert model.score(text).log_probability == pytest.approx(score.log_probability, abs=1e-3)


@pytest.mark.parametrize("length", [CONTEXT, CONTEXT + 47, 3 * CONTEXT - 1, 500])
def test_a_long_text_is_scored_in_windows_each_token_once(folder, model, length, monkeypatch):
    """Every token has at least half a context before it, and the sum is over each exactly once."""
    rng = np.random.default_rng(length)
    text = "".join(rng.choice(list("abc d"), length))
    tokens = TOKENIZER.encode(text)
    seen = []
    real = LoadedModel._window

    def watched(self, window, given):
        seen.append((window, given))
        return real(self, window, given)

    monkeypatch.setattr(LoadedModel, "_window", watched)
    total = model.score(text).log_probability
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    expected, done = 0.0, 0
    for window, given in seen:
        assert len(window) <= CONTEXT
        assert window[0] == END
        assert window[given:] == tokens[done : done + len(window) - given]
        assert done == 0 or given > (CONTEXT - 1) // 2
        done += len(window) - given
        with torch.no_grad():
            logs = theirs(torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
        picked = logs.gather(1, torch.tensor(window[1:])[:, None])[:, 0]
        expected += float(picked[given - 1 :].sum())
    assert done == len(tokens)
    assert total == pytest.approx(expected, abs=1e-2)


def test_an_empty_text_has_no_score(model):
    with pytest.raises(UsageError, match="no text"):
        model.score("")


def test_what_cannot_be_loaded_is_told(tmp_path):
    with pytest.raises(FileError, match="no model"):
        twofold.load(tmp_path)


def test_the_package_names_what_it_exports():
    assert "load" in dir(twofold)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = twofold.nothing_such


# Conversations


def say(session, text):
    return "".join(session.ask(text))


def test_a_conversation_remembers_its_turns():
    model = parrot("Yes.")
    chat = ChatSession(model, system="Agree.")
    assert say(chat, "One?") == "Yes."
    assert say(chat, "Two?") == "Yes."
    last = TOKENIZER.decode(model.model.prompts[1], specials=True)
    assert last.endswith(
        "One?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert [m["role"] for m in chat.transcript()] == ["system", "user", "assistant", "user", "assistant"]
    chat.reset()
    assert chat.transcript() == [{"role": "system", "content": "Agree."}]


def test_the_oldest_turns_are_left_out_when_the_context_is_full():
    chat = ChatSession(parrot("Yes."), max_tokens=10)
    left_out = []
    for number in range(30):
        say(chat, "Why" + "?" * (number * 7 % 31))
        left_out.append(chat.left_out)
    assert left_out[0] == 0
    assert left_out[-1] >= 50
    assert all(number % 2 == 0 for number in left_out)
    assert len(chat.messages) == 60
    lengths = [len(prompt) for prompt in chat.model.model.prompts]
    assert CONTEXT - 20 <= max(lengths) <= CONTEXT - 10  # room for an answer, and little more


def test_a_turn_that_cannot_fit_is_told_and_forgotten():
    chat = ChatSession(parrot("Yes."))
    with pytest.raises(UsageError, match=r"tokens.*context holds"):
        chat.ask("x" * CONTEXT)
    assert chat.messages == []
    assert say(chat, "Hi") == "Yes."


def test_an_answer_that_is_stopped_is_remembered_as_far_as_it_went():
    chat = ChatSession(parrot("A long answer."))
    answer = chat.ask("Hi")
    said = next(answer) + next(answer)
    answer.close()
    assert chat.messages[-1] == {"role": "assistant", "content": said}
    lengths = chat.model.model.lengths
    assert set(lengths.values()) == {None}  # all freed


def test_a_turn_without_an_answer_is_forgotten():
    chat = ChatSession(parrot(""))
    assert say(chat, "Hi") == ""
    assert chat.messages == []


def test_retry_answers_the_last_turn_again(model):
    chat = ChatSession(model, settings=Sampling(seed=0, temperature=1.5), max_tokens=12)
    with pytest.raises(UsageError, match="nothing"):
        chat.retry()
    first = say(chat, "Hi")
    second = "".join(chat.retry())
    assert first != second
    assert [m["content"] for m in chat.messages] == ["Hi", second]
    again = ChatSession(model, settings=Sampling(seed=0, temperature=1.5), max_tokens=12)
    assert [say(again, "Hi"), "".join(again.retry())] == [first, second]
