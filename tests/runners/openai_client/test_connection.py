"""Addresses, TLS, and connections that end at awkward moments."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from llmval_runners.openai_client.connection import Connections, Exchange, Target, tls_context
from llmval_runners.process.errors import Refused

from tests.helpers.openai_mock import Behaviour, Mock
from tests.runners.openai_client.conftest import load


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://node:8000", "http://node:8000/v1"),
        ("node:8000", "http://node:8000/v1"),
        ("http://node:8000/v1/", "http://node:8000/v1"),
        ("http://node:8000/v1/chat/completions", "http://node:8000/v1"),
        ("http://node/v1/completions", "http://node:80/v1"),
        ("https://node/openai", "https://node:443/openai/v1"),
        ("https://node/api/v3/", "https://node:443/api/v3"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_a_url_is_read_with_and_without_its_path(url: str, target: str) -> None:
    assert str(Target.parse(url)) == target


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://node", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        ("http://node:99999", "not a URL"),
        ("http://user:secret@node", "which would be recorded"),
        ("http://node/v1?key=secret", "which would be recorded"),
    ],
)
def test_a_url_that_is_none_or_has_a_secret_is_refused_without_it(url: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        Target.parse(url)
    assert "secret" not in str(refused.value).replace("user, a password", "")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


async def test_tls_is_checked_unless_told_otherwise(certificate: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    mock = Mock(Behaviour())
    url = await mock.start(tls=context)
    with pytest.raises(Refused, match=r"certificate is not trusted \(self.signed certificate\): pass --ca-file FILE"):
        await load(url)
    for flags, checked in ((["--insecure"], False), (["--ca-file", str(certificate / "cert.pem")], True)):
        record = await load(url, *flags)
        assert record["failed"] == 0
        server = record["llmval"]["identity"]["server"]
        assert (server["tls"], server["certificate_checked"]) == (True, checked)
    with pytest.raises(Refused, match=r"no server answers at .*: TLS failed|the server ended the connection"):
        await load(url.replace("https", "http"))
    await mock.stop()
    with pytest.raises(Refused, match=r"--ca-file .*none.* cannot be read \(No such file or directory\)"):
        tls_context(Target.parse("https://x"), tmp_path / "none", False)


async def test_https_of_a_server_that_speaks_http() -> None:
    mock = Mock()
    url = await mock.start()
    with pytest.raises(Refused, match=r"no server answers at https://.*: (TLS failed|connection|.*reset|.*eof)"):
        await load(url.replace("http", "https"), "--insecure")
    await mock.stop()


class Whole(Exchange):
    """Keeps what comes."""

    __slots__ = ("data", "failure", "ready", "status")

    def __init__(self) -> None:
        super().__init__()
        self.status, self.data, self.failure = 0, b"", ""
        self.ready = asyncio.Event()

    def headers(self, status: int, headers: object) -> None:
        self.status = status

    def body(self, data: bytes) -> None:
        self.data += data

    def end(self) -> None:
        self.ready.set()

    def fail(self, kind: str, why: str) -> None:
        self.failure = f"{kind}: {why}"
        self.ready.set()


async def served(answers: list[bytes], count: int) -> tuple[list[Whole], Connections]:
    """Ask `count` times, one after the other; each connection of the server gives the next answer and is closed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = Target.parse(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    connections = Connections(target, None, key=None, connect_timeout_s=10)
    found = []
    for _ in range(count):
        exchange = Whole()
        connections.send(exchange, "GET", "/")
        await exchange.ready.wait()
        found.append(exchange)
    connections.close()
    server.close()
    return found, connections


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    (found,), _ = await served([b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end"], 1)
    assert (found.status, found.data, found.failure) == (200, b"to the end", "")


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "cut: the server ended the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "cut: the server ended"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Enc", "cut: the server ended"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "protocol: the answer is not HTTP/1.1"),
        (b"", "cut: the server ended"),
    ],
)
async def test_an_answer_that_is_not_whole_is_not_an_answer(answer: bytes, failure: str) -> None:
    (found,), _ = await served([answer], 1)
    assert found.failure.startswith(failure)


async def test_what_a_kept_connection_lost_is_sent_again() -> None:
    """The server closed it between two requests, as it may; the request never reached it."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    found, connections = await served([whole, whole], 2)
    assert [one.data for one in found] == [b"ok", b"ok"]
    assert connections.resent <= 1 and connections.opened == 2
