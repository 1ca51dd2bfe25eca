"""The facts of a report: which runs it is about, and everything that is read from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmval_tui.actions.command.runner_catalog import COLLECTIVE_SCHEMA
from llmval_tui.actions.judges.load_test_result import LoadResult, read_result
from llmval_tui.actions.section_runs import newest_of_each_step
from llmval_tui.actions.step_state import StepStatus, unreadable_records
from llmval_tui.checklist.model import Checklist
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import named_path
from llmval_tui.foundation.text import utc_iso
from llmval_tui.plans.refusals import item_statuses
from llmval_tui.report.collectives import CollectiveFacts, read_collectives
from llmval_tui.report.key_figures import KeyFigure, key_figures
from llmval_tui.report.recording import Recording, first_sample, read_recording
from llmval_tui.report.timeline import Timeline, read_timeline
from llmval_tui.runs.evidence import ARCHIVE_FOLDER, MASKED, locate
from llmval_tui.runs.records import Intent, State, Status, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist

BUCKETS = 11_000  # of all lines of a report together; a bucket is 11 to 33 bytes of HTML
LEAST_BUCKETS = 40  # of one line


@dataclass(frozen=True, slots=True)
class ArtifactFacts:
    """An artifact of a run: its hash when it was judged, and its state now."""

    path: str
    schema: str | None
    sha256: str | None  # from the verdict; None if the verdict has no hash of it
    bytes: int | None
    # "intact", "kept" (only the run's copy is intact), "masked" (the export overwrote secrets), "changed", "missing" or
    # "no hash recorded"
    state: str
    copy: str | None = None  # the run's copy, relative to the workspace, if only that one is as judged

    def judged_path(self, workspace: Path) -> Path | None:
        """The file with the bytes that were judged; None if they are lost or have no recorded hash."""
        if self.copy is not None:
            return workspace / self.copy
        return workspace / named_path(self.path) if self.state in ("intact", MASKED) else None


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """The result of a load test, from an artifact that is unchanged since the verdict."""

    path: str
    result: LoadResult


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Everything about one run."""

    id: str
    intent: Intent
    status: Status
    state: State
    verdict: Verdict | None
    artifacts: list[ArtifactFacts]
    loads: list[LoadFacts]
    collectives: list[CollectiveFacts]
    timeline: Timeline
    recording: Recording
    figures: list[KeyFigure]  # those that matter, with bound and trend

    @property
    def outcome(self) -> str:
        """The verdict, or "not judged" with the run's state."""
        return self.verdict.outcome.value if self.verdict else f"not judged ({self.state.value})"


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """Everything in the report: the checklist as it is now, and the chosen runs."""

    made_utc: str
    origins: list[str]  # the workspaces, folders or archives that the runs are from
    checklist: Checklist | None
    steps: list[StepStatus]
    runs: list[RunFacts]
    differences: list[str] = field(default_factory=list)  # host, driver or versions that are not the same in all runs
    unreadable: list[str] = field(default_factory=list)  # one sentence for each damaged record
    other_lists: dict[str, int] = field(default_factory=dict)  # how many of the runs are of which other checklist


def runs_for(store: RunStore, names: Sequence[str], checklist: Checklist | None) -> list[Run]:
    """The named runs in the given order, or else the newest run of each step in checklist order.

    A step's number names its newest run. Runs of other checklists, or of steps that no longer exist, come last.

    Raises:
        Refused: a name matches no run or several, or there are no runs at all.
    """
    if names:
        return list({run.id: run for run in (_named(store, name, checklist) for name in names)}.values())
    newest = newest_of_each_step(store.runs())
    if not newest:
        unreadable = " ".join(store.unreadable[:1])
        raise Refused(unreadable or f"there is no run in {store.root}: start one with llmval run.")
    keys = [step.key for step in checklist.steps] if checklist is not None else []
    positions: dict[StepKey | None, int] = {key: at for at, key in enumerate(keys)}

    def position(run: Run) -> tuple[int, tuple[int, str]]:
        ref = run.intent.step
        same = checklist is None or same_checklist(ref.checklist, recorded_path(checklist.path, store.workspace))
        key = StepKey(ref.section, ref.text, ref.occurrence) if same else None
        key = checklist.key_of(key) if key is not None and checklist is not None else key
        return positions.get(key, len(positions)), run.order

    return sorted(newest, key=position)


def _named(store: RunStore, name: str, checklist: Checklist | None) -> Run:
    step = next((step for step in checklist.steps if step.number == name), None) if checklist is not None else None
    if checklist is None:  # use the step numbers that the runs recorded
        runs = [run for run in store.runs() if run.intent.step.number == name]
    elif step is not None:
        runs = store.of_step(step.keys_in_records, checklist=recorded_path(checklist.path, store.workspace))
        if not runs:  # do not fall back to run ids: 1.2 is also a part of the ids of 11.2
            lists = {run.intent.step.checklist for run in store.runs() if run.intent.step.number == name} - {""}
            other = f", or name another list with --checklist {' or '.join(sorted(lists))}" if lists else ""
            raise Refused(f"step {name} of {checklist.path.name} has no run: start one with llmval run {name}{other}.")
    else:
        runs = []
    return runs[0] if runs else store.get(name)


