"""The processes of a local server and their CPU time, found by the port on which it listens."""

import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

import psutil

from llmval_tui.foundation.process import descendants, process_table
from llmval_tui.telemetry.sample import ServerProcess

MOST = 16  # processes recorded by name; the rest is in the total
_LOOK_AGAIN_S = 5.0  # between two searches for new processes of the server


class ServerProcesses:
    """The processes that listen on a URL's port, and all their descendants.

    Another user's processes are visible only to root. A server on another host has none here.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._local = _is_this_host(parts.hostname or "")
        self._found: dict[int, psutil.Process] = {}
        self._looked_s: float | None = None

    def read(self) -> tuple[list[ServerProcess], float] | None:
        """The busiest processes, and the CPU seconds of all that run; None if none can be seen."""
        if not self._local:
            return None
        now = time.monotonic()
        if self._looked_s is None or now - self._looked_s >= _LOOK_AGAIN_S or not self._found:
            self._look()
            self._looked_s = now
        seen = []
        for pid, process in list(self._found.items()):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory = process.memory_info().rss
                    seen.append(ServerProcess(pid, process.name()[:40], times.user + times.system, memory))
            except psutil.Error:
                del self._found[pid]
        if not seen:
            return None
        seen.sort(key=lambda one: (-one.cpu_s, one.pid))
        return seen[:MOST], sum(one.cpu_s for one in seen)

    def _look(self) -> None:
        roots = [process for process in self._found.values() if process.is_running()] or self._listeners()
        self._found |= {root.pid: root for root in roots}
        # Not psutil's `children`: it fails if /proc denies the processes of other users (hidepid=noaccess).
        for pid in descendants(process_table(), [root.pid for root in roots]) - set(self._found):
            with suppress(psutil.Error):
                self._found[pid] = psutil.Process(pid)

    def _listeners(self) -> list[psutil.Process]:
        found = []
        try:
            connections = psutil.net_connections(kind="tcp")
        except (psutil.Error, OSError):
            return []
        for connection in connections:
            own = connection.laddr
            if connection.status == psutil.CONN_LISTEN and own and own.port == self._port and connection.pid:
                try:
                    found.append(psutil.Process(connection.pid))
                except psutil.Error:
                    continue
        return found


def _is_this_host(name: str) -> bool:
    """Whether the name is an address of this host; a name that needs a resolver is not asked for."""
    if name in ("localhost", "0.0.0.0", "::", socket.gethostname()):
        return True
    addresses = {address.address.partition("%")[0] for own in psutil.net_if_addrs().values() for address in own}
    return name in addresses or name.startswith("127.")
