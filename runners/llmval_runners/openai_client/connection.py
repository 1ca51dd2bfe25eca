"""HTTP/1.1 connections to one server, for many streams at once: httptools parses, uvloop carries the bytes.

A library that gives each answer a task and a stream (aiohttp) costs more than twice the CPU for each chunk, and its
times are those at which the task ran. Here, a chunk's time is taken when its bytes are read.
"""

import asyncio
import errno
import resource
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
from llmval_runners.process.errors import Refused

REUSE_WITHIN_S = 2.0  # uvicorn, the server of vLLM and SGLang, closes a connection that was idle for 5 s


class Unreachable(Exception):
    """No connection to the server. The message is the end of a sentence: "refused", "timed out after 10 s", …"""


class NoMoreFiles(Unreachable):
    """This process may not open more connections."""


class Exchange:
    """One request and its answer. The connection calls these methods, in this order, with the time of the read."""

    __slots__ = ("connection", "given_up", "now")

    def __init__(self) -> None:
        self.now = 0.0  # time.perf_counter() of the bytes that are being parsed
        self.connection: _Connection | None = None  # while it is in flight
        self.given_up = False

    def headers(self, status: int, headers: Mapping[str, str]) -> None:
        """The headers of the answer; their names are in lower case."""

    def body(self, data: bytes) -> None:
        """A part of the body."""

    def end(self) -> None:
        """The whole answer came."""

    def fail(self, kind: str, why: str) -> None:
        """It ends here, without a whole answer."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `base` is the path before `/completions`, and ends with /v1 unless the URL says otherwise."""

    scheme: str
    host: str
    port: int
    base: str

    @classmethod
    def parse(cls, url: str) -> "Target":
        """Read http://host:port, with or without /v1 or the whole path of an endpoint. Raises Refused otherwise."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise Refused("--url is not a URL: pass http://HOST:PORT.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused("--url is not an http or https URL: pass http://HOST:PORT.")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise Refused(
                "--url has a user, a password or a query, which would be recorded: pass the bare address, and a key in "
                "an environment variable (--api-key-variable)."
            )
        path = parts.path.rstrip("/")
        for endpoint in ("/chat/completions", "/completions", "/models"):
            path = path.removesuffix(endpoint)
        base = path if path.endswith(("/v1", "/v2", "/v3")) else f"{path}/v1"
        return cls(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), base)

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.origin}{self.base}"


def tls_context(target: Target, ca_file: Path | None, insecure: bool) -> ssl.SSLContext | None:
    """The context for https; None for http. Raises Refused if the file has no certificates."""
    if target.scheme == "http":
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Refused(f"--ca-file {ca_file} cannot be read ({why}): pass certificates in PEM.") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def raise_file_limit() -> int:
    """Let this process open as many connections as it may. Returns their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Connections:
    """The connections to one server. `send` never waits: a request that is late here would not be open-loop."""

    def __init__(
        self, target: Target, tls: ssl.SSLContext | None, *, key: str | None, connect_timeout_s: float
    ) -> None:
        self.target = target
        self.address: str | None = None
        self.opened = self.resent = 0
        self._tls, self._timeout_s = tls, connect_timeout_s
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        host = target.host if ":" not in target.host else f"[{target.host}]"
        self._headers = (
            f"Host: {host}:{target.port}\r\nUser-Agent: llmval\r\nAccept: text/event-stream, application/json\r\n"
            + (f"Authorization: Bearer {key}\r\n" if key else "")
        ).encode()

    async def resolve(self) -> None:
        """Find an address that answers, so that no request waits for the name server. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.target.host, self.target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unreachable(f"its name is not known ({error.strerror})") from None
        failure = Unreachable("it has no address")
        for *_, address in dict.fromkeys(found):
            self.address = str(address[0])
            try:
                self.put_back(await self._connect())
                return
            except Unreachable as error:
                failure = error
        raise failure

    def send(self, exchange: Exchange, method: str, path: str, body: bytes = b"") -> None:
        """Send a request on an idle connection, or on a new one."""
        request = b"%b %b HTTP/1.1\r\n%b" % (method.encode(), path.encode(), self._headers)
        if body:
            request += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        request += b"\r\n" + body
        connection = self._idle_connection()
        if connection is not None:
            connection.begin(exchange, request)
        else:
            self._open_for(exchange, request)

    def cancel(self, exchange: Exchange) -> None:
        """Give an exchange up: its connection ends, so that the server can stop its work."""
        exchange.given_up = True  # it may still wait for its connection
        connection, exchange.connection = exchange.connection, None
        if connection is not None:
            connection.exchange = None
            connection.transport.abort()

    def close(self) -> None:
        """End all connections; their exchanges are not told."""
        for task in list(self._connecting):
            task.cancel()
        for connection in list(self._all):
            connection.exchange = None
            connection.transport.abort()
        self._idle.clear()

    def resend(self, exchange: Exchange, request: bytes) -> None:
        """Send again what an idle connection lost, because the server had just closed it."""
        self.resent += 1
        self._open_for(exchange, request)

    def put_back(self, connection: "_Connection") -> None:
        """Keep a connection for the next request."""
        connection.idle_since = time.perf_counter()
        self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _idle_connection(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if time.perf_counter() - connection.idle_since <= REUSE_WITHIN_S and not connection.transport.is_closing():
                return connection
            connection.transport.close()
        return None

    def _open_for(self, exchange: Exchange, request: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._open_and_send(exchange, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _open_and_send(self, exchange: Exchange, request: bytes) -> None:
        try:
            connection = await self._connect()
        except NoMoreFiles as error:
            exchange.fail("client", f"no connection: {error}")
        except Unreachable as error:
            exchange.fail("connection", f"no connection: {error}")
        else:
            if exchange.given_up:
                self.put_back(connection)
            else:
                connection.begin(exchange, request)

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        named: dict[str, Any] = {"ssl": self._tls, "server_hostname": self.target.host} if self._tls else {}
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), self.address or self.target.host, self.target.port, **named
                )
        except TimeoutError:
            raise Unreachable(f"it timed out after {self._timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(
                f"its certificate is not trusted ({error.verify_message}): pass --ca-file FILE, or --insecure"
            ) from None
        except ssl.SSLError as error:
            raise Unreachable(f"TLS failed ({error.reason or error}): does it speak https?") from None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise NoMoreFiles(
                    f"this process may open only {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} files: raise "
                    "`ulimit -n`, or pass --max-in-flight"
                ) from None
            if error.errno == errno.EADDRNOTAVAIL:
                raise NoMoreFiles("all local ports are taken: widen net.ipv4.ip_local_port_range") from None
            raise Unreachable(_reason(error)) from None
        self.opened += 1
        self._all.add(connection)
        return connection


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError) or error.errno == errno.ECONNREFUSED:
        return "it was refused, so nothing listens there"
    return (error.strerror or str(error) or type(error).__name__).lower()


class _Connection(asyncio.Protocol):
    """One connection, with one exchange at a time."""

    transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self._connections = connections
        self._parser = httptools.HttpResponseParser(self)
        self._used = False
        self._request = b""  # until the first byte of the answer
        self._headers: dict[str, str] = {}
        self._until_close = False

    def begin(self, exchange: Exchange, request: bytes) -> None:
        """Send the request of an exchange."""
        self.exchange, exchange.connection = exchange, self
        self._request = request
        self.transport.write(request)

    def _release(self) -> Exchange | None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.connection = None
        return exchange

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # nobody asked
            self.transport.abort()
            return
        exchange.now = time.perf_counter()
        self._request = b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("protocol", f"the answer is not HTTP/1.1 ({error})")

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.lost(self)
        exchange = self._release()
        if exchange is None:
            return
        if self._request and self._used:
            self._connections.resend(exchange, self._request)
        elif self._until_close:
            exchange.now = time.perf_counter()
            exchange.end()
        else:
            exchange.fail("cut", "the server ended the connection before the answer was complete")

    # -- called by httptools

    def on_message_begin(self) -> None:
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.exchange is not None:
            status = self._parser.get_status_code()
            self._until_close = not {"content-length", "transfer-encoding"} & self._headers.keys()
            self.exchange.headers(status, self._headers)

    def on_body(self, data: bytes) -> None:
        if self.exchange is not None:
            self.exchange.body(data)

    def on_message_complete(self) -> None:
        exchange = self._release()
        self._used, self._until_close = True, False
        if exchange is None:  # it was given up while its last bytes were parsed
            self.transport.abort()
            return
        if self._parser.should_keep_alive():
            self._connections.put_back(self)
        else:
            self.transport.close()
        exchange.end()

    def _fail(self, kind: str, why: str) -> None:
        exchange = self._release()
        self.transport.abort()
        if exchange is not None:
            exchange.fail(kind, why)
