"""Whether a server is ready, asked of a real one in this process; and why one ended, from its logs."""

import argparse
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from llmval_tui.runs.records import ServerSpec
from llmval_tui.runs.server_log import cause_of_end, last_error_of
from llmval_tui.runs.server_probe import Probe, _Never, _Wait, answers, api_key_of
from llmval_tui.runs.store import Run
from tests.helpers.fake_openai_server import Answers

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(completion="500", …)`: a server with these options in a thread; gives its URL."""
    running: list[ThreadingHTTPServer] = []

    def start(**options: Any) -> str:
        known: dict[str, Any] = {
            "completion": "ok", "load": 0.0, "models": ["tiny"], "version": None, "no_health": False, "sick": None,
            "api_key": None, "die_after": 0,
        }  # fmt: skip
        answers = type("Own", (Answers,), {"options": argparse.Namespace(**known | options)})
        server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def asked(url: str, *, tries: int = 1, model: str | None = None, key: str | None = None, left_s: float = 20) -> Probe:
    """A probe after some tries, without the pauses between them."""
    probe = Probe(ServerSpec(url, 30.0, model), key, lambda: 30.0 - left_s)
    for _ in range(tries):
        try:
            probe._try()
        except _Wait as wait:
            probe.waits_for = str(wait)
        except _Never as never:
            probe.failure = str(never)
    return probe


@pytest.mark.parametrize("options", [{}, {"no_health": True}, {"completion": "chat-only"}])
def test_ready_is_a_health_answer_and_a_completed_request(serve: Serve, options: dict[str, Any]) -> None:
    probe = asked(serve(version="0.32", **options))
    assert (probe.ready_s, probe.model, probe.version) == (10.0, "tiny", "0.32")
    assert probe.waits_for is None and probe.failure is None


@pytest.mark.parametrize(
    ("options", "waits_for"),
    [
        ({"load": 1e9}, "/health (HTTP 503)"),
        ({"models": []}, "/v1/models (it lists no model)"),
        ({"models": ["500"]}, "/v1/models (HTTP 500; with model=NAME, its item does not need it)"),
        (
            {"completion": "500"},
            "one completed request; it answers /v1/models, but completes none (HTTP 500: engine is not there)",
        ),
        (
            {"completion": "empty"},
            "one completed request; it answers /v1/models, but completes none (the answer has no choices)",
        ),
    ],
)
def test_it_waits_for_what_may_still_come(serve: Serve, options: dict[str, Any], waits_for: str) -> None:
    probe = asked(serve(**options), tries=4)
    assert (probe.ready_s, probe.failure, probe.waits_for) == (None, None, waits_for)


def test_a_request_that_is_refused_three_times_will_never_be_completed(serve: Serve) -> None:
    url = serve(completion="422")
    assert asked(url, tries=2).failure is None
    assert asked(url, tries=3).failure == (
        "it answers /v1/models, but it completes no request (HTTP 422: engine is not there)"
    )


def test_the_named_model_must_be_served(serve: Serve) -> None:
    url = serve(models=["a", "b"])
    assert asked(url, model="b").model == "b"
    assert asked(serve(models=["500"]), model="b").model == "b"
    assert asked(url, model="c").failure == "it serves a, b, not the model c that the item names with model="


def test_an_api_key_is_the_commands_own(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    url = serve(api_key="s3cret")
    assert asked(url, key="s3cret").model == "tiny"
    assert "wants an API key for /v1/models (HTTP 401)" in (asked(url).failure or "")
    assert "refuses the API key of its command" in (asked(url, key="other").failure or "")
    for name in ("VLLM_API_KEY", "SGLANG_API_KEY", "LLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert api_key_of(["vllm", "serve", "m", "--api-key", "a"], {}) == "a"
    assert api_key_of(["vllm", "serve", "m", "--api_key=b"], {}) == "b"
    assert api_key_of(["vllm", "serve", "m"], {"VLLM_API_KEY": "c"}) == "c"
    assert api_key_of(["vllm", "serve", "m", "--api-key"], {}) is None


def test_what_is_not_an_http_server_is_named(serve: Serve) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]

        def talk() -> None:
            with closing(other.accept()[0]) as connection:
                connection.recv(100)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        assert "does not speak HTTP" in (asked(f"http://127.0.0.1:{port}").waits_for or "")
        thread.join()
    assert "connection refused" in (asked(f"http://127.0.0.1:{port}").waits_for or "")
    tls = asked(serve().replace("http:", "https:"))
    assert (tls.failure or "").startswith("TLS with https://")


def test_a_proxy_of_the_environment_is_not_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert asked(serve()).model == "tiny"


def test_whether_it_answers_now(serve: Serve) -> None:
    assert answers(ServerSpec(serve(), 1.0)) is None
    assert answers(ServerSpec(serve(no_health=True), 1.0)) is None
    assert answers(ServerSpec(serve(load=1e9), 1.0)) == "/health (HTTP 503)"


_ROOT = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (
            ["(EngineCore pid=9) ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", _ROOT],
            "memory ran out while it was loading: (EngineCore pid=9) ERROR torch.OutOfMemoryError",
        ),
        (
            ["ValueError: Free memory on device cuda:0 (3.2/139.8 GiB) on startup is less than desired GPU", _ROOT],
            "memory ran out while it was loading: ValueError: Free memory on device",
        ),
        (
            ["RuntimeError: 'Available memory on node 0 (9.5/19.2 GiB) on kv cache allocation is less than", _ROOT],
            "memory ran out while it was loading: RuntimeError: 'Available memory",
        ),
        (
            ["OSError: /no/model is not a local folder and is not a valid model identifier listed on 'https://hf.co'"],
            "the model was not found: OSError: /no/model",
        ),
        (
            ["huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name': '/no/such/model'."],
            "the model was not found: huggingface_hub.errors.HFValidationError",
        ),
        (["OSError: [Errno 98] Address already in use"], "its port is taken: OSError: [Errno 98]"),
        (["KeyError: 'rope'", "INFO shutting down", _ROOT], "KeyError: 'rope'"),
        ([_ROOT], "RuntimeError: Engine core initialization failed"),
        (["loading", "half way"], "half way"),
    ],
)
def test_the_cause_is_read_from_the_logs(make_run: Callable[..., Run], lines: list[str], cause: str) -> None:
    run = make_run("true")
    (run.logs_folder / "main.stdout.log").write_text("INFO loading the model\n")
    (run.logs_folder / "main.stderr.log").write_text("\n".join(lines) + "\n")
    assert cause_of_end(run).startswith(cause)


def test_a_server_that_said_nothing(make_run: Callable[..., Run]) -> None:
    assert cause_of_end(make_run("true")) == "" == last_error_of([])
