"""The grid of nodes: moving, the node's own panes and back, orders, states, figures."""

import json
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.fleet_workspace import make_fleet, make_refused_fleet, names_of
from llmval_tui.checklist.model import load
from llmval_tui.foundation.files import to_json
from llmval_tui.runs.records import JobStatus, Status
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.workspace_view import Workspace as Looker
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers.tui_builder import T0
from tests.helpers.tui_pilot import Make, ready, text_of, toasts_of, until
from tests.tui.conftest import FakeCommands, propose


@pytest.fixture
def fleet(tmp_path) -> Callable[..., Dashboard]:
    def make(nodes: int = 64, **how) -> Dashboard:
        make_fleet(tmp_path, nodes, **how)
        settings = LaunchSettings(
            tmp_path, tmp_path / "docs" / "llm_validation_checklist.md", theme="dark", interval=0.1
        )
        state = ScreenState(settings, now=lambda: T0 + 400.0)
        return Dashboard(settings, FakeCommands(), state=state, workspace=Looker(settings, propose), live=False)

    return make


def serve(text: str) -> HTTPServer:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


async def opened(pilot) -> Dashboard:
    app = await ready(pilot)
    await pilot.press("8")
    await until(pilot, lambda: "completed QPS" in text_of(app.main.fleet_pane), "the grid")
    return app


@pytest.mark.parametrize(("nodes", "size"), [(64, (80, 24)), (512, (160, 50))])
async def test_all_nodes_the_worst_six_and_the_chosen_one_fit(fleet, nodes, size):
    async with fleet(nodes).run_test(size=size) as pilot:
        app = await opened(pilot)
        shown = text_of(app.main.fleet_pane)
        grid = "".join(shown.split("Worst six")[0])
        assert sum(grid.count(sign) for sign in "✓▼✗∅") == nodes + 4, "each node, and the four counts"
        names = names_of(nodes)
        for part in (names[22], "slow", names[7], "7 of 8 GPUs", names[16], "last sample", "W, ", "Enter its panes"):
            assert part in shown, part
        assert not app.main.query_one("#left").display, "the grid has the whole screen"


async def test_keys_move_from_cell_to_cell(fleet):
    async with fleet().run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        pane = app.main.fleet_pane
        columns = pane._place.grid.columns
        assert pane.target == "n01"
        await pilot.press("l", "l", "j")
        assert pane.target == f"n{columns + 3:02}"
        await pilot.press("h", "k")
        assert pane.target == "n02"
        await pilot.press("G")
        assert pane.target == "n64"
        await pilot.press("j", "g", "k")
        assert pane.target == "n01"
        await pilot.press("h")
        await until(pilot, lambda: app.main.pane == "list", "the list, at the left edge")


async def test_enter_opens_the_nodes_own_panes_and_esc_goes_back(fleet):
    async with fleet(16).run_test(size=(120, 35)) as pilot:
        app = await opened(pilot)
        await pilot.press("l", "l", "enter")
        await until(pilot, lambda: app.main.state.run is not None and app.main.state.run.id.endswith(".n03"))
        assert app.main.shown == "run" and "node n03" in text_of(app.main.panes["run"])
        await pilot.press("2")
        await until(pilot, lambda: "the log of n03" in text_of(app.main.log_pane), "its log")
        await pilot.press("3")
        await until(pilot, lambda: app.main.state.recorded.last is not None, "its recording")
        assert len(app.main.state.recorded.last.gpus) == 8
        await pilot.press("1", "]")
        await until(pilot, lambda: app.main.state.run is not None and app.main.state.run.id.endswith(".n04"))
        await pilot.press("escape")
        await until(pilot, lambda: app.main.pane == "fleet")
        assert app.main.fleet_pane.target == "n04" and app.main.state.recorded_of is None
        await until(pilot, lambda: app.main.state.run is not None and not app.main.state.run.id.endswith(".n04"))


async def test_another_step_leaves_the_node(fleet):
    async with fleet(16).run_test(size=(120, 35)) as pilot:
        app = await opened(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: app.main.state.node == "n01")
        await pilot.press("tab", "k")  # to the section's title in the list
        await until(pilot, lambda: app.main.state.node is None)


async def test_figure_order_state_and_search(fleet):
    async with fleet().run_test(size=(120, 35)) as pilot:
        app = await opened(pilot)
        pane = app.main.fleet_pane
        await pilot.press("v")
        assert "TTFT p99 ms" in text_of(pane)
        await pilot.press("s")
        assert "by state" in text_of(pane)
        listed = text_of(pane).split("Worst six")[1].splitlines()[1]
        assert listed.split()[0] == "n23", "slow comes first"
        await pilot.press("full_stop")
        assert "Only needs you" in text_of(pane)
        await pilot.press("full_stop", "full_stop")
        only = [line for line in text_of(pane).split("Only failed")[1].splitlines()[1:7] if line.strip()]
        assert len(only) == 1 and only[0].split()[0] == "n41"
        await pilot.press("slash", *"n17", "enter")
        await until(pilot, lambda: pane.target == "n17", "the node that was searched")
        await pilot.press("slash", *"zz", "enter")
        await until(pilot, lambda: "No node is called “zz”" in toasts_of(app))