def gather(
    store: RunStore, runs: Sequence[Run], checklist: Checklist | None, *, origins: Sequence[str] = ()
) -> ReportFacts:
    """Read everything that a report of these runs contains. Writes and judges nothing.

    A run with a damaged record is left out and named in `unreadable`.

    Args:
        store: of the checklist; the runs may be of other workspaces.
        origins: where the runs are from, in the operator's words; by default the workspace.
    """
    stores = {store.workspace: store}
    items: dict[Path, dict[tuple[str, str, int], list[Run]]] = {}  # of each workspace, its runs by item: looked up once
    gathered, unreadable = [], []
    for run in runs:
        own = stores.setdefault(run.workspace, RunStore(run.workspace))
        if own.workspace not in items:
            items[own.workspace] = _by_item(own.runs())
        try:
            gathered.append(gather_run(run, own, items[own.workspace].get(_item_of(run), [])))
        except Refused as refusal:
            unreadable.append(str(refusal))
    _thin(gathered)
    steps = item_statuses(checklist, store) if checklist is not None else []
    unreadable = list(dict.fromkeys(unreadable + unreadable_records(steps, store)))
    shown = list(origins) or [str(store.workspace)]
    others: Counter[str] = Counter()
    if checklist is not None:
        own_name = recorded_path(checklist.path, store.workspace)
        others.update(
            run.intent.step.checklist for run in gathered if not same_checklist(run.intent.step.checklist, own_name)
        )
    return ReportFacts(
        utc_iso(), shown, checklist, steps, gathered, _differences(gathered), unreadable, dict(sorted(others.items()))
    )


def _item_of(run: Run) -> tuple[str, str, int]:
    ref = run.intent.step
    return ref.section, ref.text, ref.occurrence


def _by_item(runs: Sequence[Run]) -> dict[tuple[str, str, int], list[Run]]:
    found: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        found.setdefault(_item_of(run), []).append(run)
    return found


def _thin(runs: Sequence[RunFacts]) -> None:
    """Limit the buckets of each plotted line, so that the page stays small."""
    series = [track.series for run in runs for track in run.recording.tracks()]
    series += [one for run in runs for one in run.timeline.live.values()]
    drawn = [one for one in series if one.buckets]
    most = max(LEAST_BUCKETS, BUCKETS // max(1, len(drawn)))
    for one in drawn:
        one.limit(min(one.max_buckets, most))


def gather_run(run: Run, store: RunStore, of_item: Sequence[Run]) -> RunFacts:
    """The facts of one run of this store; `of_item`: all runs of its item, for the trends of its figures."""
    intent, verdict, workspace = run.intent, run.verdict(), store.workspace
    artifacts = artifacts_of(run, verdict, workspace)
    loads, collectives = [], []
    for artifact in artifacts:
        path = artifact.judged_path(workspace)
        if artifact.schema == "load_test" and path is not None:
            result = read_result(path)
            if result is not None:
                loads.append(LoadFacts(artifact.path, result))
        if artifact.schema == COLLECTIVE_SCHEMA and path is not None:
            found = read_collectives(artifact.path, path)
            if found is not None:
                collectives.append(found)
    timeline = read_timeline(run, first_sample(run.telemetry))
    recording = read_recording(run.telemetry, timeline)
    state = run.state()
    figures = key_figures(run, verdict, of_item)
    status = run.status()
    return RunFacts(run.id, intent, status, state, verdict, artifacts, loads, collectives, timeline, recording, figures)


def artifacts_of(run: Run, verdict: Verdict | None, workspace: Path) -> list[ArtifactFacts]:
    """The evidence of the verdict, hashed again, then the expected artifacts that are not part of it."""
    schemas = {artifact.path: artifact.schema for artifact in run.intent.artifacts}
    evidence = verdict.evidence if verdict else []
    found = []
    for item in evidence:
        now = locate(item.at(workspace), item.sha256, run.folder)
        # Built from names: the run folder's own path may differ if `workspace` is a symbolic link.
        is_copy = now.path is not None and now.path != item.at(workspace)
        copy = f"artifacts/runs/{run.id}/{ARCHIVE_FOLDER}/{now.path.name}" if now.path and is_copy else None
        found.append(ArtifactFacts(item.path, schemas.get(item.path), item.sha256, item.bytes, now.state, copy))
    recorded = [item.path for item in evidence]
    for name, schema in schemas.items():
        # The evidence of a folder is its files.
        if name not in recorded and not any(other.startswith(name.rstrip("/") + "/") for other in recorded):
            state = "no hash recorded" if (workspace / name).exists() else "missing"
            found.append(ArtifactFacts(name, schema, None, None, state))
    return found


def gpu_inventory_of(host: Mapping[str, Any]) -> Mapping[str, Any]:
    """The GPU part of a run's host record; empty if there is none."""
    inventory = host.get("gpu")
    return inventory if isinstance(inventory, dict) else {}


def _differences(runs: Sequence[RunFacts]) -> list[str]:
    """Host, GPUs, driver and versions that are not the same in all runs."""
    if len(runs) < 2:
        return []
    properties = {
        "host": [str(run.intent.host.get("name")) for run in runs],
        "driver": [str(gpu_inventory_of(run.intent.host).get("driver_version")) for run in runs],
        "GPUs": [gpu_names(run) for run in runs],
        "torch": [run.intent.versions.get("torch", "none") for run in runs],
        "llmval": [run.intent.versions.get("llmval", "none") for run in runs],
    }
    return [
        f"{name}: {', '.join(dict.fromkeys(values))}"
        for name, values in properties.items()
        if len(dict.fromkeys(values)) > 1
    ]


def gpu_names(run: RunFacts) -> str:
    """The GPUs of a run's host: `8 × NVIDIA H200`, or "none"."""
    gpus = gpu_inventory_of(run.intent.host).get("gpus") or []
    counts = Counter(str(gpu.get("name")) for gpu in gpus if isinstance(gpu, dict))
    return " + ".join(f"{count} × {name}" for name, count in counts.items()) or "none"
