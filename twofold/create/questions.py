"""What the models know, measured: questions about the village, samples, and a first conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from twofold.decoding.load import load
from twofold.decoding.session import LoadedModel
from twofold.errors import UsageError
from twofold.evaluation.exact_match import Answered, ask, chance
from twofold.files import write_json
from twofold.models.c_library import NoCompiler
from twofold.text.corpus import Corpus
from twofold.text.documents import Message, Question
from twofold.text.world import Village

MODELS = ("base", "assistant")
GROUPS = {
    "held_out": "People met only in pretraining",
    "taught": "People also met in fine-tuning",
    "new_words": "The same, asked in words never seen",
}
LANGUAGES = {"en": "English", "es": "Spanish"}
SAMPLE_TOKENS = 120
SAMPLE_TEMPERATURE = 0.7


def village_questions(village: Village, limit: int) -> dict[str, list[Question]]:
    """Questions by group, "held_out/en" and so on; `limit` for each group in the main language, half as many
    in others."""
    groups = {}
    for place, language in enumerate(village.settings.languages):
        count = limit if place == 0 else max(limit // 2, 1)
        groups[f"held_out/{language}"] = village.questions("held_out", language, count)
        groups[f"taught/{language}"] = village.questions("taught", language, max(count // 2, 1))
        groups[f"new_words/{language}"] = village.questions("held_out", language, max(count // 2, 1), "new")
    return groups


def measure_questions(
    folder: Path, groups: dict[str, list[Question]], say: Callable[[str], None]
) -> dict[str, Any]:
    """Put every group to the base model and the assistant, in the same chat form; plain data for scores.json."""
    found: dict[str, Any] = {"groups": {}}
    answers: dict[str, dict[str, list[Answered]]] = {}
    for name in MODELS:
        with quick(folder / name) as model:
            answers[name] = {group: ask(model, questions) for group, questions in groups.items()}
        right = sum(a.right for a in answers[name]["held_out/en"]) if "held_out/en" in groups else 0
        if right or "held_out/en" in groups:
            say(
                f"  {name}: {right} of {len(groups['held_out/en'])} right about people met only in pretraining"
            )
    for group, questions in groups.items():
        found["groups"][group] = {
            "chance": chance(questions),
            "questions": [
                {
                    "question": q.text,
                    "topic": q.topic,
                    "accepted": list(q.accepted),
                    **{
                        name: {"text": (a := answers[name][group][i]).text, "right": a.right}
                        for name in MODELS
                    },
                }
                for i, q in enumerate(questions)
            ],
        }
    return found


@contextmanager
def quick(path: Path) -> Iterator[LoadedModel]:
    """The model for a while, by the engine that writes fastest: run.c, where it can compute this model and can be
    compiled, and there is no GPU."""
    threads = torch.get_num_threads()
    try:
        model = load(path, engine="torch" if torch.cuda.is_available() else "c")
    except (NoCompiler, UsageError):
        model = load(path)
    try:
        yield model
    finally:
        torch.set_num_threads(threads)  # run.c's engine leaves torch one


def write_samples(run: Path, village: Village | None, corpus: Corpus) -> None:
    """samples.json: how the model goes on with a few openings."""
    path = run / "samples.json"
    if path.exists():
        return
    model = load(run)
    prompts = sample_prompts(village, corpus)
    texts = model.generate(
        prompts, max_tokens=SAMPLE_TOKENS, temperature=SAMPLE_TEMPERATURE, top_p=0.95, seed=0
    )
    settings = {"temperature": SAMPLE_TEMPERATURE, "top_p": 0.95, "seed": 0}
    write_json(
        path, [{"prompt": p, "continuation": t, **settings} for p, t in zip(prompts, texts, strict=True)]
    )


def sample_prompts(village: Village | None, corpus: Corpus) -> list[str]:
    """Openings: the village's own, or the first words of held-out documents, and the empty one."""
    if village is not None:
        return village.sample_prompts()
    openings = [" ".join(text.split()[:8]) for text in islice(corpus.documents("held_out"), 4)]
    return ["", *[opening for opening in openings if opening]]


def first_conversation(run: Path, village: Village | None, corpus: Corpus) -> list[dict[str, str]]:
    """Three turns with the finished assistant, as messages."""
    if village is not None:
        asked = [q.text for q in village.questions("held_out", village.settings.languages[0], 3)]
    else:
        asked = [f"Go on: {prompt}" for prompt in sample_prompts(None, corpus)[1:3]]
    model = load(run)
    talk: list[dict[str, str]] = []
    for question in asked:
        answer = model.chat([Message("user", question)], temperature=0.0, max_tokens=80)
        talk += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return talk
