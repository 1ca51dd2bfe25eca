"""The palette: every action by name, and the themes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

if TYPE_CHECKING:
    from llmval_tui.tui.screens.deeds import DeedScreen


class Actions(Provider):
    """What the keys do, found by their help text."""

    def _all(self) -> Iterator[tuple[str, str, str]]:
        """Text, help, action."""
        screen = cast("DeedScreen", self.screen)
        for key in screen.styled.keymap.all():
            if key.id in ("palette", "back"):
                continue
            if key.changes and screen.state.settings.readonly:
                continue
            yield key.help, f"key {key.shown}" if key.keys else "no key", key.action
        for name in screen.theme_names():
            yield f"Theme: {name}", "change the colours", f"theme({name!r})"

    async def discover(self) -> Hits:
        for text, help_text, action in self._all():
            yield DiscoveryHit(text, self._call(action), help=help_text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for text, help_text, action in self._all():
            if (score := matcher.match(text)) > 0:
                yield Hit(score, matcher.highlight(text), self._call(action), help=help_text)

    def _call(self, action: str):  # type: ignore[no-untyped-def]  # Textual's own type for it is private
        async def call() -> None:
            await self.screen.run_action(action)

        return call
