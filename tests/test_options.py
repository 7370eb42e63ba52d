"""`KEY=VALUE` words and written files to a command's dataclass: one reader for every command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import parse
from tokenprune.options import as_typed, given, key, keys_of, printing, read_options


@dataclass(frozen=True)
class Part:
    """What a file's list holds."""

    spec: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class Schema:
    """One field of every kind."""

    place: str = key("", "a word without its key")
    text: str = key("", "text")
    perhaps: str | None = key(None, "text or null")
    count: int | None = key(None, "a number", example="3")
    share: float = key(0.5, "a fraction")
    switch: bool = key(True, "a switch")
    names: list[str] = key(list, "names")
    shares: list[float] = key(list, "fractions")
    plugin: list[str] = key(list, "files", repeated=True)
    trainer: dict[str, Any] = key(dict, "somebody else's")
    parts: list[Part] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


def read(*words: str, **how: Any) -> Schema:
    return read_options(Schema, words, bare="place", section="run", **how)


def refused(*words: str, **how: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*words, **how)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_values_have_the_types_of_their_fields() -> None:
    assert read() == Schema()
    assert read("here", "text=[1, 2]: ${x} # no", "perhaps=null", "count=null") == Schema(
        place="here", text="[1, 2]: ${x} # no"
    )
    assert read("count=3", "share=1", "switch=false") == Schema(count=3, share=1.0, switch=False)
    assert read("names=a+b, c", "shares=0.5,1e-3") == Schema(names=["a+b", "c"], shares=[0.5, 1e-3])
    assert read("names=[a,b]", "shares=[0.5]") == Schema(names=["a", "b"], shares=[0.5])
    assert read("plugin=a,b.py", "plugin=c.py").plugin == ["a,b.py", "c.py"]
    assert read("trainer.devices=2", "trainer.strategy=ddp").trainer == {
        "devices": 2,
        "strategy": "ddp",
    }


def test_options_of_strategies_are_gathered() -> None:
    words = ("fastv.layer=1", "dytok.layers=[1,2]", "dytok.cap=none")
    assert read(*words).options == {"fastv.layer": 1, "dytok.layers": [1, 2], "dytok.cap": "none"}
    swept = read("fastv.layer=1,2", "dytok.layers=[1,2],[3]", "trainer.devices=[0,1]", swept=True)
    assert swept.options == {"fastv.layer": [1, 2], "dytok.layers": [[1, 2], [3]]}
    assert swept.trainer == {"devices": [0, 1]}


def test_a_strategy_may_have_the_name_of_a_key_that_holds_one_value(tmp_path: Path) -> None:
    """As `reuse` has: its options are not swallowed."""
    words = ["reuse=false", "reuse.threshold=0.5", "strategy=reuse", f"out={tmp_path}"]
    config = parse(words)
    assert config.reuse is False
    assert config.options == {"reuse.threshold": 0.5}


def test_a_file_whose_name_looks_like_a_word(tmp_path: Path) -> None:
    strange = tmp_path / "a=b"
    strange.mkdir()
    assert read(str(strange)).place == str(strange)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("count=many", "count=many is not a whole number: write count=3"),
        ("count=1.5", "count=1.5 is not a whole number: write count=3"),
        ("count=true", "count=true is not a whole number"),
        ("share=half", "share=half is not a number: write share=NUMBER"),
        ("switch=maybe", "switch=maybe is not true or false: write switch=true"),
        ("shares=0.5,,1", "shares=0.5,,1 has nothing between two commas: write shares=0.5,1"),
        ("shares=a", "shares=a is not a number"),
        ("count=[1", "'count=[1' cannot be read"),
        ("a.b=${x}", "'a.b=${x}' cannot be read"),
        ("text=", "text= is empty: write text=VALUE, or leave it out"),
        ("a.b=", "a.b= is empty"),
        ("text=a text=a", "text= is given twice: leave one of them out"),
        ("names=a names=b", "names= is given twice: write names=A,B for several"),
        ("a.b=1 a.b=2", "a.b= is given twice"),
        ("config=a config=b", "config= is given twice"),
        ("contu=3", "unknown key 'contu': did you mean count=? Keys: text, perhaps, count,"),
        ("=3", "'=3' is not KEY=VALUE"),
        ("--count=3", "'--count=3' is not KEY=VALUE: write count=3"),
        ("--count 3", "'--count' is not KEY=VALUE: write count=VALUE"),
        ("here there", "'there' is not KEY=VALUE"),
        ("trainer=2", "'trainer=2' is not a key by itself: write trainer.KEY=VALUE"),
        ("options=2", "write STRATEGY.FIELD=VALUE"),
        ("parts=2", "'parts=2' is not a key by itself: write it into a file"),
        ("config=nowhere.yaml", "there is no file nowhere.yaml"),
    ],
)
def test_a_mistake_gets_one_line_that_names_the_fix(words: str, reason: str) -> None:
    assert reason in refused(*words.split())


