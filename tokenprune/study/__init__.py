"""Studies and sweeps: many methods at many retentions on the same samples, and the page or table
made of them.

A sweep is a study that words describe instead of a file, with a tidy table instead of a page.

`config` (the YAML), `plan` (its cells), `bench` and `work` (running them), `store` (their files),
`keyframes` and `results` (their numbers), `page`, `prose`, `tables` and `plot` (what is written),
`run` (all of it). Of a sweep: `sweep` (its words), `grid` (its cells), `frame` (its table),
`screen` (what the terminal shows).
"""
