"""The rooms of the house: who may import whom.

No arrow points upwards, not even inside a function.
"""

from __future__ import annotations

import pytest
from imports import MODULES, imports, room_of, rooms_used

# lowest first; a room may import itself, what is listed beside it, and nothing else of this package
ROOMS = {
    "errors": "",
    "templates": "",
    "sheets": "errors templates",
    "dataframe": "",
    "hosted": "",
    "apportioning": "",
    "ragged": "hosted",
    "ops": "hosted apportioning ragged",
    "precision": "",
    "resembling": "hosted ops precision",
    "merging": "hosted ragged ops precision",
    "clustering": "hosted ragged ops precision",
    "bipartite": "hosted precision",
    "trees": "hosted ragged ops precision merging clustering",
    "windows": "hosted ragged ops precision merging",
    "scenes": "",
    "standing": "hosted ragged ops precision clustering",
    "absorbing": "precision merging",
    "picking": "hosted ragged ops precision",
    "flops": "",
    "compat": "",
    "lookup": "errors",
    "checkpoints": "errors lookup",
    "storage": "errors",
    "options": "errors",
    "reading": "errors ops",
    "sequence": "errors hosted ops reading",
    "tokens": "hosted ops sequence",
    "pixels": "errors",
    "guards": "errors hosted tokens",
    "strategy": "errors lookup hosted ops tokens guards",
    "declaration": "errors guards strategy",
    "strategies": (
        "errors hosted ragged ops precision resembling merging clustering trees windows scenes "
        "standing absorbing picking bipartite tokens strategy"
    ),
    "adapters": "errors lookup hosted ops compat sequence tokens pixels",
    "registry": "errors lookup guards strategy declaration",
    "plugins": "errors lookup",
    "loading": "errors ops lookup options compat checkpoints tokens pixels adapters",
    "runtime": (
        "errors sheets dataframe hosted ops precision merging compat sequence tokens guards "
        "strategy declaration adapters registry"
    ),
    "tasks": "errors lookup options storage loading",
    "papers": "ops precision tokens strategy strategies tasks",
    "testing": (
        "errors compat sequence tokens guards strategy declaration adapters registry loading "
        "runtime tasks"
    ),
    "results": "errors dataframe lookup options storage strategy registry plugins loading",
    "evaluation": (
        "errors options storage flops checkpoints tokens guards strategy adapters registry "
        "plugins loading runtime tasks results"
    ),
    "asking": (
        "errors sheets dataframe checkpoints options pixels strategy adapters registry loading "
        "runtime evaluation"
    ),
    "pictures": (
        "errors options storage checkpoints pixels tokens strategy registry plugins loading "
        "runtime tasks results evaluation"
    ),
    "view": (
        "errors templates storage checkpoints sheets pixels loading runtime tasks results "
        "evaluation pictures"
    ),
    "demo": (
        "errors templates sheets checkpoints options pixels registry plugins loading runtime tasks "
        "evaluation asking pictures"
    ),
    "study": (
        "errors options storage ops guards checkpoints strategy adapters registry plugins "
        "loading tasks results evaluation"
    ),
    "bench": (
        "errors options storage flops compat tokens strategy adapters registry plugins loading "
        "runtime tasks results evaluation"
    ),
    "lmms": "errors options strategy adapters registry plugins loading runtime tasks evaluation",
    "reproduce": (
        "errors templates lookup options storage ops flops strategy registry plugins loading tasks "
        "results evaluation pictures study bench"
    ),
    "cli": (
        "errors lookup checkpoints options storage guards strategy registry plugins "
        "loading tasks results evaluation pictures view demo study bench lmms reproduce"
    ),
    "__main__": "cli",
}


def test_every_module_has_a_room() -> None:
    assert {room_of(name) for name in MODULES} == {*ROOMS, "__init__"}


def test_the_table_points_downwards() -> None:
    """Hence there is no circle of rooms."""
    order = list(ROOMS)
    for room, below in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in below.split())


@pytest.mark.parametrize("name", [name for name in MODULES if name != "tokenprune.__init__"])
def test_a_module_imports_its_own_room_and_those_below(name: str) -> None:
    room = room_of(name)
    assert rooms_used(name) <= set(ROOMS[room].split())


def test_only_the_loop_imports_lightning() -> None:
    using = {
        name
        for name, path in MODULES.items()
        if any("lightning" in other for other in imports(path))
    }
    assert using
    assert {room_of(name) for name in using} == {"evaluation"}
