"""The keys of a replay: pause, seek, speed. Without a recording they do nothing."""

from llmval_tui.tui.screens.actions import ActionScreen


class PlayingScreen(ActionScreen):
    """A screen that a recording may be played on."""

    def action_replay_pause(self) -> None:
        if self.state.timeline is not None:
            self.state.timeline.toggle_pause()
            self.played()

    def action_replay_seek(self, seconds: int) -> None:
        if self.state.timeline is not None:
            self.state.timeline.seek(seconds)
            self.played()

    def action_replay_part(self, tenths: int) -> None:
        if self.state.timeline is not None:
            self.state.timeline.seek_tenths(tenths)
            self.played()

    def action_replay_speed(self, steps: int) -> None:
        if self.state.timeline is not None:
            self.state.timeline.change_speed(steps)
            self.played()

    def played(self) -> None:
        """The clock of the replay was changed: show what is there now."""
        self.refresh_now()
        self.changed()
