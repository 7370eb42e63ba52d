"""The code blocks of README and docs, and the commands in them made small enough to be run.

What a page presumes (a clip, annotations, two finished runs) lies in a folder that `stage` makes.
A command runs with the words it is written with, but for those that ask for what is not here:
weights of a hub, a GPU, many samples.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenprune import checkpoints
from tokenprune.cli.main import main

ROOT = Path(__file__).parent.parent
FENCED = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\n`]*)\n", re.MULTILINE)
WHY = re.compile(r"<!-- not run: ((?:(?!-->).)+) -->\s*\Z", re.DOTALL)
COMMANDS = ("console", "sh")
SMALL = {
    "run": ("limit=2", "frames=8", "max_new_tokens=2", "device=cpu", "workers=0"),
    "sweep": ("samples=2", "frames=8", "max_new_tokens=2", "device=cpu", "workers=1"),
    "study": ("samples=2", "frames=8", "max_new_tokens=2", "device=cpu", "workers=1")
    + ("retentions=[1.0,0.5]", "assistants=[self]", "resamples=50"),
    "bench": ("frames=2", "new_tokens=2", "repeats=1", "text=8", "batch=1", "device=cpu"),
    "data": ("n=2", "frames=8"),
}
# of a command that asks for many processes or a GPU's precision: those of one CPU
ELSEWHERE = ("trainer.devices", "trainer.strategy", "trainer.precision", "trainer.accelerator")
ELSEWHERE += ("trainer.num_nodes", "dtype", "device_map", "bits")
EMBEDDED = {"model": "tiny", "assistant": "nano"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str  # from the root of the project
    line: int
    language: str
    text: str
    why: str | None  # it is not run

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in its order. AssertionError where one does not end."""
    text, place = (ROOT / page).read_text(encoding="utf-8"), 0
    while opening := FENCED.search(text, place):
        close = f"\n{opening['indent']}{opening['fence']}\n"
        end = f"{text}\n".find(close, opening.end() - 1)
        line = text.count("\n", 0, opening.start()) + 1
        assert end >= 0, f"{page}:{line} does not end"
        why = WHY.search(text[: opening.start()])
        inside = text[opening.end() : end + 1]
        inside = re.sub(rf"^{opening['indent']}", "", inside, flags=re.MULTILINE)
        yield Block(page, line, opening["language"].strip(), inside, why[1] if why else None)
        place = end + len(close) - 1


def commands(block: Block) -> list[list[str]]:
    """The words of each command: of a console those behind `$`, else all lines."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    lines = [line.strip() for line in joined.splitlines()]
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def small(words: Sequence[str]) -> list[str]:
    """A command of tokenprune, without the first word, with what makes it quick."""
    command = next(word for word in words if word.isalpha())
    few = list(SMALL.get(command, ()))
    if any("/figure" in word for word in words):
        few = ["frames=8"]
    if any(word.startswith(("resume=", "config=", "video=")) for word in words):
        few = [word for word in few if not word.startswith(("limit=", "workers="))]
    if any(word.startswith("resume=") for word in words):
        few = []
    given = {key(word) for word in few}
    kept = [here(word) for word in words if key(word) not in given and key(word) not in ELSEWHERE]
    return [*kept, *few]


def shown(words: Sequence[str]) -> list[str] | None:
    """The command with all that `small` takes away, which only shows what would run.

    None of commands that cannot.
    """
    if words[0] not in ("run", "sweep", "bench") or any(
        word.startswith("resume=") for word in words
    ):
        return None
    kept = [word if "=shape:" in word else here(word) for word in words]
    kept = ["device=cpu" if word.startswith("device=") else word for word in kept]
    return [*(word for word in kept if word != "print=true"), "print=true"]


def key(word: str) -> str:
    return word.partition("=")[0]


def here(word: str) -> str:
    """A word, with the embedded model instead of one that would have to be downloaded."""
    name, _, value = word.partition("=")
    if name == "sample":
        return "sample=1"
    embedded = EMBEDDED.get(name.partition(".")[0])
    return f"{name}={embedded}" if embedded and value != "nano" else word


def run(words: Sequence[str]) -> tuple[int, str]:
    """Status of a command in this process, and all that it said."""
    out = next((word[4:] for word in words if word.startswith("out=")), "")
    if out and Path(out).is_dir():
        shutil.rmtree(out)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(list(words))
    return status, said.getvalue()


def stage(folder: Path) -> Path:
    """Goes to `folder` and fills it with what the pages presume."""
    os.chdir(folder)
    for name in ("experiments", "tokenprune", "docs"):
        (folder / name).symlink_to(ROOT / name)
    for example in (ROOT / "docs/examples").glob("*.py"):
        shutil.copy(example, folder)
    status, said = run(["data", "export", "tinyvqa", "out=shapes", "n=2", "frames=8"])
    assert status == 0, said
    shutil.copytree("shapes", "mine")
    samples = json.loads(Path("mine/annotations.json").read_text())["samples"]
    shutil.copy(Path("mine", samples[0]["video"]), "clip.mp4")
    lines = [json.dumps({**sample, "video": f"mine/{sample['video']}"}) for sample in samples]
    Path("mine.jsonl").write_text("\n".join(lines) + "\n")
    cells = ["strategy=uniform,fastv", "fastv.layer=1", "keep=0.25"]
    for words in (
        ["run", "strategy=dycoke+dytok", "out=runs/mine", *SMALL["run"]],
        ["sweep", *cells, "out=runs/sweep", *SMALL["sweep"]],
    ):
        status, said = run(words)
        assert status == 0, said
    shutil.copytree("runs/mine", "runs/other")
    shutil.copytree("runs/sweep", "runs/my-sweep")
    return folder


def python(text: str) -> str:
    """A block's text, with the embedded model instead of a hub's."""
    tiny = str(checkpoints.path("tiny"))
    return re.sub(r'"(llava-hf|Qwen|lmms-lab|OpenGVLab)/[^"]+"', repr(tiny), text)
