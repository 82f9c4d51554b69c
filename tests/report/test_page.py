import base64
import dataclasses
import hashlib
import math
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from twofold.errors import FileError
from twofold.report import (
    Answer,
    Compression,
    Example,
    Report,
    RunRecord,
    Sample,
    ScoreCell,
    ScoreRow,
    Scores,
    Stage,
    render_report,
    write_report,
)

VOID = {"br", "hr", "input", "link", "meta", "wbr"}
ATTACK = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)></style></title></textarea><!--\0\u202e\ud800"
)


class Page(HTMLParser):
    """Reads a page, and holds it to: every tag closed in order, every id once."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.text = [], [], [], ""
        self.scripts, self.comments = [], 0
        self.feed(text)
        self.close()
        assert not self.open
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, name, attributes):
        assert len({key for key, _ in attributes}) == len(attributes), attributes
        self.tags.append((name, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text += data

    def handle_comment(self, data):
        self.comments += 1

    def count(self, name):
        return sum(tag == name for tag, _ in self.tags)


def attacked(value):
    """A report's JSON with the attack in every text and every name of a setting."""
    if isinstance(value, str):
        return ATTACK + value
    if isinstance(value, list):
        return [attacked(item) for item in value]
    if isinstance(value, dict):
        return {key: attacked(item) for key, item in value.items()}
    return value


def test_the_page_is_balanced_and_shows_every_part(report):
    page = Page(render_report(report))
    for words in (
        "A village in two files",
        "Pretraining",
        "Fine-tuning",
        "Bits per byte",
        "Learning rate",
        "Tokens per second",
        "Knowledge from pretraining, format from fine-tuning",
        "Where was Marta Quill born?",
        "You again",
        "What it was trained on",
        "lossy compression",
        "5,772,800 parameters",
        "Where the time went",
        "twofold create --text my-book.txt --minutes 10",
        "Muon",
        "Intel Xeon",
    ):
        assert words in page.text
    assert page.count("h1") == 1


def test_the_key_figures_stand_at_the_top(report):
    text = render_report(report)
    header = Page(text[text.index("<header") : text.index("</header>") + 9]).text
    for words in ("84 %", "base model: 0.2 %", "by chance: 4.1 %", "5.77 M", "37.0 MB", "14 min"):
        assert words in header


def test_nothing_is_loaded_from_anywhere(report):
    text = render_report(report)
    for name, attributes in Page(text).tags:
        assert name not in {"iframe", "object", "embed", "img", "base", "form"}
        for key in ("src", "href", "action", "srcset", "xlink:href"):
            assert attributes.get(key, "#").startswith("#") or attributes[key] == "data:,"
    style = files("twofold.report").joinpath("page.css").read_text()
    script = files("twofold.report").joinpath("page.js").read_text()
    assert not re.search(r"url\(|@import|https?:|//[a-z]", style)
    assert not re.search(r"https?:|fetch|XMLHttp|import |innerHTML|eval", script)


