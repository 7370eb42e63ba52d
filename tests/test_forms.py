"""Forms that only an ablation of a paper needs: plug-ins beside its tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES
from models import generate, llava_onevision, prompt

import tokenprune
from tokenprune import attach, build, registry
from tokenprune.plugins import load_plugin
from tokenprune.strategies.dytok import DyToK
from tokenprune.testing import check_strategy
from tokenprune.testing.inputs import TableProbe, table_probe
from tokenprune.tokens import LastRow

PAPERS = Path(tokenprune.__file__).parent / "papers"
FORMS = {
    "dycoke_random": PAPERS / "dycoke/random_choice.py",
    "dytok_all": PAPERS / "dytok/all_query_tokens.py",
    "attention_entropy": PAPERS / "dytok/attention_entropy.py",
    "feature_entropy": PAPERS / "dytok/feature_entropy.py",
    "feature_norm": PAPERS / "dytok/feature_norm.py",
}
ALLOCATORS = [name for name, file in FORMS.items() if file.parent.name == "dytok"]
