"""Studies and sweeps: many methods at many retentions on the same samples.

A sweep is a study that words describe instead of a file, with a table instead of a page.

What is asked: `config` (a study's YAML), `sweep` (a sweep's words), `plan` and `grid` (the cells of
either). Running them: `place`, `cell_files`, `stale`, `runner`, `workers`. Their numbers: `scores`,
`keyframes`, `results`. What is said of them: `headline` (three sentences) and `findings`, in the
words of `phrases`. What is written: `table`, `page` with `page_tables`, `plot`, `screen`. All of
it: `run`.
"""
