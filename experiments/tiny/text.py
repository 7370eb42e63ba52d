"""The tokenizer and the chat format of the embedded model.

LLaVA-OneVision's, with a vocabulary of its own.
"""

from __future__ import annotations

import itertools

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tokenprune.tasks.scenes import COLOURS, CROWD, DIRECTIONS, SHAPES, THIRDS

PAD, START, END, IMAGE, VIDEO = SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
    "<video>",
)
VOCABULARY = 512

# LLaVA-OneVision's own template: pictures and videos first, then the text, roles by word.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% if message['content'] is string %}{{ '\\n' + message['content'] + '<|im_end|>' }}"
    "{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' "
    "}}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' "
    "}}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\\n' + content['text'] }}{% endfor %}{{ '<|im_end|>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PROMPT_START = f"{START}user "  # then the video's placeholders


def prompt_end(question: str) -> str:
    """What follows the video's placeholders, up to the answer."""
    return f"\n{question}{END}{START}assistant\n"


def ids(tokens: PreTrainedTokenizerFast, *words: str) -> list[int]:
    """Ids of words that are one token each."""
    vocabulary = tokens.get_vocab()
    return [vocabulary[word] for word in words]


def corpus() -> list[str]:
    """Every wording the questions and answers use."""
    words = [*COLOURS, *SHAPES, *DIRECTIONS, *THIRDS, "yes", "no", *map(str, range(CROWD + 6))]
    verbs = [
        "appears",
        "leaves",
        "turns",
        "become",
        "small",
        "move",
        "there",
        "When",
        "Describe",
        "video",
    ]
    lines = [
        f"Is there a {c} {s}? A {c} {s} enters, moves and leaves."
        for c, s in itertools.product(COLOURS, SHAPES)
    ]
    lines += [f"What colour is the {s}? What colour does the {s} become?" for s in SHAPES]
    lines += [
        f"What shape is the {c} one? Which way does the {c} one move? When is the {c} one there?"
        for c in COLOURS
    ]
    lines += [
        f"Which came first, the {a} or the {b} one?" for a, b in itertools.permutations(COLOURS, 2)
    ]
    lines += [
        f"{c} {s} appears, {c} {s} turns {c}, {c} {s} leaves."
        for c, s in itertools.product(COLOURS, SHAPES)
    ]
    lines += [
        "How many shapes are there?",
        "What colour is the small one?",
        "user",
        "assistant",
        "system",
    ]
    lines += [
        "Describe the video. What happens? at the beginning, in the middle, at the end, then, and, "
        "first, last"
    ]
    return lines * 4 + [
        form for word in [*words, *verbs] for form in (word, f" {word}") for _ in range(200)
    ]


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE: any text can be written, every word of the questions is one token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    core.train_from_iterator(corpus(), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, IMAGE, VIDEO],
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped
