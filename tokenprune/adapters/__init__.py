"""One file per family of video LLMs; `adapt(model)` picks the one that fits an instance."""

from tokenprune.adapters.base import UnsupportedModelError as UnsupportedModelError
from tokenprune.adapters.base import VideoLLM as VideoLLM
from tokenprune.adapters.base import adapt as adapt
from tokenprune.adapters.base import families as families
