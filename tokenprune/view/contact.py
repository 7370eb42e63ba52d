"""Contact sheets of a run's samples, as many as a page has room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tokenprune import sheets
from tokenprune.pictures.footage import Footage
from tokenprune.results.answer import RANDOM, subject_of
from tokenprune.results.read import Run
from tokenprune.runtime.slots import unpack
from tokenprune.view.answers import Sample
from tokenprune.view.frames import Frames

_FEW = 60  # samples, each of which may take more room
_SMALL, _LARGE = 64, 112  # heights of thumbnails
_LEAST, _MOST = 6_000, 90_000  # bytes of a sample's thumbnails


class Contact(NamedTuple):
    """One sample's sheets beside each other, in an element that carries their thumbnails."""

    style: str
    figures: list[str]


class Contacts(NamedTuple):
    """Those of a page."""

    sheets: dict[int, Contact]  # by place in the run
    without: Counter[str]  # how many have no pictures, and why


def contacts(run: Run, samples: Sequence[Sample], frames: Frames, room: int) -> Contacts:
    """Sheets of the page's samples, from the first on as many as `room` bytes hold.

    The control's stand beside the subject's where the answer changed, or samples are few.
    """
    known = {
        sample.place: roles
        for sample in samples
        if (roles := _roles(run, sample, len(samples) <= _FEW))
    }
    sizes = {place: _size(run, place, roles) for place, roles in known.items()}
    chosen: list[int] = []
    whole = room
    for place, size in sizes.items():
        room -= size + _LEAST * 4 // 3
        if room < 0:
            break
        chosen.append(place)
    most = min(_MOST, _LEAST + max(0, room) * 3 // 4 // max(1, len(chosen)))
    height = _LARGE if len(samples) <= _FEW else _SMALL

    def make(place: int) -> tuple[Contact, str | None]:
        return _contact(run, run.records[place], known[place], frames, (height, most))

    with ThreadPoolExecutor(frames.threads) as pool:
        made = dict(zip(chosen, pool.map(make, chosen), strict=True))
    kept = _fitting({place: one for place, (one, _) in made.items()}, whole)
    without = Counter(made[place][1] for place in kept)
    return Contacts(kept, Counter({reason: without[reason] for reason in without if reason}))


def _fitting(made: Mapping[int, Contact], room: int) -> dict[int, Contact]:
    """The first ones that fit: sizes before were about."""
    kept: dict[int, Contact] = {}
    for place, one in made.items():
        room -= len(one.style) + sum(map(len, one.figures))
        if room < 0:
            break
        kept[place] = one
    return kept


def _size(run: Run, place: int, roles: Sequence[str]) -> int:
    """Bytes that a sample's sheets take besides thumbnails, about."""
    tokens = run.records[place][roles[0]]["tokens"]
    frames = len(tokens["kept_per_frame"])
    return len(roles) * round(1_900 + 80 * frames + 1.2 * tokens["full"])


def _roles(run: Run, sample: Sample, few: bool) -> list[str]:
    """Whose sheets a sample has: of systems that were measured on it."""
    subject = subject_of(run.roles)
    wanted = dict.fromkeys([subject, RANDOM] if sample.changed or few else [subject])
    record = run.records[sample.place]
    return [role for role in wanted if role in run.roles and record[role]["tokens"]]


def _contact(
    run: Run,
    record: Mapping[str, Any],
    roles: Sequence[str],
    frames: Frames,
    limits: tuple[int, int],
) -> tuple[Contact, str | None]:
    """A sample's sheets, and why they have no pictures; `limits` are of a thumbnail's height and of
    bytes.
    """
    counts = [video[0] for video in record[roles[0]]["tokens"]["videos"]]
    footage, reason = frames.of(record["index"], counts)
    pictures = [] if footage is None else [picture.numpy() for picture in footage.pictures]
    strip = sheets.strip(pictures, *limits) if pictures else None
    made = []
    for role in roles:
        label = run.summary.systems[role].label
        made.append(sheets.fragment(_sheet(label, record, role, footage, pictures), strip))
    return Contact("" if strip is None else strip.style, made), reason


def _sheet(
    label: str,
    record: Mapping[str, Any],
    role: str,
    footage: Footage | None,
    pictures: Sequence[sheets.Picture],
) -> sheets.Sheet:
    made = record[role]
    tokens = made["tokens"]
    grids = [(high, wide) for frames, high, wide in tokens["videos"] for _ in range(frames)]
    return sheets.Sheet(
        label,
        pictures,
        unpack(tokens),
        grids,
        seconds=seconds_of(record, len(grids), len(tokens["videos"])),
        weights=tokens.get("frame_weights"),
        evidence=evidence_of(record, len(grids)) if footage is None else footage.evidence,
        answer=made["prediction"],
        layers=tokens["kept_per_layer"],
        full=tokens["full"],
        decode=tokens["decode_visible"],
        merged=bool(tokens["merged"]),
    )


def seconds_of(record: Mapping[str, Any], frames: int, videos: int) -> list[float] | None:
    """When the frames appear, of one video; the first of a pair stands for both."""
    if (times := record["frame_times"]) is None or videos > 1 or len(times) < frames:
        return None
    return [times[place * len(times) // frames] for place in range(frames)]


def evidence_of(record: Mapping[str, Any], frames: int) -> tuple[int, ...]:
    """As a footage would have it, where one can tell without."""
    shown = len(record["frame_times"] or range(frames))
    found = record["evidence"] or ()
    if any(frame >= shown for frame in found):
        return ()
    return tuple(dict.fromkeys(frame * frames // shown for frame in found))


def reasons(without: Counter[str], most: int = 3) -> Iterator[tuple[str, int]]:
    """Why samples have no pictures, the commonest first; what is rare in one line."""
    ordered = without.most_common()
    yield from ordered[:most]
    if rest := sum(count for _, count in ordered[most:]):
        yield "other reasons", rest
