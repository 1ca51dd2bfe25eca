"""The confirmation of a start: it says what will happen now, and is asked again if that has changed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.plans.items import Expected, PlanItem, listed
from llmval_tui.tui.cli_client import argv_for_run
from llmval_tui.tui.drawing.possible import obstacle
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.screens.dialog import Choice, Content, Dialog
from llmval_tui.tui.screens.dialog_texts import start_rows
from llmval_tui.tui.screens.host import Host
from llmval_tui.tui.screens.review import confirmed_items, open_items
from llmval_tui.tui.widgets.text_rows import paragraph

CLOSE = (Choice("n", "close", ""),)
CHANGED = "This has changed since it was on the screen. It was not started: read it again."


@dataclass(frozen=True, slots=True)
class Start:
    """What a confirmed dialog starts. Two that are equal do the same."""

    numbers: list[str]
    arguments: list[str]
    items: tuple[object, ...]  # all that the items say, and what is expected of each


@dataclass(slots=True)
class StartDialog:
    """Asks about one start: `keys` are the steps that it was asked for."""

    host: Host
    keys: tuple[StepKey, ...]
    tick: bool
    everything: bool
    confirmed: Sequence[str] = ()  # codes of the questions that were answered for this start alone
    skip_unreviewed: bool = False
    _drawn_from: object = field(default=None, init=False)  # the snapshot's part that decides on the plan
    _content: Content | None = field(default=None, init=False)
    _again: bool = field(default=False, init=False)

    @property
    def _key(self) -> str:
        return "complete_all" if self.everything else "complete" if self.tick else "run"

    @property
    def _verb(self) -> str:
        return "Complete" if self.tick else "Run"

    async def items(self) -> list[PlanItem]:
        """What a plan would do with the steps now.

        Raises:
            Refused: the checklist or the file beside it cannot be read.
        """
        host = self.host
        found = await asyncio.to_thread(
            host.workspace.plan_items, self.keys, host.state.selection, whole=self.everything
        )
        found = confirmed_items(found, self.confirmed)
        asked = open_items(found) if self.skip_unreviewed else []
        return [item for item in found if item not in asked]

    async def ask(self, items: Sequence[PlanItem]) -> Start | None:
        """Show what will happen; the start, or None if the operator does not want it or it cannot start."""
        content = self._content = self._of(items)
        self._drawn_from = self._deciding()
        while True:
            dialog = Dialog.of(content, self._look)
            if await self.host.ask(dialog) is None:
                return None
            # The list may have changed since the last snapshot: only what was on the screen may start.
            content = await self._new_content()
            if isinstance(content.facts, Start) and content.facts == dialog.content.facts:
                return content.facts
            self._again = True
            content = await self._new_content()

    def _deciding(self) -> object:
        snapshot = self.host.state.snapshot
        lines = tuple((status.step, status.state) for status in snapshot.steps)
        return lines, snapshot.active, snapshot.plan, self.host.state.gpu_count

    async def _look(self) -> Content:
        """What the dialog shows now; the same object if nothing that decides has changed."""
        if self._content is None or self._deciding() != self._drawn_from:
            return await self._new_content()
        return self._content

    async def _new_content(self) -> Content:
        self._drawn_from = self._deciding()
        if (reason := obstacle(self.host.state, self._key, alive=False)) is not None:
            self._content = self._cannot(reason)
        else:
            try:
                self._content = self._of(await self.items())
            except Refused as refusal:
                self._content = self._cannot(str(refusal))
        return self._content

    def _cannot(self, reason: str) -> Content:
        return Content(f"{self._verb}: it cannot start now", lambda width: paragraph(reason, "warn", width), CLOSE)

    def _of(self, items: Sequence[PlanItem]) -> Content:
        host, state, verb = self.host, self.host.state, self._verb
        numbers = [item.step.number for item in items if item.is_planned]
        if not numbers:
            return self._cannot("None of these steps is left to do.")
        runnable = sum(item.expected is Expected.RUNS for item in items)
        arguments = argv_for_run(
            state.settings,
            numbers,
            everything=self.everything,
            tick=self.tick,
            preset=state.preset,
            adapt=state.adapt,
            confirmed=self.confirmed,
            skip_unreviewed=self.skip_unreviewed,
        )
        title = f"{verb} {numbers[0]}?" if len(numbers) == 1 else f"{verb} {len(numbers)} steps?"
        if runnable not in (0, len(numbers)):
            title = f"{verb} {runnable} of {len(numbers)} steps?"
        effect = self._effect(items) if runnable else ""
        command = " ".join(["llmval", *arguments]) if runnable else ""
        changed = self._again

        def build(width: int) -> list[Row]:
            rows = start_rows(items, effect, command, width, host.glyphs)
            return [*paragraph(CHANGED, "warn", width), *rows] if changed else rows

        if not runnable:
            return Content(f"{verb}: it cannot run now", build, CLOSE)
        choices = (Choice("y", verb.lower(), "yes"), Choice("n", "not now", ""))
        return Content(title, build, choices, facts=Start(numbers, arguments, tuple(_said(item) for item in items)))

    def _effect(self, items: Sequence[PlanItem]) -> str:
        state = self.host.state
        running = [item.step.number for item in items if item.expected is Expected.RUNS]
        subject = "It runs" if len(running) == 1 else f"{listed(running)} run, one after the other: each runs"
        if len(running) == 1 and sum(item.is_planned for item in items) > 1:
            subject = f"{running[0]} runs"
        if not self.tick:
            end = ", is judged, and is not ticked."
        elif state.preset == "smoke" and not state.settings.demo:
            end = ", is judged, and is not ticked: the smoke preset never ticks a real checklist."
        else:
            end = ", is judged, and is ticked and recorded in docs/TODO.md if it passes."
        return " ".join([f"{subject} detached from this screen{end}", *_left_out(items)])


_WORDS = {
    Expected.REFUSED: ("is refused", "are refused"),
    Expected.ASKS: ("asks first and does not run", "ask first and do not run"),
    Expected.BY_HAND: ("is a person's work: tick it with a note", "are a person's work: tick them with a note"),
}


def _left_out(items: Sequence[PlanItem]) -> list[str]:
    """A sentence for each kind of items that do not run."""
    found = []
    for expected, (one, several) in _WORDS.items():
        numbers = [item.step.number for item in items if item.expected is expected]
        if numbers:
            found.append(f"{listed(numbers)} {several if len(numbers) > 1 else one}.")
    return found


def _said(item: PlanItem) -> tuple[object, ...]:
    deviations = item.proposal.deviations if item.proposal else ()
    return item.step.key, item.step.number, item.step.said, item.expected, item.sentence, deviations
