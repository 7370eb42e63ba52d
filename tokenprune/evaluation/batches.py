"""Samples as inputs of the model: decoded, encoded, and what goes through it together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tokenprune.errors import PromptError, TokenpruneError
from tokenprune.evaluation.fitting import BatchSize, parts
from tokenprune.loading.processor import Processor
from tokenprune.tasks import Sample, Task
from tokenprune.tasks.cached import Kept

IDLE = -1  # what a process draws that has no sample: Lightning wants every process to take a step
_SPARE = 512 << 20  # bytes of frames kept for the next system


@dataclass(frozen=True)
class Failed:
    """A sample that cannot be asked: its video cannot be read, or its question is not a prompt; and
    why.
    """

    index: int
    reason: str


@dataclass(frozen=True)
class Group:
    """Samples that go through the model together, and the model inputs made of them."""

    indices: list[int]
    samples: list[Sample]
    inputs: dict[str, Tensor]

    def to(self, device: torch.device) -> Group:
        return self.changed(lambda value: value.to(device, non_blocking=True))

    def changed(self, change: Callable[[Tensor], Tensor]) -> Group:
        return replace(self, inputs={name: change(value) for name, value in self.inputs.items()})


@dataclass(frozen=True)
class Batch:
    """What one step evaluates: a forward pass for each group, usually one."""

    groups: list[Group]
    failed: list[Failed]

    def __len__(self) -> int:
        return sum(len(group.indices) for group in self.groups) + len(self.failed)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(self, groups=[group.changed(change) for group in self.groups])

    def to(self, device: torch.device) -> Batch:
        return self._with(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        return self._with(Tensor.pin_memory)


class Readable(Dataset[tuple[int, Sample] | Failed | None]):
    """A task's samples; one whose video cannot be read says so. None for `IDLE`."""

    def __init__(self, task: Task) -> None:
        self._samples = Kept(task, _SPARE)

    def __getitem__(self, index: int) -> tuple[int, Sample] | Failed | None:
        if index == IDLE:
            return None
        try:
            return index, self._samples[index]
        # as data: across processes an error would become a traceback
        except (TokenpruneError, OSError) as error:
            return Failed(index, " ".join(str(error).split()))


@dataclass(frozen=True)
class Encoder:
    """Makes batches for one model."""

    processor: Processor
    size: BatchSize
    context: int | None = None  # tokens that a prompt may have

    def __call__(self, drawn: Sequence[tuple[int, Sample] | Failed | None]) -> Batch:
        """One group for each number of frames, or one in all where the model takes any, and more
        where fewer samples go through the model at once than were drawn; a sample that cannot be
        encoded fails without the others.
        """
        alike: dict[int, list[tuple[int, Sample]]] = defaultdict(list)
        ragged = self.processor.preparation.ragged
        failed = [one for one in drawn if isinstance(one, Failed)]
        for one in drawn:
            if isinstance(one, tuple):
                alike[0 if ragged else len(one[1].frames)].append(one)
        groups = []
        for members in alike.values():
            for some in parts(members, self.size.now):
                groups += self._groups(some, failed)
        return Batch(groups, failed)

    def _groups(self, members: Sequence[tuple[int, Sample]], failed: list[Failed]) -> list[Group]:
        """One of those that can be encoded; the others are appended to `failed`."""
        try:
            return [self._group(members)]
        except TokenpruneError:
            good = []
            for member in members:
                try:
                    self._group([member])
                    good.append(member)
                except TokenpruneError as error:
                    failed.append(Failed(member[0], " ".join(str(error).split())))
            return [self._group(good)] if good else []

    def _group(self, members: Sequence[tuple[int, Sample]]) -> Group:
        group = encoded(self.processor, members)
        longest = group.inputs["input_ids"].shape[1]
        if self.context is not None and longest > self.context:
            raise PromptError(
                f"video and question are {longest} tokens, more than the {self.context} of the "
                "model's context: "
                "write fewer frames= or a shorter question"
            )
        return group


def encoded(processor: Processor, members: Sequence[tuple[int, Sample]]) -> Group:
    """Samples, with their indices, as the model takes them together. Raises TokenpruneError."""
    indices, samples = [index for index, _ in members], [sample for _, sample in members]
    told = processor.told
    asked = [(one.shown, told(one.full_question, one.times, one.duration)) for one in samples]
    return Group(indices, samples, processor.encode(asked))
