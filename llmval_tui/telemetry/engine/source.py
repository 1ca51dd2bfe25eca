"""The metrics of an inference server as a telemetry source: a thread asks for them, so that no other reading waits."""

import http.client
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from llmval_tui.telemetry.engine.exposition import read_exposition
from llmval_tui.telemetry.engine.processes import ServerProcesses
from llmval_tui.telemetry.sample import EngineSample, Note, Reading

TIMEOUT_S = 2.0  # for each wait on the socket; a busy server answers late, and its figures are then old
STALE_S = 5.0  # an answer older than this is not shown as the present state
# A server that answers without metrics is asked again after twice the time of before, up to this: each question is a
# line in its access log. One that does not answer is asked every time, because it may be starting.
LONGEST_PAUSE_S = 30.0
_LONGEST = 16 << 20  # bytes of an answer
NO_METRICS = "no_metrics"
# TensorRT-LLM has Prometheus' format at the second; its `/metrics` is JSON.
_PATHS = ("/metrics", "/prometheus/metrics")


class EngineSource:
    """The metrics that a server publishes of its engine; see `Source`.

    Args:
        url: of the server, as clients use it: `http://127.0.0.1:8000` or with a path such as `/v1`.
        interval_s: least seconds between two requests.
    """

    name = "engine"

    def __init__(self, url: str, interval_s: float = 1.0) -> None:
        parts = urlsplit(url)
        self.url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._sample: EngineSample | None = None
        self._note: Note | None = Note(self.name, "no_answer", f"{self.url} has not answered yet.")
        self._once: list[Note] = []  # notes for the next reading only
        self._told: list[str] = []
        self._path: str | None = None  # the one that answered
        self._pause_s = interval_s  # until a server without metrics is asked again
        self._due_ns = 0  # monotonic clock
        self._processes = ServerProcesses(self.url)

    def open(self) -> None:
        """Start asking. The server may not be up yet: every `read` says so."""
        self._thread = threading.Thread(target=self._work, name="engine metrics", daemon=True)
        self._thread.start()

    def read(self) -> Reading:
        """The newest answer, with the time at which it was asked for; returns at once."""
        with self._lock:
            sample, note, once = self._sample, self._note, self._once
            self._once = []
        if sample is not None and time.monotonic_ns() - sample.mono_ns > (STALE_S + self._interval_s) * 1e9:
            sample = None
            note = note or Note(self.name, "no_answer", f"{self.url} has not answered for over {STALE_S:g} s.")
        return Reading(engine=sample, notes=[*([note] if note else []), *once])

    def inventory(self) -> dict[str, Any]:
        """The server's URL."""
        return {"engine_url": self.url}

    def ask_again(self) -> bool:
        """Ask now, for at most two seconds; returns whether the server answered."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(TIMEOUT_S)  # it may be asking
        if thread is None or thread.is_alive() or self._path is None:
            return False
        self._ask_once()
        return self._sample is not None

    def close(self) -> None:
        """Stop asking; a request in flight ends with the process."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.is_set():
            started_ns = time.monotonic_ns()
            self._ask_once()
            self._stop.wait(max(0.0, self._interval_s - (time.monotonic_ns() - started_ns) / 1e9))

    def _ask_once(self) -> None:
        asked_ns = time.monotonic_ns()
        if asked_ns >= self._due_ns:
            sample, problem, reasons = self._ask(asked_ns)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if _without(problem) else self._interval_s
            self._due_ns = asked_ns + round(self._pause_s * 1e9) if _without(problem) else 0
        else:
            sample, problem, reasons = None, self._note, []  # its processes are still looked at
        seen = self._processes.read()
        if seen is not None:
            sample = replace(sample or EngineSample(self.url, asked_ns), processes=seen[0], cpu_s=round(seen[1], 2))
        with self._lock:
            self._sample, self._note = sample, problem
            if reasons and reasons != self._told:
                self._told = reasons
                self._once = [Note(self.name, "not_published", f"{reason}.") for reason in reasons]

    def _ask(self, mono_ns: int) -> tuple[EngineSample | None, Note | None, list[str]]:
        """The engine's figures; else why there are none."""
        problem = ""
        for path in (self._path,) if self._path else _PATHS:
            try:
                found = read_exposition(_get(self.url + path), self.url, mono_ns)
            except urllib.error.HTTPError as error:
                problem = problem or f"{path} answers {error.code}"
                continue
            except ValueError:
                problem = problem or f"{path} is not in Prometheus' text format"
                continue
            except (OSError, http.client.HTTPException) as error:
                why = getattr(error, "reason", None) or error
                return None, Note(self.name, "no_answer", f"{self.url}{path} does not answer ({why})."), []
            if found is not None:
                self._path = path
                return found[0], None, found[1]
            problem = problem or f"{path} names none of vLLM, SGLang, TensorRT-LLM and Dynamo"
        self._path = None
        text = f"{self.url} publishes no engine metrics ({problem}); SGLang does so only with --enable-metrics."
        return None, Note(self.name, NO_METRICS, text), []


def _without(problem: Note | None) -> bool:
    """Whether a server answers and publishes no engine metrics."""
    return problem is not None and problem.code == NO_METRICS


def _get(url: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": "text/plain"})
    # A proxy is for the outside: the server of a run is on this node or in its network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        data = answer.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise ValueError("the answer is too long")
    return str(data.decode("utf-8", "replace"))
