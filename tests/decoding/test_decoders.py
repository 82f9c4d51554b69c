"""Every decoder against enumeration, published programs and chance, on models small enough for it."""

import itertools
import math

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from twofold.decoding.decoders.bayes_risk import MinimumBayesRisk, expected_utility
from twofold.decoding.decoders.beam import Beam, DiverseBeam
from twofold.decoding.decoders.contrastive import Contrastive
from twofold.decoding.decoders.sample import BestOf, Sample
from twofold.decoding.decoders.speculative import Speculative
from twofold.decoding.decoders.stochastic_beam import StochasticBeam
from twofold.decoding.engine import Engine
from twofold.decoding.sampling import Sampling
from twofold.errors import TwofoldError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer

GREEDY = Sampling(temperature=0)
STOP = 0


def run(model, decoder, prompt=(1,), settings=GREEDY, max_tokens=4, **options):
    """(tokens, score) of each answer; what was told is what was answered; nothing stays in memory."""
    engine = Engine(model)
    request = engine.submit(
        prompt, decoder, settings=settings, max_tokens=max_tokens, stop_ids=[STOP], **options
    )
    told = {}
    for choice in request:
        told.setdefault(choice.sample, []).append(choice.token)
    answers = [(answer.branch.chosen, answer.score) for answer in request.answers]
    assert [tuple(told[i]) for i in range(len(answers))] == [tokens for tokens, _ in answers]
    engine.close()
    if hasattr(engine.tree.memory, "texts"):
        assert not engine.tree.memory.texts
    return answers


def all_texts(model, prompt=(1,), longest=4):
    """Every text that ends with STOP or at the length, with its log-probability."""
    found = {}

    def grow(text, total):
        scores = torch.from_numpy(model.after((*prompt, *text))).double().log_softmax(-1).tolist()
        for token, log in enumerate(scores):
            longer = (*text, token)
            if token == STOP or len(longer) == longest:
                found[longer] = total + log
            else:
                grow(longer, total + log)

    grow((), 0.0)
    return found


