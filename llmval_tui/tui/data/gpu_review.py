"""The GPUs of an ended run over its measured windows: how alike they were, and which were slowed down. Used in the
watcher's thread only."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from llmval_tui.foundation.text import clean_line

if TYPE_CHECKING:
    from llmval_tui.runs.records import Intent, Verdict
    from llmval_tui.runs.store import Run
    from llmval_tui.telemetry.recording import SampleTail
    from llmval_tui.telemetry.sample import GpuSample, Sample

POWER_CAP = "sw_power_cap"  # a software power cap is not a fault


@dataclass(frozen=True, slots=True)
class ReviewedGpu:
    """One GPU in the measured windows; without a window, in the whole recording.

    Attributes:
        power_w: its mean.
        slowed: the reasons of a fault (heat, power brake), the most frequent first.
        slowed_from_s: seconds from the start of the first window to the first sample with one.
        xid: its newest XID of the whole recording.
    """

    index: int
    power_w: float | None
    slowed: tuple[str, ...] = ()
    slowed_from_s: float | None = None
    capped: bool = False
    slowing_known: bool = False
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class GpuReview:
    """The GPUs of an ended run; none and a problem if nothing is known of them."""

    gpus: tuple[ReviewedGpu, ...] = ()
    windows: int = 0
    problem: str = ""

    def from_median(self, gpu: ReviewedGpu) -> float | None:
        """How far a GPU's power is from the median of all of them, in per cent; None for one GPU alone."""
        known = [one.power_w for one in self.gpus if one.power_w is not None]
        middle = median(known) if len(known) > 1 else None
        return None if not middle or gpu.power_w is None else 100 * (gpu.power_w / middle - 1)


@dataclass(slots=True)
class _Totals:
    samples: int = 0
    power_w: float = 0.0
    powers: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    slowed_ns: int | None = None
    xid: int | None = None


class GpuReviewer:
    """Reads the recording of a judged run once, a part with each call, because it may be long."""

    def __init__(self, run: "Run", indices: Collection[int] | None) -> None:
        self._run, self._indices = run, indices
        self._tail: SampleTail | None = None
        self._windows: Sequence[tuple[int, int]] = ()
        self._first_ns: int | None = None
        self._totals: dict[int, _Totals] = {}
        self._notes: dict[str, None] = {}  # why no GPU was recorded
        self._review: GpuReview | None = None

    def poll(self) -> GpuReview | None:
        """The review; None while the recording is read."""
        if self._review is None:
            if self._tail is None:
                from llmval_tui.actions.gates.telemetry import measure_windows
                from llmval_tui.telemetry.recording import SampleTail

                self._tail, self._windows = SampleTail(self._run.telemetry), measure_windows(self._run)
            for _ in range(2):  # the second finds the end of a short one
                try:
                    samples = self._tail.poll()
                except OSError as error:
                    return GpuReview(problem=f"the recording cannot be read ({error.strerror})")
                for sample in samples:
                    self._take(sample)
            if not samples:
                self._review = self._made()
        return self._review

    def _take(self, sample: "Sample") -> None:
        self._first_ns = sample.mono_ns if self._first_ns is None else self._first_ns
        self._notes |= {clean_line(note.message): None for note in sample.notes if note.source == "nvml"}
        inside = not self._windows or any(start <= sample.mono_ns <= end for start, end in self._windows)
        for gpu in sample.gpus:
            if self._indices is None or gpu.index in self._indices:
                self._add(self._totals.setdefault(gpu.index, _Totals()), gpu, sample.mono_ns, inside=inside)

    def _add(self, totals: _Totals, gpu: "GpuSample", mono_ns: int, *, inside: bool) -> None:
        from llmval_tui.telemetry.window_checks import FAULT_THROTTLING

        totals.xid = totals.xid if gpu.xid is None else gpu.xid
        if not inside:
            return
        totals.samples += 1
        if gpu.power_w is not None:
            totals.power_w += gpu.power_w
            totals.powers += 1
        totals.unknown += gpu.throttle_reasons is None
        found = [clean_line(reason) for reason in gpu.throttle_reasons or ()]
        totals.reasons.update(reason for reason in found if reason in FAULT_THROTTLING or reason == POWER_CAP)
        if totals.slowed_ns is None and FAULT_THROTTLING.intersection(found):
            totals.slowed_ns = mono_ns

    def _made(self) -> GpuReview:
        gpus = []
        start_ns = self._windows[0][0] if self._windows else self._first_ns
        for index, totals in sorted(self._totals.items()):
            at_ns = totals.slowed_ns
            gpus.append(
                ReviewedGpu(
                    index,
                    totals.power_w / totals.powers if totals.powers else None,
                    tuple(reason for reason, _ in totals.reasons.most_common() if reason != POWER_CAP),
                    None if at_ns is None or start_ns is None else (at_ns - start_ns) / 1e9,
                    POWER_CAP in totals.reasons,
                    totals.samples > 0 and not totals.unknown,
                    totals.xid,
                )
            )
        if not gpus:
            why = next(iter(self._notes), "" if self._first_ns is None else "no GPU in its telemetry")
            return GpuReview(problem=why or "no telemetry was recorded")
        if not any(totals.samples for totals in self._totals.values()):
            return GpuReview(problem="no sample in the measured window")
        return GpuReview(tuple(gpus), len(self._windows))


def reviewer_of(run: "Run", intent: "Intent", verdict: "Verdict") -> GpuReviewer | None:
    """The reviewer of a judged run; None if it used no GPU, or if its nodes have the recordings."""
    indices = intent.params.get("gpu_indices")
    if indices == [] or intent.launcher is not None:
        return None
    hosted = [gate for gate in verdict.gates if gate.name == "telemetry.gpus" and gate.measured == "host only"]
    seen = any(gate.name.startswith("telemetry.") for gate in verdict.gates)
    if not indices and (hosted or not (seen or any(command.nproc for command in intent.commands))):
        return None
    return GpuReviewer(run, indices if isinstance(indices, list) else None)
