"""The command line: what it imports, what it lists, and one line for every mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tokenprune import __version__, registry
from tokenprune.cli import catalogue
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import RunConfig, parse
from tokenprune.registry import resolve
from tokenprune.strategy import REGISTERED, Pipeline, PrefillStage


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints, which must succeed without complaints."""
    assert main(list(words)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "--help"],
        ["show", "--help"],
        ["bench", "--help"],
        ["--version"],
    ],
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""if True:
        import sys
        from tokenprune.cli.main import main
        try:
            main({words})
        except SystemExit as left:
            assert not left.code
        heavy = {{"torch", "rich", "omegaconf", "transformers", "lightning", "numpy", "av"}}
        heavy &= set(sys.modules)
        print("heavy:", sorted(heavy))"""
    out = python(code)
    assert out.endswith("heavy: []\n")
    assert (
        __version__ in out
        if words == ["--version"]
        else "tokenprune run strategy=" in out or "examples:" in out
    )


def test_help_has_examples_and_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tokenprune run strategy=dycoke+dytok" in said(capsys)
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    out = capsys.readouterr().out
    for key in vars(RunConfig(strategy="none")):
        assert key == "options" or f"\n  {key} " in out


def test_also_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tokenprune", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path.cwd(),
    )
    assert done.stdout == f"tokenprune {__version__}\n"


def test_words_become_a_configuration() -> None:
    config = parse(
        [
            "strategy=dycoke+dytok",
            "dytok.layers=[16,23]",
            "dycoke.merge=0.5",
            "frames=8",
            "dytok.cap=none",
            "out=a=b",
        ]
    )
    assert config.strategy == "dycoke+dytok" and config.frames == 8 and config.out == "a=b"
    assert config.options == {"dytok.layers": [16, 23], "dycoke.merge": 0.5, "dytok.cap": "none"}
    pipeline = resolve(config.strategy, config.options, seed=config.seed)
    assert pipeline == registry.build(
        "dycoke+dytok", {"dytok.layers": (16, 23), "dycoke.merge": 0.5}
    )
    question = "Is it: ${red}? yes, [1, 2] # no"
    assert (
        parse(["strategy=none", "video=clip.mp4", f"question={question}"]).question == question
    ), "as typed"
    assert parse(["frames=null", "assistant=null"]) == RunConfig()


def pipeline_of(*words: str) -> Pipeline:
    config = parse(words)
    return resolve(config.strategy, config.options, seed=config.seed)


def test_a_seed_reaches_the_strategies_that_draw() -> None:
    assert "seed=7" in str(pipeline_of("strategy=random", "seed=7").strategies)
    assert "seed=3" in str(pipeline_of("strategy=random", "seed=7", "random.seed=3").strategies)


MISTAKES = {
    "strateg=fastv": "unknown key 'strateg': did you mean strategy=?",
    "batchsize=2": "did you mean batch_size=?",
    "fastv": "'fastv' is not KEY=VALUE: write strategy=fastv",
    "--limit 3": "'--limit' is not KEY=VALUE: write limit=VALUE",
    "": "nothing to run: write strategy=NAME",
    "strategy=": "strategy= is empty",
    "strategy=fastw": "unknown strategy 'fastw': did you mean 'fastv'?",
    "strategy=dytok": "dycoke+dytok, fastv+dytok",
    "strategy=fastv fastv.keep=1": "fields of fastv: layer, drop",
    "strategy=fastv fastv.drop=much": "fastv.drop=much",
    "strategy=fastv fastv.drop=2": "fastv.drop=2",
    "strategy=fastv fastv.layer=0": "fastv.layer=0 prunes nothing",
    "strategy=fastv dycoke.merge=1": "'dycoke.merge' belongs to no strategy of fastv",
    "strategy=fastv frames=many": "frames=many",
    "strategy=fastv frames=0": "frames=0 is too few: write at least 1",
    "strategy=fastv frames=[1": "'frames=[1' cannot be read",
    "strategy=fastv seed=1.5": "seed=1.5",
    "strategy=fastv video=a.mp4": "needs a question about it",
    "strategy=fastv question=what": "needs a video",
    "strategy=fastv video=a.mp4 question=what limit=3": "limit= goes with a task",
    "strategy=fastv assistant=tiny": "assistant= guides an allocator, and fastv has none",
}


@pytest.mark.parametrize("words", MISTAKES)
@pytest.mark.parametrize("command", ["run", "show"])
def test_every_mistake_gets_one_line(
    command: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command, *words.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tokenprune: error: ") and captured.err.count("\n") == 1
    assert MISTAKES[words] in captured.err
    assert not list(tmp_path.iterdir())


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ValueError("a defect")

    monkeypatch.setattr(catalogue, "strategies_markdown", broken)
    with pytest.raises(ValueError, match="a defect"):
        main(["list", "--markdown"])


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    code = (
        "from tokenprune.cli.main import main; import sys; sys.exit(main(['list', '--markdown']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""


def test_list_names_every_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "list")
    assert max(map(len, out.splitlines())) == 140, "a fixed width where there is no terminal"
    for name in registry.names():
        for field in catalogue.entries()[registry.names().index(name)].fields:
            assert f"{name}.{field}=" in out
    for piece in (
        "dycoke.merge=0.7",
        "fastv.layer=2",
        "dytok.layers=none",
        "arxiv.org/abs/2411.15024",
        "allocate",
    ):
        assert piece in out


def test_the_markdown_table(capsys: pytest.CaptureFixture[str]) -> None:
    table = said(capsys, "list", "--markdown")
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(registry.names()) and all(row.count(" | ") == 3 for row in rows)
    headings = [line for line in table.splitlines() if line.startswith("**")]
    stages = ["Tower", "Allocate", "Vision", "Condense", "Prefill"]
    assert [line.strip("*").split(":")[0] for line in headings] == stages
    assert "| `fastv` | prefill | `layer=2`, `drop=0.5` | [An Image is Worth 1/2 Tokens" in table
    assert "](https://arxiv.org/abs/2403.06764) |" in table


def test_show_goes_stage_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "show", "strategy=dytok+dycoke", "dycoke.merge=0.5", "dytok.cap=9")
    stages = [out.index(word) for word in ("1   allocate", "2   vision", "3   decode")]
    assert stages == sorted(stages)
    for piece in (
        "merge=0.5",
        "prune=0.7",
        "cap=9",
        "layers=none",
        "follow=paper",
        "splits the budget",
        "layer 3 up",
    ):
        assert piece in out
    out = said(capsys, "show", "strategy=prumerge+fastv", "fastv.layer=4")
    assert "before LLM layer 4" in out and "layer 3" in out and "saliency" in out
    assert "nothing is compressed" in said(capsys, "show", "strategy=none")


def test_a_new_strategy_is_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a docstring, and with a field of every kind."""

    @dataclass(frozen=True)
    class Mine(PrefillStage, name="mine_for_cli"):
        layer: int = 2
        gentle: bool = True

        def quota(self, view):
            return view.counts

        def prune(self, view, budget):
            return ~view.visual

    try:
        assert "| `mine_for_cli` | prefill | `layer=2`, `gentle=true` |  |" in said(
            capsys, "list", "--markdown"
        )
        out = said(capsys, "show", "strategy=mine_for_cli", "mine_for_cli.gentle=false")
        assert "gentle=false" in out and "before LLM layer 2" in out
    finally:
        del REGISTERED[Mine.name]


