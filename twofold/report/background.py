"""The parts of the page that tell how it came about: text, compression, model, time, files, settings.

Each is made from its part of the record, and is None where there is nothing to show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.report.bars import Share, Square, shares, squares, timeline
from twofold.report.markup import Markup, tag
from twofold.report.quantities import finite, number, size, value_of, whole
from twofold.report.record import Compression, FileNote, Report, RunRecord, Stage
from twofold.report.tables import Section, cut, facts, fold, section

PLUMBING = ("format", "version", "index")  # of a data card: of use to programs only

SHAPE_WORDS = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "attention heads",
    "num_key_value_heads": "key-value heads",
    "head_dim": "width of a head",
    "intermediate_size": "feed-forward width",
    "vocab_size": "vocabulary",
    "max_position_embeddings": "context, in tokens",
    "tie_word_embeddings": "embedding shared with the output",
    "rope_theta": "RoPE base",
    "rms_norm_eps": "RMSNorm epsilon",
}


def data_section(runs: Sequence[RunRecord]) -> Section | None:
    """What each run was trained on."""
    cards = [(run.name, {k: v for k, v in run.data_card.items() if k not in PLUMBING}) for run in runs]
    cards = [(name, card) for name, card in cards if card]
    if not cards:
        return None
    if len(cards) == 1:
        body: Any = facts(cards[0][1])
    else:
        body = [tag("div", tag("h3", name), facts(card), class_="card") for name, card in cards]
    return section("data", "What it was trained on", tag("div", body, class_="cards"))


def compression_section(compression: Compression | None) -> Section | None:
    """The training text beside the parameters, as squares whose areas are their bytes."""
    if compression is None or compression.text_bytes <= 0:
        return None
    text = compression.text_bytes
    items = [Square("training text", text, "quiet")]
    if compression.gzip_bytes:
        items.append(
            Square(
                "the same, gzip",
                compression.gzip_bytes,
                "quiet faded",
                f"{text / compression.gzip_bytes:.1f} : 1",
            )
        )
    for name, n_bytes in compression.precisions.items():
        if n_bytes > 0:
            items.append(Square(f"{name} parameters", n_bytes, "accent", _ratio(text, n_bytes)))
    for name, n_bytes in compression.files.items():
        if n_bytes > 0:
            items.append(Square(name, n_bytes, "held-out", _ratio(text, n_bytes)))
    if len(items) < 2:
        return None
    lede = (
        "A model is a lossy compression of what it read: it cannot give the text back, but it keeps what "
        "helps to predict it. The areas below are to scale."
    )
    if compression.gzip_bytes:
        lede += " gzip keeps every byte; the parameters keep the patterns."
    return section("compression", "The text, compressed", squares(items), lede=lede)


def _ratio(text: int, n_bytes: int) -> str:
    if text > 100 * n_bytes:
        return ""  # run.py beside gigabytes of text: the ratio would mean nothing
    return f"{text / n_bytes:.1f} : 1" if text >= n_bytes else f"1 : {n_bytes / text:.1f}"


def model_section(runs: Sequence[RunRecord]) -> Section | None:
    """The shape of the model, and where its parameters are."""
    run = next((run for run in runs if run.model or run.parameters), None)
    if run is None:
        return None
    named = [(word, value_of(key, run.model[key])) for key, word in SHAPE_WORDS.items() if key in run.model]
    shape = [tag("div", tag("dt", word), tag("dd", cut(value, 80))) for word, value in named]
    parts = [
        Share(name.replace("_", " "), float(count), whole(count))
        for name, count in run.parameters.items()
        if count > 0
    ]
    total = sum(part.amount for part in parts)
    return section(
        "model",
        "The model",
        _flow(run.model),
        tag("dl", shape, class_="shape") if shape else None,
        tag("h3", f"{whole(total)} parameters, by part") if parts else None,
        shares(parts) if parts else None,
    )


def _flow(model: Mapping[str, Any]) -> Markup | None:
    """The Transformer as a row of boxes: what a token passes on its way to scores for the next one."""
    layers, width, vocabulary = (
        finite(model.get(k)) for k in ("num_hidden_layers", "hidden_size", "vocab_size")
    )
    if layers is None or width is None or vocabulary is None:
        return None
    inner = finite(model.get("intermediate_size"))
    heads, kv_heads = finite(model.get("num_attention_heads")), finite(model.get("num_key_value_heads"))
    attention = f"{number(heads)} heads" if heads else ""
    if heads and kv_heads and kv_heads != heads:
        attention += f", {number(kv_heads)} key-value"

    def box(name: str, note: str) -> Markup:
        return tag("div", tag("b", name), tag("small", note) if note else None, class_="node")

    arrow = tag("span", "→", class_="arrow", aria_hidden="true")
    feed_forward = f"{whole(width)} → {whole(inner)} → {whole(width)}" if inner else ""
    block = tag(
        "div",
        tag("span", f"× {whole(layers)}", class_="times"),
        box("attention", attention),
        arrow,
        box("feed-forward", feed_forward),
        class_="block",
    )
    ends = box("tokens", f"{whole(vocabulary)} kinds"), box("embedding", f"width {whole(width)}")
    last = box("scores", "for the next token")
    return tag(
        "div",
        ends[0],
        arrow,
        ends[1],
        arrow,
        block,
        arrow,
        last,
        class_="flow",
        role="img",
        aria_label=(
            f"Tokens, embedding of width {whole(width)}, "
            f"{whole(layers)} layers of attention and feed-forward, scores"
        ),
    )


def timeline_section(stages: Sequence[Stage]) -> Section | None:
    """How long each stage took; one stage alone is told at the top already."""
    known = [stage for stage in stages if finite(stage.seconds) is not None]
    return section("time", "Where the time went", timeline(known)) if len(known) > 1 else None


def files_section(report: Report) -> Section | None:
    """What lies where, how to go on, and how to get the same again."""
    parts: list[Any] = []
    if report.files:
        parts.append(tag("ul", [_file(note) for note in report.files], class_="files"))
    for step in report.next_steps:
        parts.append(tag("div", tag("p", step.what), tag("pre", tag("code", step.command)), class_="step"))
    if report.commands:
        parts.append(tag("h3", "The same again"))
        parts.append(tag("pre", tag("code", "\n".join(report.commands))))
    return section("files", "How to go on", parts) if parts else None


def _file(note: FileNote) -> Markup:
    amount = tag("span", size(note.size), class_="file-size") if note.size is not None else None
    return tag("li", tag("code", note.path), tag("span", note.what, class_="file-what"), amount)


def details_section(report: Report) -> Section | None:
    """Settings, results and the machine, in tables; an environment that runs share is shown once."""
    folds = []
    shown: list[str] = []
    several = len(report.runs) > 1
    for run in report.runs:
        of = f" of {run.name}" if several else ""
        if run.settings:
            folds.append(fold(f"Settings{of}", facts(run.settings)))
        if run.result:
            folds.append(fold(f"Result{of}", facts(run.result)))
        rest = {k: v for k, v in run.model.items() if k not in SHAPE_WORDS}
        if rest and "model" not in shown:
            shown.append("model")
            folds.append(fold("Further settings of the model", facts(rest)))
    for run in report.runs:
        key = json.dumps(dict(run.environment), sort_keys=True, default=str)
        if run.environment and key not in shown:
            others = sum(
                json.dumps(dict(r.environment), sort_keys=True, default=str) != key for r in report.runs
            )
            shown.append(key)
            folds.append(
                fold(f"Environment of {run.name}" if others else "Environment", facts(run.environment))
            )
    return section("details", "Settings and machine", folds) if folds else None
