"""A server of the OpenAI API with known delays and known faults, for tests and benchmarks of the client.

    python -m tests.helpers.openai_mock --port 8000 --gap 0.01

It notes what it did for each request, so that a client's figures can be compared with the truth. Times are of
`time.perf_counter`, which all processes of one machine share.
"""

import argparse
import asyncio
import json
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

import httptools


@dataclass(slots=True)
class Behaviour:
    """What the server does. Times in seconds, counts in tokens."""

    first_s: float = 0.0  # from the whole request to the first token
    gap_s: float = 0.0  # between tokens
    slots: int = 0  # requests served at once; 0: all
    tokens_per_chunk: int = 1
    stall_every: int = 0  # every N-th request stalls once, in the middle of its answer
    stall_s: float = 2.0
    fail_share: float = 0.0  # of the requests that get `fail_status`
    fail_status: int = 500
    fail_seed: int = 0
    healthy: int = 0  # the first N requests never fail
    cut_after: int = 0  # the connection ends after N tokens
    cut_every: int = 1  # of every N-th request
    stop_after: int = 0  # the answer ends well after N tokens, with `stop_reason`
    stop_reason: str = "stop"
    late_headers: bool = False  # headers come with the first token, as of a server behind a buffering proxy
    silent: bool = False  # accepts, and never answers
    usage: bool = True
    usage_in_every_chunk: bool = False
    stream: bool = True
    malformed: bool = False  # a chunk in the middle is not JSON
    done: bool = True  # the stream ends with [DONE]
    error_in_stream: bool = False  # an error object in the middle of an answer with status 200
    role_first: bool = True  # chat: a chunk with the role alone comes first
    text: str = " a"  # of each token; "" as of a token that cannot be printed
    models: tuple[str, ...] = ("mock",)
    max_model_len: int | None = None  # told by /v1/models, and kept
    keep_secret_length: bool = False  # keeps max_model_len, and does not tell
    key: str | None = None
    unknown_fields: frozenset[str] = frozenset()  # refused with 422
    text_only: bool = False  # refuses token ids with 400
    redirect: str | None = None
    words_per_token: int = 1
    template_tokens: int = 0  # of the chat template
    close: bool = False  # ends the connection after each answer
    base: str = "/v1"


@dataclass(slots=True)
class Served:
    """What the server did for one request; times by `time.perf_counter`."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    arrived: float
    status: int = 0
    sent: list[float] = field(default_factory=list)  # of each chunk with tokens
    tokens: int = 0
    ended: float | None = None
    how: str = "open"  # done, cut, lost (the client left), error


class Mock:
    """The server. `served` has one entry for each completion that was asked for."""

    def __init__(self, behaviour: Behaviour | None = None, *, keep: bool = True, keep_times: bool = True) -> None:
        """`keep`: note every request; `keep_times`: and the time of every token."""
        self.behaviour = behaviour or Behaviour()
        self.keep, self.keep_times = keep, keep_times
        self.served: list[Served] = []
        self.open = self.most_open = 0
        self.waiting: deque[Callable[[], None]] = deque()
        self.busy = 0
        self.connections: set[_Connection] = set()
        self.count = 0
        self._random = random.Random(self.behaviour.fail_seed)
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> str:
        """Listen on localhost; returns the base URL."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, ssl=tls, backlog=16384)
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if tls else 'http'}://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    def fails(self) -> bool:
        return self.count > self.behaviour.healthy and self._random.random() < self.behaviour.fail_share


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, mock: Mock) -> None:
        self.mock = mock
        self.parser = httptools.HttpRequestParser(self)
        self.answer: _Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self.mock.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.mock.connections.discard(self)
        if self.answer is not None:
            self.answer.lost()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.body, self.headers = b"", b"", dict[str, str]()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        mock, path = self.mock, self.url.decode()
        behaviour = mock.behaviour
        if behaviour.redirect:
            self.reply(307, {}, f"Location: {behaviour.redirect}\r\n")
        elif behaviour.key and self.headers.get("authorization") != f"Bearer {behaviour.key}":
            given = self.headers.get("authorization", "").removeprefix("Bearer ")
            self.reply(401, {"error": {"message": f"Incorrect API key provided: {given}."}})
        elif path == f"{behaviour.base}/models":
            data: list[dict[str, Any]] = [
                {"id": name, "object": "model", "owned_by": "mock"} for name in behaviour.models
            ]
            if behaviour.max_model_len and not behaviour.keep_secret_length:
                data = [one | {"max_model_len": behaviour.max_model_len} for one in data]
            self.reply(200, {"object": "list", "data": data})
        elif path == "/log":  # of the completions so far, and forget them
            served, mock.served = mock.served, []
            self.reply(200, [asdict(one) | {"body": None, "headers": None} for one in served])
        elif path == "/health":
            self.reply(200, {})
        elif path == "/version":
            self.reply(200, {"version": "0.0.mock"})
        elif path in (f"{behaviour.base}/completions", f"{behaviour.base}/chat/completions"):
            self.complete(path, json.loads(self.body))
        else:
            self.reply(404, {"detail": "Not Found"})

    def complete(self, path: str, body: dict[str, Any]) -> None:
        mock, behaviour = self.mock, self.mock.behaviour
        served = Served(path, self.headers, body, time.perf_counter())
        if mock.keep:
            mock.served.append(served)
        mock.count += 1
        asked = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        prompt = prompt_tokens(body, behaviour)
        if refused := sorted(set(body) & behaviour.unknown_fields):
            served.status = 422
            self.reply(422, {"detail": [{"loc": ["body", refused[0]], "msg": "Extra inputs are not permitted"}]})
        elif body.get("model") not in behaviour.models:
            served.status = 404
            self.reply(404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}})
        elif behaviour.text_only and isinstance(body.get("prompt"), list):
            served.status = 400
            self.reply(400, {"error": {"message": "prompt must be a string"}})
        elif behaviour.max_model_len and prompt + asked > behaviour.max_model_len:
            served.status = 400
            text = f"This model's maximum context length is {behaviour.max_model_len} tokens."
            self.reply(400, {"error": {"message": text}})
        elif mock.fails():
            served.status, served.how = behaviour.fail_status, "error"
            self.reply(behaviour.fail_status, {"error": {"message": "the mock fails on purpose"}})
        else:
            self.answer = _Answer(self, served, asked, prompt, mock.count)

    def reply(self, status: int, value: Any, more: str = "") -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.transport.write(head.encode() + body)


