"""What a model and its assistant have to be before hooks go on them."""

from __future__ import annotations

from typing import Any

from torch import nn

from tokenprune.adapters import VideoLLM, adapt
from tokenprune.errors import StrategyError, UnsupportedModelError
from tokenprune.guards import contract
from tokenprune.runtime.tapping import is_tapped
from tokenprune.strategy import DecodeStage, Pipeline, Placed, PrefillStage


def attachable(model: Any, role: str = "model") -> VideoLLM:
    """The adapter of a model that hooks can go on.

    Raises UnsupportedModelError that says what to pass instead.
    """
    adapter = adapt(model)
    for module in adapter.modules():
        if _compiled(module):
            raise UnsupportedModelError(
                f"{type(module).__name__} in the {role} is compiled, and compiled code passes "
                "hooks by: attach an uncompiled model (parts without hooks, such as mlp, may be "
                "compiled)"
            )
    # weights that accelerate has offloaded look the same, and are brought in by its own hooks
    offloaded = any(hasattr(module, "_hf_hook") for module in adapter.model.modules())
    if not offloaded and any(weight.is_meta for weight in adapter.model.parameters()):
        raise UnsupportedModelError(
            f"the {role} has no weights (they are on the meta device): load them with "
            "from_pretrained, or fill them with to_empty and load_state_dict"
        )
    return adapter


def check_layers(model: VideoLLM, pipeline: Pipeline) -> None:
    """Raises StrategyError for a stage that reads a layer in which far frames have no attention."""
    whole = [layer for layer in range(model.depth) if model.window(layer) is None]
    fitting = [layer + 1 for layer in whole if layer + 1 < model.depth]
    acting: list[tuple[PrefillStage | DecodeStage[Any], int]] = []
    for stage in pipeline.of(PrefillStage):
        acting += [(stage, layer) for layer in contract.layers(stage, model.depth)]
    acting += [(stage, stage.layer) for stage in pipeline.of(DecodeStage)]
    for stage, layer in acting:
        if layer in fitting:
            continue
        nearest = sorted(fitting, key=lambda other: abs(other - layer))[:2]
        named = " or ".join(f"{stage.name}.layer={other}" for other in sorted(nearest))
        own = layer == getattr(stage, "layer", None)
        which = f"{stage.name}.layer={layer}" if own else f"{stage.name} before layer {layer}"
        raise StrategyError(
            f"{which} reads LLM layer {layer - 1} of this {model.model_type}, which looks back "
            f"{model.window(layer - 1)} rows only and gives farther frames no attention: write "
            f"{(own and named) or 'another strategy'}"
        )


def check_memory(model: VideoLLM, pipeline: Pipeline) -> None:
    """Raises StrategyError for a stage that makes layers forget what others cannot."""
    forgetting = [stage for stage in pipeline.of(PrefillStage) if stage.forgets]
    windowed = any(model.window(layer) is not None for layer in range(model.depth))
    if forgetting and windowed:
        raise StrategyError(
            f"{forgetting[0].name} lets lower layers forget the rows it drops, and layers of "
            f"{model.model_type} with a sliding window have forgotten others: choose another "
            "strategy"
        )
    anew = [s for s in pipeline.of(PrefillStage) if pipeline.counts_anew(s, model.positions)]
    if forgetting and anew:
        raise StrategyError(
            f"{forgetting[0].name} lets lower layers forget rows, whose positions {anew[0].name} "
            "counts anew: keep one of them"
        )


def check_positions(model: VideoLLM, pipeline: Pipeline) -> None:
    """Raises StrategyError for positions that the language model's rotation cannot have."""
    if model.positions == "contiguous":
        return
    stages = pipeline.of(PrefillStage)
    anew: list[Placed] = [s for s in stages if pipeline.counts_anew(s, model.positions)]
    if pipeline.input_positions(model.positions) == "contiguous":
        anew += pipeline.at_input
    if anew:
        raise StrategyError(
            f"{anew[0].name} counts positions anew along one axis, and {model.model_type} has "
            "three (M-RoPE): choose its options so that rows keep their positions, or another "
            "strategy"
        )


def check_images(model: VideoLLM, images: bool) -> None:
    """Raises StrategyError where images are asked for that cannot be compressed."""
    if not images or model.compresses_images:
        return
    if model.modality == "image":
        raise StrategyError(
            f"the images of a prompt are the frames of its video for {model.model_type}, and "
            "always compressed: leave out images=True"
        )
    raise StrategyError(
        f"images of {model.model_type} come as tiles of several sizes, which strategies for videos "
        "do not know: leave out images=True, and images are kept whole"
    )


def guide_of(model: VideoLLM, assistant: Any, pipeline: Pipeline) -> VideoLLM | None:
    """The adapter of an assistant that weighs frames; None where `model` does so itself.

    Raises StrategyError where the two, or the pipeline, do not go together.
    """
    if assistant is None:
        return None
    guide = attachable(assistant, "assistant")
    if pipeline.allocator is None:
        raise StrategyError(
            f"{pipeline} has no allocator that an assistant could guide: add +dytok, or drop the "
            "assistant"
        )
    if guide.model is model.model:
        return None
    if not set(guide.modules()).isdisjoint(model.modules()):
        raise StrategyError(
            "the assistant shares layers with the model: pass a model of its own, or leave the "
            "assistant out"
        )
    if guide.sight != model.sight:
        raise StrategyError(
            f"the assistant sees {guide.sight}, the model {model.sight}: choose one of the same "
            "family, resolution and tokenizer"
        )
    return guide


def check_free(model: VideoLLM, assistant: VideoLLM | None) -> None:
    """Raises StrategyError where another session is on one of them.

    Each could undo only what it found.
    """
    if _taken(model):
        raise StrategyError(
            "this model is attached already: compose strategies with +, or leave the other block "
            "first (of a session that was started, call stop())"
        )
    if assistant is not None and _taken(assistant):
        raise StrategyError(
            "the assistant is attached already, as model or assistant of another session: leave "
            "that block first, or load the assistant once more"
        )


def _compiled(module: nn.Module) -> bool:
    """Whether `module.compile()` was called, or its `forward` replaced by a compiled one."""
    own = vars(module).get("forward")
    return module._compiled_call_impl is not None or hasattr(own, "_torchdynamo_orig_callable")


def _taken(model: VideoLLM) -> bool:
    """Whether a session is on it: its tower's attention is ours all the time, an assistant's
    language model's as well.
    """
    return any(is_tapped(config) for config in (model.text_config, model.tower.config))
