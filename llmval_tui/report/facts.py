"""Everything a report says, gathered once; the HTML, the Markdown and the JSON are three ways to write it down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmval_tui.actions.judges.load_test_result import LoadResult, read_result
from llmval_tui.actions.section_runs import newest_of_each_step
from llmval_tui.actions.step_state import StepStatus, step_statuses
from llmval_tui.checklist.model import Checklist, StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import utc_iso
from llmval_tui.report.recording import Recording, first_sample, read_recording
from llmval_tui.report.timeline import Timeline, read_timeline
from llmval_tui.runs.evidence import KEPT, find
from llmval_tui.runs.records import Intent, State, Status, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_list


@dataclass(frozen=True, slots=True)
class ArtifactFacts:
    """A file of a run: what was recorded of it, and what it is now."""

    path: str
    schema: str | None
    sha256: str | None  # as the verdict recorded it; None: the verdict names no hash
    bytes: int | None
    state: str  # "intact", "kept": only the run's copy is, "changed", "missing", "no hash recorded"
    copy: str | None = None  # the run's copy, relative to the workspace; only where the state is "kept"

    def judged_path(self, workspace: Path) -> Path | None:
        """Where the bytes lie that the verdict judged; None where they are gone, or no hash was recorded."""
        if self.state == "intact":
            return workspace / self.path
        return workspace / self.copy if self.copy is not None else None


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """A load test's result, read from an artifact that is still what the verdict judged."""

    path: str
    result: LoadResult


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run."""

    id: str
    intent: Intent
    status: Status
    state: State
    verdict: Verdict | None
    artifacts: list[ArtifactFacts]
    loads: list[LoadFacts]
    timeline: Timeline
    recording: Recording

    @property
    def word(self) -> str:
        """The verdict, or how the run stands where there is none."""
        return self.verdict.outcome.value if self.verdict else f"not judged ({self.state.value})"


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """The report: the checklist as it stands, and the runs that were asked for."""

    made_utc: str
    workspace: Path
    checklist: Checklist | None
    steps: list[StepStatus]
    runs: list[RunFacts]
    differing: list[str] = field(default_factory=list)  # in what the runs' hosts are not the same


def runs_for(store: RunStore, names: Sequence[str], checklist: Checklist | None) -> list[Run]:
    """The named runs in the order given, or the newest run of each step in the checklist's order.

    A step's number names its newest run. Runs whose step is no longer in the checklist come last, and so do those of
    another checklist.

    Raises:
        Refused: a name fits none or several runs, or there are no runs at all.
    """
    if names:
        return list({run.id: run for run in (_named(store, name, checklist) for name in names)}.values())
    found = newest_of_each_step(store.runs())
    if not found:
        raise Refused(f"there is no run in {store.root} to report on: start one with llmval run.")
    keys = [step.key for step in checklist.steps] if checklist is not None else []
    places: dict[StepKey | None, int] = {key: place for place, key in enumerate(keys)}

    def place(run: Run) -> tuple[int, tuple[int, str]]:
        ref = run.intent.step
        of_list = checklist is None or same_list(ref.checklist, recorded_path(checklist.path, store.workspace))
        key = StepKey(ref.section, ref.text, ref.occurrence) if of_list else None
        return places.get(key, len(places)), run.order

    return sorted(found, key=place)


def _named(store: RunStore, name: str, checklist: Checklist | None) -> Run:
    step = next((step for step in checklist.steps if step.number == name), None) if checklist is not None else None
    if checklist is None:  # the numbers are those of when the runs were made
        runs = [run for run in store.runs() if run.intent.step.number == name]
    elif step is not None:
        runs = store.of_step(*step.key, checklist=recorded_path(checklist.path, store.workspace))
        if not runs:  # and not the run of 11.2, of whose id 1.2 is a part
            raise Refused(f"step {name} has no run to report on: start one with llmval run {name}.")
    else:
        runs = []
    return runs[0] if runs else store.get(name)


def gather(store: RunStore, runs: Sequence[Run], checklist: Checklist | None) -> ReportFacts:
    """Read everything a report of these runs says. Nothing is written, and nothing is judged.

    Raises:
        Refused: a run's record cannot be read.
    """
    found = [gather_run(run, store.workspace) for run in runs]
    steps = step_statuses(checklist, store) if checklist is not None else []
    return ReportFacts(utc_iso(), store.workspace, checklist, steps, found, _differing(found))


def gather_run(run: Run, workspace: Path) -> RunFacts:
    """The facts of one run."""
    intent, verdict = run.intent, run.verdict()
    artifacts = artifacts_of(run, verdict, workspace)
    loads = []
    for artifact in artifacts:
        path = artifact.judged_path(workspace)
        if artifact.schema == "load_test" and path is not None:
            result = read_result(path)
            if result is not None:
                loads.append(LoadFacts(artifact.path, result))
    timeline = read_timeline(run, first_sample(run.telemetry))
    recording = read_recording(run.telemetry, timeline)
    return RunFacts(run.id, intent, run.status(), run.state(), verdict, artifacts, loads, timeline, recording)


def artifacts_of(run: Run, verdict: Verdict | None, workspace: Path) -> list[ArtifactFacts]:
    """The files that back the verdict, hashed again, then those that were expected and are not among them."""
    schemas = {artifact.path: artifact.schema for artifact in run.intent.artifacts}
    evidence = verdict.evidence if verdict else []
    found = []
    for item in evidence:
        now = find(workspace / item.path, item.sha256, run.folder)
        # By the store's own names: `workspace` may be a link to where the run folder lies.
        copy = f"artifacts/runs/{run.id}/{KEPT}/{now.path.name}" if now.path and now.state == "kept" else None
        found.append(ArtifactFacts(item.path, schemas.get(item.path), item.sha256, item.bytes, now.state, copy))
    named = [item.path for item in evidence]
    for name, schema in schemas.items():
        # A folder is backed by the files below it.
        if name not in named and not any(other.startswith(name.rstrip("/") + "/") for other in named):
            state = "no hash recorded" if (workspace / name).exists() else "missing"
            found.append(ArtifactFacts(name, schema, None, None, state))
    return found


def gpu_inventory_of(host: Mapping[str, Any]) -> Mapping[str, Any]:
    """The driver's part of a run's record of its host; empty where there is none."""
    inventory = host.get("gpu")
    return inventory if isinstance(inventory, dict) else {}


def _differing(runs: Sequence[RunFacts]) -> list[str]:
    """Where the runs were not all made on the same host with the same driver and versions."""
    if len(runs) < 2:
        return []
    looks = {
        "host": [str(run.intent.host.get("name")) for run in runs],
        "driver": [str(gpu_inventory_of(run.intent.host).get("driver_version")) for run in runs],
        "GPUs": [_gpu_names(run) for run in runs],
        "torch": [run.intent.versions.get("torch", "none") for run in runs],
        "llmval": [run.intent.versions.get("llmval", "none") for run in runs],
    }
    return [
        f"{name}: {', '.join(dict.fromkeys(values))}"
        for name, values in looks.items()
        if len(dict.fromkeys(values)) > 1
    ]


def _gpu_names(run: RunFacts) -> str:
    gpus = gpu_inventory_of(run.intent.host).get("gpus") or []
    return " + ".join(str(gpu.get("name")) for gpu in gpus if isinstance(gpu, dict)) or "none"