PLUGIN = """
from dataclasses import dataclass
from tokenprune import VisionStage

@dataclass(frozen=True)
class Everything(VisionStage, name="everything"):
    def quota(self, tokens):
        return tokens.counts

    def compress(self, tokens, budget):
        return tokens
"""


def test_a_plugin_brings_strategies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Even if its file is called like a module of Python's own, and as often as it is asked for."""
    file = tmp_path / "random.py"
    file.write_text(PLUGIN)
    for _ in range(2):
        assert "everything" in said(capsys, "show", f"plugin={file}", "strategy=everything+dytok")
    REGISTERED.pop("everything")
    for text, message in {
        PLUGIN.replace("tokens.counts", "("): "fails in line 8: SyntaxError",
        PLUGIN + "\nmissing": "fails in line 13: NameError: name 'missing' is not defined",
        PLUGIN.replace('"everything"', '"fastv"'): "the strategy name 'fastv' is taken",
    }.items():
        file.write_text(text)
        assert main(["show", f"plugin={file}", "strategy=everything"]) == 2
        REGISTERED.pop("everything", None)
        said_ = capsys.readouterr().err
        assert message in said_ and said_.count("\n") == 1
    assert main(["show", f"plugin={tmp_path}", "strategy=none"]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_unreadable_configurations_name_the_word() -> None:
    with pytest.raises(ConfigError, match=r"'a\.b=\$\{x\}' cannot be read"):
        parse(["a.b=${x}"])
