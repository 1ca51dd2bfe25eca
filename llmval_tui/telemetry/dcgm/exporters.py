"""The dcgm-exporters of many nodes, asked again and again by a few threads. Nobody waits for a node that hangs."""

import http.client
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from llmval_tui.telemetry.dcgm.exposition import NodeReading, read_dcgm

TIMEOUT_S = 5.0
LEAST_INTERVAL_S = 5.0  # the exporter itself collects every 30 s by default, and an answer of 8 GPUs takes 1 ms to read
THREADS = 16
_LONGEST = 16 << 20  # bytes of an answer
_LOCAL = ("localhost", "127.0.0.1", "::1")
NODE = "{node}"  # in an address
SSH = ("ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={TIMEOUT_S:.0f}")

Fetch = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class NodeTelemetry:
    """The newest answer of a node's exporter, and why there is no newer one."""

    reading: NodeReading | None = None
    arrived_s: float | None = None  # monotonic time of this process; clocks of nodes do not compare
    problem: str | None = None  # what went wrong in the last try; None: it answered


class Exporters:
    """Asks every node's exporter each `interval_s`, and keeps the newest answer of each."""

    def __init__(
        self, nodes: Sequence[str], address: str, interval_s: float = LEAST_INTERVAL_S, fetch: Fetch | None = None
    ) -> None:
        """`address`: see `fetcher`, which makes `fetch` unless one is given.

        Raises:
            ValueError: the address is not a URL of an exporter.
        """
        self.nodes = list(nodes)
        self._fetch = fetch or fetcher(address)
        self._interval_s = max(LEAST_INTERVAL_S, interval_s)
        self._lock = threading.Lock()
        self._known: dict[str, NodeTelemetry] = {node: NodeTelemetry() for node in self.nodes}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Ask in the background until `stop`."""
        self._thread = threading.Thread(target=self._work, name="exporters", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def newest(self) -> Mapping[str, NodeTelemetry]:
        """What is known of each node; returns at once."""
        with self._lock:
            return dict(self._known)

    def ask_all(self) -> None:
        """Ask every node once, `THREADS` of them at a time."""
        waiting = deque(self.nodes)

        def work() -> None:
            while waiting and not self._stop.is_set():
                try:
                    node = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                self._ask(node)

        # Daemons, unlike a pool's threads: a node that hangs must not hold up the end of the program.
        count = min(THREADS, len(self.nodes))
        threads = [threading.Thread(target=work, name="exporter", daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self.ask_all()
            self._stop.wait(max(0.0, self._interval_s - (time.monotonic() - began)))

    def _ask(self, node: str) -> None:
        reading, problem = ask(self._fetch, node)
        with self._lock:
            before = self._known[node]
            if reading is None:
                self._known[node] = NodeTelemetry(before.reading, before.arrived_s, problem)
            else:
                self._known[node] = NodeTelemetry(reading, time.monotonic(), None)


def ask(fetch: Fetch, node: str) -> tuple[NodeReading | None, str | None]:
    """One answer of a node's exporter, or why there is none. It never raises for a fault of the node."""
    asked_ns = time.monotonic_ns()
    try:
        found = read_dcgm(fetch(node), node, asked_ns)
    except urllib.error.HTTPError as error:
        return None, f"its exporter answers {error.code}"
    except ValueError as error:
        return None, f"its exporter's answer cannot be read: {error}"
    except (OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
        return None, f"its exporter does not answer ({getattr(error, 'reason', None) or error or type(error).__name__})"
    if len(found) > 1:
        named = ", ".join(list(found)[:3])
        return None, f"its exporter's answer is of {len(found)} nodes ({named} …): ask each node's own exporter"
    return next(iter(found.values())), None


def fetcher(address: str, ssh: Sequence[str] = SSH) -> Fetch:
    """How to get a node's text: `http://{node}:9400/metrics` is asked from here; an address without `{node}`, which
    can only mean the node's own (`http://localhost:9400/metrics`), is asked by `ssh NODE curl`.

    Raises:
        ValueError: it is neither.
    """
    parts = urlsplit(address.replace(NODE, "node"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{address} is not a URL: write http://{NODE}:9400/metrics, or http://localhost:9400/metrics")
    if NODE in address:
        return lambda node: _get(address.replace(NODE, node))
    if parts.hostname not in _LOCAL:
        raise ValueError(
            f"{address} is one exporter for all nodes: put {NODE} in the place of the host, or write localhost to ask "
            "each node's own by ssh"
        )
    return lambda node: _get_by_ssh(node, address, ssh)


def _get(url: str) -> str:
    # A proxy is for the outside; the exporters are in the cluster's network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=TIMEOUT_S) as answer:
        data = answer.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise ValueError("it is too long")
    return str(data.decode("utf-8", "replace"))


def _get_by_ssh(node: str, url: str, ssh: Sequence[str]) -> str:
    done = subprocess.run(
        [*ssh, "--", node, "curl", "-sSf", "--max-time", f"{TIMEOUT_S:.0f}", url],
        capture_output=True,
        timeout=3 * TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(lines[-1] if lines else f"ssh ended with {done.returncode}")
    return done.stdout.decode("utf-8", "replace")
