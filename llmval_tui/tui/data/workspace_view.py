"""Snapshots of the workspace for the panes: one pass over its files gives one immutable snapshot.

Used in the watcher's thread only, because every method may wait for a slow disk.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from llmval_tui.actions.step_state import runs_by_step, unreadable_records
from llmval_tui.actions.tick_basis import Key
from llmval_tui.checklist.model import Checklist, Step, load
from llmval_tui.checklist.parse_cache import ParseCache
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.plans.records import active_plan
from llmval_tui.plans.refusals import Refusals, item_statuses
from llmval_tui.runs.hindrances import HindranceWatch
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.tui.data.documents import document_of
from llmval_tui.tui.data.run_history import RunHistory, RunRow
from llmval_tui.tui.data.services import service_lines
from llmval_tui.tui.data.snapshot import Selection, Snapshot, StepDetail
from llmval_tui.tui.settings import LaunchSettings

if TYPE_CHECKING:  # imported when a step is chosen, after the first paint
    from llmval_tui.actions.api import Context, Options, Proposal
    from llmval_tui.actions.bounds import Bound
    from llmval_tui.actions.review.model import ListSettings
    from llmval_tui.fleet.follower import FleetFollower
    from llmval_tui.plans.items import PlanItem
    from llmval_tui.runs.records import Verdict
    from llmval_tui.telemetry.dcgm.exporters import Exporters, NodeTelemetry
    from llmval_tui.tui.data.run_difference import Difference
    from llmval_tui.tui.data.run_follower import RunFollower, RunSnapshot

Propose = Callable[["Context"], "Proposal"]
PROPOSAL_AGE_S = 5.0  # a proposal depends on files and the clock, so it is made again after this time
NEW_PLANS = 20  # finished plans that one snapshot reads, about 6 ms
NEW_ROWS = 200  # runs that one snapshot reads for the trends: the keys wait for the interpreter meanwhile


def propose(context: "Context") -> "Proposal":
    """The proposal of a step. The actions are imported with the first proposal, after the first paint."""
    from llmval_tui.actions import registry

    return registry.propose(context)


def _serves(run: Run, plan_id: str) -> bool:
    return run.intent.server is not None and run.intent.plan_id == plan_id and run.alive()


@dataclass
class Workspace:
    """Takes snapshots of one workspace and one checklist; keeps the last good one if a file is broken."""

    settings: LaunchSettings
    propose: Propose
    clock: Callable[[], datetime] = lambda: datetime.now().astimezone()
    parse_cache: ParseCache | None = None
    store: RunStore = field(init=False)
    _last: Snapshot = field(default_factory=Snapshot)
    _stamp: tuple[int, int, int] | None = None
    _hindrances: HindranceWatch = field(init=False)
    _refusals: Refusals = field(init=False)
    _follower: "RunFollower | None" = None
    _fleet: "FleetFollower | None" = None
    _exporters: "Exporters | None" = None
    _history: RunHistory = field(default_factory=RunHistory)
    _runs: Mapping[Key, Sequence[Run]] = field(default_factory=dict)  # by step, from the last snapshot
    _new_rows: int = 0  # that the trends may read: the first snapshot must be quick
    _baseline: "tuple[tuple[object, ...], Mapping[str, Bound]]" = ((), {})
    _proposal: "tuple[tuple[object, ...], datetime, Proposal] | None" = None

    def __post_init__(self) -> None:
        self.store = RunStore(self.settings.workspace)
        self._hindrances = HindranceWatch(self.settings.workspace)
        self._refusals = Refusals(self.settings.workspace)

    def snapshot(self, selection: Selection) -> Snapshot:
        """Take a snapshot. If a file is missing or broken, the snapshot keeps the old contents and has a `problem`."""
        snapshot = self._last
        problem = None
        try:
            snapshot = replace(snapshot, checklist=self._checklist(snapshot.checklist))
        except Refused as refusal:
            problem = str(refusal)
        checklist = snapshot.checklist
        if checklist is not None:
            try:
                snapshot = self._step_states(snapshot)
                snapshot = replace(snapshot, detail=self._detail(snapshot, selection))
            except (Refused, OSError) as error:  # a run folder was moved away
                problem = problem or str(error)
            snapshot = replace(snapshot, document=document_of(self.settings.workspace, checklist, selection))
            snapshot = self._fleet_state(snapshot, selection)
        snapshot = replace(snapshot, problem=problem)
        self._last = snapshot
        if self.parse_cache is not None and not self.settings.readonly:
            self.parse_cache.save()
        return snapshot

    def read(self) -> None:
        """Read the checklist before the screen opens.

        Raises:
            Refused: it cannot be read, or is not a checklist.
        """
        self._last = replace(self._last, checklist=self._checklist(None))

    def _checklist(self, before: Checklist | None) -> Checklist:
        path = self.settings.checklist
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            stamp = None
        if before is None or stamp is None or stamp != self._stamp:
            before = load(path, self.parse_cache.scan if self.parse_cache is not None else None)
            self._stamp = stamp
        return before

    def _step_states(self, snapshot: Snapshot) -> Snapshot:
        assert snapshot.checklist is not None
        runs = self.store.runs()
        self._runs = runs_by_step(snapshot.checklist, self.store, runs)
        steps = tuple(item_statuses(snapshot.checklist, self.store, self._runs, self._refusals, new_plans=NEW_PLANS))
        facts = self._history.facts(steps, self._runs, new_rows=self._new_rows)
        self._new_rows = NEW_ROWS
        plan = active_plan(self.settings.workspace)
        queued: frozenset[str] = frozenset()
        damaged = unreadable_records(steps, self.store)
        if plan is not None and (problem := plan.problem()):
            damaged.append(problem)
        elif plan is not None:
            status = plan.status()
            over = {result.number for result in status.results} | {status.current}
            # The result of a server comes after those of the items that rest on it.
            over |= {s.step.number for s in steps if s.run is not None and _serves(s.run, plan.id)}
            planned = [s for s in plan.intent.steps if s.number not in over]
            wanted = {snapshot.checklist.key_of((s.section, s.text, s.occurrence)) for s in planned}
            queued = frozenset(s.step.number for s in steps if s.step.key in wanted)
        waiting = [s for s in steps if s.run is not None and s.verdict is None and s.problem is None]
        running = [s.run for s in waiting if s.run is not None and s.run.alive()]
        active = tuple(run.id for run in running)
        return replace(
            snapshot,
            steps=steps,
            facts=facts,
            unreadable=tuple(damaged),
            queued=queued,
            services=service_lines(reversed(runs), plan.id if plan else None),
            plan=plan.id if plan else None,
            active=active,
            hindrances=self._hindrances.look(running),
            judging=plan is None and len(waiting) > len(active),
        )

    def _detail(self, snapshot: Snapshot, selection: Selection) -> StepDetail | None:
        assert snapshot.checklist is not None
        step = snapshot.checklist.find(selection.key) if selection.key is not None else None
        if step is None:
            return None
        from llmval_tui.tui.data.artifacts import artifact_lines

        runs = self._runs.get(step.key, ())
        back = max(0, min(selection.back, len(runs) - 1))
        run = self._follow(self._part(runs[back], selection.node), runs, snapshot.checklist) if runs else None
        lines = artifact_lines(run, self.settings.workspace) if run else ()
        proposal = self._propose(snapshot, step, selection)
        return StepDetail(step.key, proposal, len(runs), back, run, lines, self._history.rows(runs))

    @staticmethod
    def _part(run: Run, node: str | None) -> Run:
        """The run, or the part of it that ran on a node and has begun."""
        if node is None:
            return run
        from llmval_tui.fleet.record import node_runs

        part = node_runs(run).get(node)
        return part if part is not None and (part.folder / "run.json").exists() else run

    def _fleet_state(self, snapshot: Snapshot, selection: Selection) -> Snapshot:
        """The nodes of the chosen step's newest run on several nodes, else of the list's; or of an earlier run."""
        on_nodes = [
            (run, key, back)
            for key, runs in self._runs.items()
            for back, run in enumerate(runs)
            if run.intent.launcher is not None
        ]
        if not on_nodes:
            return replace(snapshot, fleet=None, fleet_place=None, fleets=0)
        from llmval_tui.fleet.overview import shows_a_fleet

        found = [one for one in on_nodes if shows_a_fleet(one[0])] or on_nodes
        found = [one for one in found if one[1] == selection.key] or found
        found.sort(key=lambda one: one[0].order, reverse=True)
        run, key, back = found[max(0, min(selection.fleet_back, len(found) - 1))]
        if self._fleet is None or self._fleet.run.id != run.id:
            from llmval_tui.fleet.follower import FleetFollower

            self._fleet = FleetFollower(run)
            self._stop_exporters()
        try:
            overview = self._fleet.look(self._exporter_answers(snapshot, self._fleet))
        except (Refused, OSError) as error:
            return replace(snapshot, problem=snapshot.problem or str(error))
        return replace(snapshot, fleet=overview, fleet_place=(StepKey(*key), back), fleets=len(found))

    def _exporter_answers(self, snapshot: Snapshot, follower: "FleetFollower") -> "Mapping[str, NodeTelemetry] | None":
        """What the exporters of the nodes say while the run goes on; None: the recordings of the run count."""
        if follower.run.judged():
            self._stop_exporters()
            return None
        if self._exporters is None:
            from llmval_tui.fleet.record import node_names

            assert snapshot.checklist is not None
            address, names = self._list_settings(snapshot.checklist).fleet.exporter, node_names(follower.run)
            if address is None or not names:
                return None
            from llmval_tui.telemetry.dcgm.exporters import Exporters

            self._exporters = Exporters(names, address)
            self._exporters.start()
        return self._exporters.newest()

    def _stop_exporters(self) -> None:
        if self._exporters is not None:
            self._exporters.stop()
            self._exporters = None

    def _follow(self, run: Run, runs: Sequence[Run], checklist: Checklist) -> "RunSnapshot":
        from llmval_tui.tui.data.run_follower import RunFollower

        if self._follower is None or self._follower.run.id != run.id:
            self._follower = RunFollower(run)
        shown = self._follower.snapshot()
        key = (run.id, shown.verdict is not None, checklist.source)
        if self._baseline[0] != key:
            from llmval_tui.actions.baseline_bounds import baseline_bounds

            self._baseline = key, baseline_bounds(run, runs, checklist, self.settings.workspace)
        return replace(shown, baseline=self._baseline[1])

    def _propose(self, snapshot: Snapshot, step: Step, selection: Selection) -> "Proposal":
        assert snapshot.checklist is not None
        now = self.clock()
        context = self.context(snapshot.checklist, step, selection)
        key = (
            step.key,
            context.settings,
            snapshot.checklist.source,
            selection.preset,
            selection.adapt,
            selection.gpu_count,
            snapshot.active,
        )
        if (
            self._proposal is None
            or self._proposal[0] != key
            or (now - self._proposal[1]).total_seconds() > PROPOSAL_AGE_S
        ):
            self._proposal = (key, now, self.propose(context))
        return self._proposal[2]

    def context(self, checklist: Checklist, step: Step, selection: Selection) -> "Context":
        """The input of an action, with the current options.

        Raises:
            Refused: the file beside the list is invalid.
        """
        from llmval_tui.actions.api import Context

        settings = self.settings
        return Context(
            workspace=settings.workspace,
            checklist=checklist,
            step=step,
            options=self._options(selection),
            store=self.store,
            now=self.clock(),
            environment=settings.environment,
            gpu_count=selection.gpu_count,
            demo=settings.demo,
            settings=self._list_settings(checklist),
        )

    def _options(self, selection: Selection) -> "Options":
        from llmval_tui.actions.api import Options

        return Options(selection.preset, selection.adapt, self.settings.gpus, self.settings.runner_python)

    def _list_settings(self, checklist: Checklist) -> "ListSettings":
        from llmval_tui.actions.review.settings import settings_of

        return settings_of(checklist.path, self.settings.workspace)

    def compare(self, first: "RunRow", second: "RunRow") -> "list[Difference]":
        """Two runs side by side.

        Raises:
            Refused: a run is gone, or a record of it is damaged.
        """
        from llmval_tui.tui.data.run_difference import differences

        return differences(self.store.get(first.id), self.store.get(second.id), (first, second))

    def step_now(self, key: StepKey) -> Step | None:
        """The step as the file has it at this moment: its number may be another one than in the last snapshot.

        Raises:
            Refused: the checklist cannot be read.
        """
        return load(self.settings.checklist).find(key)

    def question_now(self, run_id: str) -> "Verdict | None":
        """The verdict of a run as its file has it at this moment, if it still asks something.

        Raises:
            Refused: the run is gone, or its verdict cannot be read.
        """
        verdict = self.store.get(run_id).verdict()
        return verdict if verdict is not None and verdict.question is not None else None

    def plan_items(self, keys: tuple[StepKey, ...], selection: Selection, *, whole: bool) -> "list[PlanItem]":
        """What a plan of these steps will do, for the dialog that asks for confirmation.

        `whole`: of all steps that are not ticked, whatever `keys` says: the command then says `--all`.

        Raises:
            Refused: the checklist or the file beside it cannot be read.
        """
        from llmval_tui.actions.groups import run_instead
        from llmval_tui.actions.review.questions import is_skipped
        from llmval_tui.plans.preview import preview

        checklist = load(self.settings.checklist)
        chosen = [step for key in keys if (step := checklist.find(key)) is not None]
        skipped: list[tuple[Step, str]] = []
        if whole:
            chosen = [step for step in checklist.steps if not step.checked]
            answered = [step for step in chosen if is_skipped(step, self._list_settings(checklist))]
            skipped = [(step, "ticked") for step in checklist.steps if step.checked]
            skipped += [(step, "as answered in the review") for step in answered]
            chosen = [step for step in chosen if step not in answered]
        else:
            numbers = {one.number for step in chosen for one in run_instead(checklist, step)}
            chosen = [step for step in checklist.steps if step.number in numbers]
        contexts = [self.context(checklist, step, selection) for step in chosen]
        proposals = [(context.step, self.propose(context)) for context in contexts]
        options = self._options(selection)
        return preview(proposals, options, demo=self.settings.demo, skipped=skipped)


class InitialSnapshot(threading.Thread):
    """Takes the first snapshot in a thread while the screens are imported; a disk may hang."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(name="first-look", daemon=True)
        self.workspace = workspace
        self.snapshot: Snapshot | None = None  # None: not ready yet, or it failed

    def run(self) -> None:
        # The watcher tries again and shows the error if there is one.
        with suppress(Exception):
            self.snapshot = self.workspace.snapshot(Selection())
