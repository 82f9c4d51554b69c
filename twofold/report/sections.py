"""The parts of the page, each from its part of the record; None where there is nothing to show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.report.bars import Share, Square, score_bars, shares, squares, timeline, tone_of
from twofold.report.chart import MAX_MARKS, Line, line_chart
from twofold.report.facts import last_value
from twofold.report.markup import Markup, tag
from twofold.report.quantities import finite, flat, number, percent, size, value_of, whole
from twofold.report.record import Compression, FileNote, Report, RunRecord, Sample, Scores, Stage
from twofold.report.series import points_of, thin

Section = tuple[str, str, Markup]  # id, words of the link to it, HTML

MAX_TEXT = 4_000  # characters of one sample or answer
MAX_EXAMPLES = 60
AT_ONCE = 6  # examples that are shown unfolded
MAX_SAMPLES = 24
MAX_ROWS = 200  # of a table of settings
MAX_VALUE = 600  # characters of one setting

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


def _section(identity: str, title: str, *children: Any, lede: str = "", link: str = "") -> Section:
    note = tag("p", lede, class_="section-lede") if lede else None
    return identity, link or title, tag("section", tag("h2", title, dir="auto"), note, *children, id=identity)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … [{whole(len(text) - limit)} more characters]"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], class_: str = "", caption: str = "") -> Markup:
    top = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])) if head else None
    body = [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
    name = tag("caption", caption) if caption else None
    return tag(
        "div", tag("table", name, top, tag("tbody", body), class_=class_), class_="scroll", tabindex="0"
    )


def _facts(values: Mapping[str, Any]) -> Markup:
    """Names and values in two columns; of records (the sources of a text), a line each."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        records = _records(value)
        if records:
            pairs.append((name, [tag("div", _cut(line, MAX_VALUE)) for line in records]))
            continue
        found = flat({name: value}, joint=" · ")
        pairs += [(key, _cut(value_of(key, item), MAX_VALUE)) for key, item in found]
    shown = [(_cut(key.replace("_", " "), 80), value) for key, value in pairs[:MAX_ROWS]]
    if len(pairs) > MAX_ROWS:
        shown.append(("…", f"{whole(len(pairs) - MAX_ROWS)} more"))
    return _table((), shown, "facts")


def _records(value: Any, limit: int = 20) -> list[str]:
    """A list of records, or records by name, as lines; empty for anything else."""
    if isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        named = [(f"{name}: ", item) for name, item in value.items()]
    elif isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        named = [("", item) for item in value]
    else:
        return []
    lines = []
    for name, item in named[:limit]:
        lines.append(
            name + "; ".join(f"{key} {value_of(str(key), v)}".replace("_", " ") for key, v in item.items())
        )
    return lines + [f"… and {whole(len(named) - limit)} more"] * (len(named) > limit)


def _fold(title: str, *children: Any) -> Markup:
    return tag("details", tag("summary", title), *children)


# --- training -------------------------------------------------------------------------------------


def run_section(run: RunRecord, identity: str) -> Section | None:
    """Curves of one run: bits per byte (or loss) large, the rest small, evaluations as a table."""
    rows = run.metrics
    held_out = Line("held-out text", points_of(rows, "held_out_bits_per_byte"), "held-out", measured=True)
    byte_lines = [Line("training text", points_of(rows, "bits_per_byte")), held_out]
    loss_lines = [Line("training loss", points_of(rows, "loss"))]
    held_out_loss = points_of(rows, "held_out_loss")
    if held_out_loss:
        loss_lines.append(Line("held-out loss", held_out_loss, "held-out", measured=True))
    byte_first = any(len(line.points) > 1 for line in byte_lines)
    loss_name, byte_name = "Loss, nats per token", "Bits per byte"
    large = line_chart(
        byte_name if byte_first else loss_name,
        byte_lines if byte_first else loss_lines,
        identity=f"{identity}-main",
        choose_log_x=True,
    )
    rate = [Line("tokens per second", points) for points in [points_of(rows, "tokens_per_second")] if points]
    peak = [Line("share of peak", points_of(rows, "peak_fraction"))]  # the same curve as the rate
    small = [
        line_chart(
            name, lines, identity=f"{identity}-{i}", small=True, from_zero=zero, scale=scale, unit=unit
        )
        for i, (name, lines, zero, scale, unit) in enumerate(
            [
                (loss_name, loss_lines if byte_first else [], False, 1, ""),
                ("Learning rate", [Line("learning rate", points_of(rows, "learning_rate"))], True, 1, ""),
                ("Tokens per second", rate, True, 1, ""),
                ("Share of matmul peak", [] if rate else peak, True, 100, "%"),
                ("Gradient norm", [Line("gradient norm", points_of(rows, "grad_norm"))], True, 1, ""),
            ]
        )
    ]
    small = [chart for chart in small if chart is not None]
    facts = _run_facts(run)
    if large is None and not small and not facts:
        return None
    lost = sum(not _all_finite(row) for row in rows)
    notes = list(run.notes)
    if lost:
        notes.append(
            f"{whole(lost)} row{'s' * (lost > 1)} held a value that was not a finite number; it is left out."
        )
    return _section(
        identity,
        run.name,
        tag("p", facts, class_="run-facts") if facts else None,
        large,
        tag("div", small, class_="multiples") if small else None,
        [tag("p", note, class_="chart-note") for note in notes],
        _evaluations(held_out.points),
    )


