"""A paper's page, as Markdown and as one HTML file that needs nothing else.

`views` says what stands on it, `papers`, `parts`, `tables` and `ranks` fill that in, templates
write it.
"""

from __future__ import annotations

from tokenprune.reproduce.pages.write import write_index, write_pages

__all__ = ["write_index", "write_pages"]
