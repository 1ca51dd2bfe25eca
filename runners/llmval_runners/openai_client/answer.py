"""A request to a server and its streamed answer: what counts as a token, as a chunk, and as a failure.

Only the output tokens of the server's `usage` count: a chunk may have none, one or several. The first token is
the first chunk whose choice has text, content, reasoning or a tool call, even if that is empty, because a token may
have no text. A chunk with a role alone is not a token. Gaps between chunks are inter-chunk latencies.
"""

import json
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmval_runners.openai_client.connection import Exchange

LONGEST_LINE = 16 * 2**20
LONGEST_REASON = 300
OUTPUT_KEYS = ("content", "reasoning", "reasoning_content", "tool_calls", "refusal")
# Kinds of failure, as the record counts them.
STATUS, TIMEOUT, CUT, TRUNCATED, STREAM, USAGE, CANCELLED, CONNECTION, CLIENT = (
    "http_status", "timeout", "cut", "truncated", "stream", "usage", "cancelled", "connection", "client",
)  # fmt: skip


@dataclass(slots=True, eq=False)
class ServerRequest:
    """Times are seconds since the window opened. `token_times` has one time for each chunk with output."""

    index: int
    asked_input_tokens: int | None  # None: a prompt of the operator, whose length only the server knows
    output_tokens: int  # asked for
    intended_s: float = 0.0
    dispatch_s: float = 0.0
    token_times: "array[float]" = field(default_factory=lambda: array("d"))
    prompt_tokens: int | None = None  # prompt tokens that the server's usage states
    received_tokens: int | None = None  # output tokens that the server's usage states
    finish_reason: str | None = None
    error: str = ""
    kind: str = ""  # kind of the error
    failed_s: float | None = None  # when it failed; None: it waited until the window ended
    ended: bool = False

    @property
    def input_tokens(self) -> int | None:
        return self.asked_input_tokens if self.prompt_tokens is None else self.prompt_tokens

    @property
    def first_token_s(self) -> float | None:
        return self.token_times[0] if self.token_times else None

    @property
    def last_token_s(self) -> float | None:
        return self.token_times[-1] if self.done else None

    @property
    def done(self) -> bool:
        return self.ended and not self.error


_decode = json.JSONDecoder().raw_decode


