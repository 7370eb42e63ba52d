"""Whether documents and videos are where lmms-eval finds them without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tokenprune.reproduce import available
from tokenprune.reproduce.available import lacking
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.jobs import SCORE, Job

NAMES = {
    "lmms-eval/Video-MME": "lmms-eval___video-mme",
    "lmms-eval/NExTQA": "lmms-eval___n_ex_tqa",
    "OpenGVLab/MVBench": "OpenGVLab___mv_bench",
    "sy1998/MLVU_Test": "sy1998___mlvu_test",
    "lmms-eval/PerceptionTest_Val": "lmms-eval___perception_test_val",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An HF_HOME with nothing in it, and lmms-eval as if it were installed."""
    monkeypatch.setattr(available, "find_spec", lambda name: object())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("LMMS_EVAL_DATASETS_CACHE", "HF_DATASETS_CACHE", "LMMS_LOCAL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "nobody-of-this-name")
    return tmp_path


def _job(documents: str = "lmms-eval/Video-MME", videos: str = "videomme/data") -> Job:
    words = {"model": "tiny", "task": "lmms:videomme_2024", "strategy": "none"}
    return Job(SCORE, words, documents=documents, videos=videos)


def _prepare(folder: Path, name: str) -> None:
    (folder / NAMES[name] / "default" / "0.0.0" / "abc").mkdir(parents=True)


def _lacks(job: Job, download: bool = False) -> str | None:
    return lacking(job, ReproduceConfig(download=download))


def test_documents_are_those_that_datasets_has_prepared(home: Path) -> None:
    job = _job(videos="")
    hub = home / "hub" / "datasets--lmms-eval--Video-MME" / "snapshots" / "abc"
    hub.mkdir(parents=True)  # datasets does not read these offline
    place = home / "datasets" / NAMES["lmms-eval/Video-MME"]
    assert _lacks(job) == (
        f"the documents of lmms-eval/Video-MME are not here ({place}): write download=true"
    )
    assert _lacks(job, download=True) is None
    _prepare(home / "datasets", "lmms-eval/Video-MME")
    assert _lacks(job) is None


@pytest.mark.parametrize("variable", ["LMMS_EVAL_DATASETS_CACHE", "HF_DATASETS_CACHE"])
def test_where_documents_are_can_be_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    _prepare(home / "elsewhere", "lmms-eval/Video-MME")
    assert _lacks(_job(videos="")) is not None
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    assert _lacks(_job(videos="")) is None


def test_documents_of_this_machine_need_not_be_looked_for(home: Path) -> None:
    for documents in ("", "json", str(home)):
        assert _lacks(_job(documents, videos="")) is None


def test_videos_are_where_the_benchmark_looks(home: Path) -> None:
    _prepare(home / "datasets", "lmms-eval/Video-MME")
    place = home / "videomme" / "data"
    told = f"the videos of lmms-eval/Video-MME are not here ({place}): "
    assert _lacks(_job()) == f"{told}write download=true"
    place.mkdir(parents=True)  # and lmms-eval unpacks nothing any more
    hint = f"put them there, or remove {place.parent} and write download=true"
    assert _lacks(_job()) == told + hint
    (place / "v0.mp4").touch()
    assert _lacks(_job()) is None


def test_archives_in_the_hubs_cache_will_be_unpacked(home: Path) -> None:
    _prepare(home / "datasets", "lmms-eval/Video-MME")
    snapshot = home / "hub" / "datasets--lmms-eval--Video-MME" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").touch()
    assert _lacks(_job()) is not None
    (snapshot / "videos_chunked_01.zip").touch()
    assert _lacks(_job()) is None


def test_names_of_folders_are_those_of_datasets(home: Path) -> None:
    for documents, folder in NAMES.items():
        assert f"/{folder})" in str(_lacks(_job(documents)))


@pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed")
def test_names_are_what_datasets_makes_of_them() -> None:
    from datasets.naming import camelcase_to_snakecase  # pyright: ignore[reportMissingImports]

    for documents, folder in NAMES.items():
        owner, _, own = documents.partition("/")
        assert f"{owner}___{camelcase_to_snakecase(own)}" == folder


def test_it_is_asked_in_a_moment_and_imports_neither(home: Path) -> None:
    code = (
        "import sys, json, time; from tokenprune.reproduce.jobs import Job, SCORE;"
        "from tokenprune.reproduce import data; since = time.perf_counter();"
        "job = Job(SCORE, {'task': 'lmms:x'}, documents='lmms-eval/NExTQA', videos='nextqa/x');"
        "said = data.lacking(job); took = time.perf_counter() - since;"
        "heavy = [one for one in ('torch', 'datasets', 'lmms_eval') if one in sys.modules];"
        "print(json.dumps([said, took, heavy]))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, took, heavy = json.loads(made.stdout)
    assert said.startswith("the documents of lmms-eval/NExTQA are not here")
    assert took < 1 and not heavy
