"""The recorder process: `python -m llmval_tui.telemetry.recorder --out FILE`.

It is a process of its own, because a driver can crash or hang its caller. It ends on SIGTERM or SIGINT, when nobody
reads its output any more, and when its parent process has ended.
"""

import argparse
import errno
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from llmval_tui.telemetry.sample import CanBeAskedAgain, Sample, Source
from llmval_tui.telemetry.sampling import Schedule, take_sample

_WATCH_S = 0.5  # interval between checks of the parent
_GRACE_S = 3.0  # time for a driver call to return after a stop
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until a stop: returns 0 after a clean end, 1 if the output failed, 2 for bad arguments."""
    options = _parser().parse_args(arguments)
    if options.replay is not None and not options.replay.is_file():
        print(f"recorder: there is no recording {options.replay}; name a telemetry.jsonl.", file=sys.stderr)
        return 2
    try:
        lines = LineWriter(options.out)
    except OSError as error:
        print(f"recorder: {options.out} cannot be opened for writing ({error.strerror}).", file=sys.stderr)
        return 2
    stop = StopRequest(options.parent)
    if options.replay is None:
        samples = _live(_sources(options), options.interval, stop)
    else:
        samples = _replayed(options.replay, options.speed, options.loop, stop)
    try:
        count = 0
        for sample in samples:
            lines.write(sample)
            count += 1
    except BrokenPipeError:
        return 0  # the reader has closed the pipe
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        print(f"recorder: recording stopped, {options.out} cannot be written ({why}).", file=sys.stderr)
        return 1
    finally:
        stopped = stop.requested
        stop.done()
    if options.replay is not None and count == 0 and not stopped:
        print(f"recorder: {options.replay} holds no telemetry samples.", file=sys.stderr)
        return 2
    return 0


class LineWriter:
    """Appends samples, one write each; a line that could not be written completely is removed.

    Args:
        out: a file, created if absent, or `-` for the standard output.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, out: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = 1 if out == "-" else os.open(out, flags, 0o644)
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        if self._regular and out != "-":
            self._end_partial_line()

    def write(self, sample: Sample) -> None:
        """Append one line.

        Raises:
            BrokenPipeError: nobody reads the output any more.
            OSError: the write failed; the file ends with the last complete line.
        """
        line = sample.to_line()
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # a full disk accepts a part and refuses the rest
                written += os.write(self._descriptor, line[written:])
        except OSError:
            if self._regular:
                with suppress(OSError):  # report the first failure
                    os.ftruncate(self._descriptor, size)
            raise

    def _end_partial_line(self) -> None:
        """End the partial line of a killed recorder, so that it does not spoil the next sample."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")


class StopRequest:
    """Notices when to stop: a stop signal came, or the parent has ended.

    A thread waits for both, because the main thread may hang in a driver call. If it does, the thread ends the process.

    Args:
        parent: pid of the process whose end stops this one; 0: none.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._stop = threading.Event()
        self._done = threading.Event()
        # Blocked before the thread starts, so that only sigtimedwait receives them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        threading.Thread(target=self._watch, name="stop", daemon=True).start()

    @property
    def requested(self) -> bool:
        return self._stop.is_set()

    def wait_until(self, mono_ns: int) -> bool:
        """Wait until that monotonic time; returns False as soon as a stop is requested."""
        return not self._stop.wait(max(0.0, (mono_ns - time.monotonic_ns()) / 1e9))

    def done(self) -> None:
        """The main thread has finished: the process need not be ended by force."""
        self._done.set()
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.is_set():
            if signal.sigtimedwait(_STOP_SIGNALS, _WATCH_S) is not None or (
                self._parent and os.getppid() != self._parent
            ):
                self._stop.set()
        if not self._done.wait(_GRACE_S):
            os._exit(0)  # every line in the file is complete: each was one write


