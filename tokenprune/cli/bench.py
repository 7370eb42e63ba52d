"""`tokenprune bench`: what strategies cost and save."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.bench.config import BenchConfig, parse_bench
from tokenprune.cli.command import DETAILS, Command, as_yaml, keys, narrow
from tokenprune.cli.waiting import waiting
from tokenprune.loading.installed import check
from tokenprune.options import printing, switched

ABOUT = """Measures what strategies cost and save (time of each part, memory, cache, FLOPs) beside
three references that take turns with them: the full model, the dense oracle (the stock model
given as many visual tokens from the start, the limit for that budget), and random pruning at the
same measured budget. In the same run it measures how fast the device moves bytes and multiplies,
and says how far tower, prefill and decoding are above that floor. Writes bench.json and bench.png.

model=shape:llava-onevision-0.5b, -7b or -72b builds that architecture with random weights,
without a download; so does shape:FOLDER of any config.json.

keys (KEY=VALUE):
{keys}
  details          true: print every figure of each strategy and its references
  STRATEGY.FIELD   options of a strategy, as in dycoke.merge=0.5

examples:
  tokenprune bench strategy=dycoke,fastv out=runs/bench
  tokenprune bench strategy=dycoke,dytok+visionzip keep=0.5 model=shape:llava-onevision-7b out=7b
  tokenprune bench strategy=dycoke model=shape:llava-onevision-0.5b vision=random out=runs/llm
"""


def run(words: Sequence[str], line: str) -> None:
    """Measures and prints the table, or shows what would be measured."""
    wanted, words = printing(words)
    everything, words = switched(DETAILS, words)
    config = parse_bench(words)
    if wanted:
        with waiting():
            check()
            from tokenprune.bench.plan import preview_bench

            shown = as_yaml(preview_bench(config))
        print(shown)
        return
    with waiting():
        check()
        from tokenprune.bench.run import bench
        from tokenprune.bench.screen import measured
    narrow().print(measured(bench(config, line), everything))


COMMAND = Command(
    "bench",
    "what strategies cost and save",
    ABOUT.format(keys=keys(BenchConfig, besides=True)),
    "KEY=VALUE",
    run,
    schema=BenchConfig,
)
