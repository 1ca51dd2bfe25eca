"""The telemetry recorder beside the commands of one run: started again after a crash, and ended with the run."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from llmval_tui.runs.records import Intent, engine_url_of
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.recorder_process import Restarts, recorder_argv

TELEMETRY_INTERVAL_S = 1.0
# For the energy counter, which costs 3.7 ms per GPU. Runners measure tokens per joule with their own meter, so the
# recording does not need a value in every sample; each value has its own time stamp.
ENERGY_INTERVAL_S = 5.0
FIRST_SAMPLE_S = 5.0


class RunRecorder:
    """The recorder of one run.

    Args:
        servers: the runs whose servers this run rests on; their GPU processes are not foreign.
        note: told each failure in one sentence.
    """

    def __init__(self, run: Run, intent: Intent, servers: Sequence[Run], note: Callable[[str], None]) -> None:
        self._run, self._intent, self._servers, self._note = run, intent, servers, note
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = Restarts()
        self._started_s = 0.0  # monotonic clock
        self._due_s: float | None = 0.0  # monotonic clock; None: not started again

    @property
    def pids(self) -> frozenset[int]:
        """Its process, which is none of the command's; empty if it does not run."""
        return frozenset({self._process.pid}) if self._process is not None else frozenset()

    def ensure(self) -> None:
        """Start the recorder, and start it again with growing delays after a crash: a driver may kill its caller."""
        if not self._intent.telemetry or (self._process is not None and self._process.poll() is None):
            return
        if self._process is not None:
            code, self._process = self._process.returncode, None
            self._failed(f"ended with code {code}")
        if self._due_s is None or time.monotonic() < self._due_s:
            return
        self._started_s = time.monotonic()
        try:
            self._process = self._start()
        except OSError as error:  # the gates report missing telemetry; it does not end the command
            self._failed(f"could not be started: {error.strerror}")

    def _failed(self, how: str) -> None:
        now = time.monotonic()
        delay_s = self._restarts.next_delay_s(now - self._started_s)
        self._due_s = None if delay_s is None else now + delay_s
        next_start = "not started again" if delay_s is None else f"started again in {delay_s:.0f} s"
        self._note(f"the telemetry recorder {how}; it is {next_start}")

    def _start(self) -> subprocess.Popen[bytes]:
        argv = recorder_argv(
            self._run.telemetry,
            interval_s=TELEMETRY_INTERVAL_S,
            energy_interval_s=ENERGY_INTERVAL_S,
            folder=Path(self._intent.cwd),
            # GPU processes that belong neither to the run nor to a server that it rests on are recorded as foreign.
            own=[self._run.folder, *(server.folder for server in self._servers)],
            engine_url=engine_url_of(self._intent),
        )
        with (self._run.folder / "recorder.log").open("ab") as log:
            return subprocess.Popen(
                [*argv, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_first_sample(self) -> None:
        """Delay the command until the first sample, so that even a short run has telemetry."""
        if not self._intent.telemetry:
            return
        deadline = time.monotonic() + FIRST_SAMPLE_S
        while time.monotonic() < deadline:
            self.ensure()  # one that was killed is started again
            if self._run.telemetry.exists() and self._run.telemetry.stat().st_size > 0:
                return
            if self._process is None and self._due_s is None:
                break
            time.sleep(0.02)
        if self._process is not None or self._due_s is not None:  # otherwise a note says that it is given up
            self._note(f"no telemetry sample came within {FIRST_SAMPLE_S:.0f} s; the command was started without it")

    def end(self) -> None:
        """End it; what it has recorded stays."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # stuck in a driver call
            self._process.kill()
