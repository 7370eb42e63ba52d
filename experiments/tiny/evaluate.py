"""Scores a model folder on the test split with the stock `generate`, greedily.

One question per video.

python -m experiments.tiny.evaluate FOLDER --samples 1100 --out scores.json
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration

from experiments.tiny.model import normalise
from tokenprune import tasks
from tokenprune.results.statistics import Resamples
from tokenprune.tasks.questions import CATEGORIES, HARD, SHORT
from tokenprune.tasks.tinyvqa import TinyVQA

_BATCH = 16  # samples


@torch.inference_mode()
def predictions(
    folder: Path, task: tasks.Task, frames_seen: slice, batch: int = _BATCH
) -> list[str]:
    """Greedy answers to all samples, in order; the model sees `frames_seen` of each video."""
    model: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(folder)
    vision = model.config.vision_config
    cells = (-(-vision.image_size // vision.patch_size // 2)) ** 2
    answers: list[str] = []
    for begin in range(0, len(task), batch):
        samples = [task[i] for i in range(begin, min(begin + batch, len(task)))]
        frames = torch.stack([sample.frames[frames_seen] for sample in samples])
        chats = [
            [
                {
                    "role": "user",
                    "content": [{"type": "video"}, {"type": "text", "text": sample.question}],
                }
            ]
            for sample in samples
        ]
        prompts = tokens.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        expanded = [
            prompt.replace("<video>", "<video>" * (frames.shape[1] * cells + 1))
            for prompt in prompts
        ]
        inputs = tokens(expanded, return_tensors="pt", padding=True)
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values_videos=normalise(frames),
            max_new_tokens=48,
        )
        answers += tokens.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
    return answers


def constants(task: TinyVQA) -> list[str]:
    """What a reader of the question alone answers.

    The commonest answer to each wording among other questions.
    """
    others = TinyVQA(samples=8 * len(task), frames=task.frames, seed=task.seed + 1)
    known: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for index in range(len(others)):
        family, question = others.question(index)
        known[family, question.text][question.answer] += 1
    asked = [task.question(index) for index in range(len(task))]
    return [
        max(known[family, question.text].most_common(1), default=("", 0))[0]
        for family, question in asked
    ]


def scores(
    folder: Path,
    *,
    samples: int,
    frames: int,
    seed: int,
    only: int | None = None,
    question_only: bool = False,
    batch: int = _BATCH,
) -> dict:
    """Per family: mean score, n, interval, chance; and the macro averages of the short families
    and of the hard ones.

    `only`: the model sees this one frame. `question_only`: nobody looks, see `constants`.
    """
    task = TinyVQA(samples=samples, frames=frames, seed=seed)
    seen = slice(None) if only is None else slice(only, only + 1)
    right: dict[str, list[float]] = defaultdict(list)
    for index, answer in enumerate(
        constants(task) if question_only else predictions(folder, task, seen, batch)
    ):
        sample = task[index]
        right[sample.category].append(task.score(answer, sample))
    table = {}
    for family, marks in right.items():
        drawn = Resamples([family] * len(marks), seed=seed)
        share, interval = drawn.estimate(np.array(marks))
        low, high = interval or (None, None)
        # no constant answer describes videos
        told = CATEGORIES[family].metric == "event_f1"
        chance = None if told else CATEGORIES[family].chance
        table[family] = {
            "score": share,
            "n": len(marks),
            "low": low,
            "high": high,
            "chance": chance,
        }
    macro, hard = (
        sum(table[family]["score"] for family in group) / len(group) for group in (SHORT, HARD)
    )
    asked = {
        "samples": samples,
        "frames": frames,
        "seed": seed,
        "only_frame": only,
        "question_only": question_only,
    }
    return {**asked, "macro": macro, "hard": hard, "families": table}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=1100)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one frame the model may see")
    parser.add_argument(
        "--question-only", action="store_true", help="score the best reader of the question alone"
    )
    parser.add_argument("--batch", type=int, default=_BATCH, help="samples at once")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not (options.folder / "config.json").exists():
        parser.error(f"{options.folder} holds no model: name a folder with config.json and weights")
    result = scores(
        options.folder,
        samples=options.samples,
        frames=options.frames,
        seed=options.seed,
        only=options.only,
        question_only=options.question_only,
        batch=options.batch,
    )
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
