"""lmms-eval's own code of a task, for tasks that differ from it in one place."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tokenprune.errors import LmmsError


def fresh(task: str) -> ModuleType:
    """`lmms_eval.tasks.TASK.utils`, run anew: it reads its judge from the environment when it is
    imported, once.

    Raises LmmsError.
    """
    name = f"lmms_eval.tasks.{task}.utils"
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise LmmsError(f"the installed lmms-eval has no {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
