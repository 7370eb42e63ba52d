from dataclasses import dataclass

from tokenprune import VisionStage, ops


@dataclass(frozen=True)
class Norm(VisionStage, name="norm"):
    """Control: the tokens of each frame with the largest L2 norm.

    Args:
        keep: fraction of each frame's tokens kept
    """

    keep: float = 0.25

    def quota(self, tokens):
        return ops.count(tokens.counts, self.keep)

    def compress(self, tokens, budget):
        norms, valid = ops.by_frame(tokens.features.float().norm(dim=-1), tokens.counts)
        return tokens[ops.keep_top(norms, budget, valid)[valid]]
