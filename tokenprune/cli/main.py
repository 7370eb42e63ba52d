"""The command `tokenprune`.

Imports nothing heavy until a command needs it, so that help answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from tokenprune import __version__
from tokenprune.bench.config import BenchConfig, parse_bench
from tokenprune.cli import manual
from tokenprune.cli.export import ExportConfig, parse_export
from tokenprune.cli.stopping import stoppable
from tokenprune.cli.terminal import adapt
from tokenprune.errors import TokenpruneError
from tokenprune.evaluation.config import RunConfig, parse
from tokenprune.guards import blame
from tokenprune.loading.installed import check
from tokenprune.options import own_first, printing
from tokenprune.study.config import StudyConfig, read_study
from tokenprune.study.config import command as study_command
from tokenprune.study.sweep import SweepConfig, parse_sweep

_WIDTH = 140  # of tables that go to a file or another program


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 after a one-line message about something the user can change; 130 after
    Ctrl-C, 143 after TERM.

    1 as Python has it after any other exception; from within somebody's strategy only its author's
    part is shown. What is kept of a run that did not end well, and how to go on with it, is said in
    any case.
    """
    adapt()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments, stray = _parser().parse_known_args(words)
    if arguments.command is None:
        _parser().print_help()
        return 0
    with stoppable() as stop:
        try:
            if stray:
                arguments.parse(stray)  # says what to write instead of --option
            arguments.command(arguments, shlex.join(["tokenprune", *words]))
            sys.stdout.flush()
        except KeyboardInterrupt as interrupt:
            return _interrupted(interrupt, stop.status)
        except BrokenPipeError:  # `tokenprune list | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            if (trace := blame.shortened(error)) is not None:
                print(trace, file=sys.stderr)
                return _fail("; ".join(_notes(error)), 1)
            if not isinstance(error, (TokenpruneError, OSError)):
                raise  # all others are defects and keep their traceback
            return _fail("; ".join([" ".join(str(error).split()), *_notes(error)]), 2)
    return 0


def _interrupted(interrupt: KeyboardInterrupt, status: int) -> int:
    from tokenprune.storage import first_process

    if not first_process():  # the first one says it for all of them
        return status
    return _fail(
        str(interrupt)
        or ", ".join(["interrupted", *(_notes(interrupt) or ["nothing was written"])]),
        status,
    )


def _notes(error: BaseException) -> list[str]:
    """What `run_folder` has to say about a run that did not end well; a traceback shows it by
    itself.
    """
    return getattr(error, "__notes__", [])


def _fail(reason: str, status: int) -> int:
    print(f"tokenprune: error: {reason}", file=sys.stderr)
    return status


def _run(arguments: argparse.Namespace, command: str) -> None:
    config = parse(arguments.words)
    pipeline = _pipeline(config)  # before the slow imports below
    check()
    from tokenprune.cli.display import results
    from tokenprune.evaluation.run import run

    if (
        finished := run(config, pipeline, command)
    ) is not None:  # None: another process has the results
        console = _console()
        console.print(results(finished, console.width))


def _pipeline(config: RunConfig) -> Any:
    from tokenprune.plugins import load_plugins
    from tokenprune.registry import resolve

    load_plugins(config.plugin)
    return resolve(config.strategy, config.options, seed=config.seed, assistant=config.assistant)


def _list(arguments: argparse.Namespace, command: str) -> None:
    from tokenprune.cli import catalogue

    if arguments.markdown:
        print(catalogue.strategies_markdown())
    else:
        _console().print(catalogue.listing())


def _show(arguments: argparse.Namespace, command: str) -> None:
    config = parse(arguments.words)
    from tokenprune.cli.catalogue import plan

    pipeline = _pipeline(config)
    if config.keep is not None:  # which options that sets depends on the model
        check()
        from tokenprune.evaluation.extent import extent_of
        from tokenprune.evaluation.retention import retaining

        extent = extent_of(config.model, config.frames_requested)
        pipeline = retaining(pipeline.check(extent.depth), config.keep, extent, config.options)
    _console().print(plan(pipeline))


def _export(arguments: argparse.Namespace, command: str) -> None:
    config = parse_export(arguments.words)
    from tokenprune.tasks.export import export

    print(export(config.task, config.out, config.n, config.frames, config.size, config.seed))


def _study(arguments: argparse.Namespace, command: str) -> None:
    wanted, words = printing(arguments.words)
    file, config = read_study(words)  # before the slow imports below
    check()
    if wanted:
        from tokenprune.study.preview import preview_study

        print(_yaml(preview_study(file, config)))
        return
    from tokenprune.study.findings import findings
    from tokenprune.study.run import study

    done = study(file, config, study_command(file, words))
    print("\n".join([*findings(done.results), f"wrote {done.page}"]))


def _yaml(values: Any) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(values)).rstrip()


