"""The engine: shared pages, fair shares, memory that runs short, cancelling, and who drives."""

import asyncio
import random
import threading
import time

import numpy as np
import pytest

from twofold.decoding.background import choices
from twofold.decoding.decoders.beam import Beam, DiverseBeam
from twofold.decoding.decoders.decoder import Answer
from twofold.decoding.decoders.sample import BestOf, Sample
from twofold.decoding.decoders.speculative import Speculative
from twofold.decoding.decoders.stochastic_beam import StochasticBeam
from twofold.decoding.engine import Engine
from twofold.decoding.request import OutOfTime
from twofold.decoding.sampling import Sampling
from twofold.errors import TwofoldError, UsageError
from twofold.models.language_model import ContextFull, MemoryFull

DECODERS = [
    Sample(), Sample(3), BestOf(4), Beam(3), DiverseBeam(4), StochasticBeam(3), Speculative(ahead=2),
]  # fmt: skip


def submit(engine, prompt=(1,), decoder=Sample(), seed=0, max_tokens=6, **options):  # noqa: B008 - frozen
    settings = Sampling(temperature=1.0, seed=seed)
    return engine.submit(prompt, decoder, settings=settings, max_tokens=max_tokens, stop_ids=[0], **options)


def said(request):
    return [answer.branch.chosen for answer in request.result()]


def prompts(count, seed=0, longest=30):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 6, rng.integers(1, longest)).tolist() for _ in range(count)]


def test_what_a_request_says_does_not_depend_on_who_is_beside_it(toys):
    model = toys.random_texts(0)
    jobs = [(p, DECODERS[i % len(DECODERS)], i) for i, p in enumerate(prompts(21))]
    engine = Engine(model, most_requests=9, budget=20)
    together = [submit(engine, *job) for job in jobs]
    for job, request in zip(jobs, together, strict=True):
        assert said(request) == said(submit(Engine(model, cached=0), *job))


def test_no_page_is_lost_after_ten_thousand_programs_cancelled_anywhere(toys):
    rng = random.Random(0)
    engine = Engine(toys.random_texts(0), most_requests=40, budget=64, cached=200)
    memory, open_requests, cancelled = engine.tree.memory, [], 0
    made = prompts(50)
    for number in range(10_000):
        open_requests.append(
            submit(engine, rng.choice(made), rng.choice(DECODERS), number, max_tokens=rng.randrange(1, 5))
        )
        if rng.random() < 0.2:
            engine.step()
        if rng.random() < 0.5:
            open_requests.pop(rng.randrange(len(open_requests))).cancel()
            cancelled += 1
        open_requests = [request for request in open_requests if not request.done]
    assert cancelled > 3_000
    for request in open_requests:
        request.cancel()
    assert memory.pages_held * memory.page_size <= 200 + 50 * memory.page_size  # what the cache keeps
    engine.close()
    assert memory.pages_held == 0
    assert not memory.texts


def test_a_dropped_branch_gives_its_pages_back_at_once(toys):
    model = toys.random_texts(0)
    engine = Engine(model, cached=0)
    held = []

    class Forgetful:
        def program(self, task):
            branches = [task.extend(task.start(), token, 0.0) for token in range(1, 6)]
            yield branches
            held.append(engine.tree.memory.pages_held)
            del branches[1:]
            yield branches
            held.append(engine.tree.memory.pages_held)
            return [Answer(branches[0])]

    submit(engine, [1] * 9, Forgetful(), max_tokens=9).result()
    assert held[1] < held[0]
    assert engine.tree.memory.pages_held == 0


@pytest.mark.parametrize("decoder", DECODERS)
def test_little_memory_makes_requests_wait_and_changes_nothing(toys, decoder):
    model = toys.random_texts(1)
    made = prompts(12, longest=20)
    expected = [said(submit(Engine(model), p, decoder, i)) for i, p in enumerate(made)]
    engine = Engine(model, pages=26, budget=16)
    requests = [submit(engine, p, decoder, i) for i, p in enumerate(made)]
    assert [said(request) for request in requests] == expected
    engine.close()
    assert engine.tree.memory.pages_held == 0


def test_a_request_that_alone_is_too_large_is_told_and_the_others_go_on(toys):
    engine = Engine(toys.random_texts(0), pages=5)
    small, large = submit(engine, [1]), submit(engine, [1] * 30)
    with pytest.raises(MemoryFull, match="pages"):
        large.result()
    assert said(small)


def test_a_shared_beginning_is_read_once(toys):
    model = toys.random_texts(0, context_length=400)
    engine = Engine(model, budget=64)
    shared = [1, 2, 3, 4, 5] * 40
    requests = [submit(engine, [*shared, i % 5 + 1, i], max_tokens=1) for i in range(1, 6)]
    for request in requests:
        request.result()
    assert model.read <= 200 + 5 * (2 + model.page_size)
    model.read = 0
    submit(engine, [*shared, 5, 5], max_tokens=1).result()
    assert model.read <= 2 + model.page_size


def test_an_answer_is_remembered_for_the_next_turn(toys):
    model = toys.random_texts(3, context_length=100)
    engine = Engine(model)
    prompt = [1, 2, 3, 4] * 8
    [answer] = said(submit(engine, prompt, max_tokens=20, seed=4))
    model.read = 0
    submit(engine, [*prompt, *answer, 2, 2], max_tokens=1).result()
    assert model.read <= 2 + 2 * model.page_size


