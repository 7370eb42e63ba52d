"""What the package's files import, read in their text: also inside functions.

Also what only type checkers see.
`docs/generate.py` draws the rooms with it.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tokenprune"
MODULES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
_NAMES = {name.removesuffix(".__init__") for name in MODULES}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports: `tokenprune.ops`, `torch.nn.functional`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in _NAMES else str(node.module) for name in names}
    return found


def room_of(name: str) -> str:
    """`runtime` of `tokenprune.runtime.session`; "" of the package itself."""
    return [*name.split("."), ""][1]


def rooms_used(name: str) -> set[str]:
    """The rooms that a module imports from, its own and the package itself left out."""
    inside = {other for other in imports(MODULES[name]) if other.split(".")[0] == "tokenprune"}
    return {room_of(other) for other in inside} - {room_of(name), ""}


def rooms() -> dict[str, set[str]]:
    """Every room, and those that any of its modules imports from."""
    found: dict[str, set[str]] = {}
    for name in MODULES:
        found.setdefault(room_of(name), set()).update(rooms_used(name))
    return {room: used for room, used in found.items() if not room.startswith("__")}
