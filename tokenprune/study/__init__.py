"""Studies: many methods at many retentions on the same samples, and the page of results made of them.

`config` (the YAML), `plan` (its cells), `bench` and `work` (running them), `store` (their files), `statistics`,
`keyframes` and `results` (their numbers), `page`, `prose`, `tables` and `plot` (what is written), `run` (all of it).
"""
