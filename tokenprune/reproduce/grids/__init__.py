"""Tables' grids on the embedded models: analogues, never a reproduction.

`arms` (what is run), `analogue` (a table's, through a study's store), `analogues` (the command),
`grid` with `lines` and `claims` (its numbers, on disk), `words`, `screen`, `pictures`.
"""
