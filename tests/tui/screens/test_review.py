"""The questions of a first use in the dashboard: nothing starts before they are answered."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from textual import events

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.review.model import Question
from llmval_tui.runs.records import Command
from llmval_tui.tui.screens.dialog import Dialog
from llmval_tui.tui.screens.text_dialog import TextDialog
from tests.helpers.tui_pilot import WIDE, Make, body, dialog_opens, ready, toasts_of, until
from tests.tui import conftest

OPEN = {"1.1": Question("It runs make, which nobody has confirmed yet.", code="c11"),
        "1.2": Question("It runs rm, which can damage something, so it asks each time.", True, "c12")}  # fmt: skip


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch, commands: Any) -> dict[str, Question]:
    """Open questions by step; an answer by a command closes its question."""
    left = dict(OPEN)

    def propose(context: Context) -> Proposal:
        question = left.get(context.step.number)
        made = Proposal("command", "Runs it.", commands=(Command("main", ["make", "test"], "make test"),))
        return replace(made, unreviewed=question.text, open_question=question) if question else made

    def answer(code: str, decision: str) -> Any:
        for number in [number for number, question in left.items() if question.code == code]:
            del left[number]
        return commands._note("answer", code, decision)

    def value(name: str, text: str) -> Any:
        del left["1.1"]
        return commands._note("value", name, text)

    monkeypatch.setattr(conftest, "propose", propose)
    monkeypatch.setattr(commands, "answer_question", answer)
    monkeypatch.setattr(commands, "give_value", value)
    return left


async def test_a_start_asks_first_and_the_answer_is_kept(dashboard: Make, commands: Any, questions: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await dialog_opens(pilot)
        assert "nobody has confirmed" in body(app) and commands.calls == []
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "make test" in body(app))
        for words in ("program", "folder", "exit code only"):
            assert words in body(app)
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "detached" in body(app))
        assert commands.calls == [("answer", "c11", "run")]
        await pilot.press("y")
        await until(pilot, lambda: len(commands.calls) == 2)
        assert commands.calls[1] == ("run", ["1.1"], False, True, None, False)


async def test_an_answer_to_a_question_that_is_answered_already_is_not_kept(
    dashboard: Make, commands: Any, questions: Any
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "nobody has confirmed" in body(app))
        del questions["1.1"]  # by another process
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "each time" in body(app))
        assert commands.calls == [] and "1.1: this was answered or changed meanwhile" in toasts_of(app)


async def test_a_key_typed_between_two_questions_waits_for_the_second(
    dashboard: Make, commands: Any, questions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, answer = threading.Event(), commands.answer_question
    monkeypatch.setattr(commands, "answer_question", lambda *words: kept.wait(120) and answer(*words))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "nobody has confirmed" in body(app))
        for _ in range(2):  # the second comes while the first answer is being kept
            app.post_message(events.Key("s", "s"))
        await until(pilot, lambda: not isinstance(app.screen, Dialog), "the end of the first dialog")
        for _ in range(20):
            await pilot.pause(0.01)
        assert app.main.dialog_pending and app.main.state.order == "list", "the list did not take it"
        kept.set()
        await until(pilot, lambda: len(commands.calls) == 2, "the second answer")
        assert commands.calls == [("answer", "c11", "skip"), ("answer", "c12", "skip")]
        assert app.main.state.order == "list"
        await until(pilot, lambda: not app.main.dialog_pending)


async def test_esc_between_two_questions_gives_up_the_second(
    dashboard: Make, commands: Any, questions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, answer = threading.Event(), commands.answer_question
    monkeypatch.setattr(commands, "answer_question", lambda *words: kept.wait(120) and answer(*words))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "nobody has confirmed" in body(app))
        app.post_message(events.Key("s", "s"))
        await until(pilot, lambda: app.main.dialog_pending, "the wait for the second dialog")
        app.main.give_up_dialog()  # what Esc does after a while
        kept.set()
        await until(pilot, lambda: len(commands.calls) == 1, "the first answer")
        for _ in range(20):
            await pilot.pause(0.01)
        assert not isinstance(app.screen, Dialog) and not app.main.dialog_pending


async def test_enter_answers_nothing(dashboard: Make, commands: Any, questions: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("v")
        await dialog_opens(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, Dialog))
        assert commands.calls == []


async def test_a_destructive_step_is_confirmed_for_one_plan(dashboard: Make, commands: Any, questions: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "c")
        await dialog_opens(pilot)
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "make test" in body(app))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "--confirm c12" in body(app))
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("run", ["1.2"], False, True, None, False, ["c12"])]


async def test_the_rest_can_start_without_the_open_ones(dashboard: Make, commands: Any, questions: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("C")
        await dialog_opens(pilot)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "--skip-unreviewed" in body(app))
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls[0][0] == "run" and commands.calls[0][-1] == "skip"


async def test_the_key_walks_through_all_open_questions(dashboard: Make, commands: Any, questions: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("v")
        await dialog_opens(pilot)
        await pilot.press("n")  # by hand
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "each time" in body(app))
        await pilot.press("y")  # not offered: it asks each time
        await pilot.press("s")
        await until(pilot, lambda: len(commands.calls) == 2)
        assert commands.calls == [("answer", "c11", "manual"), ("answer", "c12", "skip")]
        await until(pilot, lambda: not isinstance(app.screen, Dialog))
        await pilot.press("v")
        await until(pilot, lambda: "No question is open" in toasts_of(app))


async def test_a_missing_value_is_asked_for(dashboard: Make, commands: Any, questions: Any) -> None:
    questions["1.1"] = Question("It needs the value of “pod”.", missing=("pod",))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await dialog_opens(pilot)
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press(*"w-0", "enter")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("value", "pod", "w-0")]
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "detached" in body(app))


async def test_a_read_only_dashboard_answers_nothing(dashboard: Make, commands: Any, questions: Any) -> None:
    async with dashboard(readonly=True).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("v")
        await until(pilot, lambda: "Read-only" in toasts_of(app))
        assert commands.calls == []
