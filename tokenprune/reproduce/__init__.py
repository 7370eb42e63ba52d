"""Tables and figures of papers as experiments: what is printed beside what is found here.

The files are data and lie in `tokenprune/papers/`. What they say: `schema` with `parts`, read by
`files`; how a paper evaluated: `protocol`.

Columns that need no run: `formulas` (analytic) and `derived`, on model sizes from `models`; whether
a figure equals a printed one: `rounding`. Those that do: `noise` and `verdict`; our figures on
disk: `ours`. One `cell`, all `cells` of a table; what authors say of it: `claims`; `orders`; all
of that without a run: `check`.

What is missing: `jobs`, whether they can run (`available`), `costs`, and doing them:
`work`, `shared` among processes, as `scores` or `speed`; `flips` measures the noise.

What is shown: `wording`, `screen`, `commands`, `figure`, `pages/`. Grids on the embedded models:
`grids/`. The command: `config` and `run`.
"""
