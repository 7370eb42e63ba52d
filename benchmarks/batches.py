"""Whether batches scale under a strategy as they do without.

    python benchmarks/batches.py [WORD=VALUE ...]

LLaVA-OneVision-0.5B's language model with random weights in bfloat16, features made up, prompts of
unequal lengths in batches of 1, 4 and 16. Tokens per second up to the first new one (of
uncompressed prompts: what a user hands in) and of decoding, and how many times those of a batch of
one they are; the claim is that ours grow as the full model's do. Words go to `tokenprune bench` and
replace these.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import where

from tokenprune.bench.config import parse_bench
from tokenprune.bench.run import bench

BATCHES = (1, 4, 16)
WORDS = {
    "strategy": "dycoke,fastv",
    "model": "shape:llava-onevision-0.5b",
    "dtype": "bfloat16",
    "vision": "random",
    "frames": "2",
    "new_tokens": "16",
    "repeats": "3",
}


def speeds(result: dict[str, Any], batch: int) -> dict[str, tuple[float, float]]:
    """Tokens per second up to the first new token and in decoding, by system."""
    rows, made = result["rows"], result["environment"]
    prompt = made["mean_text_tokens"] + made["frames"] * made["tokens_per_frame"]
    systems = {"full model": rows[0]["vanilla"]}
    systems |= {row["spec"]: row["strategy"] for row in rows}
    return {
        name: (1e3 * batch * prompt / figures["ttft_ms"], figures["decode_tokens_per_s"])
        for name, figures in systems.items()
    }


def main() -> None:
    given = {**WORDS, **dict(word.split("=", 1) for word in sys.argv[1:])}
    found: dict[int, dict[str, tuple[float, float]]] = {}
    for batch in BATCHES:
        ragged = {} if batch == 1 else {"ragged": "20"}
        with tempfile.TemporaryDirectory() as folder:
            words = {**given, **ragged, "batch": str(batch), "out": f"{folder}/out"}
            config = parse_bench([f"{key}={value}" for key, value in words.items()])
            found[batch] = speeds(bench(config, "benchmarks/batches.py").result, batch)
    print(where.line())
    print(
        f"{given['model']}, {given['frames']} frames: tokens per second of the whole batch (times "
        "a batch of one)"
    )
    print(f"{'':16s}{'batch':>6s}{'to first token':>18s}{'decoding':>18s}")
    for name, (first, later) in found[1].items():
        for batch in BATCHES:
            prefill, decoding = found[batch][name]
            growth = (
                f"{prefill:8.0f} ({prefill / first:5.2f}x){decoding:10.1f} "
                f"({decoding / later:5.2f}x)"
            )
            print(f"{name:16s}{batch:6d}{growth:>36s}")


if __name__ == "__main__":
    main()
