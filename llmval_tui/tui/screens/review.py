"""The dialogs that answer what items ask before their first run: one question after the other."""

import asyncio
from collections.abc import Callable, Sequence

from llmval_tui.actions.review.describe import describe
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.plans.items import Expected, PlanItem
from llmval_tui.tui.cli_client import CommandClient, CommandResult
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.screens.dialog import Choice, Dialog
from llmval_tui.tui.screens.host import Host
from llmval_tui.tui.screens.text_dialog import TextDialog
from llmval_tui.tui.widgets.text_rows import labelled, paragraph

_KEPT = ("run", "manual", "skip")  # answers that are kept, or that let the step run
_LATER = Choice("q", "later", "")


def open_items(items: Sequence[PlanItem]) -> list[PlanItem]:
    """The items of a plan with an open question."""
    return [item for item in items if item.proposal is not None and item.proposal.open_question is not None]


def confirmed_items(items: Sequence[PlanItem], confirmed: Sequence[str]) -> list[PlanItem]:
    """The items of a plan; those whose question was answered for this plan alone run."""
    return [
        PlanItem(item.step, Expected.RUNS, item.proposal)
        if item.proposal and item.proposal.open_question and item.proposal.open_question.code in confirmed
        else item
        for item in items
    ]


class ReviewDialogs:
    """Asks the open questions of some steps; each answer is a command that keeps it beside the list."""

    def __init__(self, host: Host, commands: CommandClient) -> None:
        self._host = host
        self._commands = commands

    async def offer(self, opened: Sequence[PlanItem], *, others: bool) -> str | None:
        """Say that questions are open, before a start: "answer", "skip" (start the rest), or None.

        `others`: there are steps without a question.
        """

        def build(width: int) -> list[Row]:
            rows = paragraph("Nothing starts before these questions are answered.", "text", width)
            for item in opened:
                rows += [row(), *labelled(item.step.number, item.reason, "warn", width)]
            return rows

        choices = [Choice("y", "answer them", "answer")]
        choices += [Choice("s", "start the rest", "skip")] if others else []
        count = "A question is open" if len(opened) == 1 else f"{len(opened)} questions are open"
        return await self._host.ask(Dialog(count, build, [*choices, Choice("n", "not now", "")]))

    async def walk(
        self, keys: tuple[StepKey, ...], may_open: Callable[[], bool], *, for_plan: bool, whole: bool = False
    ) -> list[str] | None:
        """Ask one question after the other; returns the codes of those that were confirmed for the next plan alone.

        None: the operator left or gave up the next question (`may_open`), or an answer could not be kept.
        """
        confirmed: list[str] = []
        done: set[tuple[StepKey, str]] = set()
        first = True
        while True:
            try:
                items = await asyncio.to_thread(
                    self._host.workspace.plan_items, keys, self._host.state.selection, whole=whole
                )
            except Refused as refusal:
                self._host.toast(str(refusal), "error")
                return None
            if not may_open():
                return None
            opened = [item for item in open_items(items) if _id(item) not in done]
            if not opened:
                if first:
                    self._host.toast("No question is open.")
                return confirmed
            first = False
            item = opened[0]
            question = item.proposal.open_question if item.proposal else None
            assert question is not None
            if question.missing:
                if not await self._ask_values(item, question.missing):
                    return None
                continue
            said = await self._ask(item, len(opened), for_plan=for_plan)
            if said is None:
                return None
            if said in _KEPT and not await self._is_open(item, keys, whole=whole):
                number = item.step.number
                self._host.toast(
                    f"{number}: this was answered or changed meanwhile; your answer was not kept.", "warning"
                )
                continue
            if said == "values":
                reading = item.proposal.reading if item.proposal else None
                if reading is None or not await self._ask_values(item, reading.placeholders):
                    return None
            elif said == "leave" or (said == "run" and question.each_time):
                confirmed += [question.code] if said == "run" else []
                done.add(_id(item))
            elif not await self._keep(await asyncio.to_thread(self._commands.answer_question, question.code, said)):
                return None

    async def _is_open(self, asked: PlanItem, keys: tuple[StepKey, ...], *, whole: bool) -> bool:
        """Whether the question that was on the screen is still the one of its step."""
        selection = self._host.state.selection
        try:
            items = await asyncio.to_thread(self._host.workspace.plan_items, keys, selection, whole=whole)
        except Refused:
            return False  # the next look says why
        return any(_id(item) == _id(asked) for item in open_items(items))

    async def _ask(self, item: PlanItem, count: int, *, for_plan: bool) -> str | None:
        question = item.proposal.open_question if item.proposal else None
        reading = item.proposal.reading if item.proposal else None
        may_run = question is not None and question.can_run and (for_plan or not question.each_time)
        choices = [Choice("y", "run", "run", question is not None and question.each_time)] if may_run else []
        choices += [Choice("n", "by hand", "manual"), Choice("s", "skip", "skip")]
        choices += [] if may_run else [Choice("l", "leave it open", "leave")]
        choices += [Choice("e", "change a value", "values")] if reading is not None and reading.placeholders else []
        choices.append(_LATER)
        title = f"{item.step.number}: may it run?" + (f" ({count} open)" if count > 1 else "")
        return await self._host.ask(Dialog(title, lambda width: self._rows(item, width), choices, len(choices) - 1))

    async def _ask_values(self, item: PlanItem, names: Sequence[str]) -> bool:
        """Ask for values and keep them; False if the operator leaves."""
        for name in names:
            value = await self._host.ask(TextDialog(f"Value of {name}", lambda width: self._rows(item, width), name))
            if not value or not await self._keep(await asyncio.to_thread(self._commands.give_value, name, value)):
                return False
        return True

    async def _keep(self, result: CommandResult) -> bool:
        """Whether an answer was kept; if not, say why."""
        if not result.ok:
            self._host.toast(result.message, "error")
        return result.ok

    def _rows(self, item: PlanItem, width: int) -> list[Row]:
        assert item.proposal is not None
        rows: list[Row] = []
        for label, text in describe(item.step, item.proposal, self._host.state.settings.workspace):
            role = {"question": "warn", "command": "code", "argv": "code", "": "code"}.get(label, "text")
            rows += labelled(label, text, role, width)
        return rows


def _id(item: PlanItem) -> tuple[StepKey, str]:
    question = item.proposal.open_question if item.proposal else None
    return item.step.key, question.code if question else ""
