"""Difference between the logits of two precisions, with the same weights and ranks, at sampled positions.

The logits of the tested run wait on the host. The reference's logits are compared window by window, so the device never
holds more than one window of each. Each rank holds a slice of the vocabulary, so only sums are exchanged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MIN_TOKENS, CUDNN_MULTIPLE
from llmval_runners.engine.parallel import Parallel
from llmval_runners.long_context.engine_adapter import Context

WINDOWS = 4  # spread over the context; the last one ends at or near its end
WINDOW_TOKENS = 96  # above 64, so that the matrix products are those of a prefill
# From this length on, a window ends at a multiple of `CUDNN_MULTIPLE`. cuDNN can then compute the window in the same
# way as the prompt (`Context.window_logits`). A quarter of a shorter context is too short for such a chunk.
ALIGNED_LENGTH = WINDOWS * CUDNN_MIN_TOKENS
FORCED_STEPS = 32  # decode steps with given tokens, so that both precisions see the same context


@dataclass(frozen=True, slots=True)
class Samples:
    """One rank's logits on the host: [tokens, vocab / ranks] for each prompt window and for the decode steps."""

    prompt: list[torch.Tensor]
    decode: list[torch.Tensor]


def windows(length: int) -> list[tuple[int, int]]:
    """(start, count) of each sampled stretch of the prompt."""
    count = min(WINDOW_TOKENS, max(1, length // WINDOWS))
    unit = CUDNN_MULTIPLE if length >= ALIGNED_LENGTH else 1
    ends = [length * (index + 1) // WINDOWS // unit * unit for index in range(WINDOWS)]
    return [(end - count, count) for end in ends if end >= count]


def sampled_logits(context: Context, prompt: list[int], following: list[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """("prompt" or "decode", this rank's logits) of a context whose cache holds the prompt.

    Overwrites the decoded tokens in the cache.
    """
    for start, count in windows(len(prompt)):
        yield "prompt", context.window_logits(start, prompt[: start + count])
    steps = min(FORCED_STEPS, context.setup.decode_tokens)
    rows = [context.forced_logits(len(prompt) + step, following[step]) for step in range(steps)]
    yield "decode", torch.cat(rows)


def collect_samples(context: Context, prompt: list[int], following: list[int]) -> Samples:
    """The sampled logits, copied to the host."""
    samples = Samples([], [])
    for kind, logits in sampled_logits(context, prompt, following):
        (samples.prompt if kind == "prompt" else samples.decode).append(logits.to("cpu"))
    return samples


class Comparison:
    """Sums over the positions of one kind, over all ranks."""

    def __init__(self, parallel: Parallel) -> None:
        self._parallel = parallel
        self._difference = self._size = self._divergence = 0.0
        self._worst = 0.0
        self._agree = self._positions = 0
        self._finite = True

    def add(self, tested: torch.Tensor, reference: torch.Tensor) -> None:
        """Add one window. Both are [tokens, vocab / ranks], this rank's slice."""
        a, b = tested.float(), reference.float()
        finite = torch.isfinite(a).all() & torch.isfinite(b).all()
        log_p, log_q = (self._log_softmax(logits) for logits in (b, a))  # KL(reference ‖ tested)
        row = (log_p.exp() * (log_p - log_q)).sum(1).double()
        sums = torch.stack(((a - b).double().square().sum(), b.double().square().sum(), row.sum(), (~finite).double()))
        rows = self._parallel.all_reduce(row.clone())
        difference, size, divergence, broken = self._parallel.all_reduce(sums).tolist()
        best = self._best(a) == self._best(b)
        self._difference += difference
        self._size += size
        self._divergence += divergence
        self._worst = max(self._worst, float(rows.max()))
        self._agree += int(best.sum())
        self._positions += len(a)
        self._finite = self._finite and broken == 0

    def as_json(self) -> dict[str, Any]:
        """Relative error ‖tested − reference‖ / ‖reference‖, top-1 agreement, KL in nats; null if not finite."""
        known = self._finite and self._positions > 0
        return {
            "positions": self._positions,
            "finite": self._finite,
            "relative_error": (self._difference / max(self._size, 1e-300)) ** 0.5 if known else None,
            "top1_agreement": self._agree / self._positions if known else None,
            "kl_mean_nats": max(self._divergence / self._positions, 0.0) if known else None,
            "kl_max_nats": max(self._worst, 0.0) if known else None,
        }

    def _log_softmax(self, logits: torch.Tensor) -> torch.Tensor:
        own = torch.logsumexp(logits, dim=1)
        return logits - torch.logsumexp(self._parallel.all_gather(own), dim=0)[:, None]

    def _best(self, logits: torch.Tensor) -> torch.Tensor:
        """The token with the largest logit over all ranks, for each row."""
        value, index = logits.max(dim=1)
        index = index + self._parallel.rank * logits.shape[1]
        both = self._parallel.all_gather(torch.stack((value.double(), index.double())))  # [ranks, 2, tokens]
        winner = both[:, 0].argmax(dim=0, keepdim=True)
        return both[:, 1].gather(0, winner)[0]


def compare(tested: Samples, context: Context, prompt: list[int], following: list[int]) -> dict[str, Any]:
    """The comparison as the result records it. `context` is the reference's, with the prompt in its cache."""
    waiting = {"prompt": iter(tested.prompt), "decode": iter(tested.decode)}
    sums = {kind: Comparison(context.model.parallel) for kind in waiting}
    for kind, logits in sampled_logits(context, prompt, following):
        mine = next(waiting[kind]).to(logits.device)
        for part in range(0, len(logits), 32):  # a few rows at a time: float32 logits of the vocabulary are large
            sums[kind].add(mine[part : part + 32], logits[part : part + 32])
    return {kind: found.as_json() for kind, found in sums.items()}