def test_only_our_own_script_may_run(report):
    text = render_report(report)
    page = Page(text)
    kinds = [attributes.get("type") for name, attributes in page.tags if name == "script"]
    assert kinds.count(None) == 1
    own = re.findall(r"<script>(.*?)</script>", text, re.S)[0]
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    policy = next(a["content"] for name, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_what_a_model_or_a_document_says_never_becomes_html(report):
    clean = Page(render_report(report))
    plain = attacked(report.to_json())
    for run, before in zip(plain["runs"], report.runs, strict=True):
        run["metrics"] = [dict(row) for row in before.metrics]
        for part in ("settings", "parameters", "data_card", "result", "environment", "model"):
            run[part] |= {ATTACK + "name": 3}
    plain["samples"][0]["settings"] |= {ATTACK: ATTACK}
    plain["compression"]["files"][ATTACK] = 9_000_000
    page = Page(render_report(Report.from_json(plain)))
    assert page.count("script") == clean.count("script")
    assert page.count("img") == 0
    assert page.comments == 0
    assert page.count("title") == clean.count("title")
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert page.text.count("<img src=x onerror=alert(1)>") > 60  # it is there, as text


def test_the_page_can_be_written_whatever_the_text(tmp_path):
    report = Report(title=ATTACK, samples=(Sample("\ud83d", "\x00\x1b[31m\udfff"),))
    assert "␛[31m" in write_report(tmp_path / "report.html", report).read_text(encoding="utf-8")


def test_a_title_alone_is_a_page():
    page = Page(render_report(Report(title="Nothing yet")))
    assert "Nothing yet" in page.text
    assert page.count("section") == 0
    assert page.count("nav") == 0


@pytest.mark.parametrize(
    "part",
    [
        {"runs": (RunRecord(),)},
        {"runs": (RunRecord(metrics=({},)),)},
        {"runs": (RunRecord(metrics=({"step": 1, "loss": 2.0},)),)},
        {"runs": (RunRecord(metrics=({"step": 0, "bits_per_byte": 2.0}, {"step": 0, "loss": 1.0})),)},
        {"runs": (RunRecord(model={"num_hidden_layers": None, "hidden_size": "x"}),)},
        {"runs": (RunRecord(parameters={"embedding": 0}),)},
        {"scores": Scores("s", (), ())},
        {"scores": Scores("s", ("a", "b"), (ScoreRow("r", (None,)),), chance=2.0)},
        {"scores": Scores("s", ("a",), (ScoreRow("r", (ScoreCell(9, 3), ScoreCell(-1, 4))),))},
        {"scores": Scores("s", (), (ScoreRow("r", ()),), examples=(Example("q", "e", (Answer("", True),)),))},
        {"compression": Compression(0)},
        {"compression": Compression(10, precisions={"F32": 0, "F16": -3})},
        {"compression": Compression(1, 1, {"F32": 10**15}, {"run.py": 1}, 1)},
        {"timeline": (Stage("a", math.nan), Stage("b", -1), Stage("c", 0))},
    ],
)
def test_missing_or_odd_parts_are_left_out_and_the_rest_stands(part):
    Page(render_report(Report(title="t", **part)))


def test_values_that_are_not_finite_are_left_out_and_told():
    rows = [{"step": i, "loss": 3.0 - i / 100, "grad_norm": 1.0} for i in range(1, 101)]
    rows[10] |= {"loss": math.nan}
    rows[20] |= {"loss": math.inf, "grad_norm": -math.inf}
    rows[30] |= {"loss": 1e40, "held_out_bits_per_byte": math.nan}
    text = render_report(Report(title="t", runs=(RunRecord(metrics=tuple(rows)),)))
    page = Page(text)
    assert "3 rows held a value that was not a finite number" in page.text
    assert "1 far-off value drawn at the edge" in page.text
    drawn = [a["d"] for name, a in page.tags if name == "path"]
    assert drawn
    for path in drawn:
        places = [float(number) for number in re.findall(r"-?[\d.]+|nan|inf", path)]
        assert all(-0.1 <= place <= 1000.1 for place in places)


def test_curves_stand_where_the_numbers_say():
    rows = tuple({"step": step, "loss": loss} for step, loss in [(0, 4.0), (50, 2.0), (100, 1.0)])
    page = Page(render_report(Report(title="t", runs=(RunRecord(metrics=rows),))))
    path = next(a["d"] for name, a in page.tags if name == "path")
    points = [tuple(map(float, p.split())) for p in path[1:].split("L")]
    assert [x for x, _ in points] == [0, 500, 1000]
    (_, top), (_, middle), (_, bottom) = points
    assert top < middle < bottom  # y runs downwards
    assert (middle - top) / (bottom - middle) == pytest.approx(2.0, rel=0.01)


def test_bars_and_squares_are_to_scale(report):
    page = Page(render_report(report))
    widths = [a["width"] for name, a in page.tags if name == "rect" and "bar accent" in a.get("class", "")]
    assert widths[0] == "84.00%"
    sides = {
        a["aria-label"]: float(re.search(r"width:([\d.]+)rem", a["style"])[1])
        for name, a in page.tags
        if name == "svg" and "style" in a
    }
    text, half = sides["training text: 37.0 MB"], sides["BF16 parameters: 11.5 MB"]
    assert (text / half) ** 2 == pytest.approx(36_968_201 / 11_545_600, rel=0.002)


def test_a_run_of_very_many_steps_stays_a_small_page():
    rows = tuple(
        {
            "step": i,
            "loss": 2 + math.sin(i),
            "bits_per_byte": 1 + math.cos(i),
            "learning_rate": 1 / (i + 1),
            "tokens_per_second": 1e4 + i % 7,
            "grad_norm": 1.0,
            "held_out_bits_per_byte": 1.0 + 1 / (i + 1),
        }
        for i in range(20_000)
    )
    text = render_report(Report(title="t", runs=(RunRecord(metrics=rows),)))
    assert len(text.encode()) < 500_000
    longest = max(a["d"].count("L") + 1 for name, a in Page(text).tags if name == "path")
    assert 300 < longest <= 600


def test_endless_text_is_cut(report):
    long = "word " * 200_000
    cut = dataclasses.replace(
        report,
        samples=tuple(Sample(long, long, {"note": long}) for _ in range(100)),
        runs=(
            RunRecord(
                settings={f"s{i}": long for i in range(1000)}, data_card={"sources": [{"a": long}] * 999}
            ),
        ),
    )
    text = render_report(cut)
    assert len(text) < 1_000_000
    assert "more characters]" in text


def test_many_examples_are_folded_away_and_counted(report):
    scores = dataclasses.replace(report.scores, examples=report.scores.examples * 5)
    text = render_report(Report(title="t", scores=scores))
    assert text.count('class="example"') == 20
    assert "14 more" in Page(text).text
    assert text[: text.index("14 more")].count('class="example"') == 6


def test_the_same_record_gives_the_same_bytes(report):
    assert render_report(report) == render_report(Report.from_json(report.to_json()))


def test_every_picture_has_words(report):
    for name, attributes in Page(render_report(report)).tags:
        if name == "svg" and attributes.get("role") == "img":
            assert len(attributes["aria-label"]) > 5
        if attributes.get("role") == "img":
            assert "aria-label" in attributes


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks(scheme):
    style = files("twofold.report").joinpath("page.css").read_text()
    block = re.findall(r":root \{(.*?)\}", style, re.S)[scheme]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
    for ground in ("paper", "raised"):
        for name, least in {
            "ink": 7,
            "soft": 4.5,
            "accent": 4.5,
            "held-out": 4.5,
            "right": 4.5,
            "quiet": 3,
        }.items():
            pair = sorted([luminance(colours[name]), luminance(colours[ground])])
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, (name, ground)


def test_the_page_is_written_whole_into_a_folder_or_to_a_name(report, tmp_path):
    assert write_report(tmp_path, report) == tmp_path / "report.html"
    named = write_report(tmp_path / "new" / "page.html", report)
    assert named.read_text(encoding="utf-8") == (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_place_that_cannot_be_written_is_told(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Cannot write"):
        write_report(tmp_path / "file" / "report.html", report)