def test_the_cache_forgets_what_was_not_used_for_longest(toys):
    model = toys.random_texts(0, context_length=100)
    engine = Engine(model, cached=80)
    for start in (1, 2, 3, 4, 1):
        submit(engine, [start] * 33, max_tokens=1).result()
    assert engine.tree.cache.tokens <= 80
    model.read = 0
    submit(engine, [1] * 33, max_tokens=1).result()
    assert model.read <= 5
    submit(engine, [2] * 33, max_tokens=1).result()
    assert model.read > 30


def test_a_long_prompt_does_not_make_the_others_wait(toys):
    model = toys.random_texts(0, context_length=500)
    engine = Engine(model, budget=16, cached=0)
    talking = [submit(engine, [i], max_tokens=40) for i in (1, 2)]
    for request in talking:
        next(iter(request))
    reading = submit(engine, [1, 2, 3, 4] * 100, max_tokens=2)
    chosen = [len(request.task.events) for request in talking]
    for _ in range(10):
        engine.step()
    assert not reading.done
    for request, before in zip(talking, chosen, strict=True):
        assert request.done or len(request.task.events) >= before + 10


def test_many_branches_of_one_request_do_not_starve_another(toys):
    engine = Engine(toys.random_texts(0, size=40), budget=32)
    wide = submit(engine, [1], Sample(1500), max_tokens=30)
    one = submit(engine, [2], max_tokens=5)
    for _ in range(25):
        engine.step()
    assert one.done
    assert not wide.done
    wide.cancel()


def test_a_time_out_keeps_what_was_said(toys):
    def slowly(text):
        time.sleep(0.01)
        return np.ones(6, np.float32)

    engine = Engine(toys.TextModel(slowly, 6, context_length=2000))
    request = engine.submit([1], Sample(), settings=Sampling(seed=1), timeout=0.15)
    words = list(request)
    assert 2 < len(words) < 40
    assert request.timed_out
    silent = engine.submit([1], BestOf(2), settings=Sampling(seed=1), timeout=0.1)
    with pytest.raises(OutOfTime):
        silent.result()


def test_a_program_that_fails_harms_nobody_else(toys):
    class Broken:
        def program(self, task):
            yield [task.start()]
            raise RuntimeError("the decoder's own")

    class TooLong:
        def program(self, task):
            branch = task.start()
            while True:
                yield [branch]
                branch = task.extend(branch, 1, 0.0)

    engine = Engine(toys.random_texts(0, context_length=10))
    broken, long, fine = submit(engine, decoder=Broken()), submit(engine, decoder=TooLong()), submit(engine)
    with pytest.raises(RuntimeError):
        broken.result()
    with pytest.raises(ContextFull):
        long.result()
    assert said(fine)
    engine.close()
    assert engine.tree.memory.pages_held == 0


def test_a_program_may_wait_without_asking(toys):
    class Patient:
        def program(self, task):
            branch = task.start()
            for _ in range(3):
                assert len((yield [])) == 0
            yield [branch]
            return [Answer(branch)]

    assert said(submit(Engine(toys.random_texts()), decoder=Patient())) == [()]


def test_prompts_that_cannot_be_are_refused_with_the_counts(toys):
    engine = Engine(toys.random_texts(0, context_length=8))
    with pytest.raises(UsageError, match="no tokens"):
        submit(engine, [])
    with pytest.raises(UsageError, match=r"9 tokens.*holds 8.*by 1"):
        submit(engine, [1] * 9)
    assert said(submit(engine, [1] * 8)) != []


def test_stop_strings_across_token_borders_end_a_text(toys):
    spell = {1: b"a", 2: b"b", 3: b"ab", 4: b"c", 5: b"\n", 0: b""}

    def after(text):  # 1 2 4 1 2 4 …
        scores = np.zeros(6, np.float32)
        scores[{1: 2, 2: 4}.get(text[-1], 1)] = 30
        return scores

    engine = Engine(toys.TextModel(after, 6))
    for decoder in (Sample(), Beam(2), Speculative(ahead=3)):
        request = engine.submit(
            [4], decoder, settings=Sampling(temperature=0), stops=[b"bca"], token_bytes=spell.get
        )
        assert said(request) == [(1, 2, 4, 1)]
        assert request.answers[0].branch.finish == "stop"


def test_threads_may_share_an_engine(toys):
    model = toys.random_texts(0)
    engine = Engine(model)
    made = prompts(24)
    found = {}

    def work(number):
        found[number] = said(submit(engine, made[number], DECODERS[number % len(DECODERS)], number))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, text in found.items():
        assert text == said(submit(Engine(model), made[i], DECODERS[i % len(DECODERS)], i))


def test_an_event_loop_gets_choices_as_they_come_and_may_leave(toys):
    model = toys.random_texts(0)
    engine = Engine(model)

    async def listen(number, most=None):
        request = submit(engine, [number % 5 + 1], seed=number, max_tokens=12)
        heard = []
        async for choice in choices(request):
            heard.append(choice.token)
            if len(heard) == most:
                break
        return tuple(heard)

    async def all_of_them():
        left = asyncio.create_task(listen(99))
        texts = await asyncio.gather(*(listen(i) for i in range(9)), listen(3, most=1))
        left.cancel()
        return texts

    texts = asyncio.run(all_of_them())
    for i in range(9):
        assert texts[i] == said(submit(Engine(model), [i % 5 + 1], seed=i, max_tokens=12))[0]
    assert len(texts[9]) == 1
    engine.close()
    assert engine.tree.memory.pages_held == 0


def test_errors_reach_the_event_loop(toys):
    model = toys.TextModel(lambda text: np.full(6, np.nan, np.float32), 6)

    async def listen():
        async for _ in choices(submit(Engine(model))):
            pass

    with pytest.raises(TwofoldError, match="not numbers"):
        asyncio.run(listen())
