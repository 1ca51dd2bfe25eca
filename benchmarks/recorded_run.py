"""A real load test with the dashboard open in tmux, brought home: `python -m benchmarks.recorded_run OUT`.

Makes a workspace with the project's checklist, opens the dashboard in a tmux of 160×50, completes the load test by its
keys, walks through the panes meanwhile, and leaves in OUT one archive with the run's folder (for `llmval --replay`),
the ticked documents, each pane as text with its colours, and the whole session as an asciicast (v2), which
`asciinema play` shows. Needs tmux and, for a run that counts, GPUs; no network.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

from llmval_tui.foundation.paths import bundled
from llmval_tui.plans.records import active_plan
from llmval_tui.runs.store import RunStore

COLUMNS, ROWS = 160, 50
PANES = ("run", "log", "telemetry", "load", "artifacts", "document")
STEP = "1.2"


class Session:
    """tmux on a pty of our own: what it writes is the cast, what it shows is asked of it."""

    def __init__(self, command: list[str], cast: Path, environment: dict[str, str]) -> None:
        self._socket = f"llmval-{os.getpid()}"
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        argv = ["tmux", "-L", self._socket, "-f", "/dev/null", "new-session", shlex.join(command)]
        self._process = subprocess.Popen(
            argv, env=environment, start_new_session=True, preexec_fn=lambda: os.login_tty(slave), pass_fds=(slave,)
        )
        os.close(slave)
        self._began = time.monotonic()
        self._cast = cast.open("w", encoding="utf-8")
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "timestamp": int(time.time()), "title": "llmval"}
        self._cast.write(json.dumps(header) + "\n")
        self._reader = threading.Thread(target=self._record, daemon=True)
        self._reader.start()

    def _record(self) -> None:
        rest = b""
        while True:
            try:
                if not select.select([self._master], [], [], 1.0)[0] and self._process.poll() is not None:
                    return
                data = rest + os.read(self._master, 1 << 16)
            except OSError:
                return
            whole = data.decode("utf-8", "ignore").encode()  # a character cut off by the read comes with the next one
            text, rest = (data.decode(), b"") if whole == data else (whole.decode(), data[len(whole) :])
            self._cast.write(json.dumps([round(time.monotonic() - self._began, 3), "o", text]) + "\n")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=False)
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Type; by tmux's names."""
        self._tmux("send-keys", *keys)

    def shown(self, *, coloured: bool = False) -> str:
        """The screen as text, with escape sequences if `coloured`."""
        return self._tmux("capture-pane", "-p", *(["-e"] if coloured else []))

    def wait_for(self, what: str | Callable[[str], bool], seconds: float) -> None:
        """Raises:
        SystemExit: the screen did not show it in time; the message has the screen.
        """
        there = what if callable(what) else lambda text: re.search(str(what), text) is not None
        deadline = time.monotonic() + seconds
        while not there(self.shown()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise SystemExit(f"the dashboard did not show {what!r} within {seconds:.0f} s:\n{self.shown()}")
            time.sleep(0.2)

    def close(self) -> None:
        """End tmux and the recording."""
        self._tmux("kill-server")
        self._process.wait(10)
        self._reader.join(3)
        self._cast.close()


def make_workspace(folder: Path, gpus: int, duration: int, qps: float) -> None:
    """The project's documents, with the load test's item written for this host."""
    (folder / "docs").mkdir(parents=True)
    for document in bundled("docs").glob("*.md"):
        shutil.copyfile(document, folder / "docs" / document.name)
    path = folder / "docs" / "llm_validation_checklist.md"
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if "inference_server_load_test.py" in line:
            line = re.sub(r"--nproc[_-]per[_-]node[= ]\d+", f"--nproc_per_node={gpus}", line)
            line = re.sub(r"--duration \d+", f"--duration {duration}", line)
            lines[number] = re.sub(r"--target-qps [\d.]+", f"--target-qps {qps:g}", line)
    path.write_text("".join(lines))


def main() -> int:
    """Run it; 0 where the archive is there, whatever the verdict."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorded_run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--duration", type=int, default=90, help="seconds of load (90)")
    parser.add_argument("--qps", type=float, default=28)
    parser.add_argument("--preset", choices=["smoke"], help="try the script itself, on a CPU too")
    parser.add_argument("--limit", type=float, default=420, help="seconds until the run is given up (420)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="llmval-recorded-") as name:
        folder = Path(name) / "workspace"
        panes = Path(name) / "panes"
        panes.mkdir()
        make_workspace(folder, options.gpus, options.duration, options.qps)
        command = [sys.executable, "-m", "llmval_tui", "--workspace", str(folder)]
        command += ["--preset", options.preset] if options.preset else []
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        environment |= {"XDG_CONFIG_HOME": f"{name}/config"}
        environment.pop("TMUX", None)
        session = Session(command, Path(name) / "session.cast", environment)
        try:
            play(session, folder, panes, options.limit)
        finally:
            session.close()
            subprocess.run([*command[:3], "cancel", "--workspace", str(folder)], capture_output=True, check=False)
        runs = RunStore(folder).runs()
        if not runs:
            raise SystemExit("no run was made: the panes are not worth an archive.")
        verdict = runs[0].verdict()
        archive = options.out / "recorded_run.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for path in (folder, panes, Path(name) / "session.cast"):
                tar.add(path, arcname=path.name)
        print(f"run {runs[0].id}: {verdict.outcome.value + ', ' + verdict.summary if verdict else 'not judged'}")
        print(f"{archive}: {archive.stat().st_size / 2**20:.1f} MiB")
    return 0


def play(session: Session, folder: Path, panes: Path, limit: float) -> None:
    """What an operator would do."""
    session.wait_for(rf"{re.escape(STEP)} +Run", 60)
    time.sleep(3)
    session.keys("j")
    session.wait_for("What it will do", 30)
    session.keys("c")
    session.wait_for(rf"Complete {re.escape(STEP)}\?", 30)
    time.sleep(2)
    session.keys("y")
    session.wait_for(rf"▸ {re.escape(STEP)} running", 60)
    deadline = time.monotonic() + limit
    turn = 0
    while active_plan(folder) is not None and time.monotonic() < deadline:
        pane = PANES[turn % 4]  # run, log, telemetry, load
        session.keys(str(turn % 4 + 1))
        time.sleep(5)
        # Later ones replace earlier ones: the last is from the middle of the load, not from its start.
        (panes / f"running-{pane}.ansi").write_text(session.shown(coloured=True))
        turn += 1
    time.sleep(3)
    for number, pane in enumerate(PANES, 1):
        session.keys(str(number))
        time.sleep(1.5)
        (panes / f"ended-{pane}.ansi").write_text(session.shown(coloured=True))
    session.keys("q")
    time.sleep(1)


if __name__ == "__main__":
    raise SystemExit(main())
