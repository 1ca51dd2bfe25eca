"""Asking a server whether it is ready: a health answer, and one completed request of the OpenAI-compatible API.

The supervisor of the server's run does it in a thread, because a server that loads a model may keep a request for
minutes. `/v1/models` alone is not enough: several servers answer it before they can complete anything.
"""

import http.client
import json
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import ServerSpec

_POLL_S = 0.5
_SHORT_S = 10.0  # of a request that needs no model
_MOST_BYTES = 1 << 20
_LACKS = (404, 405, 501)  # the server has no such path
_REFUSES = (400, 404, 405, 415, 422, 501)  # not this request, but perhaps the other one
_DEFINITE = 3  # a request that was refused so often will not be completed later


class Probe(threading.Thread):
    """Asks until the server is ready, or will never be.

    Args:
        api_key: sent as a bearer token; None: none.
        age_s: the age of the server's process in seconds.
    """

    def __init__(self, spec: ServerSpec, api_key: str | None, age_s: Callable[[], float]) -> None:
        super().__init__(name="probe", daemon=True)
        self.waits_for: str | None = None
        self.model: str | None = None
        self.version: str | None = None
        self.failure: str | None = None  # one sentence; it will never be ready
        self.ready_s: float | None = None  # set last
        self._spec = spec
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._age_s = age_s
        self._refusals = 0
        # The server is the operator's own; a proxy of the environment has nothing to do with it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def run(self) -> None:
        """Ask in turn for health, models and a completion, with half a second between two tries."""
        while self.ready_s is None and self.failure is None:
            try:
                self._try()
            except _Wait as wait:
                self.waits_for = str(wait)
            except _Never as never:
                self.failure = str(never)
            except Exception as error:  # noqa: BLE001  (nobody else would report a defect in this thread)
                self.failure = f"llmval could not ask it: {type(error).__name__}: {error}"
            if self.ready_s is None and self.failure is None:
                time.sleep(_POLL_S)

    def _try(self) -> None:
        code, _ = self._ask("/health", _SHORT_S)
        if code not in (200, 204, *_LACKS):
            raise _Wait(f"/health (HTTP {code})")
        model = self._model()
        self._complete(model)
        self.model = model
        self.version = self._version()
        self.waits_for = None
        self.ready_s = self._age_s()

    def _model(self) -> str:
        wanted = self._spec.model
        code, body = self._ask("/v1/models", _SHORT_S)
        self._check_key(code, "/v1/models")
        if code != 200 and wanted is not None:  # `transformers serve` without its hub answers 500, and completes
            return wanted
        if code != 200:
            raise _Wait(f"/v1/models (HTTP {code}; with model=NAME, its item does not need it)")
        listed = body.get("data") if isinstance(body, dict) else None
        names = [str(one["id"]) for one in listed or [] if isinstance(one, dict) and "id" in one]
        if not isinstance(listed, list):
            raise _Wait("/v1/models (the answer has no list of models)")
        if wanted is not None and names and wanted not in names:
            shown = ", ".join(clean_line(name) for name in names[:5])
            raise _Never(f"it serves {shown}, not the model {wanted} that the item names with model=")
        if wanted is None and not names:
            raise _Wait("/v1/models (it lists no model)")
        return wanted or names[0]

    def _complete(self, model: str) -> None:
        text = {"model": model, "prompt": "Hello", "max_tokens": 1}
        code, body = self._ask("/v1/completions", self._remaining_s(), text)
        if code in _REFUSES:
            chat = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
            code, body = self._ask("/v1/chat/completions", self._remaining_s(), chat)
        self._check_key(code, "a completion")
        choices = body.get("choices") if isinstance(body, dict) else None
        if code == 200 and isinstance(choices, list) and choices:
            return
        how = f"HTTP {code}{_message(body)}" if code != 200 else "the answer has no choices"
        self._refusals = self._refusals + 1 if code in _REFUSES else 0
        if self._refusals >= _DEFINITE:
            raise _Never(f"it answers /v1/models, but it completes no request ({how})")
        raise _Wait(f"one completed request; it answers /v1/models, but completes none ({how})")

    def _version(self) -> str | None:
        try:
            code, body = self._ask("/version", _SHORT_S)
        except (_Wait, _Never):
            return None
        version = body.get("version") if code == 200 and isinstance(body, dict) else None
        return clean_line(version)[:100] if isinstance(version, str) else None

    def _remaining_s(self) -> float:
        return max(self._spec.ready_within_s - self._age_s(), 5.0)

    def _check_key(self, code: int, what: str) -> None:
        if code in (401, 403):
            sent = "refuses the API key of its command" if self._headers else "wants an API key"
            raise _Never(
                f"it {sent} for {what} (HTTP {code}): give it one with --api-key or VLLM_API_KEY in its own command"
            )

    def _ask(self, path: str, timeout_s: float, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer; None instead of what is not JSON.

        Raises:
            _Wait: there is no answer yet.
            _Never: it does not speak this protocol.
        """
        data = json.dumps(body).encode() if body is not None else None
        headers = {**self._headers, **({"Content-Type": "application/json"} if data else {})}
        request = urllib.request.Request(self._spec.url + path, data, headers)
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return answer.status, _json(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read(_MOST_BYTES))
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError):
                raise _Never(f"TLS with {self._spec.url} fails ({error.reason}): correct url=") from error
            raise _Wait(f"{path} ({_reason(error.reason)})") from error
        except TimeoutError as error:
            raise _Wait(f"{path} (no answer within {timeout_s:.0f} s)") from error
        except (OSError, ValueError) as error:  # ValueError: what answers does not speak HTTP
            raise _Wait(f"{path} ({_reason(error)})") from error
        except http.client.HTTPException as error:
            raise _Wait(f"{path} (what answers does not speak HTTP: {type(error).__name__})") from error


class _Wait(Exception):
    """Not yet; the message says what for."""


class _Never(Exception):
    """It will not become ready; the message says why."""


def answers(spec: ServerSpec, timeout_s: float = 10.0) -> str | None:
    """Why the server does not answer its health path now; None if it answers."""
    probe = Probe(spec, None, lambda: 0.0)
    try:
        code, _ = probe._ask("/health", timeout_s)
    except (_Wait, _Never) as error:
        return str(error)
    return f"/health (HTTP {code})" if code >= 500 and code not in _LACKS else None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _message(body: Any) -> str:
    """The server's own message in an error answer."""
    error = body.get("error", body) if isinstance(body, dict) else None
    text = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return f": {clean_line(text)[:200]}" if isinstance(text, str) and text.strip() else ""


def _reason(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return clean_line(str(text)).lower()


def api_key_of(argv: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The key that a server's own command demands: `--api-key KEY`, `--api-key=KEY`, or a variable of it."""
    for index, word in enumerate(argv):
        name, sign, value = word.partition("=")
        if name.replace("_", "-") == "--api-key":
            value = value if sign else next(iter(argv[index + 1 : index + 2]), "")
            return value or None
    known = {**os.environ, **environment}
    return next((known[name] for name in ("VLLM_API_KEY", "SGLANG_API_KEY", "LLAMA_API_KEY") if known.get(name)), None)
