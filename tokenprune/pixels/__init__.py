"""Frames to what vision towers take, bit for bit as transformers' video processors, without
torchvision.

One file per kind of preparation: `whole` (to a height and a width), `cropped` (shortest edge, then
the centre), `patches` (the size that fits a budget of pixels, then patches in blocks). Each is a
frozen dataclass made `of` the contents of a preprocessor configuration: a function of frames, and
the size that it gives a frame.
"""

from tokenprune.pixels.cropped import Cropped
from tokenprune.pixels.patches import Patches
from tokenprune.pixels.settings import BILINEAR, CLIP_MEAN, CLIP_STD, HALF
from tokenprune.pixels.whole import Pixels

Kind = Pixels | Cropped | Patches

__all__ = ["BILINEAR", "CLIP_MEAN", "CLIP_STD", "HALF", "Cropped", "Kind", "Patches", "Pixels"]
