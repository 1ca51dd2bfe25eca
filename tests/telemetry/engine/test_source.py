"""The engine source against small servers: it never waits for one, and says why a figure is missing."""

import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from llmval_tui.telemetry.engine import source as source_module
from llmval_tui.telemetry.engine.processes import ServerProcesses
from llmval_tui.telemetry.engine.source import EngineSource
from llmval_tui.telemetry.recorder_process import recorder_argv
from llmval_tui.telemetry.recording import load

METRICS = "vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n"


class Noting(dict):
    """Answers by path, and a note of each path that was asked for."""

    def __init__(self, answers, asked):
        super().__init__(answers)
        self.asked = asked

    def get(self, path, default=None):
        self.asked.append(path)
        return super().get(path, default)


@pytest.fixture
def serve():
    """Starts a server whose answers are `(status, text)` by path; `text` may be an event to wait for."""
    servers = []

    def start(answers, port=0):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, text = answers.get(self.path, (404, "no"))
                if isinstance(text, threading.Event):
                    text.wait(60)
                    text = ""
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def reading(source, wanted):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = source.read()
        if wanted(found):
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def opened(url):
    source = EngineSource(url, interval_s=0.02)
    source.open()
    return source


def engine(found):
    return found.engine.engine if found.engine else None


def codes(found):
    return [note.code for note in found.notes]


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/completions"])
def test_it_asks_the_server_of_any_of_its_urls(serve, end):
    source = opened(serve({"/metrics": (200, METRICS)}) + end)
    found = reading(source, engine)
    assert (found.engine.running, found.engine.waiting, found.engine.preemptions) == (3, 1, None)
    source.close()


def test_a_missing_figure_is_named_once(serve):
    source = opened(serve({"/metrics": (200, METRICS)}))
    found = reading(source, engine)
    missing = [note.message for note in found.notes if note.code == "not_published"]
    assert len(missing) == 1 and "preemptions" in missing[0] and "times.queue" in missing[0]
    assert codes(source.read()) == []
    source.close()


def test_tensorrt_llm_has_json_at_the_usual_path(serve):
    answers = {"/metrics": (200, "[]"), "/prometheus/metrics": (200, "trtllm_num_requests_running 2\n")}
    source = opened(serve(answers))
    assert engine(reading(source, engine)) == "TensorRT-LLM"
    source.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, "no"), "/metrics answers 404"),
        ((500, "no"), "/metrics answers 500"),
        ((200, "<html>"), "names none of vLLM, SGLang, TensorRT-LLM and Dynamo"),
        ((200, "vllm:num_requests_running{ 3 4 5\n"), "not in Prometheus' text format"),
    ],
)
def test_a_server_without_metrics_is_named_and_its_processes_still_count(serve, answer, why):
    source = opened(serve({"/metrics": answer}))
    found = reading(source, lambda found: "no_metrics" in codes(found))
    assert why in found.notes[0].message and "--enable-metrics" in found.notes[0].message
    assert found.engine.engine is None and found.engine.running is None
    assert found.engine.cpu_s > 0  # this process is the server
    source.close()


def test_a_server_without_metrics_is_asked_less_and_less_often(monkeypatch):
    """In virtual time: a line in its access log for each question must not become thousands."""
    now, asked = 0.0, []
    monkeypatch.setattr(source_module, "time", SimpleNamespace(monotonic_ns=lambda: int(now * 1e9)))
    monkeypatch.setattr(source_module, "_get", lambda url: asked.append((now, url)) or answer)
    source, answer = EngineSource("http://127.0.0.1:9"), "no metrics here"
    monkeypatch.setattr(source, "_processes", SimpleNamespace(read=lambda: (1, now)))
    for second in range(100):
        now = second
        source._ask_once()
        assert codes(source.read()) == ["no_metrics"]
        assert source.read().engine.cpu_s == now, "its processes are looked at every second"
    assert sorted({second for second, _ in asked}) == [0, 2, 6, 14, 30, 60, 90]
    answer = METRICS
    for second in range(100, 125):
        now = second
        source._ask_once()
    assert source.read().engine.running == 3
    assert [second for second, _ in asked if second > 90] == [*range(120, 125)]


def test_it_finds_a_server_that_starts_later_and_notices_its_end(serve):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = opened(f"http://127.0.0.1:{port}")
    assert codes(reading(source, lambda found: "refused" in found.notes[0].message)) == ["no_answer"]
    serve({"/metrics": (200, METRICS)}, port)
    reading(source, engine)
    source.close()


def test_a_server_that_hangs_delays_nobody(serve, monkeypatch):
    hang = threading.Event()
    answers = {"/metrics": (200, METRICS)}
    monkeypatch.setattr("llmval_tui.telemetry.engine.source.TIMEOUT_S", 60)
    monkeypatch.setattr("llmval_tui.telemetry.engine.source.STALE_S", 0.2)
    source = opened(serve(answers))
    reading(source, engine)
    answers["/metrics"] = (200, hang)
    found = reading(source, lambda found: found.engine is None)  # while the thread still waits
    assert codes(found) == ["no_answer"]
    hang.set()
    source.close()


def test_an_answer_is_given_its_own_time(serve):
    source = opened(serve({"/metrics": (200, METRICS)}))
    before = time.monotonic_ns()
    found = reading(source, lambda found: engine(found) and found.engine.mono_ns > before)
    assert found.engine.mono_ns <= time.monotonic_ns()
    source.close()


def test_a_password_in_the_url_is_not_kept(serve):
    url = serve({"/metrics": (200, METRICS)})
    assert EngineSource(url.replace("http://", "http://me:secret@")).url == url


def test_the_processes_of_a_server_elsewhere_are_not_guessed():
    assert ServerProcesses("http://203.0.113.7:8000").read() is None
    assert ServerProcesses("http://gpu-node-17.example:8000").read() is None


def test_the_recorder_of_a_run_records_the_engine(serve, tmp_path):
    url = serve({"/metrics": (200, METRICS)})
    path = tmp_path / "telemetry.jsonl"
    argv = recorder_argv(path, interval_s=0.1, folder=tmp_path, engine_url=f"{url}/v1")
    process = subprocess.Popen([*argv, "--sources", "host"])
    try:
        deadline = time.monotonic() + 60
        while not (seen := [sample.engine for sample in load(path) if sample.engine is not None]):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
    finally:
        process.terminate()
        process.wait()
    assert (seen[0].url, seen[0].running) == (url, 3)


def test_the_last_sample_of_a_recording_is_asked_for_at_its_end(serve, tmp_path):
    """A run may end right after its last request, long before the next sample is due."""
    asked: list[str] = []
    answers = Noting({"/metrics": (200, METRICS)}, asked)
    path = tmp_path / "telemetry.jsonl"
    argv = recorder_argv(path, interval_s=0.1, folder=tmp_path, engine_url=serve(answers))
    process = subprocess.Popen([*argv, "--sources", "host", "--interval", "3600", "--slow-interval", "3600"])
    deadline = time.monotonic() + 60
    while not load(path) or not asked:  # the first sample is written before the server has answered
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    answers["/metrics"] = (200, "vllm:num_requests_running 99\n")
    process.terminate()
    assert process.wait() == 0
    first, last = load(path)
    assert (first.engine, last.engine.running) == (None, 99)


def test_a_server_that_is_gone_does_not_hold_up_the_end(serve):
    source = EngineSource("http://127.0.0.1:9")
    assert source.ask_again() is False  # never opened
    source = opened(serve({"/metrics": (404, "no")}))
    reading(source, lambda found: "no_metrics" in codes(found))
    assert source.ask_again() is False
