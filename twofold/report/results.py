"""The parts of the page that show what came of it: the curves of each run, the scores, the samples.

Each is made from its part of the record, and is None where there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.report.bars import score_bars, tone_of
from twofold.report.chart import MAX_MARKS, Line, line_chart
from twofold.report.facts import last_value
from twofold.report.markup import Markup, tag
from twofold.report.quantities import finite, percent, value_of, whole
from twofold.report.record import RunRecord, Sample, Scores
from twofold.report.series import points_of, thin
from twofold.report.tables import MAX_TEXT, MAX_VALUE, Section, cut, fold, section, table

MAX_EXAMPLES = 60
AT_ONCE = 6  # examples that are shown unfolded
MAX_SAMPLES = 24


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
    return section(
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
    return fold("Evaluations on held-out text, as a table", table(("step", "bits per byte"), rows, "numbers"))


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
    return section(
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
        fold("The same as a table", table(head, table_rows, "numbers")),
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
            text = cut(answer.text, MAX_TEXT) if answer.text.strip() else tag("em", "(nothing)")
            answers.append(tag("div", tag("dt", name, " ", mark), tag("dd", text, dir="auto")))
        parts.append(
            tag(
                "article",
                tag(
                    "p",
                    tag("small", example.kind, class_="kind") if example.kind else None,
                    class_="kind-line",
                ),
                tag("p", cut(example.question, MAX_TEXT), class_="question", dir="auto"),
                tag(
                    "dl",
                    tag("div", tag("dt", "expected"), tag("dd", cut(example.expected, MAX_TEXT), dir="auto")),
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
        fold(f"{rest} more", tag("div", parts[AT_ONCE:], class_="examples")) if rest > 0 else None,
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
            tag("span", cut(sample.prompt, MAX_TEXT), class_="prompt"),
            tag("span", cut(sample.continuation, MAX_TEXT), class_="continuation"),
            dir="auto",
        )
        parts.append(
            tag(
                "figure",
                text,
                tag("figcaption", cut(" · ".join(told), MAX_VALUE)) if told else None,
                class_="sample",
            )
        )
    if not parts:
        return None
    lede = "What the model writes. The prompt is grey; every word after it is the model's own, as it came."
    return section("samples", "In its own words", tag("div", parts, class_="samples"), lede=lede)
