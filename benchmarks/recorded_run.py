"""`python -m benchmarks.recorded_run OUT`: records a real load test with the dashboard open in tmux.

Creates a workspace with the project's checklist, opens the dashboard in tmux at 160×50, completes the load test with
keys and visits every pane meanwhile. OUT gets one archive with the run folder (for `llmval --replay`), the ticked
documents, each pane as text with colours, and the session as an asciicast v2 (for `asciinema play`). Needs tmux and,
for a valid run, GPUs; no network.
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
from pathlib import Path

from llmval_tui.foundation.paths import bundled
from llmval_tui.plans.records import active_plan
from llmval_tui.runs.store import RunStore
from llmval_tui.tui.keys import PANES

COLUMNS, ROWS = 160, 50
STEP = "1.2"
RUNNING = ("run", "log", "telemetry", "load")  # the panes that are visited while the run is running


class Session:
    """tmux on its own pty: records what it writes as an asciicast."""

    def __init__(self, command: list[str], cast: Path, environment: dict[str, str]) -> None:
        self._socket = f"llmval-{os.getpid()}"
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        argv = ["tmux", "-L", self._socket, "-f", "/dev/null", "new-session", shlex.join(command)]
        self._process = subprocess.Popen(
            argv, env=environment, start_new_session=True, preexec_fn=lambda: os.login_tty(slave), pass_fds=(slave,)
        )
        os.close(slave)
        self._start = time.monotonic()
        self._cast = cast.open("w", encoding="utf-8")
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "timestamp": int(time.time()), "title": "llmval"}
        self._cast.write(json.dumps(header) + "\n")
        self._reader = threading.Thread(target=self._record, daemon=True)
        self._reader.start()

    def _record(self) -> None:
        pending = b""
        while True:
            try:
                if not select.select([self._master], [], [], 1.0)[0] and self._process.poll() is not None:
                    return
                data = pending + os.read(self._master, 1 << 16)
            except OSError:
                return
            # A character that the read cut off is completed by the next read.
            complete = data.decode("utf-8", "ignore").encode()
            text, pending = (data.decode(), b"") if complete == data else (complete.decode(), data[len(complete) :])
            self._cast.write(json.dumps([round(time.monotonic() - self._start, 3), "o", text]) + "\n")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=False)
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Type keys, by their tmux names."""
        self._tmux("send-keys", *keys)

    def screen(self, *, coloured: bool = False) -> str:
        """The screen as text, with escape sequences if `coloured`."""
        return self._tmux("capture-pane", "-p", *(["-e"] if coloured else []))

    def wait_for(self, pattern: str, seconds: float) -> None:
        """Wait until the screen matches a regular expression.

        Raises:
            SystemExit: it did not match in time. The message contains the screen.
        """
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.screen()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise SystemExit(f"the dashboard did not show {pattern!r} within {seconds:.0f} s:\n{self.screen()}")
            time.sleep(0.2)

    def close(self) -> None:
        """End tmux and the recording."""
        self._tmux("kill-server")
        self._process.wait(10)
        self._reader.join(3)
        self._cast.close()


def make_workspace(folder: Path, gpus: int, duration: int, qps: float, fp8_mode: str | None) -> None:
    """Create a workspace with the project's documents; the item of the load test is adapted to this host."""
    (folder / "docs").mkdir(parents=True)
    for document in bundled("docs").glob("*.md"):
        shutil.copyfile(document, folder / "docs" / document.name)
    path = folder / "docs" / "llm_validation_checklist.md"
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if "inference_server_load_test.py" in line:
            line = re.sub(r"--nproc[_-]per[_-]node[= ]\d+", f"--nproc_per_node={gpus}", line)
            line = re.sub(r"--duration \d+", f"--duration {duration}", line)
            if fp8_mode is not None:
                line = re.sub(r"--fp8-mode [\w-]+", f"--fp8-mode {fp8_mode}", line)
            lines[number] = re.sub(r"--target-qps [\d.]+", f"--target-qps {qps:g}", line)
    path.write_text("".join(lines))


def main() -> int:
    """Record a run. Returns 0 if the archive was written, whatever the verdict."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorded_run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--duration", type=int, default=90, help="seconds of load (90)")
    parser.add_argument("--qps", type=float, default=28)
    parser.add_argument("--fp8-mode", help="in place of the item's, on a host without Transformer Engine")
    parser.add_argument("--preset", choices=["smoke"], help="for a trial of this script, also on a CPU")
    parser.add_argument("--limit", type=float, default=420, help="longest wait for the run, in seconds (420)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="llmval-recorded-") as name:
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        environment |= {"XDG_CONFIG_HOME": f"{name}/config"}
        environment.pop("TMUX", None)
        folder = Path(name) / "workspace"
        panes = Path(name) / "panes"
        panes.mkdir()
        make_workspace(folder, options.gpus, options.duration, options.qps, options.fp8_mode)
        command = [sys.executable, "-m", "llmval_tui", "--workspace", str(folder)]
        command += ["--preset", options.preset] if options.preset else []
        session = Session(command, Path(name) / "session.cast", environment)
        try:
            play(session, folder, panes, options.limit)
        finally:
            session.close()
            subprocess.run([*command[:3], "cancel", "--workspace", str(folder)], capture_output=True, check=False)
        runs = RunStore(folder).runs()
        if not runs:
            raise SystemExit("no run was started, so no archive is written.")
        verdict = runs[0].verdict()
        archive = options.out / "recorded_run.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for path in (folder, panes, Path(name) / "session.cast"):
                tar.add(path, arcname=path.name)
        print(f"run {runs[0].id}: {verdict.outcome.value + ', ' + verdict.summary if verdict else 'not judged'}")
        print(f"{archive}: {archive.stat().st_size / 2**20:.1f} MiB")
    return 0


def play(session: Session, folder: Path, panes: Path, limit: float) -> None:
    """Run the load test and visit the panes, as an operator would."""
    step = re.escape(STEP)
    session.wait_for(rf"(?m)^  {step}  ", 60)  # in the list
    time.sleep(3)
    session.keys("j")
    session.wait_for(rf"▕ {step} +○ open(.|\n)*What it will do", 30)  # in the pane
    session.keys("c")
    session.wait_for(rf"Complete {step}\?", 30)
    time.sleep(2)
    session.keys("y")
    session.wait_for(rf"▸ {step} running", 60)
    deadline = time.monotonic() + limit
    turn = 0
    while active_plan(folder) is not None and time.monotonic() < deadline:
        pane = RUNNING[turn % len(RUNNING)]
        session.keys(str(PANES.index(pane) + 1))
        time.sleep(5)
        # Overwritten on every round: the last one is from the middle of the load, not from its start.
        (panes / f"running-{pane}.ansi").write_text(session.screen(coloured=True))
        turn += 1
    time.sleep(3)
    for number, pane in enumerate(PANES, 1):
        session.keys(str(number))
        time.sleep(1.5)
        (panes / f"ended-{pane}.ansi").write_text(session.screen(coloured=True))
    session.keys("q")
    time.sleep(1)


if __name__ == "__main__":
    raise SystemExit(main())