def chi_square_is_fine(counts, expected):
    """Whether counts are within five standard deviations of what chance would do."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    enough = expected > 4
    counts = np.append(counts[enough], counts[~enough].sum())
    expected = np.append(expected[enough], max(expected[~enough].sum(), 1e-9))
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = len(expected) - 1
    return statistic < freedom + 5 * math.sqrt(2 * freedom)


# beam search


@pytest.fixture(scope="module")
def qwen():
    """A random model in transformers and in our own code."""
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=13, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=48, max_position_embeddings=64, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=STOP, pad_token_id=STOP, attn_implementation="eager",
    )  # fmt: skip
    theirs = Qwen3ForCausalLM(config).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.35).add_(parameter.ndim == 1)
    ours = Transformer(TransformerConfig.from_hf(config.to_dict()))
    ours.load_state_dict(theirs.state_dict(), strict=False)
    return theirs, TorchLanguageModel(ours, page_size=4)


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_beam_search_equals_transformers(qwen, width, length_penalty, early_stopping):
    theirs, ours = qwen
    rng = np.random.default_rng(width)
    for _ in range(6):
        prompt = rng.integers(1, 13, rng.integers(1, 8)).tolist()
        longest = int(rng.integers(1, 14))
        expected = theirs.generate(
            torch.tensor([prompt]), num_beams=width, num_return_sequences=width, max_new_tokens=longest,
            length_penalty=length_penalty, early_stopping=early_stopping, do_sample=False,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        texts, scores = expected.sequences.tolist(), expected.sequences_scores.tolist()
        texts = [cut(text[len(prompt) :]) for text in texts]
        found = run(ours, Beam(width, width, length_penalty, early_stopping), prompt, max_tokens=longest)
        real = [(text, score) for text, score in zip(texts, scores, strict=True) if score > -1e8]
        assert [tokens for tokens, _ in found] == [text for text, _ in real]
        assert [score for _, score in found] == pytest.approx([score for _, score in real], abs=1e-4)


def cut(tokens):
    return tuple(tokens[: tokens.index(STOP) + 1] if STOP in tokens else tokens)


def test_one_beam_that_stops_early_is_greedy_choice(toys):
    for seed in range(10):
        model = toys.random_texts(seed)
        [(tokens, _)] = run(model, Beam(1, early_stopping=True), max_tokens=9)
        assert [(tokens, None)] == run(model, Sample(), max_tokens=9)


def test_beam_search_with_penalties_equals_transformers(qwen):
    theirs, ours = qwen
    for seed in range(8):
        prompt = np.random.default_rng(seed).integers(1, 13, 5).tolist()
        expected = theirs.generate(
            torch.tensor([prompt]), num_beams=4, max_new_tokens=12, do_sample=False,
            repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=3,
        )  # fmt: skip
        settings = Sampling(temperature=0, repetition_penalty=1.3, no_repeat_ngram=2, min_tokens=3)
        [(tokens, _)] = run(ours, Beam(4), prompt, settings, max_tokens=12)
        assert tokens == cut(expected[0, len(prompt) :].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_wide_enough_finds_the_most_probable_text(toys, seed):
    model = toys.random_texts(seed, size=4)
    expected = all_texts(model)
    best = sorted(expected, key=expected.get, reverse=True)[:3]
    found = run(model, Beam(64, keep=3, length_penalty=0.0, early_stopping="never"))
    assert [tokens for tokens, _ in found] == best
    assert [score for _, score in found] == pytest.approx([expected[text] for text in best], abs=1e-4)


def test_what_all_beams_agree_on_is_told_before_the_end(toys):
    def after(text):  # the first three tokens are sure, the others are not
        scores = np.zeros(6, np.float32)
        if len(text) < 4:
            scores[len(text)] = 30
        return scores

    request = Engine(toys.TextModel(after, 6)).submit(
        [1], Beam(3), settings=GREEDY, max_tokens=8, stop_ids=[STOP]
    )
    first = next(iter(request))
    assert first.token == 1
    assert not request.done
    assert [choice.token for choice in request][:2] == [2, 3]


def test_one_group_is_plain_beam_search_and_the_first_group_is_not_disturbed(toys):
    model = toys.random_texts(4)
    assert run(model, DiverseBeam(4, groups=1, keep=4)) == run(model, Beam(4, keep=4))
    texts = dict(run(model, DiverseBeam(6, groups=3, penalty=2.0, keep=6)))
    for tokens, score in run(model, Beam(2, keep=2)):
        assert texts[tokens] == score


def test_a_large_penalty_makes_groups_begin_differently(toys):
    model = toys.random_texts(1)
    texts = run(model, DiverseBeam(4, groups=4, penalty=100.0, keep=4))
    assert len({tokens[0] for tokens, _ in texts}) == 4


# sampling


def test_several_samples_are_what_requests_with_the_next_seeds_would_say(toys):
    model = toys.random_texts(2)
    texts = run(model, Sample(5), settings=Sampling(seed=3), max_tokens=8)
    for i, (tokens, _) in enumerate(texts):
        assert run(model, Sample(), settings=Sampling(seed=3 + i), max_tokens=8) == [(tokens, None)]


@pytest.mark.parametrize("by", ["total", "mean"])
def test_the_best_of_several_is_the_best_of_several(toys, by):
    model = toys.random_texts(2)
    settings = Sampling(seed=0, temperature=1.0)
    samples = [tokens for tokens, _ in run(model, Sample(7), settings=settings)]
    logs = all_texts(model)
    value = {text: logs[text] / (len(text) if by == "mean" else 1) for text in samples}
    ranked = sorted((value[text] for text in samples), reverse=True)[:3]
    found = run(model, BestOf(7, keep=3, by=by), settings=settings)
    assert [score for _, score in found] == pytest.approx(ranked, abs=1e-5)
    assert [value[text] for text, _ in found] == pytest.approx(ranked, abs=1e-5)


def test_minimum_bayes_risk_takes_the_sample_most_like_the_others(toys):
    model = toys.random_texts(5)
    settings = Sampling(seed=1, temperature=1.0)
    samples = [tokens for tokens, _ in run(model, Sample(9), settings=settings)]
    utility = expected_utility([tuple(t for t in tokens if t != STOP) for tokens in samples])
    [(tokens, score)] = run(model, MinimumBayesRisk(9), settings=settings)
    assert score == max(utility)
    assert tokens == samples[int(np.argmax(utility))]


def test_chrf_is_one_for_equal_texts_and_zero_for_texts_with_nothing_in_common():
    assert expected_utility([(1, 2, 3)] * 2) == [1.0, 1.0]
    assert expected_utility([(1, 2, 3), (4, 5, 6)]) == [0.5, 0.5]
    assert expected_utility([(), ()]) == [1.0, 1.0]


def test_stochastic_beam_search_draws_without_replacement(toys):
    """How often each ordered pair of texts comes is p(a)·p(b) / (1 - p(a))."""
    model = toys.random_texts(7, size=3, spread=1.0)
    logs = all_texts(model, longest=2)
    pairs = dict.fromkeys(itertools.permutations(logs, 2), 0)
    rounds = 4000
    engine = Engine(model, most_requests=500)
    requests = [
        engine.submit(
            [1], StochasticBeam(2), settings=Sampling(temperature=1.0, seed=seed), max_tokens=2, stop_ids=[STOP]
        )
        for seed in range(rounds)
    ]  # fmt: skip
    for request in requests:
        pairs[tuple(answer.branch.chosen for answer in request.result())] += 1
    p = {text: math.exp(log) for text, log in logs.items()}
    expected = [rounds * p[a] * p[b] / (1 - p[a]) for a, b in pairs]
    assert chi_square_is_fine(list(pairs.values()), expected)


def test_stochastic_beam_search_as_wide_as_the_language_finds_all_of_it(toys):
    model = toys.random_texts(7, size=3)
    texts = run(model, StochasticBeam(64), settings=Sampling(temperature=1.0, seed=0), max_tokens=3)
    assert {tokens for tokens, _ in texts} == set(all_texts(model, longest=3))
    scores = [score for _, score in texts]
    assert scores == sorted(scores, reverse=True)


# speculation


@pytest.mark.parametrize("guess", ["draft", "look-up"])
def test_speculative_greedy_text_is_the_greedy_text(toys, guess):
    for seed in range(20):
        model = toys.random_texts(seed, size=5)
        draft = toys.random_texts(seed + (seed % 3 == 0), size=5) if guess == "draft" else None
        prompt = [1, 2, 3, 1, 2]
        expected = run(model, Sample(), prompt, max_tokens=12)
        assert run(model, Speculative(draft, ahead=3), prompt, max_tokens=12) == expected


@pytest.mark.parametrize(
    "settings",
    [dict(temperature=1.0), dict(temperature=0.6, top_k=3), dict(temperature=1.3, repetition_penalty=1.5)],
)
@pytest.mark.parametrize("guess", ["draft", "look-up"])
def test_speculative_samples_have_the_distribution_of_plain_ones(toys, settings, guess):
    model = toys.random_texts(11, size=4, spread=1.0)
    draft = toys.random_texts(12, size=4, spread=1.0) if guess == "draft" else None
    rounds = 3000

    def counts(decoder):
        engine = Engine(model, most_requests=300)
        requests = [
            engine.submit(
                [1, 2, 1], decoder, settings=Sampling(seed=seed, **settings), max_tokens=3, stop_ids=[STOP]
            )
            for seed in range(rounds)
        ]  # fmt: skip
        found = {}
        for request in requests:
            text = request.result()[0].branch.chosen
            found[text] = found.get(text, 0) + 1
        return found

    plain, guessed = counts(Sample()), counts(Speculative(draft, ahead=2))
    texts = sorted(plain.keys() | guessed.keys())
    a = np.array([plain.get(text, 0) for text in texts], float)
    b = np.array([guessed.get(text, 0) for text in texts], float)
    both = a + b > 8
    statistic = ((a - b)[both] ** 2 / (a + b)[both]).sum()
    assert statistic < both.sum() + 5 * math.sqrt(2 * both.sum())


def test_a_good_draft_saves_forward_passes(toys):
    model = toys.random_texts(1, size=5)
    run(model, Speculative(toys.random_texts(1, size=5), ahead=4), max_tokens=20)
    speculative = len(model.asks)
    model.asks.clear()
    run(model, Sample(), max_tokens=20)
    assert speculative <= math.ceil(len(model.asks) / 5) + 2


def test_log_probabilities_are_the_models_own(toys):
    model = toys.random_texts(3)
    logs = all_texts(model)
    for decoder in (Sample(), BestOf(3), Beam(3), DiverseBeam(4), StochasticBeam(3), Speculative(ahead=2)):
        engine = Engine(model)
        settings = Sampling(temperature=0.7, seed=0)
        request = engine.submit([1], decoder, settings=settings, max_tokens=4, stop_ids=[STOP])
        for answer in request.result():
            assert answer.branch.log_probability == pytest.approx(logs[answer.branch.chosen], abs=1e-4)


# contrastive search


def contrastive(model, prompt, count, k, alpha):
    """The same in a few lines of transformers, everything read anew at each step."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        read = model(torch.tensor([tokens]), output_hidden_states=True)
        chances, best = read.logits[0, -1].softmax(-1).topk(k)
        seen = torch.nn.functional.normalize(read.hidden_states[-1][0], dim=-1)
        values = []
        for chance, token in zip(chances, best, strict=True):
            longer = model(torch.tensor([[*tokens, int(token)]]), output_hidden_states=True)
            state = torch.nn.functional.normalize(longer.hidden_states[-1][0, -1], dim=-1)
            values.append((1 - alpha) * chance - alpha * (seen @ state).max())
        tokens.append(int(best[int(torch.stack(values).argmax())]))
        if tokens[-1] == STOP:
            break
    return tuple(tokens[len(prompt) :])


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.6), (3, 0.0), (4, 0.5), (5, 0.9)])
def test_contrastive_search_is_its_formula(qwen, k, alpha):
    theirs, ours = qwen
    for seed in range(4):
        prompt = np.random.default_rng(seed).integers(1, 13, 5).tolist()
        with torch.no_grad():
            expected = contrastive(theirs, prompt, 14, k, alpha)
        assert run(ours, Contrastive(k, alpha), prompt, max_tokens=14)[0][0] == expected


