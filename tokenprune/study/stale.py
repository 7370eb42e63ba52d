"""Whether a finished cell is what the same command would make now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.results.copies import copy_of
from tokenprune.results.differences import unequal
from tokenprune.results.provenance import differing
from tokenprune.study.cell_files import Settings, settings_in

# of a plug-in the code is compared, wherever it lies, and that of lmms-eval's tasks; of a device
# its kind
_FREE = ("plugin", "include_path", "device")
_VERSIONS = ("tokenprune", "torch", "transformers")


def unfinished(wanted: Mapping[Path, Settings]) -> set[Path]:
    """The folders that have to be made.

    ConfigError where one was made with other settings than `wanted`, or other code.
    """
    found = {folder: settings_in(folder) for folder in wanted}
    finished = {folder: settings for folder, settings in found.items() if settings is not None}
    _check_code(finished, wanted)
    for folder, settings in finished.items():
        then, now = _compared(settings), _compared(wanted[folder])
        for key, before, after in unequal(then, now):
            raise ConfigError(
                f"{folder} was made with {key}={before}, which now is {after}: write another "
                f"out=, or remove {folder.parent}"
            )
    return set(wanted) - set(finished)


def _compared(settings: Settings) -> dict[str, Any]:
    """What answers depend on besides code, by the names that messages use."""
    place, made_with = settings.environment, settings.made_with
    return {
        **{name: value for name, value in settings.run.items() if name not in _FREE},
        "device": place["device"].partition(":")[0],
        "versions": {name: place["versions"].get(name) for name in _VERSIONS},
        "weights": made_with["weights"],
        "packages": place["packages"],
        "fingerprint": made_with["samples"],  # of the task
    }


def _check_code(finished: Mapping[Path, Settings], wanted: Mapping[Path, Settings]) -> None:
    """ConfigError names all cells that were made with other code than they would be now."""
    stale: dict[Path, list[str]] = {}
    for folder, settings in finished.items():
        if names := differing(settings.made_with["code"], wanted[folder].made_with["code"]):
            stale[folder] = names
    if not stale:
        return
    first = next(iter(stale))
    # a plug-in's file and not one of ours, if both have changed
    name = min(stale[first], key=lambda name: name.startswith("tokenprune/"))
    others = f" and {len(stale[first]) - 1} other files" if len(stale[first]) > 1 else ""
    made = finished[first].made_with["code"].get(name, "")
    copy = copy_of(first.parent.parent, name, made)
    kept = f" (their own copy is {copy})" if copy is not None else ""
    folders = " ".join(map(str, stale))
    were, it = ("was", "it") if len(stale) == 1 else ("were", "them")
    raise ConfigError(
        f"{folders} {were} made with another {name}{others}{kept}: remove {it} to run {it} again, "
        "or write another out="
    )
