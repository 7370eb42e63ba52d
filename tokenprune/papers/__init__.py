"""What papers print, as data, how they evaluate, and strategies that only an ablation needs.

A folder for each paper. Strategy files are plug-ins: nothing here is imported, `plugin=` runs it.
"""
