"""What `ask` returns: answers, and what was kept of the video for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from tokenprune.dataframe import data_frame
from tokenprune.pixels import Cropped, Kind
from tokenprune.runtime.report import SampleReport
from tokenprune.runtime.showing import Shown, sheet_of, shown


@dataclass(frozen=True)
class Reply:
    """One answer.

    Args:
        question: as it was asked
        answer: the model's
        report: what was kept of the video
        time: milliseconds, as `Report.time` has them, and `answer_ms` of the whole answer; the
            vision tower's are the first question's
    """

    question: str
    answer: str
    report: SampleReport
    time: dict[str, float | None]

    def __str__(self) -> str:
        return self.answer

    def line(self) -> dict[str, Any]:
        """As a row of a table: ratios are fractions of visual tokens."""
        return {"question": self.question, "answer": self.answer} | self.report.figures | self.time


@dataclass(frozen=True, repr=False)
class Replies(Sequence[Reply]):
    """The answers to questions about one video, in their order.

    Args:
        strategy: the pipeline under which they were made
        frames: the video as it was shown
        times: seconds at which its frames appear, where known
        note: what figures of this model are worth, where it is an embedded one
        kind: how the model takes pictures; None: whole
    """

    replies: tuple[Reply, ...]
    strategy: str
    frames: UInt8[Tensor, "f h w 3"]
    times: tuple[float, ...] | None = None
    note: str | None = None
    kind: Kind | None = None

    def __len__(self) -> int:
        return len(self.replies)

    def __getitem__(self, place: Any) -> Any:
        return self.replies[place]

    def __iter__(self) -> Iterator[Reply]:
        return iter(self.replies)

    def __repr__(self) -> str:
        lines = [f"{self.strategy}, {len(self.frames)} frames:"]
        for reply in self.replies:
            kept = f"{100 * reply.report.layer_average_ratio:.1f} % of visual tokens"
            lines.append(f"  {reply.question} -> {reply.answer!r} ({kept})")
        return "\n".join([*lines, *filter(None, [self.note])])

    def show(self) -> Shown:
        """Every answer above what was kept for it: notebooks draw it, `.save(FILE)` writes it."""
        cut = self.kind.part if isinstance(self.kind, Cropped) else None
        frames = [*self.frames] if cut is None else [cut(frame) for frame in self.frames]
        sheets = [
            sheet_of(one.report, frames, self.times, f"{self.strategy}: {one.question}", one.answer)
            for one in self.replies
        ]
        note = f"<p>{escape(self.note)}</p>\n" if self.note else ""
        return shown(
            sheets, title=f"{self.strategy}: {self.replies[0].question}", above=note, same=True
        )

    def _repr_html_(self) -> str:
        return self.show().html

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row per question. ImportError says what to install."""
        return data_frame(reply.line() for reply in self.replies)
