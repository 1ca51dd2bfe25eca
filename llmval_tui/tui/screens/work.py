"""The keys that change something: each asks, says fit_rows what will happen, and starts a command."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmval_tui.checklist.model import Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.tui.cli_client import CommandClient, CommandResult, argv_for_run
from llmval_tui.tui.drawing.labels import short_label
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.screens.dialog import Choice, Dialog
from llmval_tui.tui.screens.dialog_texts import Planned, question_rows, work_rows
from llmval_tui.tui.screens.text_dialog import TextDialog
from llmval_tui.tui.widgets.text_rows import paragraph

if TYPE_CHECKING:
    from llmval_tui.tui.screens.actions import ActionScreen


class Work:
    """Carries out what the operator asks for, one thing at a time."""

    def __init__(self, screen: "ActionScreen", commands: CommandClient) -> None:
        self._screen = screen
        self._commands = commands
        self._busy: str | None = None
        self._settled: str | None = None
        self.dialog_pending = False  # a dialog is being made ready: the next key is meant for it

    async def start(self, *, tick: bool, everything: bool = False) -> None:
        """Ask, then run the marked steps, or the chosen one, or all that are left."""
        screen, state = self._screen, self._screen.state
        steps = self._steps(everything)
        if not steps:
            screen.toast(
                "Every step is ticked: nothing is left to do." if everything else "Choose a step first.", "warning"
            )
            return
        if state.snapshot.plan is not None:
            screen.toast(f"The plan {state.snapshot.plan} is at work here: wait for it, or stop it with x.", "warning")
            return
        keys = tuple(step.key for step in steps)
        self.dialog_pending = True
        try:
            planned = await asyncio.to_thread(screen.workspace.proposals, keys, state.selection)
        except Refused as refusal:
            screen.toast(str(refusal), "error")
            return
        finally:
            self.dialog_pending = False
        numbers = [step.number for step, _ in planned]
        words = argv_for_run(
            state.settings, numbers, everything=everything, tick=tick, preset=state.preset, adapt=state.adapt
        )
        able = sum(proposal.runnable for _, proposal in planned)
        effect = self._effect(planned, tick) if able else ""
        typed = " ".join(["llmval", *words]) if able else ""
        verb = "Complete" if tick else "Run"
        title = f"{verb} {numbers[0]}?" if len(numbers) == 1 else f"{verb} {len(numbers)} steps?"

        def build(width: int) -> list[Row]:
            return work_rows(planned, effect, typed, width, screen.glyphs)

        if not able:
            await screen.app.push_screen_wait(Dialog(f"{verb}: it cannot run now", build, [Choice("n", "close", "")]))
            return
        choices = [Choice("y", verb.lower(), "yes"), Choice("n", "not now", "")]
        if await screen.app.push_screen_wait(Dialog(title, build, choices)) is None:
            return
        state.marks.clear()
        await self.do(
            f"starting {', '.join(numbers[:6])}",
            lambda: self._commands.run(
                numbers, everything=everything, tick=tick, preset=state.preset, adapt=state.adapt
            ),
        )

    def _steps(self, everything: bool) -> list[Step]:
        state = self._screen.state
        steps = [status.step for status in state.snapshot.steps]
        if everything:
            return [step for step in steps if not step.checked]
        marked = [step for step in steps if step.key in state.marks]
        return marked or [step for step in steps if step.key == state.key]

    def _effect(self, planned: Planned, tick: bool) -> str:
        state = self._screen.state
        able = sum(proposal.runnable for _, proposal in planned)
        count = len(planned)
        which = "It runs" if count == 1 else f"{able} of {count} steps run, one after the other: each runs"
        if not tick:
            end = ", is judged, and is not ticked."
        elif state.preset == "smoke" and not state.settings.demo:
            end = ", is judged, and is not ticked: the smoke preset never ticks a real checklist."
        else:
            end = ", is judged, and is ticked and recorded in docs/TODO.md if it passes."
        return f"{which} detached from this screen{end}"

    async def cancel(self) -> None:
        """Ask, then stop the shown run or the whole plan."""
        screen, state = self._screen, self._screen.state
        run = state.run if state.run is not None and state.run.alive else None
        if run is None and not state.snapshot.active and state.snapshot.plan is None:
            screen.toast("Nothing is at work here.", "information")
            return
        ladder = "The run gets SIGINT, then SIGTERM, then SIGKILL, until nothing of it is left. What it recorded stays."
        choices = []
        if run is not None:
            choices.append(Choice("y", f"stop run of {run.intent.step.number}", f"run {run.id}", True))
        if state.snapshot.plan is not None or run is None:
            choices.append(Choice("a", "stop everything", "all", True))
        choices.append(Choice("n", "leave it", ""))
        answer = await screen.app.push_screen_wait(
            Dialog("Stop it?", lambda width: paragraph(ladder, "text", width), choices, len(choices) - 1)
        )
        if answer is not None:
            run_id = answer.removeprefix("run ") if answer.startswith("run ") else None
            await self.do("stopping", lambda: self._commands.cancel(run_id))

    async def tick(self) -> None:
        """Tick the chosen step with a note."""
        screen, step = self._screen, self._screen.state.step
        if step is None:
            return
        if step.checked:
            screen.toast(f"{step.number} is ticked already.", "information")
            return
        text = (
            "You tick it on your own word: no run of llmval backs it. The note goes into docs/TODO.md with your tick. "
            "Say what proves it."
        )

        def build(width: int) -> list[Row]:
            return [row((f" {step.number} {short_label(step.text)}", "title")), *paragraph(text, "text", width)]

        note = await screen.app.push_screen_wait(TextDialog(f"Tick {step.number} by hand", build, "note"))
        if note:
            await self.do(f"ticking {step.number}", lambda: self._commands.tick(step.number, note))

    async def answer(self) -> None:
        """Show what the verdict of the shown run asks, and pass on the answer."""
        screen, run = self._screen, self._screen.state.run
        if run is None or run.verdict is None or run.verdict.question is None:
            screen.toast("No verdict asks anything here.", "information")
            return
        verdict, question = run.verdict, run.verdict.question

        def build(width: int) -> list[Row]:
            return question_rows(verdict, width, screen.glyphs)

        if question.get("kind") == "link":
            link = await screen.app.push_screen_wait(TextDialog("Give the link", build, "https://…"))
            if link:
                await self.do("recording the link", lambda: self._commands.accept(run.id, link))
            return
        choices = [Choice("y", "accept the change", "yes"), Choice("n", "leave it open", "")]
        if await screen.app.push_screen_wait(Dialog("Accept this?", build, choices, 1)) is not None:
            await self.do("accepting", lambda: self._commands.accept(run.id, None))

    async def quit(self) -> bool:
        """Whether to leave; asks where work is under way."""
        screen, snapshot = self._screen, self._screen.state.snapshot
        if not snapshot.active and snapshot.plan is None:
            return True
        what = (
            f"The plan {snapshot.plan} is at work."
            if snapshot.plan
            else f"{len(snapshot.active)} run(s) are under way."
        )
        text = f"{what} It goes on without this screen; llmval attach watches it, and the dashboard finds it again."
        choices = [Choice("l", "leave it running", "leave")]
        if not screen.state.settings.readonly:
            choices.append(Choice("s", "stop it and quit", "stop", True))
        choices.append(Choice("n", "stay", ""))
        answer = await screen.app.push_screen_wait(Dialog("Quit?", lambda w: paragraph(text, "text", w), choices))
        if answer == "stop":
            return await self.do("stopping", lambda: self._commands.cancel(None))
        return answer == "leave"

    async def settle(self) -> None:
        """Have a run judged that ended while nothing was there to judge it; once for each such run."""
        waiting = [s.run.id for s in self._screen.state.snapshot.steps if s.run is not None and s.verdict is None]
        name = ",".join(waiting)
        if self._settled == name:
            return
        self._settled = name
        answer = await asyncio.to_thread(self._commands.settle)
        self._screen.refresh_now()
        if not answer.ok and answer.message:
            self._screen.toast(answer.message, "warning")

    async def do(self, what: str, command: Callable[[], CommandResult]) -> bool:
        """Start a command in a thread and show its answer, one at a time."""
        screen = self._screen
        if self._busy is not None:
            screen.toast(f"Still {self._busy}: wait for it.", "warning")
            return False
        self._busy = what
        try:
            answer = await asyncio.to_thread(command)
        finally:
            self._busy = None
        screen.refresh_now()
        screen.toast(answer.message or "Done.", "information" if answer.ok else "error")
        return answer.ok
