"""The list: what each tick rests on, what needs a person, folding, filters, orders, columns by width."""

import orjson
import pytest

from llmval_tui.runs.records import Outcome, State
from llmval_tui.runs.store import RunStore
from tests.helpers.tui_builder import Workspace, verdict
from tests.helpers.tui_pilot import WIDE, Make, body, dialog_opens, ready, text_of, until


def some_runs(workspace: Workspace) -> None:
    question = {"kind": "link", "text": "Where is it?"}
    for number, outcome, asks in (
        ("1.1", Outcome.FAIL, None),
        ("1.2", Outcome.PASS, None),
        ("2.1", Outcome.INCONCLUSIVE, question),
    ):
        run_id = f"20260101T000000Z-{number}-aaaaaa"
        workspace.run(number, run_id=run_id, state=State.FINISHED, verdict=verdict(outcome, question=asks))


async def test_what_needs_a_person_stands_below_the_list(workspace: Workspace, dashboard: Make) -> None:
    some_runs(workspace)
    async with dashboard().run_test(size=(160, 50)) as pilot:
        app = await ready(pilot)
        shown = text_of(app.main.steps)
        assert "Needs you" in shown and "✗ 1.1 27.9 QPS" in shown and "? 2.1 asks for a link: press o" in shown
        assert shown.index("✗ 1.1") < shown.index("? 2.1"), "the more urgent one is first"
        await pilot.click(
            "#steps", offset=(4, shown.splitlines().index(next(li for li in shown.splitlines() if "? 2.1" in li)))
        )
        await until(pilot, lambda: app.main.state.step is not None and app.main.state.step.number == "2.1")


async def test_a_section_folds_and_its_keys_take_all_of_it(workspace: Workspace, dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("g", "enter")
        shown = text_of(app.main.steps)
        assert "▸ 1. Serving" in shown and " 1.1 " not in shown and " 2.1 " in shown
        await pilot.press("c")
        await dialog_opens(pilot)
        assert "1.1 and 1.2 run" in body(app) and "2.1" not in body(app)
        await pilot.press("escape", "enter")
        assert " 1.1 " in text_of(app.main.steps)
        await pilot.press("comma")
        assert " 1.1 " not in text_of(app.main.steps) and " 2.1 " not in text_of(app.main.steps)
        await pilot.press("comma")
        assert " 2.2 " in text_of(app.main.steps)


async def test_states_and_orders_go_round(workspace: Workspace, dashboard: Make) -> None:
    some_runs(workspace)
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        seen = []
        for _ in range(8):
            await pilot.press("full_stop")
            seen.append(app.main.state.shown_state)
            numbers = {number for number in ("1.1", "1.2", "1.3", "2.1", "2.2") if f" {number} " in _list_part(app)}
            if app.main.state.shown_state == "needs you":
                assert numbers == {"1.1", "2.1"}
            if app.main.state.shown_state == "passed":
                assert numbers == {"1.2"}
        assert None in seen and "needs you" in seen and "open" in seen
        await pilot.press("escape")
        assert app.main.state.shown_state is None
        await pilot.press("s", "s", "s")
        assert app.main.state.order == "state" and "1. Serving" not in _list_part(app)
        assert _list_part(app).index(" 1.1 ") < _list_part(app).index(" 2.1 ") < _list_part(app).index(" 1.2 ")
        await pilot.press("s")
        assert "1. Serving" in _list_part(app)


def _list_part(app: object) -> str:
    steps = app.main.steps  # type: ignore[attr-defined]
    return "\n".join(row.plain for row in steps.content_rows)


@pytest.mark.parametrize(
    ("width", "there", "missing"),
    [
        (80, ("state", "age", "took"), ("rests on", "headline")),
        (120, ("rests on", "by", "age", "took", "headline", "trend"), ()),
        (200, ("rests on", "by", "age", "took", "headline", "trend"), ()),
    ],
)
async def test_columns_go_one_after_the_other(
    workspace: Workspace, dashboard: Make, width: int, there: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    some_runs(workspace)
    async with dashboard().run_test(size=(width, 35)) as pilot:
        app = await ready(pilot)
        await pilot.press("z")
        await until(pilot, lambda: app.main.steps.size.width > 78)
        lines = text_of(app.main.steps).splitlines()
        head = next(line for line in lines if "step" in line and "state" in line)
        assert [word for word in there if word not in head] == [] and not [word for word in missing if word in head]
        if width >= 120:
            assert any("27.9" not in line and "3 gates" in line for line in lines if " 1.2 " in line)
            assert lines[0].startswith(" ▌all 5▐ needs you 2")


async def test_only_what_is_measured_is_green(workspace: Workspace, dashboard: Make) -> None:
    some_runs(workspace)
    record = dict(section="1. Serving", text="Note the driver's version.", occurrence=1, kind="operator", number="1.3")  # noqa: C408
    line = {**record, "utc": "2026-01-02T01:00:00Z", "host": "n1", "by": "ops", "note": "580.1 on every GPU"}
    ledger = RunStore(workspace.root).ledger
    ledger.write_bytes(orjson.dumps(line) + b"\n")
    async with dashboard().run_test(size=(160, 40)) as pilot:
        app = await ready(pilot)
        shown = text_of(app.main.steps)
        assert "◇ by hand" in shown and "● passed" in shown
        green = [text for row in app.main.steps.content_rows for text, role in row.spans if role == "good"]
        assert green == []
