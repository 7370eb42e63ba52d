"""A task of the installed lmms-eval: found by name, its documents judged and aggregated by its own
code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from tokenprune.errors import LmmsError
from tokenprune.loading.installed import check_lmms
from tokenprune.tasks.lmms import judges
from tokenprune.tasks.lmms.chance import seeded, unread
from tokenprune.tasks.lmms.figures import figures
from tokenprune.tasks.lmms.manners import explained, quiet


@dataclass(frozen=True)
class Judged:
    """What a task makes of one answer."""

    results: Mapping[str, Mapping[str, Any]]  # by filter, by metric
    guessed: bool  # its code drew at random
    unread: bool  # it says that it could not read the answer


@dataclass(frozen=True)
class Subtask:
    """One leaf of a group, or the task itself, and its documents without images."""

    name: str
    task: Any
    docs: Any
    asks: str | None = None  # the judge that it asks, as `judge=` names it

    def question(self, doc_id: int) -> str:
        """The prompt, with the words that lmms-eval has for the model."""
        text = self.task.fewshot_context(doc=self.docs[doc_id], num_fewshot=0)
        if not isinstance(text, str):
            raise LmmsError(
                f"{self.name}/{doc_id} has several prompts: tokenprune takes tasks with one"
            )
        return text

    def answer(self, doc_id: int) -> str:
        target = self.task.doc_to_target(self.docs[doc_id])
        return " | ".join(map(str, target)) if isinstance(target, list) else str(target)

    def judge(self, doc_id: int, text: str, seed: int = 0) -> Judged:
        """What the task makes of an answer; what it draws at random depends on the document and
        `seed` alone.

        Raises JudgeError where a judge gave no verdict.
        """
        if self.asks is None:
            return self._judged(doc_id, text, seed)
        with judges.called(self.asks):
            about = f"{self.name}/{doc_id}"
            return judges.insisted(lambda: self._judged(doc_id, text, seed), about)

    def _judged(self, doc_id: int, text: str, seed: int) -> Judged:
        from lmms_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

        doc = self.docs[doc_id]
        told = {"task": self.name, "doc_id": doc_id, "repeats": 1}
        instance = Instance(
            request_type="generate_until", arguments=("",), idx=0, metadata=told, resps=[text]
        )
        found = {}
        with (
            seeded(f"{seed}/{self.name}/{doc_id}") as drawn,
            explained(f"{self.name}/{doc_id} cannot be scored"),
        ):
            # not `apply_filters`, which pairs one answer with the first document
            for filters in self.task._filters:
                filters.apply([instance], [doc])
                found[filters.name] = self.task.process_results(
                    doc, [instance.filtered_resps[filters.name]]
                )
            return Judged(found, drawn(), unread(found, instance.filtered_resps))

    def score(self, judged: Mapping[str, Mapping[str, Any]]) -> float:
        """The task's first metric under its first filter, where that is a number in [0, 1]; else
        nan.

        A metric whose value is a mapping has its score under the task's `score_key`, as lmms-eval's
        own statistics.
        """
        results = next(iter(judged.values()))
        main = next((metric for metric in self.task.aggregation() if metric in results), None)
        if main is None or self.task.higher_is_better().get(main) is False:
            return float("nan")
        value = results[main]
        value = value.get(self.task.config.score_key) if isinstance(value, Mapping) else value
        number = float(value) if isinstance(value, Real) else float("nan")
        return number if 0 <= number <= 1 else float("nan")


@dataclass(frozen=True)
class Benchmark:
    """What a name of lmms-eval's stands for."""

    subtasks: tuple[Subtask, ...]
    tree: Mapping[Any, Any]  # as lmms-eval nests groups
    folders: tuple[Path, ...]  # of the YAML files

    def aggregate(self, judged: Sequence[Sequence[Judged]]) -> dict[str, float]:
        """lmms-eval's figures, from what `judge` made of each subtask's answers: `metric`, or
        `task/metric` of a group. See `figures`.
        """
        asked = {subtask.asks for subtask in self.subtasks} - {None}
        with judges.called(next(iter(asked), None)):
            return figures(self.subtasks, self.tree, judged)


def find(
    name: str, include_path: str | None, model_name: str, judge: str | None = None
) -> Benchmark:
    """The task, group or tag `name`, with its documents. One of `include_path` comes before one of
    lmms-eval's own.

    `judge` is the model that judges answers, for tasks that ask one. Raises LmmsError.
    """
    check_lmms()
    if include_path is not None and not Path(include_path).is_dir():
        raise LmmsError(
            f"include_path={include_path} is not a folder: name the one that holds the task's YAML "
            "file"
        )
    with judges.called(judge), quiet(), explained(f"lmms-eval cannot load {name}"):
        tree, index = _load(name, include_path, model_name)
    leaves = list(_leaves(tree))
    asking = {leaf: task for leaf, task in leaves if judges.asks(task)}
    judges.check(name, judge, list(asking.items()))
    subtasks = tuple(
        _subtask(leaf, task, judge if leaf in asking else None) for leaf, task in leaves
    )
    paths = [
        index.get(leaf, {}).get("yaml_path")
        for leaf in [name, *(subtask.name for subtask in subtasks)]
    ]
    folders = {Path(path).parent for path in paths if isinstance(path, str)}
    return Benchmark(subtasks, tree, tuple(sorted(folders)))


def _load(
    name: str, include_path: str | None, model_name: str
) -> tuple[Mapping[Any, Any], Mapping[str, Any]]:
    """The task as lmms-eval nests it, and the index of tasks it was found in."""
    from lmms_eval.tasks import TaskManager, get_task_dict  # pyright: ignore[reportMissingImports]

    if include_path is not None:
        own = TaskManager(include_path=include_path, model_name=model_name, include_defaults=False)
        if name in own.task_index:
            with suppress(KeyError):  # a group that names tasks of lmms-eval's own
                return get_task_dict([name], own), own.task_index
    # takes seconds: there are two thousand
    every = TaskManager(include_path=include_path, model_name=model_name)
    if name not in every.task_index:
        near = difflib.get_close_matches(name, every.all_tasks, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`lmms-eval tasks list` lists them"
        raise LmmsError(f"lmms-eval has no task {name!r}: {hint}")
    return get_task_dict([name], every), every.task_index


def shadowed(include_path: str | None) -> list[str]:
    """Names of the tasks of `include_path` that lmms-eval itself would not run, because it has
    others of that name.
    """
    if include_path is None:
        return []
    with quiet():
        from lmms_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

        own = TaskManager(include_path=include_path, include_defaults=False).task_index
        every = TaskManager().task_index
    return sorted(own.keys() & every.keys())


def _leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, inner in tree.items():
        if isinstance(inner, dict):
            yield from _leaves(inner)
        else:
            yield str(name), inner


def _subtask(name: str, task: Any, judge: str | None) -> Subtask:
    """A leaf that tokenprune can run."""
    if task.OUTPUT_TYPE != "generate_until":
        raise LmmsError(
            f"{name} is a task of kind {task.OUTPUT_TYPE}: tokenprune runs those of kind "
            "generate_until"
        )
    if task.config.doc_to_visual is None:
        raise LmmsError(f"{name} shows nothing: tokenprune runs tasks with videos")
    if task.config.num_fewshot:
        raise LmmsError(
            f"{name} puts {task.config.num_fewshot} examples before the question: tokenprune runs "
            "none such"
        )
    task.set_config("num_fewshot", 0)
    return Subtask(name, task, task.eval_docs_no_media, judge)
