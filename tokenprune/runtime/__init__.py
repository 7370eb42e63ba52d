"""A pipeline on a live model: hooks, passes, cache. Knows no file and no task."""
