"""The line that every benchmark script begins with: on what, with what, and how busy."""

from __future__ import annotations

import os

import torch

from tokenprune.placement import cores
from tokenprune.record import environment


def line() -> str:
    made = environment(torch.device("cpu"), torch.float32, "")
    versions = f"torch {made['versions']['torch']}, transformers {made['versions']['transformers']}"
    revision = (made["git_revision"] or "unknown")[:12] + ("" if clean() else ", changed since")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    threads = f"{made['threads']} threads on {cores()} cores"
    return f"{made['device_name']}, {threads}, {versions}, revision {revision}, load {load}"


def clean() -> bool:
    """Whether what is measured is what a commit holds."""
    return not (environment(torch.device("cpu"), torch.float32, "")["git_revision"] or "-dirty").endswith("-dirty")
