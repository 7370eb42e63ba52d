"""A finished run in somebody's place for results: `trainer.logger=`, through Lightning's loggers.

What is logged is what the run's folder holds, read back, once it is whole: a run that was resumed
is logged once, as one that nothing happened to. Light to import.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tokenprune.errors import ConfigError
from tokenprune.options import as_typed, meant

if TYPE_CHECKING:
    from tokenprune.results.read import Run

LOGS = "logs"  # in a run's folder, or in that of a sweep or study
KEY = "logger"  # of `trainer.`
# what each needs, one of them; none is what Lightning has itself
LOGGERS: Mapping[str, tuple[str, ...]] = {
    "csv": (),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
_PROJECT = "tokenprune"
_CLOUD = "https://api.wandb.ai"  # where wandb has its keys, unless WANDB_BASE_URL says otherwise


def check(trainer: Mapping[str, Any]) -> None:
    """ConfigError for a logger in keys of `trainer.` that is none of Lightning's."""
    if KEY in trainer and (name := trainer[KEY]) not in LOGGERS:
        near = meant(str(name), list(LOGGERS)).replace("=?", "?")
        known = ", ".join(LOGGERS)
        raise ConfigError(f"trainer.logger={as_typed(name)} is unknown{near} Loggers: {known}")


def check_installed(trainer: Mapping[str, Any]) -> None:
    """ConfigError where the package of a logger is missing."""
    name = trainer.get(KEY)
    needed = () if name is None else LOGGERS[name]
    if needed and not any(map(importlib.util.find_spec, needed)):
        raise ConfigError(
            f"trainer.logger={name} needs {needed[0]}: pip install 'tokenprune-video[loggers]'"
        )


def log(name: str, folder: Path, logs: Path | None = None) -> str:
    """Logs the finished run in `folder`, and says where that is.

    Files go to `logs`, by default into the run's folder. ConfigError where the logger fails, as one
    that has no network may.
    """
    from tokenprune.results.read import read_run  # heavy

    run, where = read_run(folder), (logs or folder / LOGS).absolute()
    where.mkdir(parents=True, exist_ok=True)
    try:
        with _calm():
            return _MADE[name](run, where)
    except Exception as error:  # each has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"trainer.logger={name} could not log {folder}: {reason}") from error


def _csv(run: Run, where: Path) -> str:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(where, name=_below(run, where), version="")
    _write(logger, run)
    return f"Logged as {Path(logger.log_dir) / 'metrics.csv'}"


def _tensorboard(run: Run, where: Path) -> str:
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(where, name=_below(run, where), version="", default_hp_metric=False)
    _write(logger, run)
    return f"Logged; to look at it: tensorboard --logdir {shlex.quote(str(where))}"


def _wandb(run: Run, where: Path) -> str:
    """Online where there is a key, unless WANDB_MODE says otherwise; else into a folder."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    offline = "WANDB_MODE" not in os.environ and not _has_key()
    with _environment(WANDB_SILENT="true"):
        experiment = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.folder.name,
            dir=where,
            mode="offline" if offline else None,
            settings=wandb.Settings(console="off", silent=True),
        )
        url = experiment.url
        _write(WandbLogger(experiment=experiment, save_dir=where), run)
        experiment.finish()
    beside = shlex.quote(str(where / "wandb"))
    if url:
        return f"Logged: {url}"
    why = "wandb has no key here (WANDB_API_KEY, or wandb login), so it was " if offline else ""
    return f"{why}logged offline; to upload it: wandb sync {beside}/offline-run-*"


def _mlflow(run: Run, where: Path) -> str:
    """Into a folder, unless MLFLOW_TRACKING_URI names a server."""
    from lightning.pytorch.loggers import MLFlowLogger

    server = os.environ.get("MLFLOW_TRACKING_URI")
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
    uri = server or where.as_uri()
    # MLflow 3 asks for consent to a folder, and its small package has no other store
    with _environment(MLFLOW_ALLOW_FILE_STORE="true"):
        logger = MLFlowLogger(experiment, run_name=run.folder.name, tracking_uri=uri)
        _write(logger, run)
    if server:
        return f"Logged to {server}, experiment {experiment}"
    look = f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {shlex.quote(uri)}"
    return f"Logged; to look at it: {look}"


_MADE: Mapping[str, Callable[[Run, Path], str]] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _write(logger: Any, run: Run) -> None:
    """Keys and options, a step for each sample, and the figures of the summary behind the last."""
    from tokenprune.results import logged

    logger.log_hyperparams(logged.asked(run))
    for step, found in enumerate(logged.samples(run)):
        if found:
            logger.log_metrics(found, step=step)
    logger.log_metrics(logged.figures(run), step=len(run.records))
    logger.save()
    logger.finalize("success")


def _below(run: Run, where: Path) -> str:
    """The run's own folder in logs that others share."""
    return "" if where == (run.folder / LOGS).absolute() else run.folder.name


def _has_key() -> bool:
    """Whether wandb finds a key where it looks for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", _CLOUD)).hostname or ""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Variables that are set while the block runs, unless the user has set them."""
    missing = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextmanager
def _calm() -> Iterator[None]:
    """Without what loggers say about themselves."""
    from tokenprune.evaluation.manners import quiet

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
