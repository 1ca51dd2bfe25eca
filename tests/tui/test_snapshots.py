"""Pictures of the screen at three sizes in three themes. Read the report before you accept a change."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from textual.pilot import Pilot

from llmval_tui.runs.records import Evidence, Outcome, State
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.watcher import SamplesTaken
from tests.helpers.tui_builder import Workspace, load_events, memory_events, sample, sweep_events, verdict, write_sweep
from tests.helpers.tui_pilot import text_of, until

SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
# Every size in three themes, and every pane at each size.
SIZES = {"80x24": (80, 24), "120x40": (120, 40), "200x60": (200, 60)}
SQUARE = {
    "80x24": (("run", "dark"), ("telemetry", "light"), ("load", "mono")),
    "120x40": (("telemetry", "dark"), ("load", "light"), ("run", "mono")),
    "200x60": (("load", "dark"), ("run", "light"), ("telemetry", "mono")),
}
KEY = {"run": "1", "telemetry": "3", "load": "4"}
CASES = [
    *(
        (f"{size}-{theme}-{pane}", SIZES[size], theme, ("j", KEY[pane]))
        for size, cells in SQUARE.items()
        for pane, theme in cells
    ),
    ("list", (80, 24), "dark", ()),
    ("run", (120, 40), "light", ("j", "1")),
    ("telemetry", (160, 50), "dark", ("j", "3")),
    ("telemetry-narrow", (80, 24), "contrast", ("j", "3")),
    ("load", (120, 40), "dark", ("j", "4")),
    ("verdict", (160, 50), "ansi", ()),
    ("ascii", (120, 40), "mono", ("j", "4")),
]


@pytest.mark.parametrize(("size", "theme", "keys"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_screen(
    snap_compare: Callable[..., bool],
    workspace: Workspace,
    dashboard: Callable[..., Dashboard],
    size: tuple[int, int],
    theme: str,
    keys: tuple[str, ...],
    request: pytest.FixtureRequest,
) -> None:
    folder = workspace.run("1.2", artifacts=["artifacts/inference/full_mesh.json"])
    (folder / "events.jsonl").write_bytes(load_events(142))
    (folder / "logs" / "main.rank0.stdout.log").write_text("".join(f"step {i} batch 256 [/red]\n" for i in range(300)))
    files = [Evidence("gone.json", SHA, 57_918)]
    failed = verdict(Outcome.FAIL, files)
    workspace.run("1.1", run_id="20260101T000000Z-1.1-aaaaaa", state=State.FINISHED, verdict=failed)
    workspace.run("2.1", run_id="20260101T000001Z-2.1-bbbbbb", state=State.FINISHED, verdict=verdict(evidence=files))
    app = dashboard(theme=theme, ascii=request.node.callspec.id == "ascii", interval=1.0)

    seen: list[object] = []

    async def before(pilot: Pilot[Any]) -> None:
        app.main.post_message(SamplesTaken("live", [sample(second) for second in range(201)]))
        await steady(pilot, app, keys)
        seen.append(app.main.state.detail)

    # A start that failed would leave an empty picture, which equals itself.
    assert snap_compare(app, terminal_size=size, run_before=before)
    assert seen and seen[0] is not None


async def steady(pilot: Pilot[Any], app: Dashboard, keys: Iterable[str]) -> None:
    """Press keys, each once the one before has been answered; a start that failed ends here."""
    for key in ("", *keys):
        if key:
            await pilot.press(key)
        for _ in range(200):
            if app.main.state.detail is not None and app.main.state.snapshot.document is not None:
                break
            await pilot.pause(0.02)
    await pilot.pause(0.1)
    assert app.main.state.detail is not None


@pytest.mark.parametrize(
    ("size", "theme", "key", "shown"),
    [
        ("80x24", "dark", "2", "step 299"),
        ("120x40", "light", "2", "step 299"),
        ("200x60", "mono", "2", "step 299"),
        ("80x24", "light", "5", "full_mesh.json"),
        ("120x40", "dark", "6", "- [ ] Run"),
    ],
    ids=["80x24-dark-log", "120x40-light-log", "200x60-mono-log", "80x24-light-artifacts", "120x40-dark-document"],
)
def test_the_texts(
    snap_compare: Callable[..., bool],
    workspace: Workspace,
    dashboard: Callable[..., Dashboard],
    size: str,
    theme: str,
    key: str,
    shown: str,
) -> None:
    """Log, artifacts and document."""
    folder = workspace.run("1.2", artifacts=["artifacts/inference/full_mesh.json"])
    lines = "".join(f"step {i} batch 256 [/red] {'word ' * (i % 40)}\n" for i in range(300))
    (folder / "logs" / "main.rank0.stdout.log").write_text(lines)
    (folder / "logs" / "main.rank1.stderr.log").write_text("warning: a word from rank 1\n")
    app = dashboard(theme=theme, interval=1.0)

    async def before(pilot: Pilot[Any]) -> None:
        await steady(pilot, app, ("j", key))
        await until(pilot, lambda: shown in text_of(app.main.panes[app.main.shown]), shown)

    assert snap_compare(app, terminal_size=SIZES[size], run_before=before)


@pytest.mark.parametrize(("size", "theme"), [((80, 24), "mono"), ((120, 40), "dark"), ((160, 50), "light")])
def test_the_sweep(
    snap_compare: Callable[..., bool],
    workspace: Workspace,
    dashboard: Callable[..., Dashboard],
    size: tuple[int, int],
    theme: str,
) -> None:
    folder = workspace.run("2.1")
    write_sweep(workspace.root / "power_results" / "x")
    (folder / "events.jsonl").write_bytes(sweep_events())
    app = dashboard(theme=theme, ascii=theme == "mono", interval=1.0)
    assert snap_compare(app, terminal_size=size, run_before=lambda pilot: steady(pilot, app, "jjjj4"))


def test_the_memory(
    snap_compare: Callable[..., bool], workspace: Workspace, dashboard: Callable[..., Dashboard]
) -> None:
    folder = workspace.run("1.2")
    (folder / "events.jsonl").write_bytes(memory_events())
    app = dashboard(interval=1.0)
    assert snap_compare(app, terminal_size=(120, 40), run_before=lambda pilot: steady(pilot, app, "j4"))
