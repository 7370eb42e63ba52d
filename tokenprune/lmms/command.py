"""`tokenprune lmms ...`: lmms-eval's own command, kept from four of its traps.

* It keys cached answers on `--model_args` as typed: here they are spelled out first, see
  `Arguments.line`.
* One third-party entry point that fails makes it forget all others: here `--model tokenprune` is
  there anyway.
* It reports a failed evaluation and exits with 0: here that is an error.
* It lets a built-in task win over one of `--include_path` that has its name: here that is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tokenprune.errors import LmmsError
from tokenprune.lmms import MODEL, manifest
from tokenprune.lmms.arguments import Arguments
from tokenprune.loading.installed import check_lmms


def run(words: Sequence[str]) -> None:
    """Runs lmms-eval with its own `words`; `--model tokenprune` is understood.

    Raises LmmsError, StrategyError.
    """
    check_lmms(evaluates=True)
    import lmms_eval.__main__ as program  # pyright: ignore[reportMissingImports]
    from lmms_eval import models  # pyright: ignore[reportMissingImports]
    from lmms_eval.utils import simple_parse_args_string  # pyright: ignore[reportMissingImports]

    from tokenprune.tasks.lmms.benchmark import shadowed

    if MODEL not in models.list_available_models():
        models.MODEL_REGISTRY_V2.register_manifest(manifest())
    with _command_line(["--model", MODEL, *words]):
        _, arguments = program.parse_eval_args()
        if arguments.config:
            raise LmmsError(
                "--config is for lmms-eval itself: write its keys as arguments, or call lmms-eval "
                "eval"
            )
        if arguments.model != MODEL:
            raise LmmsError(
                f"--model {arguments.model} is for lmms-eval itself: call lmms-eval eval --model "
                "..."
            )
        if hidden := shadowed(arguments.include_path):
            raise LmmsError(
                f"--include_path defines {', '.join(hidden)}, which lmms-eval has too and prefers: "
                "rename"
            )
        if arguments.model_args:
            arguments.model_args = Arguments.parse(
                simple_parse_args_string(arguments.model_args)
            ).line()
        with _recorded(program) as failures:
            program.cli_evaluate(arguments)
    if failures:
        raise LmmsError(
            f"the evaluation failed ({type(failures[0]).__name__}: {failures[0]})"
        ) from failures[0]


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    """lmms-eval reads the process's own."""
    before = sys.argv
    sys.argv = ["lmms-eval", *words]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _recorded(program: Any) -> Iterator[list[Exception]]:
    """Errors of evaluations, which lmms-eval prints and then forgets."""
    failures: list[Exception] = []
    evaluate = program.cli_evaluate_single

    def recording(arguments: Any) -> Any:
        try:
            return evaluate(arguments)
        except Exception as error:
            failures.append(error)
            raise

    program.cli_evaluate_single = recording
    try:
        yield failures
    finally:
        program.cli_evaluate_single = evaluate
