import torch

from tokenprune.tasks import Label, Sample, Task


class Grey(Task, name="grey"):
    """Videos of one grey, at any size."""

    def __init__(self, *, samples=None, frames, seed, size=32):
        self.samples, self.frames, self.seed, self.size = samples or 3, frames, seed, size

    def __len__(self):
        return self.samples

    def label(self, index):
        return Label(f"grey-{index}", "grey", "What colour is it?", "grey")

    def __getitem__(self, index):
        level = (40 + 10 * index + self.seed) % 256
        frames = torch.full((self.frames, self.size, self.size, 3), level, dtype=torch.uint8)
        return Sample(**self.label(index)._asdict(), frames=frames)

    def fingerprint(self):
        return {"task": "grey", "seed": self.seed, "frames": self.frames, "size": self.size}
