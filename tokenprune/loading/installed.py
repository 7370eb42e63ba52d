"""Packages nearby that do not fit: transformers, Lightning and lmms-eval import them and break.

One line names them.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from tokenprune.errors import LmmsError, LoadingError

# what tokenprune does not need, and others import wherever it is installed: built for one version
# of torch each
_BESIDE_TORCH = ("torchvision",)


def check() -> None:
    """LoadingError where a package that is installed keeps transformers from being imported.

    Called by commands that are about to import it anyway. A torchvision built for another torch
    raises RuntimeError (`operator torchvision::nms does not exist`) or OSError (`undefined symbol`)
    there.
    """
    for name in _BESIDE_TORCH:
        if _there(name) and (reason := _failure(name)) is not None:
            raise LoadingError(
                f"{_versioned(name)} cannot be imported beside {_versioned('torch')} ({reason}): "
                "install the one built "
                f"for this torch, or `pip uninstall {name}`, which tokenprune does not need"
            )
    if (reason := _failure("transformers.modeling_utils")) is not None:
        raise LoadingError(
            f"{_versioned('transformers')} cannot be imported ({reason}): `pip check` may say why"
        )


def check_lmms(evaluates: bool = False) -> None:
    """LmmsError where lmms-eval is missing, or cannot work (`evaluates`: its own evaluator) beside
    the rest.
    """
    if not _there("lmms_eval"):
        raise LmmsError("lmms-eval is not installed: pip install 'tokenprune-video[lmms]'")
    # gone in filelock 4.3; lmms-eval 0.7.3 imports it at its first evaluation
    if evaluates and not _there("filelock._api"):
        raise LmmsError(
            f"{_versioned('lmms_eval')} does not work with {_versioned('filelock')}: pip install "
            "'filelock<4.3'"
        )
    try:
        check()
    except LoadingError as error:
        raise LmmsError(str(error)) from None


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    # the package around it is a plain module, or was put there by hand
    except (ImportError, ValueError):
        return False


def _failure(name: str) -> str | None:
    """Why a module cannot be imported, by the first of the errors that led to it."""
    try:
        importlib.import_module(name)
    # somebody else's code: RuntimeError, OSError, ImportError and AttributeError were seen
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        return f"{type(first).__name__}: {' '.join(str(first).split())}"
    return None


def _versioned(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow, and help needs none

    try:
        return f"{name.replace('_', '-')} {version(name)}"
    except PackageNotFoundError:
        return name