def test_a_command_without_a_file_has_no_key_for_it() -> None:
    with pytest.raises(ConfigError, match="unknown key 'config'"):
        given(Schema, ["config=a.yaml"])


def written(folder: Path, text: str) -> str:
    (folder / "config.yaml").write_text(text)
    return f"config={folder / 'config.yaml'}"


RUN = """
run: {text: typed, count: 4, out: there, resume: null, trainer: {devices: 2},
      options: {fastv.layer: 1, fastv.drop: 0.25}, plugin: [a.py]}
systems: {vanilla: {}}
environment: {command: tokenprune run}
made_with: {code: {}}
"""


def test_a_written_file_is_read_back_and_words_override_it(tmp_path: Path) -> None:
    """Without what the machine wrote, and without where that run went."""
    file = written(tmp_path, RUN)
    whole = Schema(
        text="typed",
        count=4,
        trainer={"devices": 2},
        options={"fastv.layer": 1, "fastv.drop": 0.25},
        plugin=["a.py"],
    )
    assert read(file) == whole
    changed = read("fastv.layer=3", file, "text=other", "trainer.devices=1", "count=null")
    assert changed.options == {"fastv.layer": 3, "fastv.drop": 0.25}
    assert changed.text == "other" and changed.trainer == {"devices": 1} and changed.count is None


def test_a_file_written_by_hand(tmp_path: Path) -> None:
    file = written(tmp_path, "count: 2\nfastv.layer: 1\noptions: {fastv: {drop: 0.5}}\n")
    assert read(file) == Schema(count=2, options={"fastv.layer": 1, "fastv.drop": 0.5})
    nested = written(tmp_path, "parts: [{spec: a, weight: 2}]\nshares: [1, 0.5]\ntext: 3\n")
    assert read(nested) == Schema(parts=[Part("a", 2.0)], shares=[1.0, 0.5], text="3")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cuont: 2", "did you mean count? Keys: place, text"),
        ("run: {cuont: 2}", "did you mean count? Keys: place, text"),
        ("count: many", "count=many is not a whole number: write count=3"),
        ("text: [a]", "text=[a] is not text: write text=TEXT"),
        ("shares: 0.5", "shares=0.5 is not a list: write shares=[A,B]"),
        ("trainer: ddp", "trainer=ddp has no keys: write trainer.KEY=VALUE"),
        ("parts: [a]", "parts=a has no keys: write spec: VALUE, one a line"),
        (
            "parts: [{spce: a}]",
            "unknown key 'spce' in parts: did you mean spec? Keys: spec, weight",
        ),
        ("sweep: {count: 2}", "is of `tokenprune sweep`: give it to that command"),
        ("- a", "holds no keys: write KEY: VALUE, one a line"),
        ("3", "cannot be read"),
        ("a: {", "is not YAML"),
        ("count: 1\ncount: 2", "is not YAML"),
    ],
)
def test_a_file_that_cannot_be(text: str, reason: str, tmp_path: Path) -> None:
    assert reason in refused(written(tmp_path, text))


def test_printing_is_asked_for_once_and_plainly() -> None:
    assert printing(["count=3"]) == (False, ["count=3"])
    assert printing(["print=true", "count=3"]) == (True, ["count=3"])
    assert printing(["print=false"]) == (False, [])
    for words, reason in {
        ("print=yea",): "print=yea is not true or false: write print=true",
        ("print=",): "print= is empty: write print=true",
        ("print=true", "print=true"): "print= is given twice",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            printing(words)


def test_values_are_written_as_they_are_typed() -> None:
    values = [None, True, 0.5, 3, "word", (1, None), [[1], "a"]]
    assert [*map(as_typed, values)] == ["none", "true", "0.5", "3", "word", "[1,none]", "[[1],a]"]
    assert "trainer" not in keys_of(Schema) and "parts" not in keys_of(Schema)
