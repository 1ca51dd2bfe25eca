"""The servers that llmval knows by their command: what they are called, and where they answer.

Only `--host` and `--port` of a command are read. Any other program may be a server too; its item says so with
`action=server url=…`.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from llmval_tui.actions.tools.command_line import is_python, option, starts
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

# The words of a command → the port without `--port`.
_DEFAULT_PORTS: dict[tuple[str, ...], int] = {
    ("vllm", "serve"): 8000,
    ("vllm.entrypoints.openai.api_server",): 8000,
    ("vllm.entrypoints.cli.main", "serve"): 8000,
    ("sglang", "serve"): 30000,
    ("sglang.launch_server",): 30000,
    ("transformers", "serve"): 8000,
    ("transformers.cli.transformers", "serve"): 8000,
    ("trtllm-serve",): 8000,
    ("tensorrt_llm.commands.serve",): 8000,
    ("llama-server",): 8080,
}
_NOT_SERVING = {"--help", "-h", "--version", "-v"}
_ANY = ("0.0.0.0", "::", "[::]", "")  # a server that listens on all addresses answers on this one:
_LOOPBACK = "127.0.0.1"
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server found in a command."""

    name: str  # "vllm serve"
    url: str | None  # None: it runs elsewhere, or its port is not written as a number


def known_server(words: Sequence[str]) -> KnownServer | None:
    """The known server that a command starts, also through `uv run`, `numactl`, `env` …; None otherwise."""
    words = list(words)
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    for rest, elsewhere in starts(words):
        named = [PurePosixPath(rest[0]).name, *rest[1:]]
        if is_python(rest[0]) and "-m" in rest[:4]:
            named = rest[rest.index("-m") + 1 :]
        known = next((key for key in _DEFAULT_PORTS if tuple(named[: len(key)]) == key), None)
        if known is None or _NOT_SERVING & set(named):
            continue
        port = option(named, "--port") or str(_DEFAULT_PORTS[known])
        host = option(named, "--host") or _LOOPBACK
        host = _LOOPBACK if host in _ANY else host
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}" if port.isdecimal() and not elsewhere else None
        return KnownServer(" ".join(known), url)
    return None


def known_server_in(text: str) -> KnownServer | None:
    """The same for a command as an item writes it."""
    try:
        return known_server(shlex.split(text))
    except ValueError:
        return None


def checked_url(text: str) -> str:
    """The URL of an item's `url=`, without a slash at its end.

    Raises:
        Refused: it is not http://HOST:PORT.
    """
    text = text.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.username or parts.query or parts.fragment or parts.path:
        raise Refused(
            f"url={clean_line(text)} is not the address of a server: write url=http://127.0.0.1:8000, without a path."
        )
    return text


def listener_on(url: str) -> str | None:
    """Who listens on the address already: `pid 123 (python -m http.server)`, or `another process`; None if nobody does.

    It reads /proc and opens no connection, so that nobody is disturbed.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _holds(process, inodes):
            return f"pid {process.name} ({_command_line(process)})"
    return "a process of another user"


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(str(link.readlink()) in inodes for link in (process / "fd").iterdir())
    except OSError:
        return False


def _command_line(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "it has just ended"
    return clean_line(" ".join(word.decode("utf-8", "replace") for word in words if word))[:80] or "no command line"
