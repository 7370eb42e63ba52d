"""What a check found: every law, whether it holds, and what is broken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenprune.testing.law import Finding, State

if TYPE_CHECKING:
    from rich.table import Table

MARKS: dict[State, str] = {
    "passed": "[green]passed[/]",
    "failed": "[bold red]failed[/]",
    "not applicable": "[dim]not applicable[/]",
}


@dataclass(frozen=True)
class Report:
    """What came of holding one thing to all laws of its kind.

    Args:
        name: what was checked
        findings: one for each law and each thing that it was tried on
    """

    name: str
    findings: tuple[Finding, ...]

    def of(self, state: State) -> tuple[Finding, ...]:
        """The findings of one state."""
        return tuple(finding for finding in self.findings if finding.state == state)

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The laws that do not hold."""
        return self.of("failed")

    @property
    def headline(self) -> str:
        """In a sentence."""
        numbers = {state: len(self.of(state)) for state in MARKS}
        words = [f"{number} {state}" for state, number in numbers.items() if number]
        return f"{self.name}: {', '.join(words) or 'no law'}"

    def __str__(self) -> str:
        lines = [
            f"  {one.group}: {one.law}: {one.state}{f' ({one.said})' if one.said else ''}"
            for one in self.findings
        ]
        return "\n".join([self.headline, *lines])

    def __rich__(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(self.headline), title_justify="left", box=None, pad_edge=False)
        for column in ("on", "law", "", "cases", "what it says, or what is broken"):
            table.add_column(column, justify="right" if column == "cases" else "left")
        group = ""
        for one in self.findings:
            what = one.says if one.state == "passed" else one.said
            shown = one.group if one.group != group else ""
            held = str(one.held) if one.held else ""
            table.add_row(escape(shown), escape(one.law), MARKS[one.state], held, escape(what))
            group = one.group
        return table

    def settled(self, show: bool) -> Report:
        """Itself, printed if asked for. Raises BrokenLawsError that lists what is broken."""
        if show:
            from rich.console import Console

            Console().print(self)
        if self.broken:
            error = BrokenLawsError(self)
            raise error from self.broken[0].error
        return self


class BrokenLawsError(AssertionError):
    """All laws that something breaks, and the `report` of the rest."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        broken = self.report.broken
        lines = [f"  {one.group}: {one.law}: {one.said} (the law: {one.says})" for one in broken]
        laws = "1 law" if len(broken) == 1 else f"{len(broken)} laws"
        return "\n".join([f"{self.report.name} breaks {laws}:", *lines])


def together(name: str, findings: Iterable[Finding]) -> Report:
    """A report of findings whose reasons stand in one line each."""
    lines = (replace(one, said=" ".join(one.said.split())) for one in findings)
    return Report(name, tuple(lines))
