"""`python -m benchmarks.picture WORKSPACE OUT.svg [--keys "j 4"] …`: takes a picture of the dashboard.

`… --ansi PANE.ansi OUT.svg` draws a captured pane instead, such as those of `benchmarks.recorded_run`.
"""

import argparse
import asyncio
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from llmval_tui.console.options import DEFAULT_CHECKLISTS
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.settings import LaunchSettings


async def take(options: argparse.Namespace) -> None:
    """Open the dashboard on the workspace, press the keys, wait, and export the screen."""
    columns, rows = (int(number) for number in options.size.split("x"))
    settings = LaunchSettings(
        workspace=options.workspace.resolve(),
        checklist=options.workspace.resolve() / DEFAULT_CHECKLISTS[0],
        preset=options.preset,
        adapt=False,
        gpus=None,
        runner_python=None,
        readonly=options.replay is not None,
        theme=options.theme,
        interval=1.0,
        ascii=False,
        mouse=False,
        demo=True,
        replay=options.replay,
    )
    app = Dashboard(settings)
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause(1.0)
        for key in options.keys.split():
            await pilot.press(key)
            await pilot.pause(0.2)
        await pilot.pause(options.wait)
        options.out.write_text(portable(app.export_screenshot(title="llmval")))


def of_terminal(captured: str, columns: int) -> str:
    """Draw the output of `tmux capture-pane -e` as SVG."""
    black, white = (0, 0, 0), (255, 255, 255)
    theme = TerminalTheme((16, 20, 26), (214, 220, 228), [black] * 8, [white] * 8)
    console = Console(
        record=True, width=columns, file=io.StringIO(), color_system="truecolor", force_terminal=True,
        legacy_windows=False,
    )  # fmt: skip
    for line in captured.rstrip("\n").split("\n"):
        text = Text.from_ansi(line, no_wrap=True, overflow="crop")
        text.pad_right(max(0, columns - text.cell_len))
        console.print(text, soft_wrap=True)
    return console.export_svg(title="llmval", theme=theme)


def portable(svg: str) -> str:
    """The SVG without web fonts, and with spaces that every renderer keeps."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("&#160;", " ").replace("<text ", '<text xml:space="preserve" ')


def main() -> None:
    """Parse the command line and take the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--keys", default="", help="keys to press: Textual's names, separated by spaces")
    parser.add_argument("--size", default="160x50")
    parser.add_argument("--theme", default="dark")
    parser.add_argument("--preset", choices=["smoke"])
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--wait", type=float, default=1.0, help="seconds from the last key to the picture")
    parser.add_argument("--ansi", action="store_true", help="WORKSPACE is a file with a captured pane")
    options = parser.parse_args()
    if options.ansi:
        columns = int(options.size.split("x")[0])
        options.out.write_text(portable(of_terminal(options.workspace.read_text(), columns)))
    else:
        asyncio.run(take(options))


if __name__ == "__main__":
    main()
