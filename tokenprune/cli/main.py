"""The command `tokenprune`: a file of this folder for each command, and one line of `COMMANDS`.

Imports nothing heavy until a command needs it, so that help answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from tokenprune import __version__
from tokenprune.cli.command import Command
from tokenprune.cli.stopping import stoppable
from tokenprune.cli.terminal import adapt
from tokenprune.errors import TokenpruneError
from tokenprune.guards import blame

# modules of this folder, in the order of help; each has its command as COMMAND
COMMANDS = (
    "run",
    "list",
    "show",
    "study",
    "compare",
    "view",
    "draw",
    "demo",
    "sweep",
    "bench",
    "reproduce",
    "lmms",
    "export",
    "completion",
)
ABOUT = """Training-free visual-token compression for video LLMs.

examples:
  tokenprune run strategy=dycoke+dytok                 on the embedded model and benchmark
  tokenprune run strategy=fastv fastv.drop=0.75 limit=20
  tokenprune run strategy=dycoke+dytok video=clip.mp4 question="What moves?"
  tokenprune list                                      strategies, their options and papers
  tokenprune show strategy=visionzip+dytok             what a pipeline does, without a model
  tokenprune study experiments/tinyvqa_retention.yaml  many strategies at many retentions, as a page
  tokenprune sweep strategy=dycoke,fastv keep=0.5,0.25 a grid of strategies and budgets, as a table
  tokenprune bench strategy=dycoke,fastv out=DIR       time, memory and FLOPs
  tokenprune reproduce dycoke/table1                   a paper's table, printed beside ours
  tokenprune view runs/mine                            the page report.html of a run, made again
  tokenprune draw runs/mine sample=8                   what a run kept of a sample, as a picture
  tokenprune demo                                      a page to ask questions, side by side
  tokenprune data export tinyvqa out=DIR n=100         the benchmark as .mp4 files
"""


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
    if arguments.run is None:
        arguments.help()
        return 0
    with stoppable() as stop:
        try:
            # a word like --option is the command's to refuse: it says what to write instead
            arguments.run([*stray, *arguments.words], shlex.join(["tokenprune", *words]))
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


def _parser() -> argparse.ArgumentParser:
    parser = _described(argparse.ArgumentParser("tokenprune", **_look(ABOUT)))
    parser.add_argument("--version", action="version", version=f"tokenprune {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="")
    groups = {"": commands}
    for module in COMMANDS:
        command: Command = importlib.import_module(f"tokenprune.cli.{module}").COMMAND
        group, _, name = command.name.rpartition(" ")
        if group not in groups:
            brief = command.group.partition("\n")[0].rstrip(".").lower()
            first = _described(commands.add_parser(group, help=brief, **_look(command.group)))
            groups[group] = first.add_subparsers(title="commands", metavar="")
        # no prefix of options where all of them are somebody else's to read
        other = {"add_help": False, "prefix_chars": "\0"} if command.foreign else {}
        sub = groups[group].add_parser(name, help=command.brief, **_look(command.about), **other)
        sub.add_argument("words", nargs="*", metavar=command.words)
        sub.set_defaults(run=command.run)
    return parser


def _look(about: str) -> dict[str, Any]:
    return {"description": about, "formatter_class": argparse.RawDescriptionHelpFormatter}


def _described(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """A parser that shows its help where no command follows."""
    parser.set_defaults(run=None, help=parser.print_help)
    return parser
