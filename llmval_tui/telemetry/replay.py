"""A recording as a source: its samples with their original spacing, at the present time."""

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from llmval_tui.telemetry.sample import EngineSample, GpuSample, Note, Reading, Sample


class ReplaySource:
    """Replays `telemetry.jsonl` of an earlier run; see `Source`. Every sample has a note that says so.

    Rates and powers stay as recorded; only time runs `speed` times as fast, so counters rise that much faster.

    Args:
        path: the recording.
        speed: recorded seconds per second, above 0.
        loop: start again after the end.
        monotonic_ns, wall_ns: the present clocks.
    """

    name = "replay"

    def __init__(
        self,
        path: Path,
        speed: float = 1.0,
        *,
        loop: bool = False,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not speed > 0:
            raise ValueError("speed must be over 0")
        self._path = path
        self._speed = speed
        self._loop = loop
        self._monotonic_ns, self._wall_ns = monotonic_ns, wall_ns
        # The lines stay bytes: an hour of eight GPUs takes 20 MB as bytes and several times that as objects.
        self._lines: list[bytes] = []
        self._offsets_ns: list[int] = []  # recorded time since the first sample, non-decreasing
        self._period_ns = 0  # length of one loop
        self._start_ns = 0  # monotonic time of offset 0 in the first loop
        self._next = 0  # number of samples returned by `next_sample`, over all loops

    def open(self) -> None:
        """Load the recording and start the clock. If it is missing or empty, every `read` says so."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except OSError:
            lines = []
        times: list[int] = []
        self._lines = []
        for line in lines:
            sample = Sample.from_line(line)
            if sample is not None:
                self._lines.append(line)
                times.append(sample.mono_ns)
        self._offsets_ns = [0] if times else []
        for earlier, later in pairwise(times):  # a reboot between two samples counts as no time
            self._offsets_ns.append(self._offsets_ns[-1] + max(0, later - earlier))
        gaps = [later - earlier for earlier, later in pairwise(self._offsets_ns)]
        last_gap_ns = int(median(gaps)) if gaps else 0
        self._period_ns = max(1, self._offsets_ns[-1] + (last_gap_ns or 1_000_000_000)) if times else 0
        self._start_ns, self._next = self._monotonic_ns(), 0

    def __len__(self) -> int:
        """The number of samples in the recording."""
        return len(self._lines)

    @property
    def ended(self) -> bool:
        """Whether `next_sample` has no more samples."""
        return not self._lines or (not self._loop and self._next >= len(self._lines))

    def seek(self, fraction: float) -> None:
        """Continue from this fraction of the recording, 0 to 1."""
        if not self._lines:
            return
        target_ns = int(min(max(fraction, 0.0), 1.0) * self._offsets_ns[-1])
        self._start_ns = self._monotonic_ns() - int(target_ns / self._speed)
        # The sample of that time is returned (again) at once.
        self._next = max(0, bisect_right(self._offsets_ns, target_ns) - 1)

    def next_due_ns(self) -> int | None:
        """The monotonic time at which the next sample is due; None after the end."""
        if self.ended:
            return None
        turn, position = divmod(self._next, len(self._lines))
        recorded_ns = turn * self._period_ns + self._offsets_ns[position]
        return self._start_ns + int(recorded_ns / self._speed)

    def next_sample(self) -> Sample | None:
        """The next sample, with the times at which it is due, even if those lie ahead; None after the end."""
        due_ns = self.next_due_ns()
        if due_ns is None:
            return None
        position = self._next % len(self._lines)
        self._next += 1
        return self._rebased(position, due_ns)

    def read(self) -> Reading:
        """The recorded sample for the present time; after the end the last sample, with a note."""
        if not self._lines:
            return Reading(notes=[Note("replay", "no_recording", f"{self._path} holds no telemetry samples.")])
        played_ns = max(0, int((self._monotonic_ns() - self._start_ns) * self._speed))
        turn_ns = played_ns % self._period_ns if self._loop else played_ns
        position = bisect_right(self._offsets_ns, turn_ns) - 1
        due_ns = self._start_ns + int((played_ns - turn_ns + self._offsets_ns[position]) / self._speed)
        sample = self._rebased(position, due_ns)
        notes = list(sample.notes)
        if played_ns >= self._period_ns and not self._loop:
            notes.append(Note("replay", "replay_ended", "The recording has ended: this is its last sample."))
        return Reading(host=sample.host, gpus=sample.gpus, notes=notes, engine=sample.engine)

    def inventory(self) -> dict[str, Any]:
        """The recording's file, number of samples and length in seconds."""
        length_ns = self._offsets_ns[-1] if self._offsets_ns else 0
        return {"replay": str(self._path), "samples": len(self._lines), "seconds": length_ns / 1e9}

    def close(self) -> None:
        """Forget the recording."""
        self._lines, self._offsets_ns = [], []

    def _rebased(self, position: int, due_ns: int) -> Sample:
        sample = Sample.from_line(self._lines[position])
        if sample is None:  # it was one when the recording was loaded
            raise AssertionError(f"line {position} of {self._path} changed in memory")
        wall_ns = self._wall_ns() + due_ns - self._monotonic_ns()
        text = f"Replay of {self._path.name} at {self._speed:g} times its speed: not this host's present state."
        return replace(
            sample,
            t_ns=wall_ns,
            mono_ns=due_ns,
            gpus=[self._rebased_gpu(gpu, due_ns - sample.mono_ns, sample.mono_ns) for gpu in sample.gpus],
            engine=self._rebased_engine(sample.engine, due_ns - sample.mono_ns, sample.mono_ns),
            notes=[*sample.notes, Note("replay", "replay", text)],
        )

    def _rebased_gpu(self, gpu: GpuSample, shift_ns: int, sample_ns: int) -> GpuSample:
        if gpu.energy_mono_ns is None:
            return gpu
        age_ns = int((sample_ns - gpu.energy_mono_ns) / self._speed)
        return replace(gpu, energy_mono_ns=sample_ns + shift_ns - age_ns)

    def _rebased_engine(self, engine: EngineSample | None, shift_ns: int, sample_ns: int) -> EngineSample | None:
        if engine is None:
            return None
        return replace(engine, mono_ns=sample_ns + shift_ns - int((sample_ns - engine.mono_ns) / self._speed))
