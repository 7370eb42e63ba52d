"""How papers evaluated: what a protocol says, what it makes of a run, and how answers were read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import RunConfig
from tokenprune.papers.protocols.tasks import answers
from tokenprune.reproduce import protocol
from tokenprune.reproduce.files import tables
from tokenprune.reproduce.protocol import own_tasks, protocols, read_protocol


def test_which_there_are() -> None:
    assert protocols() == ["lmms-0.3.0", "lmms-2024"]
    with pytest.raises(ConfigError, match=r"there is no protocol 'lmms-2042'"):
        read_protocol("lmms-2042")


@pytest.mark.parametrize("name", protocols())
def test_a_task_is_words_of_a_run(name: str) -> None:
    """And what holds for all of them is what the papers had."""
    held = {"template": "qwen_1_5", "short": "repeat", "sampling": "index", "dtype": "float16"}
    known = read_protocol(name)
    for task, asked in known.tasks.items():
        words = known.run_words(task)
        config = RunConfig(strategy="dycoke", **words)
        assert {key: getattr(config, key) for key in held} == held
        assert config.task == asked.task and config.frames_requested == 32
        assert (config.include_path is not None) == asked.own == task_file(asked.task).is_file()
        assert (asked.judge is not None) == (asked.kind == "judged")


def task_file(word: str) -> Path:
    return own_tasks() / f"{word.removeprefix('lmms:')}.yaml"


def test_every_column_of_a_table_with_a_protocol_is_one_of_its_tasks() -> None:
    seen = 0
    for _, table in tables():
        if table.protocol is None:
            continue
        for column in table.columns.values():
            if column.task:
                asked = read_protocol(table.protocol).task(column.task)
                assert (column.from_ == "judged") == (asked.kind == "judged")
                seen += 1
    assert seen > 100


def test_dev_and_test_are_never_mixed() -> None:
    for name in protocols():
        found = read_protocol(name).tasks
        assert found["mlvu_test_030"].documents != found["mlvu_dev"].documents


def test_a_page_says_every_item(tmp_path: Path) -> None:
    lines = list(read_protocol("lmms-2024").told())
    assert lines[0].startswith("lmms-eval from before 0.3.0")
    assert read_protocol("lmms-2024").digest in lines[0]
    items = {item.about for item in read_protocol("lmms-2024").items}
    for about in (
        "chat template",
        "frames of short clips",
        "length of answers",
        "VideoMME's answers",
        "MLVU's test",
        "answers that cannot be parsed",
        "judge",
        "precision",
        "MVBench",
        "pixels",
    ):
        assert about in items and any(line.startswith(f"{about}: ") for line in lines)
    judged = next(line for line in lines if line.startswith("video_dc499: "))
    assert "499 questions" in judged and "judged in the paper by gpt-4o-mini" in judged
    assert any("(not as in the papers)" in line for line in lines)


def test_the_digest_is_of_all_that_decides_a_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "papers"
    shutil.copytree(protocol.folder(), home / "protocols")
    monkeypatch.setattr(protocol, "home", lambda: home)
    read_protocol.cache_clear()
    try:
        file = home / "protocols" / "lmms-2024.yaml"
        digests = [read_protocol("lmms-2024").digest]
        changed: Any = OmegaConf.load(file)
        changed.words.short = "once"
        OmegaConf.save(changed, file)
        read_protocol.cache_clear()
        digests.append(read_protocol("lmms-2024").digest)
        with (home / "protocols" / "tasks" / "answers.py").open("a") as stream:
            stream.write("# changed\n")
        digests.append(read_protocol("lmms-2024").digest)
        changed["items"][0].here = "said otherwise"
        OmegaConf.save(changed, file)
        read_protocol.cache_clear()
        same = read_protocol("lmms-2024").digest
    finally:
        read_protocol.cache_clear()
    assert len(set(digests)) == 3 and same == digests[-1], "its wording decides nothing"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("B", "B"),
        ("(A) or (B)", "A"),
        ("The best answer is: C.", "C"),
        ("The answer is D", "D"),
        ("All of them", "A"),
        # the prefix that a missing comma has joined with its neighbour is not taken away: B of Best
        ("Best option: C", "B"),
        ("a cat", ""),
        ("it is not clear from what is shown in the video which of them it may be", ""),
        ("", ""),
    ],
)
def test_videomme_read_the_first_letter(text: str, read: str) -> None:
    assert answers.first_letter(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [("A) a cat", "A"), ("(F) none", "F"), (" B ", "B"), ("B. a dog", "B. a dog"), (")", "")],
)
def test_mlvu_read_what_stands_before_the_bracket(text: str, read: str) -> None:
    assert answers.before_bracket(text) == read