def test_contrastive_search_needs_a_model_with_activations(toys):
    with pytest.raises(UsageError, match="activations"):
        run(toys.random_texts(), Contrastive())


# what cannot be


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sample(0), lambda: Beam(0), lambda: Beam(2, keep=3), lambda: DiverseBeam(5, groups=2),
        lambda: BestOf(2, keep=3), lambda: BestOf(2, by="best"), lambda: MinimumBayesRisk(1),
        lambda: StochasticBeam(0), lambda: Speculative(ahead=0), lambda: Beam(2, early_stopping="soon"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(make):
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize("decoder", [Sample(), Beam(2), DiverseBeam(2), StochasticBeam(2), Speculative()])
def test_everything_banned_is_told_and_not_waited_for(toys, decoder):
    settings = Sampling(temperature=1.0, banned=range(6))
    with pytest.raises(TwofoldError, match="allow"):
        run(toys.random_texts(), decoder, settings=settings)


@pytest.mark.parametrize("decoder", [Sample(), Beam(2), DiverseBeam(2), StochasticBeam(2), Speculative()])
def test_scores_that_are_not_numbers_are_told(toys, decoder):
    model = toys.TextModel(lambda text: np.full(6, np.nan, np.float32), 6)
    with pytest.raises(TwofoldError, match="not numbers"):
        run(model, decoder, settings=Sampling(temperature=1.0))


def test_a_draft_with_fewer_tokens_is_refused(toys):
    with pytest.raises(UsageError, match="share a tokenizer"):
        run(toys.random_texts(size=6), Speculative(toys.random_texts(size=5)))
