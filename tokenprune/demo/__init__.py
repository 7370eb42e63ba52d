"""`tokenprune demo`: a page on this machine to ask questions of a clip, strategies side by side."""