def _live(sources: Sequence[Source], interval_s: float, stop: StopRequest) -> Iterator[Sample]:
    for source in sources:
        source.open()
    try:
        schedule = Schedule(time.monotonic_ns(), int(interval_s * 1e9))
        while not stop.requested:
            yield take_sample(sources)
            if not stop.wait_until(schedule.next_after(time.monotonic_ns())):
                break
        # What the run did since the last sample: the counters of its server must cover its last request.
        last = [source for source in sources if isinstance(source, CanBeAskedAgain) and source.ask_again()]
        if last:
            yield take_sample(sources)
    finally:
        for source in sources:
            source.close()


def _replayed(path: Path, speed: float, loop: bool, stop: StopRequest) -> Iterator[Sample]:
    from llmval_tui.telemetry.replay import ReplaySource

    source = ReplaySource(path, speed, loop=loop)
    source.open()
    while (due_ns := source.next_due_ns()) is not None and stop.wait_until(due_ns):
        sample = source.next_sample()
        if sample is not None:
            yield sample


def _sources(options: argparse.Namespace) -> list[Source]:
    # Imported only if used: psutil and pynvml take 50 ms each.
    found: list[Source] = []
    for name in options.sources:
        if name == "nvml":
            from llmval_tui.telemetry.nvml.source import NvmlSource
            from llmval_tui.telemetry.process_ownership import ForeignProcesses

            is_foreign = ForeignProcesses(options.own).is_foreign if options.own else None
            found.append(
                NvmlSource(
                    options.gpus,
                    slow_interval_s=options.slow_interval,
                    energy_interval_s=options.energy_interval,
                    is_foreign=is_foreign,
                )
            )
        else:
            from llmval_tui.telemetry.host import HostSource

            found.append(HostSource(options.folder))
    if options.engine_url is not None:
        from llmval_tui.telemetry.engine.source import EngineSource

        found.append(EngineSource(options.engine_url, max(options.interval, options.slow_interval)))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llmval_tui.telemetry.recorder", description="Record telemetry, one JSON sample per line."
    )
    parser.add_argument("--out", required=True, help="file to append to; - for the standard output")
    parser.add_argument("--interval", type=_seconds, default=1.0, help="seconds between two samples (default 1)")
    parser.add_argument(
        "--slow-interval",
        type=_seconds,
        default=1.0,
        help="least seconds between two slow readings (milliseconds per GPU: processes, instant power, …; default 1)",
    )
    parser.add_argument(
        "--energy-interval",
        type=_seconds,
        default=10.0,
        help="least seconds between two readings of the energy counter, the slowest of all (default 10)",
    )
    parser.add_argument(
        "--sources", type=_source_names, default=["nvml", "host"], help="nvml,host or one of them (default both)"
    )
    parser.add_argument("--gpus", type=_indices, help="only these GPUs, as 0,1")
    parser.add_argument("--folder", type=Path, help="folder whose file system's free space is recorded")
    parser.add_argument(
        "--own",
        type=Path,
        action="append",
        default=[],
        help="run folder whose GPU processes are not foreign; may be repeated (default: no process is judged)",
    )
    parser.add_argument(
        "--engine-url", type=_url, metavar="URL", help="an inference server whose engine metrics are recorded too"
    )
    parser.add_argument("--replay", type=Path, help="replay this recording instead of reading sources")
    parser.add_argument("--speed", type=_seconds, default=1.0, help="speed of the replay (default 1)")
    parser.add_argument("--loop", action="store_true", help="repeat the replay")
    parser.add_argument(
        "--parent",
        type=int,
        default=os.getppid(),
        help="end with this parent process (default: the present parent; 0: never)",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.001 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.001 and 86400")
    return value


def _source_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ("nvml", "host")]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no source {unknown[0]!r}: choose from nvml,host")
    return list(dict.fromkeys(names))


def _indices(text: str) -> list[int]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of GPU numbers such as 0,1")
    return sorted({int(part) for part in text.split(",")})


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as http://127.0.0.1:8000")
    return text


if __name__ == "__main__":
    sys.exit(main())