def _compare(arguments: argparse.Namespace, command: str) -> None:
    from tokenprune.evaluation.compare import compare, parse
    from tokenprune.evaluation.compare_screen import screen, write

    words = parse(arguments.words)
    found = compare(words.folders)
    if words.out is not None:
        write(found, words.out)
    _console().print(screen(found))
    if words.out is not None:
        print(f"wrote {words.out}")


def _parse_compare(words: Sequence[str]) -> Any:
    from tokenprune.evaluation.compare import parse

    return parse(words)


def _sweep(arguments: argparse.Namespace, command: str) -> None:
    wanted, words = printing(arguments.words)
    config = parse_sweep(words)
    check()
    if wanted:
        from tokenprune.study.preview import preview_sweep

        print(_yaml(preview_sweep(config)))
        return
    from tokenprune.study.run import sweep
    from tokenprune.study.screen import swept

    _console().print(swept(sweep(config, command)))


def _bench(arguments: argparse.Namespace, command: str) -> None:
    wanted, words = printing(arguments.words)
    config = parse_bench(words)
    check()
    if wanted:
        from tokenprune.bench.plan import preview_bench

        print(_yaml(preview_bench(config)))
        return
    from tokenprune.bench.run import bench
    from tokenprune.bench.screen import measured

    _console().print(measured(bench(config, command)))


def _lmms(arguments: argparse.Namespace, command: str) -> None:
    from tokenprune.lmms.command import run

    run(arguments.words)


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tokenprune", description=manual.ABOUT, formatter_class=shape)
    parser.add_argument("--version", action="version", version=f"tokenprune {__version__}")
    parser.set_defaults(command=None, parse=parse)
    commands = parser.add_subparsers(title="commands", metavar="")
    for name, about, command, brief in (
        (
            "run",
            manual.RUN.format(keys=_keys(RunConfig)),
            _run,
            "evaluate a strategy, or ask about a video file",
        ),
        ("list", manual.LIST, _list, "strategies, options and papers"),
        ("show", manual.SHOW, _show, "a pipeline, stage by stage"),
    ):
        sub = commands.add_parser(name, help=brief, description=about, formatter_class=shape)
        sub.set_defaults(command=command)
        if name == "list":
            sub.add_argument("--markdown", action="store_true", help="as a Markdown table")
        else:
            sub.add_argument("words", nargs="*", metavar="KEY=VALUE")
    about = manual.STUDY.format(keys=_keys(StudyConfig))
    sub = commands.add_parser(
        "study", help="many methods at many retentions", description=about, formatter_class=shape
    )
    sub.add_argument("words", nargs="*", metavar="FILE KEY=VALUE")
    sub.set_defaults(command=_study, parse=read_study)
    about = manual.COMPARE
    sub = commands.add_parser(
        "compare", help="two finished runs", description=about, formatter_class=shape
    )
    sub.add_argument("words", nargs="*", metavar="FOLDER FOLDER out=FILE")
    sub.set_defaults(command=_compare, parse=_parse_compare)
    about = manual.SWEEP.format(keys=_keys(SweepConfig))
    sub = commands.add_parser(
        "sweep", help="strategies at equal budgets", description=about, formatter_class=shape
    )
    sub.add_argument("words", nargs="*", metavar="KEY=VALUE")
    sub.set_defaults(command=_sweep, parse=parse_sweep)
    about = manual.BENCH.format(keys=_keys(BenchConfig))
    sub = commands.add_parser(
        "bench", help="what strategies cost and save", description=about, formatter_class=shape
    )
    sub.add_argument("words", nargs="*", metavar="KEY=VALUE")
    sub.set_defaults(command=_bench, parse=parse_bench)
    # no prefix of options: all of them are lmms-eval's to read
    sub = commands.add_parser(
        "lmms", help="lmms-eval on our models", add_help=False, prefix_chars="\0"
    )
    sub.add_argument("words", nargs="*")
    sub.set_defaults(command=_lmms)
    data = commands.add_parser(
        "data", help="data sets as files", description=manual.DATA, formatter_class=shape
    )
    data.set_defaults(command=lambda *_: data.print_help())
    about = manual.EXPORT.format(keys=_keys(ExportConfig))
    sub = data.add_subparsers(title="commands", metavar="").add_parser(
        "export",
        help="an embedded task as videos and annotations",
        description=about,
        formatter_class=shape,
    )
    sub.add_argument("words", nargs="*", metavar="TASK KEY=VALUE")
    sub.set_defaults(command=_export, parse=parse_export)
    return parser


def _keys(schema: type[RunConfig | ExportConfig | StudyConfig | SweepConfig | BenchConfig]) -> str:
    lines = []
    for key in own_first(schema):
        if "help" in key.metadata:
            value = (
                key.default if key.default_factory is dataclasses.MISSING else key.default_factory()
            )
            default = (
                ""
                if value in (None, "", {}, [])
                else f" {value}"
                if isinstance(value, list)
                else f" [{value}]"
            )
            lines.append(f"  {key.name:<16} {key.metadata['help']}{default}")
    return "\n".join(lines)
