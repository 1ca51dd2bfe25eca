"""The Log pane: following, pausing, searching, truncation."""

from dataclasses import replace
from pathlib import Path

from llmval_tui.tui.data.log_file import LogLine, LogWindow, LogWindowFile
from llmval_tui.tui.data.log_reader import LogRead, LogReader, LogRequest
from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import WIDE, Make, ready, text_of, until


async def test_log_follows_pauses_searches(workspace: Workspace, dashboard: Make) -> None:
    folder = workspace.run("1.2")
    log = folder / "logs" / "main.rank0.stdout.log"
    other = folder / "logs" / "main.rank1.stdout.log"
    log.write_text("".join(f"line {i} {'NEEDLE' if i == 500 else ''}\n" for i in range(2000)))
    other.write_text("from rank one\n")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        pane = app.main.log_pane
        await pilot.press("j", "2")
        await until(pilot, lambda: "line 1999" in text_of(pane), "the end of the log")
        assert "following" in text_of(pane)
        with log.open("a") as out:
            out.write("new line at the end\n")
        await until(pilot, lambda: "new line at the end" in text_of(pane), "the new line")
        await pilot.press("k")
        await until(pilot, lambda: "new line at the end" not in text_of(pane), "the line above")
        with log.open("a") as out:
            out.write("a\nb\nc\n")
        await until(pilot, lambda: "3 new lines below" in text_of(pane), "the count of new lines")
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: "line 500 NEEDLE" in text_of(pane) or "not found" in text_of(pane), "the search")
        await pilot.press("N")
        await until(pilot, lambda: "line 500 NEEDLE" in text_of(pane), "the search upwards")
        await pilot.press("escape", "G")
        await until(pilot, lambda: "following" in text_of(pane) and "c" in text_of(pane))
        await pilot.press("g")
        await until(pilot, lambda: "line 0" in text_of(pane), "the beginning")
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "from rank one" in text_of(pane), "the other rank")
        assert "rank 1" in text_of(pane)


async def test_a_truncated_log_is_followed_again(workspace: Workspace, dashboard: Make) -> None:
    log = workspace.run("1.2") / "logs" / "main.stdout.log"
    log.write_text("old\n" * 100)
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "2")
        await until(pilot, lambda: "old" in text_of(app.main.log_pane))
        log.write_text("fresh\n")
        await until(pilot, lambda: "fresh" in text_of(app.main.log_pane) and "old" not in text_of(app.main.log_pane))


async def test_a_narrow_title_keeps_its_important_parts_whole(workspace: Workspace, dashboard: Make) -> None:
    log = workspace.run("1.2") / "logs" / "main.rank0.stdout.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    keys = {"merged": (("f5", "F5"),)}
    async with dashboard(keys=keys).run_test(size=(100, 24)) as pilot:
        app = await ready(pilot)
        pane = app.main.log_pane
        await pilot.press("j", "2")
        await until(pilot, lambda: "following" in text_of(pane))
        await pilot.press("k", "k")
        with log.open("a") as out:
            out.write("a\nb\n")
        await until(pilot, lambda: "2 new lines below" in text_of(pane)[: pane.size.width], "the count, in sight")
        await pilot.press("slash", *"nowhere", "enter")
        await until(pilot, lambda: "is not found below" in text_of(pane)[: pane.size.width], "the outcome, in sight")
        await pilot.press("escape", "z")  # with room for them, the hints have the operator's keys
        await until(pilot, lambda: "F5: all in one" in text_of(pane).splitlines()[0])
        log.write_text("anew\n")
        await until(pilot, lambda: "truncated" in text_of(pane) and "following" in text_of(pane))
        await pilot.press("k")
        await until(pilot, lambda: "truncated" not in text_of(pane), "the end of the news")


async def test_a_match_beyond_the_edge_is_scrolled_into_view(workspace: Workspace, dashboard: Make) -> None:
    log = workspace.run("1.2") / "logs" / "main.rank0.stdout.log"
    log.write_text("Error near\n" + "x" * 300 + " then an error, and another error\n" + "end\n" * 3)
    async with dashboard().run_test(size=(100, 24)) as pilot:
        app = await ready(pilot)
        pane = app.main.log_pane
        await pilot.press("j", "2")
        await until(pilot, lambda: "Error near" in text_of(pane))
        await pilot.press("slash", *"error", "enter")
        await until(pilot, lambda: "then an error, and" in text_of(pane), "the place")
        marked = [text for shown in pane.drawn_rows for text, role in shown.spans if role == "key"]
        assert marked.count("error") == 2  # each in the line, not only the first
        await pilot.press("N")
        await until(pilot, lambda: "Error near" in text_of(pane), "the line above, shifted back")
        assert all(shown.plain.startswith(" ") for shown in pane.drawn_rows if shown.plain)


async def test_an_empty_log_says_so(workspace: Workspace, dashboard: Make) -> None:
    log = workspace.run("1.2") / "logs" / "main.stderr.log"
    log.touch()
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "2")
        await until(pilot, lambda: "Nothing has been written" in text_of(app.main.log_pane))
        log.write_text("something\n")
        await until(pilot, lambda: "something" in text_of(app.main.log_pane))
        assert "Nothing has been written" not in text_of(app.main.log_pane)


async def test_a_search_goes_on_after_its_prompt_closes(workspace: Workspace, dashboard: Make) -> None:
    """The prompt gives its row back, so the pane asks for its lines again: that must not take the search's place."""
    (workspace.run("1.2") / "logs" / "main.stdout.log").write_text("line\n" * 500)
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        pane = app.main.log_pane
        await pilot.press("j", "2")
        await until(pilot, lambda: "line" in text_of(pane))
        asked: list[LogRequest] = []
        pane._send = asked.append  # a reader that has much to search and has not answered yet
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: asked and not app.screen.query("Prompt"))
        await until(pilot, lambda: asked[-1].count == pane.size.height - 1, "the row of the prompt")
        assert asked[-1].kind == "find" and asked[-1].up
        assert "searching" in text_of(pane)
        await pilot.press("escape")
        await pilot.pause()
        assert asked[-1].kind == "from" and "searching" not in text_of(pane)
        assert pane._source is not None
        found = LogRead(pane._source, replace(asked[0], kind="find"), LogWindow((LogLine(5, "late"),), 10, 20, 0), 5)
        pane.show_read(found)  # an answer to what nobody asks any more
        assert "late" not in text_of(pane)


def test_an_abandoned_search_is_not_reported_as_not_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 << 20))
    told: list[object] = []
    reader = LogReader(told.append, 0.1)
    file = LogWindowFile(path)
    file.poll()
    reader.request(LogRequest("end", 10))  # a newer question
    reader._answer(file, path, LogRequest("find", 10, file.size, "needle", up=True))
    assert told == []


async def test_the_title_names_a_run_that_is_not_the_newest(workspace: Workspace, dashboard: Make) -> None:
    for name, alive in (("20260102T030405Z-1.2-aaaaaa", False), ("20260102T030406Z-1.2-bbbbbb", True)):
        folder = workspace.run("1.2", run_id=name, alive=alive)
        (folder / "logs" / "main.rank0.stdout.log").write_text(f"log of {name}\n")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        pane = app.main.log_pane
        await pilot.press("j", "2")
        await until(pilot, lambda: "bbbbbb" in text_of(pane), "the newest")
        assert "run 2 of 2" not in text_of(pane)
        await pilot.press("1", "left_square_bracket", "2")
        await until(pilot, lambda: "aaaaaa" in text_of(pane), "the older one")
        assert "run 1 of 2" in text_of(pane)
