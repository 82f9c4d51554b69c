"""Conversations in the usual shapes, from the usual files; what is wrong is named by file and record."""

import gzip
import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import DataError, FileError, UsageError
from twofold.text.documents import Message
from twofold.tokens.conversation_shapes import BadRecord, messages_of, shape_of
from twofold.tokens.conversations import ConversationReport, read_conversations

ASK, REPLY = Message("user", "Who?"), Message("assistant", "Ada.")

GOOD = {
    "messages": (
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]},
        [ASK, REPLY],
    ),
    "text parts, other names": (
        {
            "messages": [
                {"role": "developer", "content": ""},
                {
                    "role": "Human",
                    "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "o?"}],
                },
                {"role": "model", "content": "Ada."},
            ]
        },
        [Message("system", ""), ASK, REPLY],
    ),
    "tools": (
        {
            "messages": [
                {"role": "user", "content": "Who?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"function": {"name": "find", "arguments": '{"é": 1}'}}],
                },
                {"role": "tool", "content": [{"name": "Ada"}]},
                {"role": "assistant", "content": "Ada."},
            ]
        },
        [
            ASK,
            Message("assistant", '<tool_call>\n{"name": "find", "arguments": {"é": 1}}\n</tool_call>'),
            Message("tool", '[{"name": "Ada"}]'),
            REPLY,
        ],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ada."}]},
        [ASK, REPLY],
    ),
    "sharegpt with a system": (
        {
            "system": "S",
            "conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ada."}],
        },
        [Message("system", "S"), ASK, REPLY],
    ),
    "alpaca": ({"instruction": "Who?", "input": "", "output": "Ada."}, [ASK, REPLY]),
    "alpaca with input": (
        {"instruction": "Name", "input": "her", "output": "Ada."},
        [Message("user", "Name\n\nher"), REPLY],
    ),
    "alpaca with history": (
        {"instruction": "Who?", "output": "Ada.", "history": [["a", "b"]], "system": ""},
        [Message("user", "a"), Message("assistant", "b"), ASK, REPLY],
    ),
    "prompt": ({"prompt": "Who?", "response": "Ada."}, [ASK, REPLY]),
    "prompt of messages": (
        {
            "prompt": [{"role": "user", "content": "Who?"}],
            "completion": [{"role": "assistant", "content": "Ada."}],
        },
        [ASK, REPLY],
    ),
    "question": ({"question": "Who?", "answer": "Ada.", "topic": "x"}, [ASK, REPLY]),
    "question with answers": ({"question": "Who?", "answers": ["Ada.", "A."]}, [ASK, REPLY]),
    "turns": ({"turns": ["Who?", "Ada."]}, [ASK, REPLY]),
}

BAD = {
    "not an object": (["hi"], "is a list"),
    "nothing known": ({"text": "hi"}, "its fields are: text"),
    "only a question": ({"question": "hi"}, "its fields are: question"),
    "messages of nothing": ({"messages": []}, "empty"),
    "messages a text": ({"messages": "hi"}, "is a text"),
    "a turn a text": ({"messages": ["hi"]}, "turn 1 is a text"),
    "a role unknown": ({"messages": [{"role": "wizard", "content": "x"}]}, "turn 1 has the role 'wizard'"),
    "no role": ({"messages": [{"content": "x"}]}, "role 'None'"),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "turn 1 .user. is a list",
    ),
    "no answer": ({"messages": [{"role": "user", "content": "x"}]}, "nothing to learn"),
    "no question": ({"messages": [{"role": "assistant", "content": "x"}]}, "no user"),
    "an empty answer": ({"prompt": "x", "response": " "}, r"turn 2 \(assistant\) is empty"),
    "an answer a number": ({"prompt": "x", "response": 4}, "response is a number"),
    "no answers": ({"question": "x", "answers": []}, "answers is missing"),
    "a call without a name": (
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        "tool call of turn 1",
    ),
    "arguments not JSON": (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "not JSON",
    ),
    "a broken history": ({"instruction": "x", "output": "y", "history": ["x"]}, "history"),
    "a system a number": ({"instruction": "x", "output": "y", "system": 3}, "system is a number"),
    "half a character": ({"prompt": "x", "response": "\ud83c"}, "turn 2 holds half of a character"),
    "turns of numbers": ({"turns": [1, 2]}, "list of texts"),
}


@pytest.mark.parametrize("name", GOOD)
def test_each_shape_becomes_the_same_conversation(name):
    record, expected = GOOD[name]
    assert messages_of(record) == tuple(expected)


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_record_is_said(name):
    record, reason = BAD[name]
    with pytest.raises(BadRecord, match=reason):
        messages_of(record)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "role",
                    "content",
                    "conversations",
                    "from",
                    "value",
                    "instruction",
                    "output",
                    "prompt",
                    "answers",
                    "tool_calls",
                    "function",
                    "arguments",
                    "name",
                    "turns",
                    "history",
                    "user",
                    "system",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_record_gives_a_conversation_or_a_reason(record):
    try:
        messages = messages_of(record)
    except BadRecord:
        return
    assert shape_of(record)
    assert any(message.role == "assistant" for message in messages)
    assert all(isinstance(message.content, str) for message in messages)


