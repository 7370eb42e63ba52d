"""The built-in strategies: one file each, imported on first use by `tokenprune.registry`."""
