"""What a run was begun with, and whether it can go on with the same: code, weights, samples,
precision.

It stands in the run's `config.yaml` from its first moment. Devices and versions of libraries may
differ between two sittings of one run; they are written down for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.results.copies import copy_of
from tokenprune.results.files import CONFIG
from tokenprune.results.provenance import Code, differing
from tokenprune.storage import replace

_SAMPLES = {  # what digests in a task's fingerprint are of
    "annotations": "annotations",
    "videos": "video files (sizes or times of change)",
    "digest": "samples",
}


def made_with(
    code: Code,
    weights: Mapping[str, Mapping[str, str]],
    samples: Mapping[str, Any],
    dtype: str,
    precision: Any,
) -> dict[str, Any]:
    """As it is written down.

    `weights` are digests of models' files by the models' names, `samples` is the task's
    fingerprint, `precision` what Lightning adds to `dtype`.
    """
    found = {
        "code": code.digests(),
        "weights": dict(weights),
        "samples": dict(samples),
        "dtype": dtype,
        "precision": None if precision is None else str(precision),
    }
    return json.loads(json.dumps(found))  # as it is read back


def read(folder: Path) -> Mapping[str, Any] | None:
    """What the run in `folder` was begun with; None before it has been.

    ConfigError where it does not say.
    """
    found = whole(folder)
    if found is None:
        return None
    if not isinstance(found.get("made_with"), Mapping):
        raise ConfigError(
            f"{folder / CONFIG} does not say which code its run was begun with: begin a new run"
        )
    return found["made_with"]


def check(folder: Path, task: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """ConfigError, by name, for the first thing that is not as it was when the run in `folder`
    began.
    """
    if reason := next(_differences(folder, task, then, now), None):
        raise ConfigError(f"resume={folder} was begun {reason}, or begin a new run")


def _differences(
    folder: Path, task: str, then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[str]:
    if names := differing(then["code"], now["code"]):
        yield _code(folder, names, then["code"], now["code"])
    for model, files in then["weights"].items():
        if names := differing(files, now["weights"].get(model, {})):
            yield f"with another {names[0]} in the model {model}: put it back"
    for key in {**then["samples"], **now["samples"]}:
        before, after = then["samples"].get(key), now["samples"].get(key)
        if before != after:
            values = "" if key in _SAMPLES else f" ({key} was {before}, and is {after})"
            yield f"with other {_SAMPLES.get(key, 'samples')} of {task}{values}: put them back"
    for key in ("dtype", "precision"):
        if then[key] != now[key]:
            words = "leave dtype= and trainer.precision= out"
            yield f"with {key} {then[key]}, and would go on with {now[key]}: {words}"


def _code(
    folder: Path, names: Sequence[str], then: Mapping[str, str], now: Mapping[str, str]
) -> str:
    copies = {name: copy_of(folder, name, then[name]) for name in names if name in then}
    name = next((name for name, copy in copies.items() if copy is not None), names[0])
    others = f" (and {len(names) - 1} other files)" if len(names) > 1 else ""
    what = f"without {name}{others}" if name not in then else f"with another {name}{others}"
    if name not in now:
        what = f"with {name}{others}, which nothing imports now"
    if (copy := copies.get(name)) is not None:
        return f"{what}: the run's own copy is {copy}: write plugin={copy} to go on with it"
    return f"{what}: go on with the code it was begun with"


def sit_down(folder: Path, place: Mapping[str, Any], answers: int) -> None:
    """Takes down where a run goes on from `answers` answers: it may be elsewhere than it began."""
    found = whole(folder)
    assert found is not None  # begun
    sittings = [*found.get("sittings", []), {"answers": answers, "environment": dict(place)}]
    write(folder, {**found, "sittings": sittings})


def earlier(folder: Path) -> list[dict[str, Any]]:
    """The sittings before this one that made answers: how many there were then, and the
    environment.
    """
    sittings = (whole(folder) or {}).get("sittings", [])
    return [
        {"until": after["answers"], "environment": sitting["environment"]}
        for sitting, after in pairwise(sittings)
        if after["answers"] > sitting["answers"]
    ]


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """The whole `config.yaml`."""
    from omegaconf import OmegaConf

    replace(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(values))))


def whole(folder: Path) -> dict[str, Any] | None:
    """The content of `config.yaml`; None where there is none."""
    from omegaconf import OmegaConf

    file = folder / CONFIG
    found: Any = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else None
    return found
