"""What the package's files import, read in their text: also inside functions, also for type
checkers only.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tokenprune"
MODULES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
    for path in PACKAGE.rglob("*.py")
}
_NAMES = {name.removesuffix(".__init__") for name in MODULES}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports: `tokenprune.ops`, `torch.nn.functional`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in _NAMES else str(node.module) for name in names}
    return found
