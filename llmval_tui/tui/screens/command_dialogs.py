"""The keys that change something: each asks in a dialog, shows exactly what will happen, and starts a command."""

import asyncio
from collections.abc import Callable, Sequence

from llmval_tui.checklist.model import Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.plans.items import Expected, PlanItem, listed
from llmval_tui.tui.cli_client import CommandClient, CommandResult, argv_for_run
from llmval_tui.tui.drawing.labels import short_label
from llmval_tui.tui.drawing.possible import obstacle
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.screens.dialog import Choice, Dialog
from llmval_tui.tui.screens.dialog_texts import question_rows, start_rows
from llmval_tui.tui.screens.host import Host
from llmval_tui.tui.screens.review import ReviewDialogs, confirmed_items, open_items
from llmval_tui.tui.screens.text_dialog import TextDialog
from llmval_tui.tui.widgets.text_rows import paragraph


class CommandDialogs:
    """Asks, then runs one command at a time."""

    def __init__(self, host: Host, commands: CommandClient) -> None:
        self._host = host
        self._commands = commands
        self._review = ReviewDialogs(host, commands)
        self._busy: str | None = None  # the command that runs now, in words
        self._settled: str | None = None  # ids of the runs that were given to `settle` last
        self.dialog_pending = False  # a dialog is being prepared in a thread: the next key is meant for it

    async def start(self, *, tick: bool, everything: bool = False) -> None:
        """Ask, then run the marked steps, or the chosen one, or all that are left."""
        host, state = self._host, self._host.state
        steps = self._steps(everything)
        key = "complete_all" if everything else "complete" if tick else "run"
        if (reason := obstacle(state, key, alive=False)) is not None:
            host.toast(reason, "warning")
            return
        keys = tuple(step.key for step in steps)
        self.dialog_pending = True
        try:
            items = await asyncio.to_thread(host.workspace.plan_items, keys, state.selection, whole=everything)
        except Refused as refusal:
            host.toast(str(refusal), "error")
            return
        finally:
            self.dialog_pending = False
        confirmed: list[str] = []
        skips = False
        if opened := open_items(items):
            said = await self._review.offer(opened, others=any(item.expected is Expected.RUNS for item in items))
            if said is None:
                return
            skips = said == "skip"
            if not skips:
                answered = await self._review.walk(keys, for_plan=True, whole=everything)
                if answered is None:
                    return
                confirmed = answered
                items = await asyncio.to_thread(host.workspace.plan_items, keys, state.selection, whole=everything)
                items = confirmed_items(items, confirmed)
                if any(item.expected is Expected.ASKS for item in items):
                    host.toast("Questions are still open: nothing was started.", "warning")
                    return
            else:
                items = [item for item in items if item not in opened]
        numbers = [item.step.number for item in items if item.is_planned]
        if not numbers:
            host.toast("Every step below this one is ticked: nothing is left to do.", "warning")
            return
        arguments = argv_for_run(
            state.settings,
            numbers,
            everything=everything,
            tick=tick,
            preset=state.preset,
            adapt=state.adapt,
            confirmed=confirmed,
            skip_unreviewed=skips,
        )
        runnable = sum(item.expected is Expected.RUNS for item in items)
        effect = self._effect(items, tick) if runnable else ""
        command = " ".join(["llmval", *arguments]) if runnable else ""
        verb = "Complete" if tick else "Run"
        title = f"{verb} {numbers[0]}?" if len(numbers) == 1 else f"{verb} {len(numbers)} steps?"
        if runnable not in (0, len(numbers)):
            title = f"{verb} {runnable} of {len(numbers)} steps?"

        def build(width: int) -> list[Row]:
            return start_rows(items, effect, command, width, host.glyphs)

        if not runnable:
            await host.ask(Dialog(f"{verb}: it cannot run now", build, [Choice("n", "close", "")]))
            return
        choices = [Choice("y", verb.lower(), "yes"), Choice("n", "not now", "")]
        if await host.ask(Dialog(title, build, choices)) is None:
            return
        state.marks.clear()
        await self._execute(
            f"starting {', '.join(numbers[:6])}",
            lambda: self._commands.run(
                numbers,
                everything=everything,
                tick=tick,
                preset=state.preset,
                adapt=state.adapt,
                confirmed=confirmed,
                skip_unreviewed=skips,
            ),
        )

    async def review(self) -> None:
        """Answer the open questions of the marked steps, or of all that are not ticked."""
        state = self._host.state
        keys = tuple(step.key for step in self._steps(not state.marks))
        if keys and await self._review.walk(keys, for_plan=False) is not None:
            self._host.refresh_now()

    def _steps(self, everything: bool) -> list[Step]:
        state = self._host.state
        steps = [status.step for status in state.snapshot.steps]
        if everything:
            return [step for step in steps if not step.checked]
        marked = [step for step in steps if step.key in state.marks]
        if state.section is not None and not marked:
            return [step for step in steps if step.section == state.section and not step.checked]
        return marked or [step for step in steps if step.key == state.key]

    def _effect(self, items: Sequence[PlanItem], tick: bool) -> str:
        state = self._host.state
        running = [item.step.number for item in items if item.expected is Expected.RUNS]
        subject = "It runs" if len(running) == 1 else f"{listed(running)} run, one after the other: each runs"
        if len(running) == 1 and sum(item.is_planned for item in items) > 1:
            subject = f"{running[0]} runs"
        if not tick:
            end = ", is judged, and is not ticked."
        elif state.preset == "smoke" and not state.settings.demo:
            end = ", is judged, and is not ticked: the smoke preset never ticks a real checklist."
        else:
            end = ", is judged, and is ticked and recorded in docs/TODO.md if it passes."
        return " ".join([f"{subject} detached from this screen{end}", *_left_out(items)])

    async def cancel(self) -> None:
        """Ask, then stop the shown run or the whole plan."""
        host, state = self._host, self._host.state
        run = state.run if state.run is not None and state.run.alive else None
        if (reason := obstacle(state, "cancel", alive=run is not None)) is not None:
            host.toast(reason)
            return
        text = "The run gets SIGINT, then SIGTERM, then SIGKILL, until nothing of it is left. Its records stay."
        choices = []
        if run is not None:
            choices.append(Choice("y", f"stop run of {run.intent.step.number}", f"run {run.id}", True))
        if state.snapshot.plan is not None or run is None:
            choices.append(Choice("a", "stop everything", "all", True))
        choices.append(Choice("n", "leave it", ""))
        choice = await host.ask(
            Dialog("Stop it?", lambda width: paragraph(text, "text", width), choices, len(choices) - 1)
        )
        if choice is not None:
            run_id = choice.removeprefix("run ") if choice.startswith("run ") else None
            await self._execute("stopping", lambda: self._commands.cancel(run_id))

    async def tick(self) -> None:
        """Tick the chosen step with a note."""
        host, step = self._host, self._host.state.step
        if (reason := obstacle(host.state, "tick", alive=False)) is not None or step is None:
            host.toast(reason or "Choose a step first.")
            return
        text = (
            "You tick it by hand: no run of llmval proves it. The note goes into docs/TODO.md with your tick. "
            "Write down the proof."
        )

        def build(width: int) -> list[Row]:
            return [row((f" {step.number} {short_label(step.text)}", "title")), *paragraph(text, "text", width)]

        note = await host.ask(TextDialog(f"Tick {step.number} by hand", build, "note"))
        if note:
            await self._execute(f"ticking {step.number}", lambda: self._commands.tick(step.number, note))

    async def answer(self) -> None:
        """Show the question of the shown run's verdict, and pass on the answer."""
        host, run = self._host, self._host.state.run
        if run is None or run.verdict is None or run.verdict.question is None:
            host.toast("This run has no question to answer.", "information")
            return
        verdict, question = run.verdict, run.verdict.question

        def build(width: int) -> list[Row]:
            return question_rows(verdict, width, host.glyphs)

        if question.get("kind") == "link":
            link = await host.ask(TextDialog("Give the link", build, "https://…"))
            if link:
                await self._execute("recording the link", lambda: self._commands.accept(run.id, link))
            return
        choices = [Choice("y", "accept the change", "yes"), Choice("n", "leave it open", "")]
        if await host.ask(Dialog("Accept this?", build, choices, 1)) is not None:
            await self._execute("accepting", lambda: self._commands.accept(run.id, None))

    async def quit(self, *, asking: bool = False) -> bool:
        """Whether to leave; asks if something is running, and with `asking` in any case."""
        host, snapshot = self._host, self._host.state.snapshot
        if not snapshot.active and snapshot.plan is None:
            if not asking:
                return True
            idle = "Nothing is running here, so nothing is stopped."
            leaving = [Choice("y", "quit", "quit"), Choice("n", "stay", "")]
            return await host.ask(Dialog("Quit?", lambda width: paragraph(idle, "text", width), leaving)) is not None
        subject = f"The plan {snapshot.plan} is" if snapshot.plan else f"{len(snapshot.active)} run(s) are"
        text = (
            f"{subject} running and will go on without this screen. llmval attach watches it, "
            "and the dashboard finds it again."
        )
        choices = [Choice("l", "leave it running", "leave")]
        if not host.state.settings.readonly:
            choices.append(Choice("s", "stop it and quit", "stop", True))
        choices.append(Choice("n", "stay", ""))
        choice = await host.ask(Dialog("Quit?", lambda width: paragraph(text, "text", width), choices))
        if choice == "stop":
            return await self._execute("stopping", lambda: self._commands.cancel(None))
        return choice == "leave"

    async def settle(self) -> None:
        """Have runs judged that ended without a plan to judge them; once for each set of such runs."""
        waiting = [s.run.id for s in self._host.state.snapshot.steps if s.run is not None and s.verdict is None]
        ids = ",".join(waiting)
        if self._settled == ids:
            return
        self._settled = ids
        result = await asyncio.to_thread(self._commands.settle)
        self._host.refresh_now()
        if not result.ok and result.message:
            self._host.toast(result.message, "warning")

    async def _execute(self, activity: str, command: Callable[[], CommandResult]) -> bool:
        """Run a command in a thread and show its result. Refuses while another one runs."""
        host = self._host
        if self._busy is not None:
            host.toast(f"Still {self._busy}: wait for it.", "warning")
            return False
        self._busy = activity
        try:
            result = await asyncio.to_thread(command)
        finally:
            self._busy = None
        host.refresh_now()
        host.toast(result.message or "Done.", "information" if result.ok else "error")
        return result.ok


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
