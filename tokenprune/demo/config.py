"""What `tokenprune demo` can be told.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenprune.errors import ConfigError
from tokenprune.loading.variant import Prompted
from tokenprune.options import check_counts, check_fraction, key

PORTS = range(1, 65_536)


@dataclass(frozen=True)
class DemoConfig(Prompted):
    """Everything the demo can be told."""

    model: str = key("tiny", "tiny (embedded), a folder, or a hub id")
    assistant: str | None = key(
        None, "a smaller model of the same family that weighs frames for dytok"
    )
    strategy: list[str] = key(
        lambda: ["visionzip", "visionzip+dytok"], "chosen at first; others are chosen on the page"
    )
    plugin: list[str] = key(
        list, "a Python file of your strategies; may be repeated", repeated=True
    )
    keep: float = key(0.25, "visual tokens left at first, mean over LLM layers", example="0.25")
    frames: int | None = key(None, "frames of a clip; 32 of a file, else 16")
    max_new_tokens: int = key(48, "longest answer, in tokens")
    seed: int = key(0, "of the embedded clips")
    device: str = key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = key("auto", "auto, float32, bfloat16 or float16")
    port: int | None = key(None, "of this machine; the first free one from 7860 by default")
    browser: bool = key(False, "true: open the page in your browser")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "frames", "max_new_tokens")
        check_fraction("keep", self.keep, "0.25")
        if self.port is not None and self.port not in PORTS:
            raise ConfigError(f"port={self.port}: write a number from 1 to {PORTS[-1]}")
