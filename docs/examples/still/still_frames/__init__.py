"""One token for what stands still: a strategy of its own package."""
