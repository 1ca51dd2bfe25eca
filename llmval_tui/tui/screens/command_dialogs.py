"""The keys that change something: each asks in a dialog, shows exactly what will happen, and starts a command."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llmval_tui.checklist.model import Step
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.plans.items import Expected
from llmval_tui.runs.records import Verdict
from llmval_tui.tui.cli_client import CommandClient, CommandResult
from llmval_tui.tui.drawing.labels import short_label
from llmval_tui.tui.drawing.possible import obstacle
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.screens.dialog import Choice, Content, Dialog, looking_at
from llmval_tui.tui.screens.dialog_texts import question_rows
from llmval_tui.tui.screens.host import Host
from llmval_tui.tui.screens.review import ReviewDialogs, open_items
from llmval_tui.tui.screens.start_dialog import CLOSE, Start, StartDialog
from llmval_tui.tui.screens.text_dialog import TextDialog
from llmval_tui.tui.widgets.text_rows import paragraph


def gone(text: str) -> Content:
    """What a dialog shows if there is nothing left to decide."""
    return Content(text, lambda width: paragraph("Nothing was changed from here.", "text", width), CLOSE, closed=True)


class CommandDialogs:
    """Asks, then runs one command at a time."""

    def __init__(self, host: Host, commands: CommandClient) -> None:
        self._host = host
        self._commands = commands
        self._review = ReviewDialogs(host, commands)
        self._busy: str | None = None  # the command that runs now, in words
        self._settled: str | None = None  # ids of the runs that were given to `settle` last
        self._preparing = False  # dialogs follow one another, and each is prepared in a thread
        self._given_up = 0  # dialogs that shall open no more

    @property
    def dialog_pending(self) -> bool:
        """Whether a dialog is being prepared and none is open: the next key is meant for the one to come."""
        return self._preparing and not self._host.asks

    @contextmanager
    def _dialogs_follow(self) -> Iterator[Callable[[], bool]]:
        """While dialogs follow one another; gives whether the next may open, or Esc has given it up."""
        self._preparing, turn = True, self._given_up
        try:
            yield lambda: turn == self._given_up
        finally:
            if turn == self._given_up:
                self._preparing = False

    async def start(self, *, tick: bool, everything: bool = False) -> None:
        """Ask, then run the marked steps, or the chosen one, or all that are left."""
        host, state = self._host, self._host.state
        steps = self._steps(everything)
        key = "complete_all" if everything else "complete" if tick else "run"
        if (reason := obstacle(state, key, alive=False)) is not None:
            host.toast(reason, "warning")
            return
        keys = tuple(step.key for step in steps)
        wanted = StartDialog(host, keys, tick, everything)
        with self._dialogs_follow() as may_open:
            start = await self._asked(wanted, keys, may_open)
        if start is None or not may_open():
            return
        state.marks.clear()
        await self._execute(
            f"starting {', '.join(start.numbers[:6])}",
            lambda: self._commands.run(
                start.numbers,
                everything=everything,
                tick=tick,
                preset=state.preset,
                adapt=state.adapt,
                confirmed=wanted.confirmed,
                skip_unreviewed=wanted.skip_unreviewed,
            ),
        )

    async def _asked(
        self, wanted: StartDialog, keys: tuple[StepKey, ...], may_open: Callable[[], bool]
    ) -> Start | None:
        """Ask the open questions, then whether to start; None: not, and the operator knows why."""
        host = self._host
        try:
            items = await wanted.items()
            if may_open() and (opened := open_items(items)):
                said = await self._review.offer(opened, others=any(item.expected is Expected.RUNS for item in items))
                if said is None:
                    return None
                wanted.skip_unreviewed = said == "skip"
                if not wanted.skip_unreviewed:
                    answered = await self._review.walk(keys, may_open, for_plan=True, whole=wanted.everything)
                    if answered is None:
                        return None
                    wanted.confirmed = answered
                items = await wanted.items()
                if not wanted.skip_unreviewed and any(item.expected is Expected.ASKS for item in items):
                    host.toast("Questions are still open: nothing was started.", "warning")
                    return None
        except Refused as refusal:
            host.toast(str(refusal), "error")
            return None
        if not may_open():
            return None
        if not any(item.is_planned for item in items):
            host.toast("Every step below this one is ticked: nothing is left to do.", "warning")
            return None
        return await wanted.ask(items)

    def give_up_dialog(self) -> None:
        """Open the dialog that is being prepared no more: nothing may ask when nobody expects it."""
        if self.dialog_pending:
            self._given_up += 1
            self._preparing = False

    async def review(self) -> None:
        """Answer the open questions of the marked steps, or of all that are not ticked."""
        state = self._host.state
        keys = tuple(step.key for step in self._steps(not state.marks))
        with self._dialogs_follow() as may_open:
            answered = await self._review.walk(keys, may_open, for_plan=False) if keys else None
        if answered is not None:
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

    async def cancel(self) -> None:
        """Ask, then stop the shown run or the whole plan."""
        host, state = self._host, self._host.state
        run = state.run if state.run is not None and state.run.alive else None
        if (reason := obstacle(state, "cancel", alive=run is not None)) is not None:
            host.toast(reason)
            return
        text = "The run gets SIGINT, then SIGTERM, then SIGKILL, until nothing of it is left. Its records stay."
        ended = "It has ended meanwhile: nothing is running here, so nothing is stopped."

        def content() -> Content:
            snapshot = state.snapshot
            choices = []
            if run is not None and run.id in snapshot.active:
                choices.append(Choice("y", f"stop run of {run.intent.step.number}", f"run {run.id}", True))
            if snapshot.plan is not None or (snapshot.active and not choices):
                choices.append(Choice("a", "stop everything", "all", True))
            if not choices:
                return Content("Nothing to stop", lambda width: paragraph(ended, "text", width), CLOSE)
            choices.append(Choice("n", "leave it", ""))
            return Content(
                "Stop it?", lambda width: paragraph(text, "text", width), tuple(choices), len(choices) - 1, choices
            )

        choice = await host.ask(Dialog.of(content(), looking_at(content)))
        if choice is not None:
            run_id = choice.removeprefix("run ") if choice.startswith("run ") else None
            await self._execute("stopping", lambda: self._commands.cancel(run_id))

    async def tick(self) -> None:
        """Tick the chosen step with a note."""
        host, step = self._host, self._host.state.step
        if (reason := obstacle(host.state, "tick", alive=False)) is not None or step is None:
            host.toast(reason or "Choose a step first.")
            return
        key = step.key
        text = (
            "You tick it by hand: no run of llmval proves it. The note goes into docs/TODO.md with your tick. "
            "Write down the proof."
        )

        def content(now: Step | None) -> Content:
            if now is None:
                return gone(f"{step.number} is no longer in the list as it was: it was edited meanwhile.")
            if now.checked:
                return gone(f"{now.number} was ticked meanwhile.")

            def build(width: int) -> list[Row]:
                return [row((f" {now.number} {short_label(now.text)}", "title")), *paragraph(text, "text", width)]

            return Content(f"Tick {now.number} by hand", build)

        def seen() -> Content:
            status = host.state.snapshot.status(key)
            return content(status.step if status is not None else None)

        note = await host.ask(TextDialog.of(content(step), "note", looking_at(seen)))
        if not note:
            return
        try:
            now = await asyncio.to_thread(host.workspace.step_now, key)  # the list may be newer than the snapshot
        except Refused as refusal:
            host.toast(f"{refusal} Nothing was ticked; your note: {note}", "error")
            return
        if now is None or now.checked:
            host.toast(f"{content(now).title} Nothing was ticked; your note: {note}", "warning")
            return
        await self._execute(f"ticking {now.number}", lambda: self._commands.tick(now.number, note))

    async def answer(self) -> None:
        """Show the question of the shown run's verdict, and pass on the answer."""
        host, run = self._host, self._host.state.run
        if run is None or run.verdict is None or run.verdict.question is None:
            host.toast("This run has no question to answer.", "information")
            return
        is_link = run.verdict.question.get("kind") == "link"

        def content(verdict: Verdict) -> Content:
            def build(width: int) -> list[Row]:
                return question_rows(verdict, width, host.glyphs)

            if is_link:
                return Content("Give the link", build, facts=verdict.question)
            choices = (Choice("y", "accept the change", "yes"), Choice("n", "leave it open", ""))
            return Content("Accept this?", build, choices, 1, facts=verdict.question)

        shown = content(run.verdict)

        async def look() -> Content:
            nonlocal shown
            try:
                verdict = await asyncio.to_thread(host.workspace.question_now, run.id)
            except Refused as refusal:
                return gone(str(refusal))
            if verdict is None:
                return gone("The question was answered meanwhile.")
            if verdict.question != shown.facts:
                shown = content(verdict)
            return shown

        dialog = TextDialog.of(shown, "https://…", look) if is_link else Dialog.of(shown, look)
        said = await host.ask(dialog)
        if said is None:
            return
        if (await look()).facts != dialog.content.facts:
            host.toast("The question has changed since it was on the screen: nothing was accepted.", "warning")
            return
        link = said if is_link else None
        activity = "recording the link" if is_link else "accepting"
        await self._execute(activity, lambda: self._commands.accept(run.id, link))

    async def quit(self, *, asking: bool = False) -> bool:
        """Whether to leave; asks if something is running, and with `asking` in any case."""
        host, state = self._host, self._host.state
        if not asking and not state.snapshot.active and state.snapshot.plan is None:
            return True

        def content() -> Content:
            snapshot = state.snapshot
            if not snapshot.active and snapshot.plan is None:
                idle = "Nothing is running here, so nothing is stopped."
                choices = [Choice("y", "quit", "leave"), Choice("n", "stay", "")]
                return Content("Quit?", lambda width: paragraph(idle, "text", width), tuple(choices))
            subject = f"The plan {snapshot.plan} is" if snapshot.plan else f"{len(snapshot.active)} run(s) are"
            text = (
                f"{subject} running and will go on without this screen. llmval attach watches it, "
                "and the dashboard finds it again."
            )
            choices = [Choice("l", "leave it running", "leave")]
            if not state.settings.readonly:
                choices.append(Choice("s", "stop it and quit", "stop", True))
            choices.append(Choice("n", "stay", ""))
            return Content("Quit?", lambda width: paragraph(text, "text", width), tuple(choices))

        choice = await host.ask(Dialog.of(content(), looking_at(content)))
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