RECORDS = [record for record, _ in GOOD.values()]
EXPECTED = [tuple(messages) for _, messages in GOOD.values()]


def written(tmp_path, name, content):
    path = tmp_path / name
    data = content.encode()
    if name.endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


LINES = "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
LIST = json.dumps(RECORDS, indent=1, ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl.gz", LINES + "\n\n"),
        ("a.jsonl.zst", "\ufeff" + LINES),
        ("a.ndjson", LINES.replace("\n", "\r\n")),
        ("a.json", LIST),
        ("a.json.gz", "\n " + LIST),
        ("a.JSON", LINES),
        ("a.jsonl", LIST),
    ],
)
def test_each_kind_of_file_gives_all_records_in_order(tmp_path, name, content):
    report = ConversationReport()
    found = list(read_conversations([written(tmp_path, name, content)], report=report))
    assert [conversation.messages for conversation in found] == EXPECTED
    assert found[2].source == f"{name}:3"
    assert (report.conversations, report.files, report.bad_records) == (len(RECORDS), 1, 0)
    assert report.shapes["Alpaca"] == 3
    assert report.shapes.total() == len(RECORDS)


def test_a_folder_is_read_in_sorted_order(tmp_path):
    for name in ("b.jsonl", "a.json", ".hidden.jsonl", "notes.txt"):
        written(tmp_path, name, json.dumps({"prompt": name, "response": "x"}))
    found = list(read_conversations([tmp_path]))
    assert [conversation.messages[0].content for conversation in found] == ["a.json", "b.jsonl"]


BROKEN = [
    '{"prompt": "1", "response": "x"}',
    "{broken",
    '{"text": "no conversation"}',
    '{"prompt": "4", "response": "\\ud83c\\udf3e"}',
]


def test_bad_records_are_skipped_and_counted_by_name(tmp_path):
    path = written(tmp_path, "a.jsonl", "\n".join(BROKEN))
    report = ConversationReport()
    found = list(read_conversations([path], on_bad="skip", report=report))
    assert [conversation.messages[0].content for conversation in found] == ["1", "4"]
    assert (report.conversations, report.bad_records) == (2, 2)
    assert "not valid JSON" in report.bad[f"{path}, record 2"]
    assert "its fields are: text" in report.bad[f"{path}, record 3"]
    assert str(report) == "2 conversations from 1 file (prompt 2), 2 bad records skipped"
    json.dumps(report.as_dict())


def test_the_first_bad_record_is_refused_by_name(tmp_path):
    path = written(tmp_path, "a.jsonl", "\n".join(BROKEN))
    reading = read_conversations([path])
    assert next(reading).messages[0].content == "1"
    with pytest.raises(DataError, match=r"a\.jsonl, record 2: line 2 is not valid JSON"):
        next(reading)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.json", b"[]", "empty"),
        ("a.json", b'[{"prompt": "1", "response": "x"},', "cut short"),
        ("a.json", b'[{"prompt": "1" "response": "x"}]', "not valid JSON"),
        ("a.json", b"[" * 50_000, "not valid JSON"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "1", "response": "x"}' * 9)[:-12], "cut short"),
        ("a.jsonl.zst", b"nothing of the kind", "zst"),
        ("a.json", b"\x1f\x8b\x08\x00", "gzip"),
        ("a.json", b'["\xff"]', "UTF-8"),
        ("a.txt", b"hello", "does not end in"),
    ],
)
def test_a_bad_file_is_refused_or_skipped_by_name(tmp_path, name, data, reason):
    bad = tmp_path / name
    bad.write_bytes(data)
    good = written(tmp_path, "good.jsonl", LINES)
    with pytest.raises(DataError, match=rf"{name}.*{reason}"):
        list(read_conversations([bad, good]))
    report = ConversationReport()
    found = list(read_conversations([bad, good], on_bad="skip", report=report))
    assert len(found) >= len(RECORDS)
    assert report.bad_files + report.bad_records == 1


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        list(read_conversations([tmp_path / "none.jsonl"]))
    report = ConversationReport()
    assert list(read_conversations([tmp_path / "none.jsonl"], on_bad="skip", report=report)) == []
    assert report.bad_files == 1


def test_a_line_without_end_is_skipped_without_being_held(tmp_path):
    path = written(tmp_path, "a.jsonl", BROKEN[0] + "\n" + "x" * (17 << 20) + "\n" + BROKEN[3])
    report = ConversationReport()
    assert len(list(read_conversations([path], on_bad="skip", report=report))) == 2
    assert "longer than 16 MiB" in report.bad[f"{path}, record 2"]


def test_wrong_requests_are_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match="refuse"):
        read_conversations([tmp_path], on_bad="ignore")
    with pytest.raises(UsageError, match="Name at least one"):
        read_conversations([])
    with pytest.raises(DataError, match="holds no files named"):
        list(read_conversations(tmp_path))
