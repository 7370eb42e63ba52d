"""What the files of a run are called; `docs/results-format.md` says what is in them."""

from __future__ import annotations

CONFIG = "config.yaml"  # what was asked for, and what it was made with; from the first moment
RECORDS = "records.jsonl"  # every sample with every system's answer
REPORT = "report.md"  # the same figures for people, of the summary and the records alone
PAGE = "report.html"  # the run to look at; made after all others, and never needed
SUMMARY = "summary.json"  # figures; written last, so a folder that has it holds a finished run
PARTS = "parts"  # answers of a run that goes on, by system and process
PLUGINS = "plugins"  # copies of the user's own code
CELLS = "cells"  # the runs of a sweep or study, a folder each