async def test_a_low_grid_scrolls_with_the_cursor(fleet):
    async with fleet(512).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        pane = app.main.fleet_pane
        assert "n512" not in text_of(pane).split("Worst six")[0]
        await pilot.press("G")
        grid = text_of(pane).split("Worst six")[0]
        assert "❯" in grid and pane.target == "n512"
        await pilot.click("#fleet", offset=(12, pane._place.first))
        assert pane.target != "n512"


async def test_a_running_fleet_and_nodes_that_have_not_begun(fleet, tmp_path):
    app = fleet(16, slow=[], failed=[], silent=[], fewer=[], running=range(8, 16), judged=False)
    run = next((tmp_path / "artifacts" / "runs").iterdir())
    shutil.rmtree(run / "nodes" / "n16")
    (run / "status.json").write_bytes(to_json(Status(job=JobStatus("1", state="PENDING", reason="Resources"))))
    async with app.run_test(size=(160, 50)) as pilot:
        app = await opened(pilot)
        shown = text_of(app.main.fleet_pane)
        assert "▸ 7 running" in shown and "◷ 1 queued" in shown and "90 %" in shown and "PENDING (Resources)" in shown
        await pilot.press("G", "enter")
        await until(pilot, lambda: "n16 has written nothing yet" in toasts_of(app))


REASON = (
    "n1 and n2 are one machine (machine id 0123abcd…): name each machine once, or pass --same-machine, which is "
    "recorded as a deviation."
)


@pytest.mark.parametrize("size", [(80, 24), (120, 35)])
async def test_a_refused_run_says_why_and_calls_no_node_lost(tmp_path, size):
    make_refused_fleet(tmp_path, 2, REASON)
    settings = LaunchSettings(tmp_path, tmp_path / "docs" / "llm_validation_checklist.md", theme="dark", interval=0.1)
    state = ScreenState(settings, now=lambda: T0 + 400.0)
    app = Dashboard(settings, FakeCommands(), state=state, workspace=Looker(settings, propose), live=False)
    async with app.run_test(size=size) as pilot:
        app = await ready(pilot)
        await pilot.press("8")
        await until(pilot, lambda: "2 not started" in text_of(app.main.fleet_pane))
        shown = text_of(app.main.fleet_pane)
        assert REASON in " ".join(shown.split()), "whole"
        assert "refused" in shown.splitlines()[0]
        for word in ("REFUSED", "lost", "silent", "inconclusive"):
            assert word not in shown, word
        await pilot.press("enter")
        await until(pilot, lambda: "n1 was not started" in toasts_of(app))


async def test_the_chosen_step_shows_its_own_run(fleet, tmp_path):
    app = fleet(4, slow=[], failed=[], silent=[], fewer=[])
    first = next((tmp_path / "artifacts" / "runs").iterdir())
    checklist = tmp_path / "docs" / "llm_validation_checklist.md"
    checklist.write_text(checklist.read_text() + "- [ ] Also: `true`\n- [ ] Alone: `true`\n")
    step = load(checklist).steps[1]
    second = first.with_name("20260101T030405Z-1.2-f1ee71")  # older
    shutil.copytree(first, second)
    intent = json.loads((second / "run.json").read_bytes())
    intent |= {"run_id": second.name, "order_ns": 1}
    intent["step"] |= {"number": step.number, "text": step.text, "occurrence": step.occurrence}
    (second / "run.json").write_bytes(to_json(intent))
    async with app.run_test(size=(120, 35)) as pilot:
        app = await ready(pilot)
        for number, shown in (("1.1", first), ("1.2", second), ("1.3", first)):
            status = next(one for one in app.main.state.snapshot.steps if one.step.number == number)
            app.main.steps.go_to(status.step.key)
            app.main.selection_changed()
            await until(
                pilot,
                lambda key=status.step.key, run=shown.name: (
                    app.main.state.detail is not None
                    and app.main.state.detail.key == key
                    and app.main.state.snapshot.fleet.run_id == run
                ),
                number,
            )


async def test_without_a_run_on_nodes_there_is_no_tab_and_the_pane_says_what_to_do(dashboard: Make) -> None:
    async with dashboard().run_test(size=(160, 40)) as pilot:
        app = await ready(pilot)
        assert "Fleet" not in text_of(app.main.tabs)
        await pilot.press("8", "j", "l", "v", "s", "full_stop", "enter")
        await until(pilot, lambda: "llmval run --nodes" in text_of(app.main.fleet_pane))
        assert "8 Fleet" in text_of(app.main.tabs)


async def test_exporters_stand_in_for_recordings_while_the_run_goes_on(fleet, tmp_path):
    server = serve(
        'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1",hostname="n"} 350\n'
        'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1"} 77\n'
    )
    app = fleet(4, slow=[], failed=[], silent=[], fewer=[], running=range(4), judged=False)
    address = f"http://127.0.0.1:{server.server_port}/{{node}}"
    (tmp_path / "docs" / "llm_validation_checklist.llmval.toml").write_text(f'[fleet]\nexporter = "{address}"\n')
    async with app.run_test(size=(120, 35)) as pilot:
        app = await ready(pilot)
        await pilot.press("8")
        await until(pilot, lambda: "77 °" in text_of(app.main.fleet_pane), "what the exporters say")
        assert "1 GPU ▄  350 to 350 W" in text_of(app.main.fleet_pane)
    server.shutdown()
    server.server_close()
