"""What a model's name means: the embedded model, a local folder, or a repository of the Hugging
Face hub.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from tokenprune import checkpoints
from tokenprune.errors import LoadingError

SETTINGS = ["*.json", "*.jinja", "*.txt"]  # configuration, tokenizer, chat template
WEIGHTS = ["*.safetensors"]


def is_here(name: str) -> bool:
    """Whether `name` is an embedded model or a folder, for which nothing can be downloaded."""
    return name in checkpoints.names() or Path(name).expanduser().is_dir()


def folder(name: str, weights: bool = True) -> Path:
    """The folder of the model `name`; what a hub repository lacks on this machine is downloaded.

    `weights=False` fetches settings only, which is enough to see whether the model is supported. Of
    a repository only settings and safetensors are ever fetched: no code, no pickles. Raises
    LoadingError.
    """
    if name in checkpoints.names():
        return checkpoints.path(name)
    checkpoints.CHECKPOINTS.refuse_broken(name)
    local = Path(name).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise LoadingError(
                f"the folder {name} holds no config.json, so it is no Hugging Face model"
            )
        return local
    known = ", ".join(checkpoints.names())
    choices = (
        f"write an embedded model ({known}), a folder, or a hub id like "
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
    )
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise LoadingError(f"there is no model {name!r}: {choices}")
    try:
        return Path(snapshot_download(name, allow_patterns=SETTINGS + (WEIGHTS if weights else [])))
    except GatedRepoError:
        raise LoadingError(
            f"{name} asks for an accepted licence: log in with `hf auth login` and accept it"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise LoadingError(
            f"the hub has no model {name!r}, and there is no such folder: {choices}"
        ) from None
    except (OSError, HfHubHTTPError) as error:
        reason = str(error).splitlines()[0]
        raise LoadingError(
            f"{name} is not a folder, is not in the local cache, and the hub cannot be reached "
            f"({reason}): "
            "check the network, or give a folder"
        ) from None
