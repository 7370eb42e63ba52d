"""`draw`: a figure about any video and model, as files with words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import nearest
from tokenprune.pictures.config import configured
from tokenprune.pictures.drawing import DPI, check_file
from tokenprune.storage import replace as write

NAMES = ("attention", "layers", "kept", "decode")


@dataclass(frozen=True)
class Drawn:
    """A figure on disk.

    Args:
        files: the picture, and its numbers with caption, alt text and settings as JSON
        alt: what it shows, for those who cannot see it
        caption: what is drawn, and of which model and sample
    """

    files: tuple[Path, ...]
    alt: str
    caption: str


def draw(
    kind: str,
    given: Mapping[str, Any],
    out: Path,
    options: Mapping[str, Any] | None = None,
    dpi: int = DPI,
) -> Drawn:
    """Draws one of NAMES into `out`, a .png, .svg or .pdf, with its numbers beside it as .json.

    `options` are the figure's own, `given` what the user says over them; keys are those of
    `FigureConfig`. Without any of them it is about a sample of the embedded benchmark. Raises
    TokenpruneError, before weights are read wherever the reason is known by then.
    """
    if kind not in NAMES:
        near = nearest(kind, NAMES) or NAMES[0]
        raise ConfigError(f"no figure is called {kind}: did you mean {near}? {', '.join(NAMES)}")
    check_file(str(out), dpi)
    config = configured(options or {}, given)
    from tokenprune.pictures.kinds import KINDS, STRATEGIES

    config = replace(config, strategy=config.strategy or STRATEGIES.get(kind, ""))
    made = KINDS[kind](config)
    picture = made.drawing.save(out, dpi)
    told = {
        "kind": kind,
        "caption": made.caption,
        "alt": made.drawing.alt,
        "settings": {name: value for name, value in asdict(config).items() if value},
        "data": made.data,
    }
    numbers = out.with_suffix(".json")
    write(numbers, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return Drawn((picture, numbers), made.drawing.alt, made.caption)
