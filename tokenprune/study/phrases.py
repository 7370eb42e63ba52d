"""Sets of cells in few words: which methods, alone or guided, at which budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenprune.study.plan import Cell

_Form = tuple[str, str | None]  # a method and its guide; None: alone


def cells(chosen: Sequence[Cell], among: Sequence[Cell]) -> str:
    """`fastv` at every budget; `prumerge` alone at 75 and 50 %.

    By method or by budget, whichever is shorter.
    """
    if not chosen:
        return "none"
    if len(chosen) == len(among):
        return f"{methods(chosen, among)} at every budget"
    return min(_methods_first(chosen, among), _budgets_first(chosen, among), key=len)


def _methods_first(chosen: Sequence[Cell], among: Sequence[Cell]) -> str:
    """Methods that were chosen at the same budgets, together."""
    forms = _by_form(among)
    most = max(map(len, forms.values()))
    together: dict[str, list[Cell]] = {}
    for form, own in _by_form(chosen).items():
        reached = len(forms[form])
        everywhere = "every budget" if reached == most else "every budget within reach"
        where = everywhere if len(own) == reached else budgets(own)
        together.setdefault(where, []).append(own[0])
    return "; ".join(f"{methods(own, among)} at {where}" for where, own in together.items())


def _budgets_first(chosen: Sequence[Cell], among: Sequence[Cell]) -> str:
    """Budgets at which the same methods were chosen, together."""
    together: dict[str, list[Cell]] = {}
    every = {cell.tokens for cell in among}
    for tokens in dict.fromkeys(cell.tokens for cell in chosen):
        own = [cell for cell in chosen if cell.tokens == tokens]
        rivals = [cell for cell in among if cell.tokens == tokens]
        together.setdefault(methods(own, rivals), []).append(own[0])
    where = {
        names: "every budget" if len(own) == len(every) else budgets(own)
        for names, own in together.items()
    }
    return "; ".join(f"{names} at {place}" for names, place in where.items())


def methods(chosen: Sequence[Cell], among: Sequence[Cell]) -> str:
    """Those of `among` that are in `chosen`, at whatever budget: named, or all but some."""
    ours, all_forms = _by_form(chosen), _by_form(among)
    rest = [own[0] for form, own in all_forms.items() if form not in ours]
    names = listed(_names(chosen, among))
    if len(all_forms) < 3:
        return names
    if not rest:
        return "every method"
    return min(names, f"every method except {listed(_names(rest, among))}", key=len)


def _names(chosen: Sequence[Cell], among: Sequence[Cell]) -> list[str]:
    """`dycoke` alone, `prumerge+dytok` (self); of some method in all its forms one name."""
    every = by_method(among)
    found: list[str] = []
    for method, own in by_method(chosen).items():
        guides = {cell.guide for cell in every[method]}
        found += _forms(own, guides)
    return found


def _forms(own: Sequence[Cell], every: set[str | None]) -> list[str]:
    """Names of the forms of one method, of which there are `every`."""
    method, guides = own[0].method, list(dict.fromkeys(cell.guide for cell in own))
    allocator = next((cell.allocator for cell in own if cell.guide is not None), None)
    guided, alone = [guide for guide in guides if guide is not None], None in guides
    if alone and every == {None}:
        return [f"`{method}`"]
    if alone and set(guides) == every:
        return [f"`{method}` with and without `+{allocator}`"]
    found = [f"`{method}` alone"] if alone else []
    if guided:
        which = "" if set(guided) == every - {None} else f" ({', '.join(guided)})"
        found.append(f"`{method}+{allocator}`{which}")
    return found


def by_method(found: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Cells of each method, in all its forms."""
    together: dict[str, list[Cell]] = {}
    for cell in found:
        together.setdefault(cell.method, []).append(cell)
    return together


def _by_form(found: Iterable[Cell]) -> dict[_Form, list[Cell]]:
    together: dict[_Form, list[Cell]] = {}
    for cell in found:
        together.setdefault((cell.method, cell.guide), []).append(cell)
    return together


def name(cell: Cell) -> str:
    """`dycoke`, `dycoke+dytok` (self)."""
    if cell.guide is None:
        return f"`{cell.method}`"
    return f"`{cell.method}+{cell.allocator}` ({cell.guide})"


def budgets(found: Iterable[Cell]) -> str:
    """`75, 50 and 25 %`."""
    fractions = {cell.tokens: cell.budget for cell in found}
    return f"{listed(map(percents, fractions.values()))} %"


def percents(fraction: float) -> str:
    """`75`, `13.9`: without a decimal that says nothing."""
    return f"{100 * fraction:.1f}".removesuffix(".0")


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
