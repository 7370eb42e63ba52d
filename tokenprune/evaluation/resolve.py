"""From the words of a run to its checked pipeline, without a model."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import traceback
from pathlib import Path

from tokenprune import registry
from tokenprune.errors import ConfigError, StrategyError
from tokenprune.evaluation.config import RunConfig
from tokenprune.results import sources
from tokenprune.results.provenance import PLUGIN
from tokenprune.strategy import Pipeline


def resolve(config: RunConfig) -> Pipeline:
    """The pipeline of a run; strategies with a `seed` of their own follow the run's unless told
    otherwise.

    Raises ConfigError and StrategyError.
    """
    if not config.strategy:
        raise ConfigError("nothing to run: write strategy=NAME, as in strategy=dycoke+dytok")
    if config.plugin is not None:
        registry.names()  # first, so that a name that is taken is the file's mistake
        load_plugin(config.plugin)
    pipeline = registry.build(config.strategy, config.options)
    seeded = {
        f"{strategy.name}.seed": config.seed
        for strategy in pipeline.strategies
        if any(field.name == "seed" for field in dataclasses.fields(strategy))  # pyright: ignore[reportArgumentType]
    }
    if config.assistant is not None and pipeline.allocator is None:
        raise ConfigError(
            f"assistant= guides an allocator, and {pipeline} has none: add +dytok, or leave it out"
        )
    return registry.build(config.strategy, {**seeded, **config.options})


def load_plugin(name: str) -> None:
    """Runs a file that defines strategies, which registers them.

    ConfigError says where it fails.
    """
    file = Path(name).expanduser().absolute()
    if not file.is_file():
        raise ConfigError(f"plugin={name} is no file: name a Python file that defines a strategy")
    module_name = f"{PLUGIN}{file.stem}"  # never in the way of a real module
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin={name} is no Python file: its name has to end in .py")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        sources.run(module, file.read_bytes())
    except StrategyError:
        raise
    except (Exception, SystemExit) as error:
        lines = [
            step.lineno
            for step in traceback.extract_tb(error.__traceback__)
            if step.filename == str(file)
        ]
        if isinstance(error, SyntaxError) and error.filename == str(file):
            lines = [error.lineno]
        where = f"in line {lines[-1]}" if lines else "to load"
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"plugin={file} fails {where}: {type(error).__name__}: {reason}"
        ) from error
    if not registry.defined_by(module):
        raise ConfigError(
            f'plugin={file} defines no strategy: write class Mine(VisionStage, name="mine") in it, '
            "with that name"
        )


def resolved_fields(pipeline: Pipeline) -> dict[str, dict[str, object]]:
    """Every field of every strategy, defaults included."""
    return {
        strategy.name: dataclasses.asdict(strategy)  # pyright: ignore[reportArgumentType]  a strategy is a dataclass
        for strategy in pipeline.strategies
    }
