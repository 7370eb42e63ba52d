"""Both ways between lmms-eval and tokenprune: the real lmms-eval, offline, on videos and YAML files
written here.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lmms_tasks
import numpy as np
import pytest
import torch
from running import records
from weighted import saved

from tokenprune import registry, tasks
from tokenprune.errors import LmmsError, PromptError, VideoError
from tokenprune.loading.checkpoint import load
from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal
from tokenprune.runtime.session import attach
from tokenprune.tasks import Task

if find_spec("lmms_eval") is None:
    pytest.skip(
        "lmms-eval is not installed: it has an environment of its own", allow_module_level=True
    )

# lmms-eval 0.7.3 leaves its results file to the garbage collector (evaluation_tracker.py), November
# 2026
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

FRAMES = lmms_tasks.FRAMES
ARGUMENTS = (
    f"pretrained=tiny,strategy=dycoke+dytok,max_frames_num={FRAMES},"
    "dycoke.merge=0.5,dytok.layers=[2,3]"
)


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lmms_tasks.write(tmp_path_factory.mktemp("lmms") / "tasks")


def build(name: str, folder: Path | None) -> Task:
    path = None if folder is None else str(folder)
    return tasks.build(f"lmms:{name}", samples=None, frames=FRAMES, seed=0, include_path=path)


@pytest.fixture(scope="module")
def group(folder: Path) -> Task:
    return build("shapes", folder)


# ---- lmms-eval's tasks here


def test_a_group_is_its_subtasks_one_after_the_other(group: Task, folder: Path) -> None:
    size = lmms_tasks.SAMPLES
    assert (group.name, len(group), group.categories) == (
        "lmms:shapes",
        2 * size,
        ("shapes_choice", "shapes_open"),
    )
    docs = [json.loads(line) for line in (folder / "docs.jsonl").read_text().splitlines()]
    labels = [group.label(index) for index in range(len(group))]
    assert [label.id for label in labels] == [
        f"{name}/{i}" for name in group.categories for i in range(size)
    ]
    assert [label.answer for label in labels] == [doc["letter"] for doc in docs] + [
        doc["answer"] for doc in docs
    ]
    assert group.max_new_tokens == 6  # pyright: ignore[reportAttributeAccessIssue]


def test_prompts_are_those_of_the_model(group: Task) -> None:
    question, *options, post = group.label(0).question.split("\n")
    assert question.endswith("?") and [option[:3] for option in options] == [
        "A. ",
        "B. ",
        "C. ",
        "D. ",
    ]
    assert post == "Answer with the option's letter.", (
        "the prompt of llava_onevision, not the default one"
    )
    assert "\n" not in group.label(lmms_tasks.SAMPLES).question


def test_samples_are_the_videos(group: Task) -> None:
    for index in (0, len(group) - 1):
        sample = group[index]
        assert (sample.id, sample.category, sample.question, sample.answer) == group.label(index)[
            :4
        ]
        assert Path(str(sample.group)).name == f"{index % lmms_tasks.SAMPLES}.mp4", (
            "both tasks ask about each video"
        )
        assert sample.frames.shape == (FRAMES, 96, 96, 3) and sample.frames.dtype == torch.uint8
    with pytest.raises(IndexError):
        group[len(group)]


def test_scores_and_figures_are_the_tasks_own(group: Task) -> None:
    size = lmms_tasks.SAMPLES
    letter, word = group[0], group[size]
    assert group.score(f"{letter.answer}. whatever", letter) == 1 and group.score("Z", letter) == 0
    assert group.score(f"{word.answer}, I think", word) == 1, "its filter takes the first word"
    assert group.score(f"a {word.answer}", word) == 0
    answers = {i: group.label(i).answer for i in range(2 * size)}
    assert group.metrics(answers | {0: "Z", size: "wrong it is"}) == {
        "shapes_choice/letters": pytest.approx(100 * (size - 1) / size),
        "shapes_open/exact,first_word": pytest.approx((size - 1) / size),
        "shapes_open/length,first_word": max(len(answers[i]) for i in range(size, 2 * size)),
        "shapes/exact,first_word": pytest.approx((size - 1) / size),
    }
    assert group.metrics({0: "Z"}) == {"shapes_choice/letters": 0}, "of what there is"


def test_a_task_alone_has_short_figures(folder: Path) -> None:
    task = build("shapes_open", folder)
    assert task.metrics({0: task.label(0).answer})["exact,first_word"] == 1
    assert len(task) == lmms_tasks.SAMPLES and task.categories == ("shapes_open",)


def test_a_first_metric_that_is_no_score_is_nan(group: Task) -> None:
    (open_ended,) = (s for s in group._benchmark.subtasks if s.name == "shapes_open")  # pyright: ignore[reportAttributeAccessIssue]
    assert math.isnan(open_ended.score({"none": {"exact": "A"}}))
    assert math.isnan(open_ended.score({"none": {"length": 1}})), "lower is better"
    assert math.isnan(open_ended.score({"none": {"exact": 3.0}}))
    assert open_ended.score({"none": {"exact": True}}) == 1


def test_guesses_depend_on_the_document_and_the_seed_alone(folder: Path) -> None:
    """Not on what was drawn before, on the order, or on the process; the random state is left as it
    was.
    """

    def read(seed: int, places: Sequence[int], before: int) -> dict[int, str]:
        task: Any = tasks.build(
            f"lmms:{name}", samples=None, frames=2, seed=seed, include_path=str(folder)
        )
        random.seed(before)
        np.random.seed(before)
        state = random.getstate()
        found = {i: task._judge(f"{name}/{i}", "no letter")[1] for i in places}
        assert random.getstate() == state and np.random.get_state()[1][0] == before  # pyright: ignore
        assert all(judged.guessed for judged in found.values())
        return {i: judged.results["none"]["letters"]["read"] for i, judged in found.items()}

    name, size = "shapes_guess", lmms_tasks.SAMPLES
    first = read(0, range(size), 1)
    assert first == read(0, range(size - 1, -1, -1), 2) and len(set(first.values())) > 1
    assert first[3] == read(0, [3], 3)[3] and first != read(1, range(size), 1)
    code = (
        f"from tokenprune import tasks; t = tasks.build('lmms:{name}', samples=None, frames=2, "
        "seed=0, include_path="
        f"{str(folder)!r}); print(''.join(t._judge(f'{name}/{{i}}', 'no "
        "letter')[1].results['none']['letters']['read'] "
        f"for i in range({size})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "".join(first.values())


def test_what_could_not_be_read_is_told(folder: Path, group: Task) -> None:
    task = build("shapes_guess", folder)
    sample = task[0]
    readings = {text: task.reading(text, sample) for text in ("A", "a shape", "")}
    assert readings == {"A": "read", "a shape": "guessed", "": "guessed"}
    assert task.max_new_tokens == 1024, "where the task names none"
    word = group[lmms_tasks.SAMPLES]
    assert group.reading("?!", word) == "unparsed", "its filter marks what it cannot read"
    assert (group.reading("", word), group.reading("red", word)) == ("empty", "read")


def test_a_run_counts_what_was_guessed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the defaults of a benchmark of lmms-eval: 32 frames, of which the videos have 8, and 1,024
    new tokens.
    """
    from tokenprune.cli.main import main

    words = [
        "strategy=none",
        "task=lmms:shapes_guess",
        f"include_path={folder}",
        "limit=2",
        "device=cpu",
    ]
    assert main(["run", *words, f"out={tmp_path / 'out'}", "workers=0"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (
        summary["frames"] == 32
        and "max_new_tokens: 1024" in (tmp_path / "out" / "config.yaml").read_text()
    )
    readings = [summary["systems"]["vanilla"][name] for name in ("empty", "unparsed", "guessed")]
    assert readings == [0, 0, 2]
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "Answers that the benchmark's code could not read and replaced by a random option: 2 of "
        "vanilla." in said
    )


def test_a_guess_is_the_same_in_two_runs_and_after_a_resume(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was drawn before differs: the second run is cut off, and goes on in the middle."""
    from tokenprune.cli.main import main

    words = ["strategy=none", "task=lmms:shapes_guess", f"include_path={folder}"]
    words += ["device=cpu", "frames=4", "max_new_tokens=2", "workers=0", "reuse=false"]
    assert main(["run", *words, f"out={tmp_path / 'whole'}"]) == 0

    append, made = Journal.append, []

    def cut_off(self: Journal, system: str, answer: Answer, process: int) -> None:
        append(self, system, answer, process)
        made.append(answer)
        if len(made) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", cut_off)
        assert main(["run", *words, f"out={tmp_path / 'cut'}"]) == 130
    random.seed(5)
    assert main(["run", f"resume={tmp_path / 'cut'}"]) == 0
    first, second = (records(tmp_path / name) for name in ("whole", "cut"))
    scores = [[line["vanilla"]["score"] for line in lines] for lines in (first, second)]
    assert {line["vanilla"]["reading"] for line in second} == {"guessed"}
    assert scores[0] == scores[1] and len(scores[0]) == lmms_tasks.SAMPLES


def test_the_fingerprint_knows_documents_prompts_code_and_videos(
    folder: Path, tmp_path: Path
) -> None:
    before = build("shapes", folder).fingerprint()
    assert (
        before == build("shapes", folder).fingerprint() and json.loads(json.dumps(before)) == before
    )
    seen = [before]
    for name, change in {"a": {}, "b": {"post": "Letter?"}, "c": {"version": "2.0"}}.items():
        seen.append(build("shapes", lmms_tasks.write(tmp_path / name, **change)).fingerprint())
    for file, add in (("docs.jsonl", ""), ("made.py", "# changed\n"), ("0.mp4", "x")):
        other = lmms_tasks.write(tmp_path / file.partition(".")[0])
        lines = (other / "docs.jsonl").read_text().splitlines()
        if file == "docs.jsonl":
            (other / file).write_text("\n".join(lines[:-1]) + "\n")
        else:
            with (other / file).open("a") as stream:
                stream.write(add)
        seen.append(build("shapes", other).fingerprint())
    assert len({json.dumps(one) for one in seen}) == len(seen)


def test_what_cannot_be_a_task(folder: Path, tmp_path: Path) -> None:
    for name, include, reason in (
        ("shapes_opne", folder, "no task 'shapes_opne': did you mean shapes_open"),
        (
            "shapes_ranked",
            folder,
            "of kind multiple_choice: tokenprune runs those of kind generate_until",
        ),
        ("shapes", tmp_path / "nowhere", "is not a folder"),
    ):
        with pytest.raises(ValueError, match=reason):
            build(name, include)


def test_ones_own_task_comes_before_lmms_evals(folder: Path, tmp_path: Path) -> None:
    """lmms-eval itself prefers its own, without a word, so there it is an error."""
    other = lmms_tasks.write(tmp_path / "tasks")
    yaml = (other / "open.yaml").read_text()
    (other / "open.yaml").write_text(yaml.replace("task: shapes_open", "task: videomme"))
    assert len(build("videomme", other)) == lmms_tasks.SAMPLES
    with pytest.raises(
        LmmsError, match="--include_path defines videomme, which lmms-eval has too and prefers"
    ):
        command("--model_args", ARGUMENTS, "--include_path", str(other))


def test_a_missing_video_is_one_samples_error(tmp_path: Path) -> None:
    """The task leaves the process there, as lmms-eval's own do."""
    other = lmms_tasks.write(tmp_path / "tasks")
    (other / "1.mp4").unlink()
    task = build("shapes_open", other)
    assert task[0].id == "shapes_open/0" and task.label(1).id == "shapes_open/1"
    with pytest.raises(VideoError, match=r"video path:1.mp4 does not exist"):
        task[1]


# ---- our models there


def evaluate(folder: Path, arguments: str, **more: Any) -> dict[str, Any]:
    """lmms-eval's own evaluation of the group."""
    from lmms_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lmms_eval.models import MODEL_REGISTRY_V2  # pyright: ignore[reportMissingImports]
    from lmms_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    from tokenprune.lmms import manifest

    MODEL_REGISTRY_V2.register_manifest(manifest(), overwrite=True)
    manager = TaskManager("ERROR", include_path=str(folder), model_name="tokenprune")
    settings = {
        "bootstrap_iters": 0,
        "device": "cpu",
        "batch_size": 3,
        "verbosity": "ERROR",
        **more,
    }
    return simple_evaluate(
        "tokenprune", model_args=arguments, tasks=["shapes"], task_manager=manager, **settings
    )


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> dict[str, Any]:
    return evaluate(folder, ARGUMENTS)


def test_a_batch_that_does_not_fit_is_halved(
    folder: Path, evaluated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenprune.lmms import model

    real, begin, tried = model.generate, model.fitting.batch_size, []

    def generated(own: Any, pipeline: Any, processor: Any, inputs: Any, *rest: Any, **how: Any):
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(own, pipeline, processor, inputs, *rest, **how)

    monkeypatch.setattr(model, "generate", generated)
    monkeypatch.setattr(
        model.fitting, "batch_size", lambda asked, device, extent: begin(asked, "cuda", extent)
    )
    assert answers(evaluate(folder, ARGUMENTS, batch_size="auto")) == answers(evaluated)
    assert tried[0] > 1 and tried.count(1) == len(answers(evaluated))


def answers(results: dict[str, Any]) -> list[str]:
    logged = (
        sample for name in ("shapes_choice", "shapes_open") for sample in results["samples"][name]
    )
    return [sample["resps"][0][0] for sample in logged]


def test_both_ways_give_the_same(folder: Path, group: Task, evaluated: dict[str, Any]) -> None:
    """Same answers, sample by sample, and from them the same figures."""
    given = answers(evaluated)
    model, processor = load("tiny", device="cpu")
    pipeline = registry.build("dycoke+dytok", {"dycoke.merge": 0.5, "dytok.layers": (2, 3)})
    # of the open task, whose prompts do not depend on the model
    for index in (lmms_tasks.SAMPLES, len(group) - 1):
        sample = group[index]
        inputs = processor.encode([(sample.frames, sample.question)])
        with attach(model, pipeline) as session:
            ids = model.generate(
                **inputs, max_new_tokens=6, do_sample=False, pad_token_id=processor.pad
            )  # pyright: ignore[reportCallIssue]
        assert processor.decode(ids[:, inputs["input_ids"].shape[1] :]) == [given[index]]
        assert session.report[0].layer_average_ratio < 1
    figures = {
        f"{task}/{metric.removesuffix(',none')}": value
        for task, values in evaluated["results"].items()
        for metric, value in values.items()
        if "," in metric and "_stderr" not in metric and "submission" not in metric
    }
    assert group.metrics(dict(enumerate(given))) == pytest.approx(figures)


def test_what_was_kept_is_in_the_results(evaluated: dict[str, Any]) -> None:
    assert 0 < evaluated["throughput"]["avg_layer_average_ratio"] < 1
    assert evaluated["throughput"]["total_gen_tokens"] > 0


def test_a_batch_gives_each_sample_what_it_gets_alone(
    folder: Path, evaluated: dict[str, Any]
) -> None:
    assert answers(evaluate(folder, ARGUMENTS, batch_size=1)) == answers(evaluated)


def test_an_unreadable_video_stops_the_evaluation(tmp_path: Path) -> None:
    other = lmms_tasks.write(tmp_path / "tasks")
    (other / "1.mp4").write_bytes(b"no video")
    with pytest.raises(
        VideoError, match=r"shapes_choice/1: .* \(on_error=empty goes on without it\)"
    ):
        evaluate(other, ARGUMENTS, limit=3)


def test_unreadable_videos_may_be_left_empty(tmp_path: Path) -> None:
    other = lmms_tasks.write(tmp_path / "tasks")
    (other / "1.mp4").write_bytes(b"no video")
    given = answers(evaluate(other, f"{ARGUMENTS},on_error=empty"))
    assert [i for i, text in enumerate(given) if not text] == [1, 1 + lmms_tasks.SAMPLES]


def test_the_model_says_what_it_cannot_do() -> None:
    from tokenprune.lmms.model import TokenPrune

    model = TokenPrune(pretrained="tiny", device="cpu")
    assert model.device == torch.device("cpu")
    with pytest.raises(
        LmmsError, match="ranks given ones by likelihood: choose one whose output_type is"
    ):
        model.loglikelihood([])
    with pytest.raises(LmmsError, match="has several rounds: choose one whose output_type is"):
        model.generate_until_multi_round([])
    with pytest.raises(LmmsError, match="batch_size=many is not supported: write a whole number"):
        TokenPrune(pretrained="tiny", batch_size="many")


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_other_families_answer(kind: str, folder: Path, tmp_path: Path) -> None:
    """With prompts and tensors of their own; batches do not change an answer."""
    said = f"pretrained={saved(kind, tmp_path)},strategy=random,random.keep=0.5"
    both = [evaluate(folder, f"{said},max_frames_num=6", batch_size=size) for size in (1, 3)]
    assert answers(both[0]) == answers(both[1])
    assert both[0]["throughput"]["avg_layer_average_ratio"] == pytest.approx(0.5, abs=0.01)


def test_pictures_beside_videos(tmp_path: Path) -> None:
    """Both ways; kept whole, or compressed, too."""
    other, model = lmms_tasks.write(tmp_path / "tasks"), saved("qwen2_5_vl", tmp_path / "model")
    code = (other / "made.py").read_text()
    shown = "return [__import__('PIL.Image').Image.new('RGB', (40, 30)), str(video)]"
    (other / "made.py").write_text(code.replace("return [str(video)]", shown))
    sample = build("shapes_open", other)[0]
    media: list[Any] = [*sample.media]
    picture, video = media
    assert picture.shape == (30, 40, 3) and torch.equal(video.frames, sample.frames)
    said = f"pretrained={model},strategy=random,random.keep=0.5,max_frames_num=6"
    with pytest.warns(UserWarning, match="images are not compressed"):
        given = answers(evaluate(other, said, limit=2))
    made = evaluate(other, f"{said},images=true", limit=2)
    assert len(answers(made)) == len(given) == 4
    assert made["throughput"]["avg_layer_average_ratio"] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(PromptError, match="asked about videos only"):
        evaluate(other, ARGUMENTS, limit=2)


# ---- the command


COMMAND = [
    "--tasks",
    "shapes",
    "--device",
    "cpu",
    "--batch_size",
    "2",
    "--verbosity",
    "ERROR",
    "--log_samples",
]


def command(*words: str) -> None:
    from tokenprune.lmms.command import run

    run([*COMMAND, *words])


def written(out: Path) -> dict[str, Any]:
    (file,) = out.rglob("*_results.json")
    return json.loads(file.read_text())


def test_the_command_spells_arguments_out_and_caches_by_them(
    folder: Path, evaluated: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmms_eval import models  # pyright: ignore[reportMissingImports]

    models.MODEL_REGISTRY_V2.clear()  # as if somebody's entry point had failed before ours
    shared = ["--include_path", str(folder), "--use_cache", str(tmp_path / "cache")]
    command("--model_args", ARGUMENTS, "--output_path", str(tmp_path / "one"), *shared)
    first = written(tmp_path / "one")
    assert (
        "dycoke.prune=0.7" in first["config"]["model_args"]
        and "version=" in first["config"]["model_args"]
    )
    for name in ("shapes_choice", "shapes_open"):
        same = {
            key: value for key, value in evaluated["results"][name].items() if "stderr" not in key
        }
        assert {key: value for key, value in first["results"][name].items() if key in same} == same

    from tokenprune.lmms.model import TokenPrune

    asked: list[int] = []
    monkeypatch.setattr(
        TokenPrune,
        "generate_until",
        lambda self, requests: asked.append(len(requests)) or [""] * len(requests),
    )
    same_meaning = ARGUMENTS.replace("dycoke.merge=0.5", "dycoke.merge=0.50,dycoke.prune=0.7")
    command("--model_args", same_meaning, "--output_path", str(tmp_path / "two"), *shared)
    assert asked == [], "every answer was there"
    command(
        "--model_args",
        ARGUMENTS.replace("0.5", "0.25"),
        "--output_path",
        str(tmp_path / "three"),
        *shared,
    )
    assert asked == [2 * lmms_tasks.SAMPLES], "another pipeline, other answers"


def test_a_failed_evaluation_is_an_error(tmp_path: Path) -> None:
    other = lmms_tasks.write(tmp_path / "tasks")
    (other / "0.mp4").write_bytes(b"no video")
    shared = ["--include_path", str(other), "--output_path", str(tmp_path / "out")]
    with pytest.raises(LmmsError, match=r"the evaluation failed \(VideoError: shapes_choice/0"):
        command("--model_args", ARGUMENTS, *shared)
    with pytest.raises(LmmsError, match="did you mean strategy="):
        command("--model_args", "pretrained=tiny,strategies=fastv", *shared)
    with pytest.raises(LmmsError, match="--model llava_vid is for lmms-eval itself"):
        command("--model", "llava_vid", *shared)


@pytest.mark.skipif(
    not [point for point in entry_points(group="lmms_eval.models") if point.name == "tokenprune"],
    reason="the installed tokenprune declares no entry point",
)
def test_lmms_evals_own_command_knows_the_model(
    folder: Path, evaluated: dict[str, Any], tmp_path: Path
) -> None:
    program = Path(sys.executable).parent / "lmms-eval"
    words = ["--model", "tokenprune", "--model_args", ARGUMENTS, "--include_path", str(folder)]
    words += [*COMMAND, "--output_path", str(tmp_path)]
    done = subprocess.run(
        [program, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = written(tmp_path)
    assert results["config"]["model"] == "tokenprune"
    assert (
        results["results"]["shapes_choice"]["letters,none"]
        == evaluated["results"]["shapes_choice"]["letters,none"]
    )
