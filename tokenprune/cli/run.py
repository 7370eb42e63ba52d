"""`tokenprune run`: a strategy, the full model and random pruning on the same samples."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from tokenprune.cli.command import DETAILS, WIDTH, Command, as_yaml, console, keys, narrow
from tokenprune.cli.view import look
from tokenprune.cli.waiting import waiting
from tokenprune.evaluation.config import SECTION, RunConfig, parse
from tokenprune.evaluation.logs import KEY, log
from tokenprune.loading.installed import check
from tokenprune.options import printing, switched

if TYPE_CHECKING:
    from tokenprune.evaluation.run import Finished
    from tokenprune.strategy import Pipeline

ABOUT = """Runs a strategy, the full model and random pruning at the same measured budget on the
same samples, prints what one needs, and writes report.html to look at, report.md with every figure,
summary.json, records.jsonl and config.yaml.

keys (KEY=VALUE):
{keys}
  details          true: print every figure that report.md has
  STRATEGY.FIELD   options of a strategy, as in dycoke.merge=0.5 or dytok.layers=[16,23]

examples:
  tokenprune run strategy=dycoke+dytok
  tokenprune run strategy=fastv keep=0.5               half of the visual tokens, mean over layers
  tokenprune run strategy=visionzip+dytok visionzip.keep=0.25 frames=8 limit=40 out=results/vz
  tokenprune run strategy=fastv task=files:DIR/annotations.json
  tokenprune run config=runs/first/config.yaml fastv.drop=0.75   as that run, but for one option
  tokenprune run strategy=dycoke model=llava-hf/llava-onevision-qwen2-7b-ov-hf \\
      device=cuda dtype=bfloat16 video=clip.mp4 question="What happens?"
"""


def run(words: Sequence[str], line: str) -> None:
    """Evaluates, or shows what would be evaluated."""
    wanted, words = printing(words)
    everything, words = switched(DETAILS, words)
    config = parse(words)
    if wanted:
        with waiting():
            pipeline = pipeline_of(config)
            check()
            shown = as_yaml(preview(config, pipeline))
        print(shown)
        return
    with waiting() as tell:
        pipeline = pipeline_of(config)  # before the slow imports below
        check()
        from tokenprune.evaluation.run import run as evaluate

        finished = evaluate(config, pipeline, line, tell, lambda: _beforehand(config))
    if finished is not None:  # None: another process has the results
        show(finished, everything)
        if (logger := config.trainer.get(KEY)) is not None:
            with waiting() as tell:
                tell(f"logging with {logger}")
                told = log(logger, finished.folder)
            print(told)
        if config.report:
            look(finished)


def _beforehand(config: RunConfig) -> None:
    """What an embedded model can be asked, where it is shown a film; on stderr."""
    from tokenprune import checkpoints
    from tokenprune.storage import first_process

    about = Path(config.video or config.task.partition(":")[2]).name
    told = checkpoints.knows(config.model)
    if about and told is not None and first_process():
        print(fill(f"note on {about}: {told}", WIDTH, break_on_hyphens=False), file=sys.stderr)


def show(finished: Finished, everything: bool) -> None:
    """What one needs, in at most 80 columns, or every figure in as many as there are."""
    from tokenprune.cli.details import details
    from tokenprune.cli.display import results

    if everything:
        screen = console()
        screen.print(details(finished, screen.width))
        return
    screen = narrow()
    # a path is never broken, nor cut
    screen.print(results(finished, screen.width), crop=False)


def pipeline_of(config: RunConfig) -> Pipeline:
    """What the words name, checked; plug-ins are loaded for it."""
    from tokenprune.plugins import load_plugins
    from tokenprune.registry import resolve

    load_plugins(config.plugin)
    return resolve(config.strategy, config.options, seed=config.seed, assistant=config.assistant)


def at_budget(config: RunConfig, pipeline: Pipeline) -> Pipeline:
    """The pipeline with the options that `keep=` sets, which depend on the model."""
    if config.keep is None:
        return pipeline
    check()
    from tokenprune.evaluation.extent import uncompressed
    from tokenprune.evaluation.plan import task_of
    from tokenprune.evaluation.retention import retaining
    from tokenprune.loading.configuration import configuration
    from tokenprune.loading.processor import Processor

    settings = configuration(config.model, config)
    processor = Processor.load(config.model, config)
    seen = uncompressed(settings, processor, lambda: task_of(config))
    extent = seen.extent(config.frames_requested)
    return retaining(pipeline.check(extent.depth), config.keep, extent, config.options)


def preview(config: RunConfig, pipeline: Pipeline) -> dict[str, Any]:
    """What would run: every key, every field of every strategy, tokens per frame, and where.

    Raises TokenpruneError where the run would fail before weights are loaded.
    """
    from tokenprune.evaluation.plan import plan_run
    from tokenprune.registry import resolved_fields

    plan = plan_run(config, pipeline)
    cells = plan.extent.cells
    budget: dict[str, Any] = {"full": cells}
    if config.keep is not None:
        budget["kept"] = round(config.keep * cells, 2)
    return {
        SECTION: plan.given,
        "strategies": resolved_fields(plan.pipeline),
        "budget": budget,  # in tokens per frame, mean over LLM layers
        "folder": config.resume or config.out or f"runs/<time>-{pipeline}",
    }


COMMAND = Command(
    "run",
    "evaluate a strategy, or ask about a video file",
    ABOUT.format(keys=keys(RunConfig, besides=True)),
    "KEY=VALUE",
    run,
    schema=RunConfig,
)
