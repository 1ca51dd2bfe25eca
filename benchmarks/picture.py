"""Pictures of the dashboard from a real run: `python -m benchmarks.picture WORKSPACE OUT.svg [--keys "j 4"] …`."""

import argparse
import asyncio
import re
from pathlib import Path

from llmval_tui.console.common import USUAL_PLACES
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.settings import Settings


async def take(options: argparse.Namespace) -> None:
    """Open the dashboard on the workspace, press the keys, wait, and export what is seen."""
    columns, rows = (int(number) for number in options.size.split("x"))
    settings = Settings(
        workspace=options.workspace.resolve(),
        checklist=options.workspace.resolve() / USUAL_PLACES[0],
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


def portable(svg: str) -> str:
    """Textual's picture without web fonts, and with blanks that every renderer keeps."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("&#160;", " ").replace("<text ", '<text xml:space="preserve" ')


def main() -> None:
    """Parse and take the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--keys", default="", help="keys to press, by Textual's names, separated by blanks")
    parser.add_argument("--size", default="160x50")
    parser.add_argument("--theme")
    parser.add_argument("--preset", choices=["smoke"])
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--wait", type=float, default=1.0, help="seconds between the last key and the picture")
    asyncio.run(take(parser.parse_args()))


if __name__ == "__main__":
    main()
