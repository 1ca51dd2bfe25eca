"""A small OpenAI-compatible server that starts, answers and ends as the tests need it. Standard library only.

    python fake_openai_server.py serve --port 8300 [--load 2] [--completion ok|500|422|hang|empty|chat-only] …

It prints "listening" when its port is open.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_STARTED = time.monotonic()


class Answers(BaseHTTPRequestHandler):
    """The answers of one request."""

    options: argparse.Namespace
    completed = 0

    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)

    def _send(self, code: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _allowed(self) -> bool:
        key = self.options.api_key
        return key is None or self.headers.get("Authorization") == f"Bearer {key}"

    def do_GET(self) -> None:
        loading = time.monotonic() - _STARTED < self.options.load
        if self.path == "/health" and not self.options.no_health:
            sick = self.options.sick is not None and Path(self.options.sick).exists()
            self._send(503 if loading or sick else 200, {})
        elif self.path == "/v1/models" and self.options.models == ["500"]:
            self._send(500, {"detail": "no hub"})
        elif self.path == "/v1/models" and not self._allowed():
            self._send(401, {"error": {"message": "no key"}})
        elif self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": name} for name in self.options.models]})
        elif self.path == "/version" and self.options.version:
            self._send(200, {"version": self.options.version})
        else:
            self._send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        way = self.options.completion
        if (self.path == "/v1/completions" and way == "chat-only") or self.path not in (
            "/v1/completions",
            "/v1/chat/completions",
        ):
            self._send(404, {"detail": "Not Found"})
        elif way == "hang":
            time.sleep(600)
        elif way in ("500", "422"):
            self._send(int(way), {"error": {"message": "engine is not there"}})
        else:
            Answers.completed += 1
            self._send(200, {"choices": [] if way == "empty" else [{"index": 0, "text": " world"}]})
            if Answers.completed == self.options.die_after:
                print("RuntimeError: engine died of a broken wire", file=sys.stderr, flush=True)
                os._exit(7)


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--load", type=float, default=0.0, help="seconds in which /health says 503")
    parser.add_argument("--completion", default="ok")
    parser.add_argument("--models", nargs="*", default=["tiny"])
    parser.add_argument("--version")
    parser.add_argument("--no-health", action="store_true")
    parser.add_argument("--sick", help="/health says 503 as long as this file exists")
    parser.add_argument("--api-key")
    parser.add_argument("--die-after", type=int, default=0, help="completions")
    parser.add_argument("--say", help="print this on stderr and exit with 1, before anything is served")
    parser.add_argument("--hang", action="store_true", help="open no port")
    parser.add_argument("--deaf", action="store_true", help="ignore SIGINT and SIGTERM")
    parser.add_argument("--worker", type=Path, help="start a renamed worker, which writes its pid to this file")
    options = parser.parse_args()
    if options.say:
        print(options.say, file=sys.stderr)
        print("RuntimeError: Engine core initialization failed. See root cause above.", file=sys.stderr)
        sys.exit(1)
    if options.deaf:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.worker:
        subprocess.run([sys.executable, Path(__file__).with_name("renamed_worker.py"), options.worker], check=True)
    if options.hang:
        print("loading the weights", flush=True)
        time.sleep(600)
    Answers.options = options
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Answers)
    print("listening", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("bye", flush=True)


if __name__ == "__main__":
    main()
