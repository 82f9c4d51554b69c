"""The village as plain files, for people who want to use it elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from twofold.errors import FileError
from twofold.files import atomic_folder, write_json
from twofold.text.world import SPLITS, Village


def write_village(village: Village, folder: str | os.PathLike, total_bytes: int, conversations: int) -> Path:
    """Write the village into a new folder, which appears whole or not at all; returns its path.

    documents.jsonl           {"text", "source"}, about `total_bytes` of text in all
    conversations.jsonl       {"messages": [{"role", "content"}, ...]}, so many, about the taught half
    questions-taught.jsonl    {"text", "accepted", "topic", "language", "choices"}, all questions about
    questions-held-out.jsonl  each half in every language of the village
    villagers.json            the settings, and every villager with all facts and "taught": true or false

    Raises FileError when the folder is there already or cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileError(f"{folder} is there already; choose a new folder, or remove it first.")
    with atomic_folder(folder) as partial:
        _write_lines(partial / "documents.jsonl", map(asdict, village.documents(total_bytes)))
        talks = (
            {"messages": [asdict(m) for m in talk.messages]} for talk in village.conversations(conversations)
        )
        _write_lines(partial / "conversations.jsonl", talks)
        for split in SPLITS:
            asked = (q for language in village.settings.languages for q in village.questions(split, language))
            _write_lines(partial / f"questions-{split.replace('_', '-')}.jsonl", map(asdict, asked))
        people = [{**asdict(v), "taught": village.is_taught(v)} for v in village.villagers]
        write_json(partial / "villagers.json", {"settings": asdict(village.settings), "villagers": people})
    return folder


def _write_lines(path: Path, rows: Iterable[dict]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
