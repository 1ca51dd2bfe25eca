"""Starting the recorder process: its command line, and the delays before it is started again after a crash."""

import sys
from collections.abc import Sequence
from pathlib import Path

# A driver that has just crashed answers nobody for a while, and each attempt starts a Python beside the measurement.
RESTART_DELAYS_S = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # a recorder that ran longer than this starts again with the first delay


class Restarts:
    """Counts the failures of one recorder in a row."""

    def __init__(self) -> None:
        self._failures = 0

    def next_delay_s(self, ran_s: float) -> float | None:
        """The delay before the next start, after a recorder that ran for `ran_s` seconds; None after the last one."""
        if ran_s > STEADY_S:
            self._failures = 0
        if self._failures == len(RESTART_DELAYS_S):
            return None
        self._failures += 1
        return RESTART_DELAYS_S[self._failures - 1]


def recorder_argv(
    out: Path | None,
    *,
    interval_s: float,
    folder: Path,
    energy_interval_s: float | None = None,
    gpus: Sequence[int] = (),
    own: Sequence[Path] = (),
    engine_url: str | None = None,
) -> list[str]:
    """The command line of a recorder; see the recorder's own help.

    Args:
        out: file to append to; None: the standard output.
        interval_s: seconds between two samples.
        folder: the free space of its file system is recorded.
        energy_interval_s: least seconds between two readings of the energy counter; None: the recorder's default.
        gpus: indices of the GPUs to record; empty: all.
        own: the run folders whose GPU processes are not foreign; empty: no process is judged.
        engine_url: an inference server whose engine metrics are recorded too.
    """
    argv = [sys.executable, "-m", "llmval_tui.telemetry.recorder", "--out", "-" if out is None else str(out)]
    argv += ["--interval", str(interval_s), "--folder", str(folder)]
    if energy_interval_s is not None:
        argv += ["--energy-interval", str(energy_interval_s)]
    if gpus:
        argv += ["--gpus", ",".join(map(str, gpus))]
    for folder in own:
        argv += ["--own", str(folder)]
    if engine_url is not None:
        argv += ["--engine-url", engine_url]
    return argv
