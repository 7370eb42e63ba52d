"""Figures: attention over frames and layers, kept tokens over frames, curves and bars of results.

`figures.draw` makes one about any video and model; `charts` takes plain numbers; `of_run` draws
what a run has recorded. Matplotlib is imported when something is drawn.
"""
