"""Tables and figures of papers as experiments: what is printed beside what is found here.

The files are data and lie in `tokenprune/papers/`. What they say: `schema`, read by `files`.
Columns that need no run: `formulas` (analytic) and `derived`, on model sizes from `models`; whether
a figure equals a printed one: `rounding`. All of a table: `cells`.
"""
