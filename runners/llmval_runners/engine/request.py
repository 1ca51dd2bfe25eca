"""A request, from its scheduled dispatch to its last token."""

from array import array
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Request:
    """Times are seconds since the window opened, on the monotonic clock.

    The number of output tokens is fixed beforehand, and no token ends a sequence early (as vLLM's `ignore_eos`). So the
    load does not depend on random weights, and the scheduler never waits for a token's value.
    """

    index: int
    prompt: list[int]
    output_tokens: int
    intended_s: float = 0.0
    dispatch_s: float = 0.0
    token_times: "array[float]" = field(default_factory=lambda: array("d"))  # when each token was on the host
    tokens: list[int] = field(default_factory=list)
    error: str = ""
    admitted_ns: int = 0  # `perf_counter_ns` when the scheduler gave it a place in the batch; 0: not yet

    @property
    def context(self) -> int:
        """Tokens in the KV cache at the end. The last output token is never fed back."""
        return len(self.prompt) + self.output_tokens - 1

    @property
    def input_tokens(self) -> int:
        return len(self.prompt)

    @property
    def received_tokens(self) -> int:
        """The output tokens so far."""
        return len(self.token_times)

    @property
    def failed_s(self) -> None:
        """No request ends before the window without its tokens."""

    @property
    def first_token_s(self) -> float | None:
        return self.token_times[0] if self.token_times else None

    @property
    def last_token_s(self) -> float | None:
        return self.token_times[-1] if self.done else None

    @property
    def done(self) -> bool:
        return len(self.token_times) == self.output_tokens
