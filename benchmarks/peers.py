"""Compares the dashboard with nvitop, btop and AIPerf's dashboard, on the same machine and in the same terminal.

None is a dependency: each is looked up on the PATH (`pip install nvitop==1.7.2` and `pip install aiperf`, each into its
own venv; `apt-get install btop`). If one is missing or cannot run, its row says why. They show the live machine only,
so none of them can be given the recording that the other benchmarks replay.
"""

import json
import re
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.dashboard import COLUMNS, LLMVAL, ROWS, scratch
from benchmarks.report import Row
from benchmarks.terminal import Terminal


def first_paint_beside_nvitop(repeats: int = 7) -> Row:
    """Time from exec to the first step of the list, and to nvitop's first GPU row, measured in turn."""
    name, bound = "first paint beside nvitop", "≤ 2× nvitop's"
    program = shutil.which("nvitop")
    if program is None:
        return Row(name, "not available: nvitop is not on the PATH", bound, None)
    if (problem := _nvml_problem()) is not None:
        return Row(name, f"not available: nvitop needs a GPU ({problem})", bound, None)
    ours: list[float] = []
    theirs: list[float] = []
    with scratch() as folder:
        for _ in range(repeats):
            for argv, shown, times in (
                ([*LLMVAL, "--workspace", str(folder)], "1.2", ours),
                ([program], nvitop_painted, theirs),
            ):
                with Terminal(argv, COLUMNS, ROWS) as terminal:
                    terminal.wait_for(shown, 20)
                    times.append(terminal.drawn_at - terminal.started)
    mine, peer = statistics.median(ours), statistics.median(theirs)
    text = f"{mine:.2f} s, nvitop {peer:.2f} s ({mine / peer:.2f}×); medians of {repeats}"
    return Row(name, text, bound, mine <= 2 * peer)


def nvitop_painted(screen: str) -> bool:
    """Whether the row of GPU 0 is shown. Its text varies: an idle GPU's memory is `0B / 140.4GiB`, without MiB."""
    return "NVITOP" in screen and re.search(r"^[│|] +0 ", screen, re.MULTILINE) is not None


