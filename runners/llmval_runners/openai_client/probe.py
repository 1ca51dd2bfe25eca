"""Short requests before the window: whether the server is there, what it serves, and whether its answers count.

Whatever would make all requests fail is refused here in one sentence, before anything is measured.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmval_runners.load_test.generator import Arrival
from llmval_runners.openai_client import answer
from llmval_runners.openai_client.answer import ServerRequest, StreamedAnswer, message_of
from llmval_runners.openai_client.connection import Connections, Exchange, Unreachable
from llmval_runners.openai_client.options import CHAT, TEXT, OpenAiOptions
from llmval_runners.openai_client.prompts import LETTERS, WORDS, Bodies, Prompt, TextFit
from llmval_runners.process.errors import Refused

LONGEST_S = 120.0  # of one probe
SHORT = 4  # tokens
ATTEMPTS, BETWEEN_S = 6, 0.25
PASSING = ("HTTP 5", "HTTP 429", "HTTP 408", "no connection")
FIT_WORDS = (16, 80)


@dataclass(slots=True)
class Served:
    """What the server reports about itself; None if it does not."""

    model: str
    max_model_len: int | None = None
    engine: str | None = None  # `owned_by` of the model: vllm, sglang, …
    software: str | None = None  # the header Server
    version: str | None = None  # answer of /version, as vLLM and SGLang have it
    models: list[str] = field(default_factory=list)


class _Get(Exchange):
    """Collects the answer to a GET."""

    __slots__ = ("_data", "failure", "headers_found", "ready", "status")

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()
        self.status = 0
        self.failure = ""
        self.headers_found: Mapping[str, str] = {}
        self._data = b""

    def headers(self, status: int, headers: Mapping[str, str]) -> None:
        self.status, self.headers_found = status, headers

    def body(self, data: bytes) -> None:
        self._data += data

    def end(self) -> None:
        self.ready.set()

    def fail(self, kind: str, why: str) -> None:
        self.failure = why
        self.ready.set()

    @property
    def text(self) -> bytes:
        return self._data

    @property
    def value(self) -> dict[str, Any]:
        try:
            value = json.loads(self._data)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Probe:
    """Asks one server. All methods raise Refused."""

    def __init__(self, options: OpenAiOptions, connections: Connections, clean: Callable[[str], str]) -> None:
        self._options, self._connections, self._clean = options, connections, clean
        self._limit_s = min(options.server.request_timeout_s, LONGEST_S)

    async def server(self) -> Served:
        """Connect, and find the model."""
        target, asked = self._connections.target, self._options.server.model
        try:
            await self._connections.resolve()
        except Unreachable as error:
            raise Refused(
                f"no server answers at {target.origin}: {self._clean(str(error))}. Start it, or correct --url."
            ) from None
        got = await self._get(f"{target.base}/models")
        self._refuse_key(got.status, got.text)
        if 300 <= got.status < 400:
            where = self._clean(got.headers_found.get("location", "nowhere"))
            raise Refused(f"{target} redirects to {where}: pass that as --url.")
        listed = got.value.get("data") if got.status == 200 else None
        entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        names = [str(one.get("id")) for one in entries]
        if asked is None and len(names) != 1:
            raise Refused(
                f"{target} serves {', '.join(names[:8])}: pass one of them as --model."
                if names
                else f"{target}/models names no model (HTTP {got.status}): pass --model NAME."
            )
        model = asked or names[0]
        entry = next((one for one in entries if one.get("id") == model), {})
        longest = entry.get("max_model_len")
        version = (await self._get("/version", needed=False)).value.get("version")
        return Served(
            model,
            longest if isinstance(longest, int) else None,
            str(entry["owned_by"]) if entry.get("owned_by") else None,
            got.headers_found.get("server"),
            str(version) if version else None,
            names,
        )

    async def bodies(self, served: Served, prompts: list[Prompt]) -> Bodies:
        """The maker of bodies, with its words fitted, after one whole completion was read."""
        options = self._options
        plain = Bodies(
            options.server, served.model, prompt_format=options.prompt_format, vocab=options.vocab, prompts=prompts
        )
        arrival = Arrival(0, 0.0, 2 * SHORT, SHORT)
        await self._complete(plain if not prompts else self._words(served, WORDS), arrival, served)
        if options.prompt_format != TEXT or prompts:
            return plain
        fit = await self._fit(served, WORDS)
        if not fit.exact:
            fit = await self._fit(served, LETTERS)
        return Bodies(options.server, served.model, prompt_format=options.prompt_format, vocab=options.vocab, fit=fit)

    async def longest(self, bodies: Bodies, arrivals: list[Arrival], served: Served) -> None:
        """Ask for the longest request, and give it up at its first token: does the model's context hold it?"""
        if not arrivals:
            return
        most = max(arrivals, key=lambda one: one.input_tokens + bodies.output_tokens(one))
        tokens = most.input_tokens + bodies.output_tokens(most)
        if served.max_model_len is not None and bodies.input_tokens(most) and tokens > served.max_model_len:
            raise Refused(
                f"the longest request has {most.input_tokens:,} + {bodies.output_tokens(most):,} tokens, and "
                f"{served.model} holds {served.max_model_len:,}: pass shorter --prompt-len and --output-len."
            )
        request = await self._ask(bodies, most, until_first=True)
        if request.error and request.kind != answer.CANCELLED:
            raise Refused(
                f"the longest request, of {most.input_tokens:,} + {bodies.output_tokens(most):,} tokens, fails: "
                f"{request.error}. Pass shorter --prompt-len and --output-len."
            )

    async def settle(self, bodies: Bodies) -> None:
        """Wait until the server has finished what was given up: a short request is answered. No matter how."""
        await self._ask(bodies, Arrival(0, 0.0, 2 * SHORT, 1))

    def _words(self, served: Served, words: tuple[str, ...]) -> Bodies:
        return Bodies(
            self._options.server, served.model, prompt_format=TEXT, vocab=self._options.vocab, fit=TextFit(words)
        )

    async def _fit(self, served: Served, words: tuple[str, ...]) -> TextFit:
        counts = []
        for number in FIT_WORDS:
            request = await self._complete(self._words(served, words), Arrival(number, 0.0, number, 1), served)
            assert request.prompt_tokens is not None  # `_complete` has refused it
            counts.append((number, request.prompt_tokens))
        return TextFit.through(words, *counts)

    async def _complete(self, bodies: Bodies, arrival: Arrival, served: Served) -> ServerRequest:
        request = await self._ask(bodies, arrival)
        if request.error:
            raise Refused(self._sentence(request, served))
        if request.prompt_tokens is None:
            raise Refused("the server's usage has no prompt_tokens, so prompts cannot be counted.")
        return request

    async def _ask(self, bodies: Bodies, arrival: Arrival, *, until_first: bool = False) -> ServerRequest:
        """Ask once, and again where the failure may be a passing one: the window counts those."""
        for attempt in range(ATTEMPTS):
            request = await self._ask_once(bodies, arrival, until_first)
            passing = request.kind == answer.CUT or request.error.startswith(PASSING)
            if not passing or attempt == ATTEMPTS - 1:
                break
            await asyncio.sleep(BETWEEN_S)
        return request

    async def _ask_once(self, bodies: Bodies, arrival: Arrival, until_first: bool) -> ServerRequest:
        request = ServerRequest(arrival.index, arrival.input_tokens, arrival.output_tokens)
        ready = asyncio.Event()

        def first(_: ServerRequest, __: float) -> None:
            if until_first:
                ready.set()

        sent = StreamedAnswer(
            request, 0.0, first=first, ended=lambda _: ready.set(), clean=self._clean, early_end=not self._ignores_eos
        )
        path = f"{self._connections.target.base}/{'chat/' if self._options.server.api == CHAT else ''}completions"
        self._connections.send(sent, "POST", path, bodies.body(arrival, -1))
        try:
            async with asyncio.timeout(self._limit_s):
                await ready.wait()
        except TimeoutError:
            sent.fail(answer.TIMEOUT, f"no whole answer within {self._limit_s:g} s")
        if not request.ended:
            sent.fail(answer.CANCELLED, "given up at its first token")
        self._connections.cancel(sent)
        return request

    @property
    def _ignores_eos(self) -> bool:
        return self._options.server.ignore_eos

    def _sentence(self, request: ServerRequest, served: Served) -> str:
        """What is wrong with the first completion, and what to do."""
        options, why = self._options, request.error
        where = f"{self._connections.target}, asked for {SHORT} tokens of {served.model}:"
        if "vocab" in why and options.prompt_format != TEXT:
            return f"{where} {why}. Pass the size of its vocabulary as --vocab."
        if request.kind == answer.STATUS:
            status = int(why.split()[1].rstrip(":"))
            self._refuse_key(status, why.partition(": ")[2].encode())
            if status == 404:
                names = f"; it serves {', '.join(served.models[:8])}" if served.models else ""
                return f"{where} {why}{names}. Correct --model, --api or --url."
            if status in (400, 422):
                remedies = ["--no-ignore-eos if it does not know that field"] if options.server.ignore_eos else []
                if options.prompt_format != TEXT:
                    remedies.append("--prompt-format text if it takes no token ids, or a smaller --vocab")
                if options.server.extra_body:
                    remedies.append("another --extra-body")
                return f"{where} {why}. Pass {', or '.join(remedies) or 'a request that it takes'}."
        if request.kind == answer.USAGE:
            return (
                f"{where} {why}: it must support stream_options.include_usage (TGI, vLLM, SGLang and TensorRT-LLM do)."
            )
        if request.kind == answer.TRUNCATED:
            return f"{where} {why}. Pass --no-ignore-eos if answers may end early."
        return f"{where} {why}."

    def _refuse_key(self, status: int, body: bytes) -> None:
        if status in (401, 403):
            variable, key = self._options.server.key_variable, self._options.server.key
            state = "is not right" if key else "is not set"
            message = self._clean(message_of(body))
            raise Refused(
                f"the server refuses the key (HTTP {status}: {message}): the variable {variable} {state}; put the key "
                "there, or name another one with --api-key-variable."
            )

    async def _get(self, path: str, *, needed: bool = True) -> _Get:
        got = _Get()
        self._connections.send(got, "GET", path)
        try:
            async with asyncio.timeout(self._limit_s):
                await got.ready.wait()
        except TimeoutError:
            self._connections.cancel(got)
            if not needed:
                return got
            raise Refused(
                f"{self._connections.target.origin}{path} did not answer within {self._limit_s:g} s: is the server "
                "still loading?"
            ) from None
        if got.failure and needed:
            raise Refused(f"{self._connections.target.origin}{path}: {self._clean(got.failure)}.")
        return got