def _all_finite(row: Mapping[str, Any]) -> bool:
    return all(finite(v) is not None for v in row.values() if isinstance(v, float))


def _run_facts(run: RunRecord) -> list[Markup]:
    told: list[tuple[str, str]] = []
    for key, word in (("step", "steps"), ("tokens", "tokens"), ("seconds", "")):
        amount = last_value(run.metrics, key)
        if amount:
            told.append((value_of(key, amount) if key == "seconds" else whole(amount), word))
    rate = points_of(run.metrics, "tokens_per_second")
    if rate:
        middle = sorted(y for _, y in rate)[len(rate) // 2]
        told.append((whole(middle), "tokens a second"))
    peak = points_of(run.metrics, "peak_fraction")
    if peak:
        told.append((percent(sorted(y for _, y in peak)[len(peak) // 2]), "of this machine's matmul peak"))
    return [tag("span", tag("b", value), f" {word}" if word else None) for value, word in told]


def _evaluations(points: list[tuple[float, float]]) -> Markup | None:
    if not points:
        return None
    rows = [(whole(x), f"{y:.4f}") for x, y in thin(points, MAX_MARKS)]
    return _fold(
        "Evaluations on held-out text, as a table", _table(("step", "bits per byte"), rows, "numbers")
    )


# --- scores and samples ---------------------------------------------------------------------------


def scores_section(scores: Scores | None) -> Section | None:
    """Questions with exact answers: bars with intervals, a table, and examples to unfold."""
    if scores is None or not scores.rows:
        return None
    columns = len(scores.columns)
    keys = [
        tag(
            "span",
            tag("i", class_=f"swatch box {tone_of(i, columns)}", aria_hidden="true"),
            name,
            class_="key",
        )
        for i, name in enumerate(scores.columns)
    ]
    if scores.chance is not None or any(row.chance is not None for row in scores.rows):
        level = f" {percent(scores.chance)}" if scores.chance is not None else ""
        keys.append(
            tag("span", tag("i", class_="swatch rule", aria_hidden="true"), f"chance{level}", class_="key")
        )
    keys.append(
        tag("span", tag("i", class_="swatch range", aria_hidden="true"), "95 % interval", class_="key")
    )
    table_rows = []
    for row in scores.rows:
        cells: list[Any] = [f"{row.group}: {row.name}" if row.group else row.name]
        for i in range(columns):
            cell = row.cells[i] if i < len(row.cells) else None
            if cell is None or cell.fraction is None:
                cells += ["–", ""]
                continue
            low, high = cell.interval()
            cells += [
                f"{whole(cell.right)} of {whole(cell.n)}",
                f"{100 * cell.fraction:.1f} % ({100 * low:.1f}–{100 * high:.1f})",
            ]
        level = row.chance if row.chance is not None else scores.chance
        cells.append(percent(level) if level is not None else "–")
        table_rows.append(cells)
    head = [
        "questions",
        *[word for name in scores.columns for word in (f"{name}, right", "share (95 %)")],
        "chance",
    ]
    return _section(
        "scores",
        scores.title,
        tag(
            "figure",
            tag(
                "figcaption",
                tag("span", "Answered exactly right", class_="chart-name"),
                tag("span", keys, class_="legend"),
            ),
            score_bars(scores.rows, scores.columns, scores.chance),
            class_="chart",
        ),
        _fold("The same as a table", _table(head, table_rows, "numbers")),
        _examples(scores),
        lede=scores.explanation,
        link="Questions",
    )


def _examples(scores: Scores) -> Markup | None:
    if not scores.examples:
        return None
    parts = []
    for example in scores.examples[:MAX_EXAMPLES]:
        answers = []
        for i, answer in enumerate(example.answers):
            name = scores.columns[i] if i < len(scores.columns) else f"model {i + 1}"
            mark = tag(
                "span", "✓ right" if answer.right else "✗ wrong", class_="right" if answer.right else "wrong"
            )
            text = _cut(answer.text, MAX_TEXT) if answer.text.strip() else tag("em", "(nothing)")
            answers.append(tag("div", tag("dt", name, " ", mark), tag("dd", text, dir="auto")))
        parts.append(
            tag(
                "article",
                tag(
                    "p",
                    tag("small", example.kind, class_="kind") if example.kind else None,
                    class_="kind-line",
                ),
                tag("p", _cut(example.question, MAX_TEXT), class_="question", dir="auto"),
                tag(
                    "dl",
                    tag(
                        "div", tag("dt", "expected"), tag("dd", _cut(example.expected, MAX_TEXT), dir="auto")
                    ),
                    answers,
                ),
                class_="example",
            )
        )
    rest = len(parts) - AT_ONCE
    return tag(
        "div",
        tag("h3", "Some of the questions, and what was answered"),
        tag("div", parts[:AT_ONCE], class_="examples"),
        _fold(f"{rest} more", tag("div", parts[AT_ONCE:], class_="examples")) if rest > 0 else None,
    )


def samples_section(samples: Sequence[Sample]) -> Section | None:
    """Texts that the model went on with; the prompt in grey, the model's own words in ink."""
    parts = []
    for sample in samples[:MAX_SAMPLES]:
        told = [f"{key.replace('_', ' ')} {value_of(key, value)}" for key, value in sample.settings.items()]
        if sample.model:
            told.insert(0, sample.model)
        text = tag(
            "blockquote",
            tag("span", _cut(sample.prompt, MAX_TEXT), class_="prompt"),
            tag("span", _cut(sample.continuation, MAX_TEXT), class_="continuation"),
            dir="auto",
        )
        parts.append(
            tag(
                "figure",
                text,
                tag("figcaption", _cut(" · ".join(told), MAX_VALUE)) if told else None,
                class_="sample",
            )
        )
    if not parts:
        return None
    lede = "What the model writes. The prompt is grey; every word after it is the model's own, as it came."
    return _section("samples", "In its own words", tag("div", parts, class_="samples"), lede=lede)


# --- what it was made from, and of ----------------------------------------------------------------


def data_section(runs: Sequence[RunRecord]) -> Section | None:
    """What each run was trained on."""
    cards = [(run.name, {k: v for k, v in run.data_card.items() if k not in PLUMBING}) for run in runs]
    cards = [(name, card) for name, card in cards if card]
    if not cards:
        return None
    if len(cards) == 1:
        body: Any = _facts(cards[0][1])
    else:
        body = [tag("div", tag("h3", name), _facts(card), class_="card") for name, card in cards]
    return _section("data", "What it was trained on", tag("div", body, class_="cards"))


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
    return _section("compression", "The text, compressed", squares(items), lede=lede)


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
    shape = [tag("div", tag("dt", word), tag("dd", _cut(value, 80))) for word, value in named]
    parts = [
        Share(name.replace("_", " "), float(count), whole(count))
        for name, count in run.parameters.items()
        if count > 0
    ]
    total = sum(part.amount for part in parts)
    return _section(
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


# --- time, files, details -------------------------------------------------------------------------


def timeline_section(stages: Sequence[Stage]) -> Section | None:
    """How long each stage took; one stage alone is told at the top already."""
    known = [stage for stage in stages if finite(stage.seconds) is not None]
    return _section("time", "Where the time went", timeline(known)) if len(known) > 1 else None


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
    return _section("files", "How to go on", parts) if parts else None


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
            folds.append(_fold(f"Settings{of}", _facts(run.settings)))
        if run.result:
            folds.append(_fold(f"Result{of}", _facts(run.result)))
        rest = {k: v for k, v in run.model.items() if k not in SHAPE_WORDS}
        if rest and "model" not in shown:
            shown.append("model")
            folds.append(_fold("Further settings of the model", _facts(rest)))
    for run in report.runs:
        key = json.dumps(dict(run.environment), sort_keys=True, default=str)
        if run.environment and key not in shown:
            others = sum(
                json.dumps(dict(r.environment), sort_keys=True, default=str) != key for r in report.runs
            )
            shown.append(key)
            folds.append(
                _fold(f"Environment of {run.name}" if others else "Environment", _facts(run.environment))
            )
    return _section("details", "Settings and machine", folds) if folds else None
