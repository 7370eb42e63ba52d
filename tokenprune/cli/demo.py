"""`tokenprune demo`: a page on this machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec

from tokenprune.cli.command import Command, keys
from tokenprune.cli.waiting import waiting
from tokenprune.demo.address import check_free
from tokenprune.demo.config import DemoConfig
from tokenprune.errors import ConfigError
from tokenprune.loading.installed import check
from tokenprune.options import read_options

ABOUT = """Opens a page on this machine: choose a clip or a video of yours, a question, strategies
and a budget; see what each strategy keeps of each frame, what the model then answers, and how long
it takes, beside the full model and random pruning. Nothing leaves this machine.
Needs `pip install 'tokenprune-video[demo]'`. Ctrl-C ends it.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune demo
  tokenprune demo strategy=dycoke+dytok,fastv keep=0.5 browser=true
  tokenprune demo model=llava-hf/llava-onevision-qwen2-7b-ov-hf port=8000
"""


def run(words: Sequence[str], line: str) -> None:
    """Serves the page until it is interrupted."""
    config = read_options(DemoConfig, words)
    if find_spec("gradio") is None:
        raise ConfigError("the demo needs Gradio: pip install 'tokenprune-video[demo]'")
    check_free(config.port)
    with waiting() as tell:
        check()
        from tokenprune.demo.app import alone, blocks, desk, served
        from tokenprune.demo.compare import Models

        tell(f"reading {config.model}")
        made = desk(Models.read(config))
    with alone():
        with waiting("starting the page"):
            address = served(blocks(made), config.port, config.browser)
        print(f"open {address} in a browser; Ctrl-C ends the demo", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:  # how it is ended; threads that serve it end with the process
            print("the demo has ended")


COMMAND = Command(
    "demo",
    "a page to ask questions of a clip, strategies side by side",
    ABOUT.format(keys=keys(DemoConfig)),
    "KEY=VALUE",
    run,
    schema=DemoConfig,
)
