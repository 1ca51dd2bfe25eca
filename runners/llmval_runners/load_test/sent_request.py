"""What every figure of a load test is computed from: a request that was sent, to whatever engine."""

from array import array
from typing import Protocol


class SentRequest(Protocol):
    """A request and its answer so far. Times are seconds since the window opened.

    `token_times` are the times at which output came. An engine in this process gives one for each token; a server gives
    one for each chunk of its stream, which may hold several tokens.
    """

    error: str  # why it failed; "" if it did not

    @property
    def index(self) -> int: ...
    @property
    def intended_s(self) -> float: ...
    @property
    def dispatch_s(self) -> float: ...
    @property
    def token_times(self) -> "array[float]": ...
    @property
    def input_tokens(self) -> int | None:
        """None: only the server counts them, and it has not reported them."""

    @property
    def received_tokens(self) -> int | None:
        """The output tokens so far; None: only the server counts them, and it has not reported them."""

    @property
    def first_token_s(self) -> float | None: ...
    @property
    def last_token_s(self) -> float | None:
        """None until it is done."""

    @property
    def failed_s(self) -> float | None:
        """When it ended without a whole answer, if that was before the window ended: it waited no longer."""

    @property
    def done(self) -> bool:
        """Whether the whole answer came."""
