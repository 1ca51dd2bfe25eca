"""The recorder process: `python -m llmval_tui.telemetry.recorder --out FILE`.

A process of its own, because a driver can crash or hang whoever asks it. It ends on SIGTERM or SIGINT, when nobody
reads its output any more, and when the process that started it is gone.
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

from llmval_tui.telemetry.sample import Sample, Source
from llmval_tui.telemetry.sampling import Schedule, take_sample

_WATCH_S = 0.5  # how often the parent is looked for
_GRACE_S = 3.0  # for a driver call to return, once the end is wanted
_ENDING = {signal.SIGTERM, signal.SIGINT}


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until told to stop: 0 after a clean end, 1 where the output failed, 2 for bad arguments."""
    options = _parser().parse_args(arguments)
    if options.replay is not None and not options.replay.is_file():
        print(f"recorder: there is no recording {options.replay}; name a telemetry.jsonl.", file=sys.stderr)
        return 2
    try:
        lines = LineWriter(options.out)
    except OSError as error:
        print(f"recorder: {options.out} cannot be opened for writing ({error.strerror}).", file=sys.stderr)
        return 2
    ending = Ending(options.parent)
    if options.replay is None:
        samples = _live(_sources(options), options.interval, ending)
    else:
        samples = _replayed(options.replay, options.speed, options.loop, ending)
    try:
        count = 0
        for sample in samples:
            lines.write(sample)
            count += 1
    except BrokenPipeError:
        return 0  # whoever read has seen enough
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        print(f"recorder: recording stopped, {options.out} cannot be written ({why}).", file=sys.stderr)
        return 1
    finally:
        stopped = ending.wanted
        ending.done()
    if options.replay is not None and count == 0 and not stopped:
        print(f"recorder: {options.replay} holds no telemetry samples.", file=sys.stderr)
        return 2
    return 0


class LineWriter:
    """Appends samples, each by one write; a line that could not be written whole is taken back.

    Args:
        out: a file, made if absent, or `-` for the standard output.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, out: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = 1 if out == "-" else os.open(out, flags, 0o644)
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        if self._regular and out != "-":
            self._end_torn_line()

    def write(self, sample: Sample) -> None:
        """Append one line.

        Raises:
            BrokenPipeError: nobody reads the output any more.
            OSError: it could not be written; the file ends with the last whole line.
        """
        line = sample.to_line()
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # a full disk takes a part first and refuses the rest
                written += os.write(self._descriptor, line[written:])
        except OSError:
            if self._regular:
                with suppress(OSError):  # the first failure is the one to tell
                    os.ftruncate(self._descriptor, size)
            raise

    def _end_torn_line(self) -> None:
        """A recorder killed in mid-write left half a line: the next sample must not become part of it."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")


class Ending:
    """Knows when to stop. A thread waits for the signals and looks for the parent, for the main thread may be held up
    in a driver call that does not return; then the process ends all the same.

    Args:
        parent: the process whose end is this one's; 0: none.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._stop = threading.Event()
        self._done = threading.Event()
        # Blocked before the thread starts, so that no thread takes them but by sigtimedwait.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        threading.Thread(target=self._watch, name="ending", daemon=True).start()

    @property
    def wanted(self) -> bool:
        return self._stop.is_set()

    def wait_until(self, mono_ns: int) -> bool:
        """Wait for that time on the monotonic clock; False as soon as the end is wanted."""
        return not self._stop.wait(max(0.0, (mono_ns - time.monotonic_ns()) / 1e9))

    def done(self) -> None:
        """The main thread is through: no more need to end the process by force."""
        self._done.set()
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.is_set():
            if signal.sigtimedwait(_ENDING, _WATCH_S) is not None or (self._parent and os.getppid() != self._parent):
                self._stop.set()
        if not self._done.wait(_GRACE_S):
            os._exit(0)  # every line in the file is whole: each was one write


def _live(sources: Sequence[Source], interval_s: float, ending: Ending) -> Iterator[Sample]:
    for source in sources:
        source.open()
    try:
        schedule = Schedule(time.monotonic_ns(), int(interval_s * 1e9))
        while not ending.wanted:
            yield take_sample(sources)
            if not ending.wait_until(schedule.next_after(time.monotonic_ns())):
                break
    finally:
        for source in sources:
            source.close()


def _replayed(path: Path, speed: float, loop: bool, ending: Ending) -> Iterator[Sample]:
    from llmval_tui.telemetry.replay import ReplaySource

    source = ReplaySource(path, speed, loop=loop)
    source.open()
    while (due_ns := source.next_due_ns()) is not None and ending.wait_until(due_ns):
        sample = source.next_sample()
        if sample is not None:
            yield sample


def _sources(options: argparse.Namespace) -> list[Source]:
    # Each is imported only if wanted: psutil and pynvml cost 50 ms each at start.
    found: list[Source] = []
    for name in options.sources:
        if name == "nvml":
            from llmval_tui.telemetry.nvml.source import NvmlSource
            from llmval_tui.telemetry.process_ownership import Ownership

            is_foreign = None if options.mark is None else Ownership(options.mark).is_foreign
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
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llmval_tui.telemetry.recorder", description="Record telemetry, one JSON sample a line."
    )
    parser.add_argument("--out", required=True, help="file to append to; - is the standard output")
    parser.add_argument("--interval", type=_seconds, default=1.0, help="seconds between two samples (default 1)")
    parser.add_argument(
        "--slow-interval",
        type=_seconds,
        default=1.0,
        help="least seconds between two readings that cost milliseconds a GPU: processes, instant power, … (default 1)",
    )
    parser.add_argument(
        "--energy-interval",
        type=_seconds,
        default=10.0,
        help="least seconds between two readings of the energy counter, the dearest of all (default 10)",
    )
    parser.add_argument("--sources", type=_source_names, default=["nvml", "host"], help="of nvml,host (default both)")
    parser.add_argument("--gpus", type=_indices, help="only these GPUs, as 0,1")
    parser.add_argument("--folder", type=Path, help="folder whose file system's free space is recorded")
    parser.add_argument("--mark", type=_mark, help="VARIABLE=VALUE that the run's own processes carry")
    parser.add_argument("--replay", type=Path, help="play this recording in its own rhythm instead of reading sources")
    parser.add_argument("--speed", type=_seconds, default=1.0, help="how many times as fast (default 1)")
    parser.add_argument("--loop", action="store_true", help="begin the recording again after its end")
    parser.add_argument(
        "--parent", type=int, default=os.getppid(), help="end with this parent process (default the one now; 0 none)"
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
        raise argparse.ArgumentTypeError(f"there is no source {unknown[0]!r}: choose of nvml,host")
    return list(dict.fromkeys(names))


def _indices(text: str) -> list[int]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of GPU numbers such as 0,1")
    return sorted({int(part) for part in text.split(",")})


def _mark(text: str) -> str:
    if not text.partition("=")[0] or "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not VARIABLE=VALUE")
    return text


if __name__ == "__main__":
    sys.exit(main())
