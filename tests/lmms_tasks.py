"""Tasks for lmms-eval on disk: real videos, their questions as JSONL, and YAML files, one
multiple-choice, one open.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenprune.tasks.export import write_video
from tokenprune.tasks.questions import CATEGORIES
from tokenprune.tasks.tinyvqa import TinyVQA

FRAMES, SAMPLES = 8, 6
FAMILY = ("colour", "shape", "needle", "colour", "shape", "needle")

_COMMON = """
dataset_path: json
dataset_kwargs:
  data_files:
    test: docs.jsonl
test_split: test
output_type: generate_until
doc_to_visual: !function made.visual
generation_kwargs:
  max_new_tokens: {length}
  do_sample: false
  until: ["\\n"]
metadata:
  version: {version}
"""

CHOICE = """
task: shapes_choice
doc_to_text: !function made.choices
doc_to_target: letter
process_results: !function made.judge_letter
metric_list:
  - metric: letters
    aggregation: !function made.mean_of_scores
    higher_is_better: true
lmms_eval_specific_kwargs:
  default:
    post_prompt: "Answer with the letter."
  tokenprune:
    post_prompt: "Answer with the letter."
  llava_onevision:
    post_prompt: "{post}"
"""

OPEN = """
task: shapes_open
doc_to_text: question
doc_to_target: answer
process_results: !function made.judge_words
metric_list:
  - metric: exact
    aggregation: mean
    higher_is_better: true
  - metric: length
    aggregation: !function made.longest
    higher_is_better: false
  - metric: submission
    aggregation: !function made.submit
    higher_is_better: true
filter_list:
  - name: first_word
    filter:
      - function: regex
        regex_pattern: '^(\\w+)'
      - function: take_first
"""

GUESS = """
task: shapes_guess
doc_to_text: question
doc_to_target: letter
process_results: !function made.judge_or_guess
metric_list:
  - metric: letters
    aggregation: !function made.mean_of_scores
    higher_is_better: true
"""

GROUP = """
group: shapes
task:
  - shapes_choice
  - shapes_open
aggregate_metric_list:
  - metric: exact
    aggregation: mean
    weight_by_size: true
    filter_list: [first_word]
"""

RANKED = """
task: shapes_ranked
doc_to_text: question
doc_to_target: 0
doc_to_choice: ["red", "blue"]
"""

MADE = """
import random
import string
import sys
from pathlib import Path

HERE = Path(__file__).parent


def visual(doc):
    video = HERE / doc["video"]
    if not video.exists():
        sys.exit(f"video path:{video.name} does not exist, please check")
    return [str(video)]


def choices(doc, lmms_eval_specific_kwargs=None):
    lettered = zip(string.ascii_uppercase, doc["options"])
    options = [f"{letter}. {option}" for letter, option in lettered]
    return "\\n".join([doc["question"], *options, lmms_eval_specific_kwargs["post_prompt"]])


def judge_letter(doc, results):
    right = results[0].strip()[:1] == doc["letter"]
    return {"letters": {"id": doc["video"], "score": float(right)}}


def judge_or_guess(doc, results):
    # as NExT-QA, EgoSchema and LongVideoBench: an answer without a letter becomes a random one
    text = results[0].strip()
    letters = string.ascii_uppercase
    read = text if text in list(letters) else random.choice(letters)
    return {"letters": {"id": doc["video"], "score": float(read == doc["letter"]), "read": read}}


def mean_of_scores(results):
    return 100 * sum(result["score"] for result in results) / len(results)


def judge_words(doc, results):
    right = results[0].lower() == doc["answer"]
    return {"exact": float(right), "length": len(results[0]), "submission": results[0]}


def longest(results):
    return max(results)


def submit(results, args):
    return 0.5 if str(args) else 0.0
"""


def write(
    folder: Path, *, post: str = "Answer with the option's letter.", version: str = "1.0"
) -> Path:
    """A folder for `include_path`: `shapes_choice` and `shapes_open`, their group `shapes`,
    `_guess` and `_ranked`.
    """
    task = TinyVQA(samples=len(CATEGORIES) * 2, frames=FRAMES, seed=3)
    folder.mkdir(parents=True)
    lines = []
    for number in range(SAMPLES):
        turn, place = divmod(number, 3)
        sample = task[turn * len(CATEGORIES) + list(CATEGORIES).index(FAMILY[place])]
        write_video(folder / f"{number}.mp4", sample.frames)
        options = sorted({sample.answer, "red", "blue", "circle", "ring"})[:5]
        options = options if sample.answer in options else [sample.answer, *options[1:]]
        letter = "ABCDE"[options.index(sample.answer)]
        doc = {
            "question": sample.question,
            "answer": sample.answer,
            "options": options,
            "letter": letter,
        }
        lines.append(json.dumps({"video": f"{number}.mp4", **doc}))
    (folder / "docs.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "made.py").write_text(MADE)
    common = _COMMON.format(length=4, version=version)
    (folder / "choice.yaml").write_text(CHOICE.format(post=post) + common)
    (folder / "open.yaml").write_text(
        OPEN + common.replace("max_new_tokens: 4", "max_new_tokens: 6")
    )
    unlimited = common.replace("  max_new_tokens: 4\n", "")
    (folder / "guess.yaml").write_text(GUESS + unlimited)
    (folder / "group.yaml").write_text(GROUP)
    (folder / "ranked.yaml").write_text(
        RANKED
        + common.replace("generate_until", "multiple_choice").replace(
            'generation_kwargs:\n  max_new_tokens: 4\n  do_sample: false\n  until: ["\\n"]\n', ""
        )
    )
    return folder
