"""The options of the next plan: preset and adaptation."""

from textual import events

from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.screens.dialog import Choice, Dialog
from llmval_tui.tui.widgets.text_rows import paragraph


class OptionsDialog(Dialog):
    """`s` toggles the smoke preset, `a` the adaptation; the result is in `preset` and `adapt`."""

    def __init__(self, preset: str | None, adapt: bool) -> None:
        self.preset = preset
        self.adapt = adapt
        super().__init__(
            "Options of the next run", self._rows, [Choice("y", "use these", "yes"), Choice("n", "cancel", "")]
        )

    def _rows(self, width: int) -> list[Row]:
        def line(key: str, name: str, on: bool, text: str) -> list[Row]:
            box = "[x]" if on else "[ ]"
            return [row((f" {key} ", "key"), (f"{box} {name}", "title")), *paragraph(text, "muted", width, 7)]

        return [
            *line(
                "s",
                "smoke preset",
                self.preset == "smoke",
                "Seconds instead of minutes, a tiny model. It never ticks a real checklist.",
            ),
            row(),
            *line(
                "a",
                "adapt",
                self.adapt,
                "Use fewer GPUs than the item says if the node has fewer; recorded as a deviation.",
            ),
        ]

    def on_key(self, event: events.Key) -> None:
        if event.character == "s":
            self.preset = None if self.preset == "smoke" else "smoke"
        elif event.character == "a":
            self.adapt = not self.adapt
        else:
            super().on_key(event)
            return
        event.stop()
        self.rebuild()
