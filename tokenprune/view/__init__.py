"""`report.html`: a finished run as one file to look at: what it says, and what was kept of whom.

Made of the run's records; frames are read or made again. No file beside it, no network.
"""
