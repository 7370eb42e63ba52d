"""The command `tokenprune`. Imports nothing heavy until a command needs it, so that help answers at once."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from tokenprune import __version__
from tokenprune.config import ConfigError, RunConfig, parse

_WIDTH = 140  # of tables that go to a file or another program

_SPEAKING = {
    "tokenprune.strategy": "StrategyError",
    "tokenprune.video": "VideoError",
    "tokenprune.hub": "LoadingError",
    "tokenprune.processor": "PromptError",
    "tokenprune.adapters": "UnsupportedModelError",
    "tokenprune.layout": "LayoutError",
    "tokenprune.cache": "UnsupportedGenerationError",
}  # errors whose message is for the user, by module

_ABOUT = """Training-free visual-token compression for video LLMs.

examples:
  tokenprune run strategy=dycoke+dytok                 on the embedded model and benchmark
  tokenprune run strategy=fastv fastv.drop=0.75 limit=20
  tokenprune run strategy=dycoke+dytok video=clip.mp4 question="What moves?"
  tokenprune list                                      strategies, their options and papers
  tokenprune show strategy=visionzip+dytok             what a pipeline does, without a model
"""
_RUN = """Runs a strategy, the full model and random pruning at the same measured budget on the same samples, prints one
table and writes summary.json, records.jsonl and config.yaml.

keys (KEY=VALUE):
{keys}
  STRATEGY.FIELD   options of a strategy, as in dycoke.merge=0.5 or dytok.layers=[16,23]

examples:
  tokenprune run strategy=dycoke+dytok
  tokenprune run strategy=visionzip+dytok visionzip.keep=0.25 frames=8 limit=40 out=results/vz
  tokenprune run strategy=dycoke model=llava-hf/llava-onevision-qwen2-7b-ov-hf device=cuda dtype=bfloat16 \\
      video=clip.mp4 question="What happens?"
"""
_LIST = """Lists the strategies: where they act, their options with defaults, and their papers.

examples:
  tokenprune list
  tokenprune list --markdown > table.md
"""
_SHOW = """Shows what a pipeline does, stage by stage in running order, with the value of every option. Takes the same
words as run, and loads no model.

examples:
  tokenprune show strategy=dycoke+dytok
  tokenprune show strategy=fastv+dytok fastv.layer=3 dytok.cap=20
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 after a one-line message about something the user can change, or 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments, stray = _parser().parse_known_args(words)
    if arguments.command is None:
        _parser().print_help()
        return 0
    try:
        if stray:
            parse(stray)  # says what to write instead of --option
        arguments.command(arguments, shlex.join(["tokenprune", *words]))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("interrupted, nothing was written", 130)
    except BrokenPipeError:  # `tokenprune list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not _expected(error):
            raise
        return _fail(" ".join(str(error).split()), 2)
    return 0


def _fail(reason: str, status: int) -> int:
    print(f"tokenprune: error: {reason}", file=sys.stderr)
    return status


def _expected(error: Exception) -> bool:
    """Whether an error speaks to the user; all others are defects and keep their traceback."""
    if isinstance(error, (ConfigError, OSError)):
        return True
    # only a module that is loaded can have raised
    loaded = [(sys.modules[module], name) for module, name in _SPEAKING.items() if module in sys.modules]
    return any(isinstance(error, getattr(module, name)) for module, name in loaded)


def _run(arguments: argparse.Namespace, command: str) -> None:
    config = parse(arguments.words)
    from tokenprune.resolve import resolve

    resolve(config)  # before the slow imports below
    from tokenprune.display import results
    from tokenprune.run import run

    console = _console()
    console.print(results(run(config, command), console.width))


def _list(arguments: argparse.Namespace, command: str) -> None:
    from tokenprune import show

    if arguments.markdown:
        print(show.strategies_markdown())
    else:
        _console().print(show.listing())


def _show(arguments: argparse.Namespace, command: str) -> None:
    config = parse(arguments.words)
    from tokenprune.resolve import resolve
    from tokenprune.show import plan

    _console().print(plan(resolve(config)))


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tokenprune", description=_ABOUT, formatter_class=shape)
    parser.add_argument("--version", action="version", version=f"tokenprune {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="")
    for name, about, command, brief in (
        ("run", _RUN.format(keys=_keys()), _run, "evaluate a strategy, or ask about a video file"),
        ("list", _LIST, _list, "strategies, options and papers"),
        ("show", _SHOW, _show, "a pipeline, stage by stage"),
    ):
        sub = commands.add_parser(name, help=brief, description=about, formatter_class=shape)
        sub.set_defaults(command=command)
        if name == "list":
            sub.add_argument("--markdown", action="store_true", help="as a Markdown table")
        else:
            sub.add_argument("words", nargs="*", metavar="KEY=VALUE")
    return parser


def _keys() -> str:
    lines = []
    for key in dataclasses.fields(RunConfig):
        if "help" in key.metadata:
            default = "" if key.default in (None, "") else f" [{key.default}]"
            lines.append(f"  {key.name:<16} {key.metadata['help']}{default}")
    return "\n".join(lines)
