"""Whether a benchmark's documents and videos are where lmms-eval finds them without a network.

Asked of folders alone, in a moment: neither lmms-eval nor datasets is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tokenprune.reproduce.jobs import Job

_HOME, _CACHE = "HF_HOME", "XDG_CACHE_HOME"
# how datasets writes a name in that of a folder: NExTQA is n_ex_tqa
_BEFORE_WORD, _AFTER_LOWER = re.compile(r"([A-Z]+)([A-Z][a-z])"), re.compile(r"([a-z\d])([A-Z])")
_ARCHIVES = ("*.zip", "*.tar*")


def home() -> Path:
    """What lmms-eval's tasks look for videos below."""
    known = os.environ.get(_HOME) or f"{os.environ.get(_CACHE) or '~/.cache'}/huggingface"
    return Path(known).expanduser()


def lacking(job: Job) -> str | None:
    """What a job of lmms-eval's lacks, with what to write; None where documents and some videos are
    here. Videos that are missing one by one become errors of its run.
    """
    return _documents(job) or _videos(job)


def _documents(job: Job) -> str | None:
    """datasets reads, offline, what it has prepared before: the hub's own cache does not do."""
    name = job.documents
    if "/" not in name or Path(name).expanduser().is_dir():
        return None  # no documents are named, or a reader of files here, or a folder
    owner, _, own = name.partition("/")
    own = _AFTER_LOWER.sub(r"\1_\2", _BEFORE_WORD.sub(r"\1_\2", own)).lower()
    places = [place / f"{owner}___{own}" for place in _prepared()]
    if any(any(place.glob("*/*/*")) for place in places):
        return None
    return f"the documents of {name} are not here ({places[0]}): write download=true"


def _prepared() -> Iterator[Path]:
    """Where lmms-eval keeps prepared documents; on a disk of this machine if that is remote."""
    given = os.environ.get("LMMS_EVAL_DATASETS_CACHE", "").strip()
    if given:
        yield Path(os.path.expandvars(given)).expanduser()
        return
    yield Path(os.environ.get("HF_DATASETS_CACHE") or home() / "datasets").expanduser()
    for scratch in (os.environ.get("LMMS_LOCAL_CACHE"), "/local/scratch", "/scratch", "/tmp"):
        if scratch:
            yield Path(scratch) / "lmms_eval_hf_datasets" / os.environ.get("USER", "unknown")


def _videos(job: Job) -> str | None:
    """lmms-eval unpacks archives of the hub's cache where a benchmark has no folder yet."""
    if not job.videos:
        return None
    folder = home() / job.videos
    if folder.is_dir() and any(folder.iterdir()):
        return None
    whole = folder.parent if "/" in job.videos else folder  # the benchmark's own
    if not whole.exists() and _archives(job.documents):
        return None
    hint = "write download=true"
    if whole.exists():
        hint = f"put them there, or remove {whole} and {hint}"
    return f"the videos of {job.documents} are not here ({folder}): {hint}"


def _archives(name: str) -> bool:
    """Whether the hub's cache has a dataset's archives."""
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "snapshots"
    return any(any(snapshots.rglob(pattern)) for pattern in _ARCHIVES)
