"""`tokenprune data export`: a task as video files and annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune.cli.command import Command, keys
from tokenprune.errors import ConfigError
from tokenprune.options import check_counts, key, read_options

GROUP = """Data sets as files.

examples:
  tokenprune data export tinyvqa out=shapes n=100
  tokenprune data export --help
"""
ABOUT = """Writes samples of a task as real video files: out/videos/ID.mp4 (H.264, 8 frames per
second) and out/annotations.json, which lists id, video, question, answer, category, metric and
evidence of each. Any tool can play and read them, and `tokenprune run
task=files:out/annotations.json` reads them back. TASK is tinyvqa, a task of a plug-in, files:PATH
(its frames as they are evaluated) or lmms:NAME.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune data export tinyvqa out=shapes n=100
  tokenprune data export tinyvqa out=long n=50 frames=32 size=192 seed=1
  tokenprune run strategy=dycoke+dytok task=files:shapes/annotations.json
"""


@dataclass(frozen=True)
class ExportConfig:
    """Everything `tokenprune data export TASK` can be told."""

    task: str = key("", "")
    out: str = key("", "folder to write, which must not hold anything yet; needed")
    n: int = key(100, "how many samples, at most")
    frames: int = key(16, "frames per video")
    size: int | None = key(
        None, "height and width in pixels, even, of tasks that draw; 96 of tinyvqa, from 96 on"
    )
    seed: int = key(0, "of the samples")
    plugin: list[str] = key(
        list, "a Python file of yours that brings the task; may be repeated", repeated=True
    )

    def __post_init__(self) -> None:
        if not self.task:
            raise ConfigError(
                "nothing to export: write a task first, as in `tokenprune data export tinyvqa "
                "out=shapes`"
            )
        if not self.out:
            raise ConfigError("nowhere to write to: add out=DIR, as in out=shapes")
        check_counts(self, "n", "frames", "size")
        if self.size is not None and self.size % 2:
            raise ConfigError(
                f"size={self.size} is odd, which H.264 cannot store: write size={self.size + 1}"
            )


def parse_export(words: Sequence[str]) -> ExportConfig:
    """The export that `TASK KEY=VALUE ...` describes. Raises ConfigError."""
    return read_options(ExportConfig, words, bare="task")


def run(words: Sequence[str], line: str) -> None:
    """Writes the files, and says how they are read back."""
    config = parse_export(words)
    from tokenprune.plugins import load_plugins
    from tokenprune.tasks.export import export

    load_plugins(config.plugin)
    said = export(
        config.task,
        config.out,
        samples=config.n,
        frames=config.frames,
        size=config.size,
        seed=config.seed,
    )
    print(said)


COMMAND = Command(
    "data export",
    "a task as videos and annotations",
    ABOUT.format(keys=keys(ExportConfig)),
    "TASK KEY=VALUE",
    run,
    group=GROUP,
    schema=ExportConfig,
)