def prompt_tokens(body: dict[str, Any], behaviour: Behaviour) -> int:
    if "messages" in body:
        contents = [message["content"] for message in body["messages"]]
        parts = [part if isinstance(part, list) else [{"text": part}] for part in contents]
        words = sum(len(one.get("text", "").split()) for part in parts for one in part)
        return words * behaviour.words_per_token + behaviour.template_tokens
    prompt = body.get("prompt", "")
    return len(prompt) if isinstance(prompt, list) else len(prompt.split()) * behaviour.words_per_token


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Answer:
    """One streamed answer. Deadlines are absolute, so that the gaps do not add up their lateness."""

    def __init__(self, connection: _Connection, served: Served, asked: int, prompt: int, number: int) -> None:
        self.connection, self.served, self.mock = connection, served, connection.mock
        self.chat = "messages" in served.body
        behaviour = self.mock.behaviour
        self.total = min(asked, behaviour.stop_after or asked)
        self.reason = behaviour.stop_reason if behaviour.stop_after and self.total < asked else "length"
        self.prompt, self.tokens, self.number = prompt, 0, number
        self.stalls = behaviour.stall_every and number % behaviour.stall_every == 0
        self.timer: asyncio.TimerHandle | None = None
        self.loop = asyncio.get_running_loop()
        self.ended = self.holds_slot = False
        self.chunk = framed(self.data({"content": behaviour.text} if self.chat else {"text": behaviour.text}))
        self.streams = behaviour.stream and bool(served.body.get("stream"))
        self.simple = self.streams and not (
            behaviour.late_headers or behaviour.error_in_stream or behaviour.malformed or behaviour.cut_after
            or self.stalls or self.mock.keep_times
        )  # fmt: skip
        self.mock.open += 1
        self.mock.most_open = max(self.mock.most_open, self.mock.open)
        if behaviour.silent:
            return
        if behaviour.slots and self.mock.busy >= behaviour.slots:
            self.mock.waiting.append(self.begin)
        else:
            self.mock.busy += 1
            self.begin()

    def data(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        choice |= {"delta": delta} if self.chat else delta
        return self.event({"choices": [choice]})

    def event(self, value: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        head = {"id": "cmpl-0123456789abcdef", "object": kind, "created": 1764400000, "model": "mock"}
        return b"data: " + json.dumps(head | value).encode() + b"\n\n"

    def write(self, data: bytes) -> None:
        self.connection.transport.write(framed(data))

    def headers(self) -> None:
        self.served.status = 200
        self.connection.transport.write(
            b"HTTP/1.1 200 OK\r\nServer: mock\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        if self.chat and self.mock.behaviour.role_first:
            self.write(self.data({"role": "assistant", "content": ""} if self.mock.behaviour.text else {"role": "x"}))

    def begin(self) -> None:
        if self.ended:  # the client left while it waited
            return self.next_in_line()
        self.holds_slot = True
        if self.streams and not self.mock.behaviour.late_headers:
            self.headers()
        self.due = self.loop.time() + self.mock.behaviour.first_s
        self.at(self.due)

    def at(self, due: float) -> None:
        if due <= self.loop.time():
            self.timer = None
            self.loop.call_soon(self.step)
        else:
            self.timer = self.loop.call_at(due, self.step)

    def step(self) -> None:
        if self.ended:
            return
        behaviour = self.mock.behaviour
        if self.simple and self.tokens + behaviour.tokens_per_chunk < self.total:  # the quick way of a benchmark
            self.tokens += behaviour.tokens_per_chunk
            self.connection.transport.write(self.chunk)
            self.due += behaviour.tokens_per_chunk * behaviour.gap_s
            return self.at(self.due)
        if not self.streams:
            return self.whole()
        if behaviour.late_headers and not self.tokens:
            self.headers()
        count = min(behaviour.tokens_per_chunk, self.total - self.tokens)
        self.tokens += count
        if self.mock.keep_times:
            self.served.sent.append(time.perf_counter())
        middle = self.tokens - count < self.total / 2 <= self.tokens
        if behaviour.error_in_stream and middle:
            self.write(b'data: {"error": {"message": "the engine died", "code": 500}}\n\n')
        elif behaviour.malformed and middle:
            self.write(b"data: {not JSON\n\n")
        else:
            last = self.tokens == self.total
            self.connection.transport.write(self.chunk if not last else framed(self.last_chunk()))
        if behaviour.cut_after and self.tokens >= behaviour.cut_after and self.number % behaviour.cut_every == 0:
            self.finish("cut")
            self.connection.transport.close()
        elif self.tokens >= self.total:
            self.end()
        else:
            self.due += count * behaviour.gap_s + (behaviour.stall_s if self.stalls and middle else 0.0)
            self.at(self.due)

    def last_chunk(self) -> bytes:
        text = self.mock.behaviour.text
        return self.data({"content": text} if self.chat else {"text": text}, self.reason)

    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.tokens,
            "total_tokens": self.prompt + self.tokens,
        }

    def end(self) -> None:
        behaviour = self.mock.behaviour
        asked = (self.served.body.get("stream_options") or {}).get("include_usage")
        if behaviour.usage and asked:
            self.write(self.event({"choices": [], "usage": self.usage()}))
        if behaviour.done:
            self.write(b"data: [DONE]\n\n")
        self.connection.transport.write(b"0\r\n\r\n")
        self.finish("done")
        if behaviour.close:
            self.connection.transport.close()

    def whole(self) -> None:
        self.tokens = self.total
        self.served.sent.append(time.perf_counter())
        self.served.status = 200
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.reason}
        text = self.mock.behaviour.text * self.total
        choice |= {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        self.connection.reply(200, {"object": "text_completion", "choices": [choice], "usage": self.usage()})
        self.finish("done")

    def lost(self) -> None:
        if not self.ended:
            self.finish("lost")

    def finish(self, how: str) -> None:
        self.ended = True
        self.served.how, self.served.tokens, self.served.ended = how, self.tokens, time.perf_counter()
        if self.timer is not None:
            self.timer.cancel()
        self.mock.open -= 1
        self.connection.answer = None
        if self.holds_slot:  # one that waits gives none back, or more than `slots` would be served later
            self.next_in_line()

    def next_in_line(self) -> None:
        if self.mock.waiting:
            self.loop.call_soon(self.mock.waiting.popleft())
        else:
            self.mock.busy -= 1


async def _serve(port: int, behaviour: Behaviour, keep: str) -> None:
    mock = Mock(behaviour, keep=keep != "nothing", keep_times=keep == "times")
    print(await mock.start(port), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="The mock server alone.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep", choices=("nothing", "requests", "times"), default="nothing", help="for GET /log")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    kinds = {one.name: one.type for one in fields(Behaviour)}
    for name, kind in kinds.items():
        if kind in (int, float, bool, "int", "float", "bool"):
            parser.add_argument(f"--{name.replace('_', '-')}", type=float if "float" in str(kind) else int)
    found = vars(parser.parse_args())
    port, loop, keep = found.pop("port"), found.pop("loop"), found.pop("keep")
    behaviour = Behaviour(**{name: value for name, value in found.items() if value is not None})
    if loop == "uvloop":
        import uvloop

        uvloop.run(_serve(port, behaviour, keep))
    else:
        asyncio.run(_serve(port, behaviour, keep))


if __name__ == "__main__":
    main()
