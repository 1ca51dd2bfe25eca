"""Textual's driver where the first frame is on the screen already: it takes the terminal over as it stands."""

from typing import TYPE_CHECKING, cast

from textual.drivers.linux_driver import LinuxDriver

from llmval_tui.tui.held import ENTER, HeldTerminal

if TYPE_CHECKING:
    from llmval_tui.tui.app import Dashboard


def taking_over(held: HeldTerminal) -> type[LinuxDriver]:
    """The driver of an application that begins on a held terminal."""

    class TakingOver(LinuxDriver):
        def start_application_mode(self) -> None:
            if held.held:
                cast("Dashboard", self._app).end_when_told()  # from here on it can: the loop runs
            super().start_application_mode()  # type: ignore[no-untyped-call]
            if held.held and self.attrs_before is not None:
                self.attrs_before = held.modes  # what it has found are the first frame's
                held.taken()

        def write(self, data: str) -> None:
            if held.held and data == ENTER:
                return  # some terminals clear their other screen whenever they are sent there
            super().write(data)

    return TakingOver
