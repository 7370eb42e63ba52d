"""Chat templates that `template=` chooses, and how a prompt's text marks the place of its video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tokenprune.errors import LoadingError
from tokenprune.loading.configuration import json_in

# LLaVA-OneVision's own, for checkpoints that come without: videos first, then the text, roles by
# word.
HF = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' "
    "}}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\\n' + content['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# the llava package's, under the name it has there: what its checkpoints were trained and are
# evaluated with
QWEN_1_5 = (
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}"
    "{{ '<image>\\n' if loop.last else '<image> ' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NAMED = {"qwen_1_5": QWEN_1_5, "hf": HF}
NATIVE, OWN = "qwen_1_5", "checkpoint"  # what a checkpoint that names none is asked with
_FAMILIES = ("llava_onevision", "llava_video")  # that the named ones are for
_MARKS = ("<video>", "<image>")  # of templates, whether a tokenizer knows them or not


def own(home: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """The processor's template before the tokenizer's own, as Hugging Face has it."""
    if (plain := home / "chat_template.jinja").is_file():
        return plain.read_text(encoding="utf-8")
    if (legacy := home / "chat_template.json").is_file():
        return json_in(legacy)["chat_template"]
    return tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else HF


def named(template: str, model_type: str) -> str:
    """The text of `template`: a name of `NAMED`, or a file of a user. Raises LoadingError."""
    if template in NAMED:
        if model_type not in _FAMILIES:
            raise LoadingError(
                f"template={template} is a prompt of {' and '.join(_FAMILIES)}, and this is a "
                f"{model_type}: leave it out, or write a .jinja file"
            )
        return NAMED[template]
    file = Path(template).expanduser()
    if file.suffix != ".jinja":
        raise LoadingError(
            f"template={template} is unknown: write {' or '.join(NAMED)}, or a .jinja file"
        )
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LoadingError(f"template={template} cannot be read: {error}") from None


def spelt(template: str, tokenizer: PreTrainedTokenizerBase, video_token_id: int) -> str:
    """The llava package's template with the video's own mark, where the tokenizer knows one: the
    same ids, in words that say what is shown.
    """
    known = tokenizer.convert_ids_to_tokens(video_token_id)
    return template.replace("<image>", known) if isinstance(known, str) else template


def time_instruction(times: Sequence[float], duration: float) -> str:
    """What LLaVA-Video was trained to read before a question: seconds of the video and its
    frames.
    """
    frames = ",".join(f"{moment:.2f}s" for moment in times)
    return (
        f"The video lasts for {duration:.2f} seconds, and {len(times)} frames are uniformly "
        f"sampled from it. These frames are located at {frames}.Please answer the following "
        "questions related to this video."
    )


def mark_of(template: str, tokenizer: PreTrainedTokenizerBase, video_token_id: int) -> str | None:
    """What stands for the video in prompts of `template`, where the tokenizer does not know it.

    None where it does: it then makes the placeholder's id by itself.
    """
    known = tokenizer.convert_ids_to_tokens(video_token_id)
    if isinstance(known, str) and known in template:
        return None
    return next((mark for mark in _MARKS if mark in template), None)