class StreamedAnswer(Exchange):
    """Fills a `ServerRequest` from the bytes of its answer."""

    __slots__ = (
        "_clean", "_early_end", "_ended", "_first", "_head", "_origin", "_rest", "_saw_end", "_status", "request",
        "sent_at",
    )  # fmt: skip

    def __init__(
        self,
        request: ServerRequest,
        origin: float,
        *,
        first: Callable[[ServerRequest, float], None],
        ended: Callable[["StreamedAnswer"], None],
        clean: Callable[[str], str],
        early_end: bool = False,
    ) -> None:
        """`origin`: perf_counter of the window's start. `first` and `ended` are called once each, at most.

        `early_end`: an answer that ends by itself before all tokens is complete. `clean` removes secrets from a text.
        """
        super().__init__()
        self.request = request
        self._origin, self._first, self._ended, self._clean = origin, first, ended, clean
        self._early_end = early_end
        self.sent_at = 0.0  # perf_counter of the dispatch
        self._status = 0
        self._rest = b""
        self._head = b""  # of an answer that is not a stream
        self._saw_end = False

    def headers(self, status: int, headers: Mapping[str, str]) -> None:
        self._status = status
        kind = headers.get("content-type", "text/event-stream")
        if status != 200:
            self._head = b" "
            if 300 <= status < 400:
                where = headers.get("location", "nowhere")
                self.fail(STATUS, f"HTTP {status}: it redirects to {where}; pass that as --url")
        elif not kind.startswith("text/event-stream"):
            self._head = b" "

    def body(self, data: bytes) -> None:
        if self._head:
            if len(self._head) < 65536:
                self._head += data
            return
        if self.request.ended:
            return
        *lines, rest = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = rest
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:])
            elif line[:1] == b"{":
                self.fail(STREAM, f"the stream has a line that is not an event: {line.decode(errors='replace')}")
        if len(rest) > LONGEST_LINE:
            self.fail(STREAM, "a line of the stream is longer than 16 MiB")

    def end(self) -> None:
        request = self.request
        if request.ended:
            return
        if self._status != 200:
            self.fail(STATUS, f"HTTP {self._status}: {message_of(self._head).rstrip('.')}")
        elif self._head:
            self.fail(STREAM, "the answer came in one piece, so it has no first token: the server does not stream")
        elif not request.token_times:
            self.fail(STREAM, "the stream ended without output")
        elif not (self._saw_end or request.finish_reason):
            self.fail(CUT, "the stream ended without a finish_reason and without [DONE]")
        elif request.received_tokens is None:
            self.fail(USAGE, "the stream has no usage, so its tokens cannot be counted")
        elif request.received_tokens < request.output_tokens and not (
            self._early_end and request.finish_reason in ("stop", "tool_calls")
        ):
            how = request.finish_reason or "no finish_reason"
            self.fail(TRUNCATED, f"truncated: {request.received_tokens} of {request.output_tokens} tokens ({how})")
        else:
            request.ended = True
            self._ended(self)

    def fail(self, kind: str, why: str) -> None:
        request = self.request
        if request.ended:
            return
        request.ended = True
        if kind != CANCELLED:
            request.failed_s = time.perf_counter() - self._origin
        text = " ".join(self._clean(why).split())
        request.kind, request.error = kind, text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
        self._ended(self)

    def _event(self, text: bytes) -> None:
        line = text.strip()
        if line == b"[DONE]":
            self._saw_end = True
            return
        try:
            value = _decode(line.decode())[0]
            usage, choices = value.get("usage"), value.get("choices")
        except (ValueError, AttributeError):
            self.fail(STREAM, f"a chunk of the stream is not a JSON object: {line[:80].decode(errors='replace')}")
            return
        request = self.request
        if usage:
            request.prompt_tokens, request.received_tokens = _count(usage, "prompt"), _count(usage, "completion")
        if choices:
            choice = choices[0]
            if choice.get("finish_reason"):
                request.finish_reason = str(choice["finish_reason"])
            if has_output(choice):
                now = self.now - self._origin
                request.token_times.append(now)
                if len(request.token_times) == 1:
                    self._first(request, now)
        elif value.get("error") or value.get("object") == "error":
            self.fail(STREAM, f"error in the stream: {_message(value).rstrip('.')}")


def has_output(choice: Mapping[str, Any]) -> bool:
    """Whether a choice of a chunk has output: text or a delta that is not a role alone."""
    if "text" in choice:
        return True
    delta = choice.get("delta") or {}
    if "role" in delta:
        return any(delta.get(key) for key in OUTPUT_KEYS)
    return any(key in delta for key in OUTPUT_KEYS)


def _count(usage: Mapping[str, Any], what: str) -> int | None:
    value = usage.get(f"{what}_tokens")
    return value if isinstance(value, int) and value >= 0 else None


def message_of(body: bytes) -> str:
    """The message of an error's body, whatever server wrote it."""
    text = body.decode(errors="replace").strip()
    try:
        return _message(json.loads(text))
    except ValueError:
        return text[:LONGEST_REASON] or "no message"


def _message(value: Any) -> str:
    """`{"error": {"message": …}}` of OpenAI, `{"message": …}` of vLLM, `{"detail": [{"loc": …, "msg": …}]}`."""
    if isinstance(value, dict):
        for key in ("error", "message", "detail", "msg"):
            if value.get(key):
                where = value.get("loc")
                place = f"{'.'.join(map(str, where))}: " if key == "msg" and isinstance(where, list) else ""
                return place + _message(value[key])
    if isinstance(value, list) and value:
        return "; ".join(_message(one) for one in value[:3])
    return str(value)[:LONGEST_REASON]