def _nvml_problem() -> str | None:
    """Why there is no GPU to show; None if there is one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return str(error)
    return None if count else "NVML finds none"


def live_monitors(seconds: float = 30) -> Iterator[Row]:
    """The live machine in the dashboard (Telemetry on the whole screen), in nvitop and in btop, each once a second."""
    with scratch() as folder:
        settings = folder / "config/btop/btop.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text("update_ms = 1000\n")
        environment = {"XDG_CONFIG_HOME": str(folder / "config")}
        ours: list[str] = [*LLMVAL, "--workspace", str(folder)]
        yield _monitor("the dashboard", ours, environment, "1.2", seconds, keys="3z")
        yield _monitor(
            "nvitop", ["nvitop", "--monitor", "full", "--interval", "1"], environment, nvitop_painted, seconds
        )
        yield _monitor("btop", ["btop", "--utf-force"], environment, "cpu", seconds)


def _monitor(
    name: str,
    argv: list[str],
    environment: Mapping[str, str],
    shown: str | Callable[[str], bool],
    seconds: float,
    keys: str = "",
) -> Row:
    """First paint, bytes per second, CPU with its children, and memory of the drawing process."""
    title = f"{name}, live, {COLUMNS}×{ROWS}, 1 Hz"
    program = shutil.which(argv[0])
    if program is None:
        return Row(title, f"not available: {name} is not on the PATH", None, None)
    if name == "nvitop" and (problem := _nvml_problem()) is not None:
        return Row(title, f"not available: nvitop needs a GPU ({problem})", None, None)
    with Terminal([program, *argv[1:]], COLUMNS, ROWS, environment) as terminal:
        terminal.wait_for(shown, 20)
        painted = terminal.drawn_at - terminal.started
        for key in keys:
            terminal.send(key)
            time.sleep(1)
        time.sleep(5)
        cpu, count, start = terminal.cpu_seconds(), terminal.bytes_read, time.perf_counter()
        time.sleep(seconds)
        span = time.perf_counter() - start
        share = 100 * (terminal.cpu_seconds() - cpu) / span
        rate, memory = (terminal.bytes_read - count) / span / 1000, terminal.rss_bytes() / 1e6
    text = f"first paint {painted:.2f} s, {rate:.1f} kB/s, {share:.1f} % of a core, {memory:.0f} MB"
    return Row(title, text, None, True)


class Endpoint(BaseHTTPRequestHandler):
    """An endpoint whose /v1/chat/completions streams 16 tokens in 0.3 s."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._head("application/json")
        self._chunk(b'{"object": "list", "data": [{"id": "tiny", "object": "model"}]}')
        self._chunk(b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._head("text/event-stream")
        for token in range(16):
            time.sleep(0.02)
            choice = {"index": 0, "delta": {"content": f" {token}"}, "finish_reason": "stop" if token == 15 else None}
            event = {"id": "1", "object": "chat.completion.chunk", "model": "tiny", "choices": [choice]}
            self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _head(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the terminal shows the table."""


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer with one token per byte, as Hugging Face's libraries read it: AIPerf needs one."""
    # Byte-level tokenizers represent each byte by a printable character (GPT-2's table).
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = {byte: chr(byte) for byte in plain}
    names |= {byte: chr(256 + n) for n, byte in enumerate(b for b in range(256) if b not in names)}
    vocabulary = {names[byte]: byte for byte in range(256)} | {"<end>": 256}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    end = {"id": 256, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
           "special": True}  # fmt: skip
    whole = {"version": "1.0", "added_tokens": [end], "normalizer": None, "pre_tokenizer": byte_level,
             "post_processor": None, "decoder": byte_level, "model": model}  # fmt: skip
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "model_max_length": 100_000}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


@contextmanager
def closing_children(terminal: Terminal) -> Iterator[None]:
    """Kill the program's children at the end: AIPerf's services outlive its main process."""
    try:
        yield
    finally:
        terminal.end_children()


def aiperf_dashboard(seconds: float = 30) -> Row:
    """AIPerf's dashboard at five requests per second against a trivial endpoint: for comparison, without a bound.

    CPU is that of the drawing process; the figure with its workers is in parentheses.
    """
    name = f"AIPerf's dashboard, {COLUMNS}×{ROWS}, 5 requests/s"
    program = shutil.which("aiperf")
    if program is None:
        return Row(name, "not available: aiperf is not on the PATH", None, None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as folder:
        write_tokenizer(Path(folder) / "tokenizer")
        argv = [
            program, "profile", "--model", "tiny", "--tokenizer", f"{folder}/tokenizer", "--ui", "dashboard",
            "--streaming", "--url", f"http://127.0.0.1:{server.server_port}", "--endpoint-type", "chat",
            "--request-rate", "5", "--request-count", str(round(5 * (seconds + 60))), "--artifact-dir", f"{folder}/out",
        ]  # fmt: skip
        try:
            with Terminal(argv, COLUMNS, ROWS) as terminal, closing_children(terminal):
                terminal.wait_for("NVIDIA AIPerf", 90)
                painted = terminal.drawn_at - terminal.started
                terminal.wait_for("Live Concurrency", 180)
                time.sleep(5)
                cpu, count, start = terminal.own_cpu_seconds(), terminal.bytes_read, time.perf_counter()
                cpu_with_workers = terminal.cpu_seconds()
                time.sleep(seconds)
                span = time.perf_counter() - start
                share = 100 * (terminal.own_cpu_seconds() - cpu) / span
                share_with_workers = 100 * (terminal.cpu_seconds() - cpu_with_workers) / span
                rate = (terminal.bytes_read - count) / span / 1000
                memory = terminal.rss_bytes() / 1e6
        except TimeoutError as error:
            why = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "no output")
            return Row(name, f"not available: it did not start ({why[:120]})", None, None)
        finally:
            server.shutdown()
    text = (
        f"first paint {painted:.1f} s, {rate:.1f} kB/s, {share:.1f} % of a core "
        f"({share_with_workers:.0f} % with its workers), {memory:.0f} MB"
    )
    return Row(name, text, None, True)
