"""The page itself, by Gradio: choose a clip, a question, strategies and a budget, and look."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tokenprune.demo import clips, page
from tokenprune.demo.address import HOST
from tokenprune.demo.compare import Models, Shown, choices
from tokenprune.errors import ConfigError, TokenpruneError
from tokenprune.evaluation.config import FILE_FRAMES
from tokenprune.tasks import Sample

LARGEST = "2gb"  # of a file that is put on the page
ONE_QUESTION = (
    "One question is an anecdote: `tokenprune run` asks many, with intervals. Times are of one "
    "answer on this machine, vision tower included; `tokenprune bench` measures them."
)
DRAWN = (
    "It was trained on drawn shapes such as those of the clips, in words of a few questions: of a "
    "film of yours it can say nothing. `tokenprune demo model=NAME` asks a model that can."
)
_TITLE = "tokenprune: what each strategy keeps, and what the model then answers"


class Desk:
    """Answers what the page asks: models and clips, read once."""

    def __init__(self, models: Models, offered: Mapping[str, Sample]) -> None:
        self.models, self.offered = models, offered

    def sample(self, name: str, file: str | None, question: str) -> Sample:
        """What is asked about: the file, if there is one, else the clip `name`.

        Raises TokenpruneError.
        """
        if not (question := question.strip()):
            raise ConfigError("there is no question: write one")
        if file:
            frames = self.models.config.frames or FILE_FRAMES
            return clips.uploaded(file, question, frames)
        if name not in self.offered:
            raise ConfigError("there is no clip: choose one, or add a file of yours")
        return clips.asked(self.offered[name], question)

    def answers(
        self, name: str, file: str | None, question: str, specs: Sequence[str], keep: float
    ) -> Iterator[str]:
        """The page's lower half, again after each answer: the first of them come soon."""
        sample = self.sample(name, file, question)
        found: list[Shown] = []
        number = self.models.number(specs)
        for one in self.models.compare(sample, specs, keep / 100):
            found.append(one)
            waiting = number if len(found) < number else 0
            yield page.systems(found, sample.answer, waiting)

    def question(self, name: str) -> str:
        """Of a clip."""
        return self.offered[name].question

    def frames(self, name: str, file: str | None) -> str:
        """What would be asked about, as pictures. Raises TokenpruneError."""
        return page.preview(self.sample(name, file, "?"))


def desk(models: Models) -> Desk:
    """With the models warmed up: the first answer of a process takes longer than any other.

    Raises TokenpruneError.
    """
    made = Desk(models, clips.embedded(models.config.frames, models.config.seed))
    for _ in models.compare(next(iter(made.offered.values())), [], 1.0):
        pass
    return made


@contextmanager
def alone() -> Iterator[None]:
    """Around all that Gradio does, also its import: it tells nobody that it is used, and what is
    put on the page is gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="tokenprune-demo-") as folder:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = folder
        # it looks whether its own page answers, and a proxy does not know this machine
        for name in ("no_proxy", "NO_PROXY"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
        yield


def blocks(made: Desk) -> Any:
    """The page, as Gradio's Blocks: not served yet."""
    import gradio

    config, first = made.models.config, next(iter(made.offered))

    def told(answer: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
        """With what the user can change as a message on the page."""

        def answering(*given: Any) -> Iterator[str]:
            try:
                yield from answer(*given)
            except TokenpruneError as error:
                said = " ".join(str(error).split())
                raise gradio.Error(said, print_exception=False) from None

        return answering

    with gradio.Blocks(title=_TITLE.partition(":")[0], analytics_enabled=False) as built:
        gradio.Markdown(f"## {_TITLE}\n{_about(made.models)}")
        with gradio.Row():
            with gradio.Column(scale=3):
                clip = gradio.Dropdown([*made.offered], value=first, label="Clip")
                preview = gradio.HTML(made.frames(first, None))
                asked = gradio.Textbox(made.question(first), label="Question")
            with gradio.Column(scale=2):
                file = gradio.File(
                    label="Or a video of yours (it stays on this machine)",
                    file_types=["video", ".gif"],
                    height=140,
                )
                specs = gradio.Dropdown(
                    list(dict.fromkeys([*config.strategy, *choices()])),
                    value=config.strategy,
                    multiselect=True,
                    allow_custom_value=True,
                    label="Strategies, beside the full model and random",
                )
                keep = gradio.Slider(
                    5, 100, value=100 * config.keep, step=1, label="Visual tokens kept, in %"
                )
                button = gradio.Button("Ask", variant="primary")
        shown = gradio.HTML()
        gradio.Markdown(ONE_QUESTION)
        given = [clip, file, asked, specs, keep]
        gradio.on([button.click, asked.submit], told(made.answers), given, shown, api_name="ask")
        clip.change(made.question, clip, asked, api_name="question")
        looked = told(lambda *which: iter([made.frames(*which)]))
        gradio.on([clip.change, file.change], looked, [clip, file], preview, api_name="frames")
    return built.queue(default_concurrency_limit=1)  # one session at a time on a model


def served(built: Any, port: int | None, browser: bool) -> str:
    """Serves the page to this machine; returns its address."""
    from gradio.themes import Default

    _, address, _ = built.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        inbrowser=browser,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        show_error=True,
        footer_links=[],
        max_file_size=LARGEST,
        theme=Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=page.css(),
    )
    return address


def _about(models: Models) -> str:
    config = models.config
    said = [f"Model `{config.model}`"]
    if config.assistant is not None:
        said.append(f", frames weighed by `{config.assistant}`")
    said.append(".")
    if models.note is not None:
        said.append(f" Beware: {models.note} {DRAWN}")
    return "".join(said)
