"""Runs the Python of docs/transformers.md, and says as JSON what came of it.

    python page.py docs/transformers.md

With the torchvision that lies beside this file, unless another one can be imported.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GREEDY = {"max_new_tokens": 8, "do_sample": False}


def run(page: str) -> dict[str, Any]:
    """The names that a page's code leaves, marked `not run` or not, in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    text = Path(page).read_text(encoding="utf-8")
    for number, block in enumerate(BLOCK.findall(text), 1):
        if "quantization_config" not in block:  # needs packages that are tested apart
            exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


def found(names: dict[str, Any]) -> dict[str, Any]:
    """What the page has shown, and how its prompts compare with ours."""
    import torch

    import tokenprune

    model, processor, frames = (names[name] for name in ("model", "processor", "frames"))
    own, question = tokenprune.load("tiny", device="cpu").processor, names["question"]["text"]

    def prompt(medium: dict[str, Any]) -> Any:
        turn = {"role": "user", "content": [medium, names["question"]]}
        return processor.apply_chat_template(
            [turn],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"do_sample_frames": False},
        )

    def differ(shown: Any) -> tuple[bool, float]:
        """Whether ids are the same, and how far pixels are apart."""
        theirs = prompt({"type": "video", "video": shown})
        ours = own.encode([(shown.permute(0, 2, 3, 1), question)])
        apart = theirs["pixel_values_videos"] - ours["pixel_values_videos"]
        return theirs["input_ids"].tolist() == ours["input_ids"].tolist(), float(apart.abs().max())

    def said(inputs: Any) -> str:
        ids = model.generate(**inputs, **GREEDY)[:, inputs["input_ids"].shape[1] :]
        return processor.batch_decode(ids, skip_special_tokens=True)[0].strip()

    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (8, 3, 96, 96), generator=generator, dtype=torch.uint8)
    picture = {"type": "image", "image": noise[0]}
    asked = tokenprune.ask((model, own), frames.permute(0, 2, 3, 1), question, max_new_tokens=8)
    return {
        "attached": names["ids"].shape[1] - names["inputs"]["input_ids"].shape[1],
        "piped": names["told"][0]["generated_text"],
        "ratio": names["session"].report[0].input_ratio,
        "another size": differ(frames),
        "its own size": differ(noise),
        "answers": [asked[0].answer, said(names["inputs"])],
        "of a picture": said(prompt(picture)),
    }


if __name__ == "__main__":
    here = sys.path.pop(0)
    try:
        import torchvision  # noqa: F401  # pyright: ignore
    except (ImportError, RuntimeError, OSError):  # none, or one for another torch
        sys.modules.pop("torchvision", None)
        sys.path.insert(0, here)
    print("FOUND", json.dumps(found(run(sys.argv[1]))))
