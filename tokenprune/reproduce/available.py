"""What is here, asked without a network and without loading anything."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from tokenprune.reproduce import data
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.jobs import SPEED, Job
from tokenprune.reproduce.models import models

_KEYS = ("OPENAI_API_KEY", "AZURE_API_KEY")  # one of them, of whoever pays the judge
_SPARE = 1.25  # memory for activations and the cache, as a factor of the weights


def lacking(job: Job, config: ReproduceConfig) -> str | None:
    """What a job lacks, with what to write; None where it can run."""
    return (
        _weights(job, config) or _data(job, config) or _judge(job, config) or _device(job, config)
    )


def _weights(job: Job, config: ReproduceConfig) -> str | None:
    for role in ("model", "assistant"):
        name = job.words.get(role)
        if name is None or config.download or here(str(name)):
            continue
        return f"the weights of {name} are not here: write model.NAME=FOLDER or download=true"
    return None


def here(name: str) -> bool:
    """Whether a model's weights are on this machine: embedded, in a folder, in the hub's cache."""
    if name.startswith("shape:") or "/" not in name or Path(name).expanduser().is_dir():
        return True
    if is_place(name):
        return False
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return isinstance(found, str) and any(Path(found).parent.glob("*.safetensors"))


def is_place(name: str) -> bool:
    """Whether a model's name can only be a folder's."""
    return name.startswith(("/", ".", "~"))


def _data(job: Job, config: ReproduceConfig) -> str | None:
    if not str(job.words.get("task", "")).startswith("lmms:"):
        return None
    if find_spec("lmms_eval") is None:
        return "lmms-eval is not installed: pip install 'tokenprune-video[lmms]'"
    return None if config.download else data.lacking(job)


def _judge(job: Job, config: ReproduceConfig) -> str | None:
    if not job.judged:
        return None
    if config.judge is None:
        return "its answers are judged by a paid model: write judge=NAME"
    if not any(os.environ.get(key) for key in _KEYS):
        return f"judge={config.judge} needs a key: set {_KEYS[0]}"
    return None


def _device(job: Job, config: ReproduceConfig) -> str | None:
    if job.kind != SPEED or config.device == "cpu":
        return None
    import torch  # late: what is asked before is answered without it

    if not torch.cuda.is_available():
        return "there is no accelerator here: write device=cpu to measure on the processor"
    return memory(job, torch.cuda.get_device_properties(0).total_memory)


def memory(job: Job, there: int) -> str | None:
    """Whether a device of so many bytes holds a job's models."""
    shapes = {one.shape: one for one in models().values() if one.shape}
    names = [str(job.words.get(role, "")).removeprefix("shape:") for role in ("model", "assistant")]
    needed = _SPARE * sum(shapes[name].gigabytes for name in names if name in shapes)
    if needed * 1e9 <= there:
        return None
    return f"it needs about {needed:.0f} GB, and the device has {there / 1e9:.0f}"
