"""All keys in one table: bindings, footer, help and palette are made from it. Also checks [keys] of config.toml."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from textual.binding import Binding, BindingsMap

from llmval_tui.config import KeyTable
from llmval_tui.tui.settings import Keys

PANES = ("run", "log", "telemetry", "load", "artifacts", "document", "runs", "fleet")
PANE_TITLES = {
    "run": "Run",
    "log": "Log",
    "telemetry": "Telemetry",
    "load": "Load",
    "artifacts": "Artifacts",
    "document": "Document",
    "runs": "Runs",
    "fleet": "Fleet",
}
SHORT_TITLES = {"telemetry": "GPU", "artifacts": "Files", "document": "Doc"}  # where there is less room, in all places


def pane_names(names: Sequence[str]) -> str:
    """The titles of panes, for messages."""
    return "the panes" if tuple(names) == PANES else ", ".join(PANE_TITLES.get(name, "the list") for name in names)


@dataclass(frozen=True, slots=True)
class Key:
    """One action and its keys; `id` is its name in config.toml."""

    id: str
    keys: str  # Textual's names, separated by commas
    display: str  # the keys as people read them
    action: str
    label: str  # a word for the footer
    help: str  # a sentence for help and palette
    panes: tuple[str, ...] = ()  # the panes where it works; empty: everywhere
    changes: bool = False  # it changes something, so read-only mode does not show it
    footer: int = 9  # 9 is not shown in the footer
    replay: bool = False  # works only while a recording is played


LIST = ("list",)
SEARCHABLE = ("list", "log", "document", "fleet")
MARKED = ("list", "runs")
STATES = ("list", "runs", "log", "fleet")
OPENED = ("list", "run", "log", "telemetry", "runs", "fleet")  # there, something can be opened or chosen
CHARTS = ("run", "load", "telemetry")
KEYS: tuple[Key, ...] = (
    Key("open", "enter", "Enter", "open", "open", "Open the step, or what is under the cursor", OPENED, footer=1),
    Key("complete", "c", "c", "complete", "complete", "Complete the item: run, judge, tick, record", (), True, 2),
    Key("complete_all", "C", "C", "complete_all", "complete all", "Complete all steps that are left", LIST, True, 5),
    Key("run", "r", "r", "run", "run", "Run and judge the item, without a tick", (), True, 3),
    Key("cancel", "x", "x", "cancel", "cancel", "Stop the run, or the whole plan (asks)", (), True, 4),
    Key("tick", "t", "t", "tick", "tick by hand", "Tick the item by hand, with a note", ("list", "run"), True, 6),
    Key("answer", "o", "o", "answer", "answer", "Answer the question of a verdict", ("list", "run"), True, 6),
    Key("review", "v", "v", "review", "questions", "Answer what items ask before their first run", LIST, True),
    Key("mark", "space", "Space", "mark", "mark", "Mark steps for c and r; two runs for d", MARKED, footer=5),
    Key("options", "p", "p", "options", "run options", "Choose the preset; adapt to fewer GPUs or not", (), False, 6),
    Key("state", "full_stop", ".", "next_state", "filter state", "Show the next state or level only", STATES, footer=5),
    Key("order", "s", "s", "next_order", "sort", "Next order", ("list", "runs", "telemetry", "fleet"), footer=6),
    Key("reverse", "I", "I", "reverse_order", "reverse", "The other order of the processes", ("telemetry",)),
    Key("fold", "comma", ",", "fold_all", "fold all", "Fold or unfold everything", ("list", "run", "log")),
    Key("range", "v", "v", "next_range", "chart range", "Range: from zero, fitted, to the limit", CHARTS, footer=6),
    Key("figure", "v", "v", "next_figure", "next figure", "Compare the nodes by the next figure", ("fleet",), footer=6),
    Key("window", "w", "w", "next_window", "chart time", "The whole run, this phase, the last 2 min", CHARTS, footer=6),
    Key("find", "slash", "/", "find", "find", "Filter the list; search the text", SEARCHABLE, footer=4),
    Key("next", "n", "n", "find_next(1)", "next match", "Next match", ("log", "document", "fleet"), footer=5),
    Key("previous", "N", "N", "find_next(-1)", "previous match", "Previous match", ("log", "document", "fleet")),
    Key("next_problem", "e", "e", "problem(1)", "next WARN", "Next line with WARN or ERROR", ("log",), footer=3),
    Key("previous_problem", "E", "E", "problem(-1)", "previous WARN", "Previous line with WARN or ERROR", ("log",)),
    Key("wrap", "w", "w", "toggle_wrap", "wrap", "Wrap long lines, or cut them", ("log",), footer=4),
    Key("clock", "T", "T", "next_clock", "times", "Times: clock, time in the run, none", ("log",), footer=6),
    Key("other_next", "right_square_bracket", "]", "other(1)", "other", "Next log, run or document", PANES, footer=3),
    Key("other_previous", "left_square_bracket", "[", "other(-1)", "other", "Previous log, run or document", PANES),
    Key("end", "f", "f", "follow", "follow", "Follow the end of the log", ("log",), footer=2),
    Key("shift_left", "H", "H", "shift(-1)", "left", "Shift long lines to the left", ("log", "document")),
    Key("shift_right", "L", "L", "shift(1)", "right", "Shift long lines to the right", ("log", "document")),
    Key("artifacts", "a", "a", "tab(5)", "artifacts", "Show the artifacts"),
    Key("copy", "y", "y", "copy", "copy", "Copy the command, or the path, process or node under the cursor", footer=7),
    Key("list", "h,left", "h ←", "side(0)", "list", "Go to the list"),
    Key("detail", "l,right", "l →", "side(1)", "detail", "Go to the panes"),
    Key("switch", "tab,shift+tab", "Tab", "switch", "switch", "Switch between the list and the panes"),
    *(
        Key(f"tab{n}", str(n), str(n), f"tab({n})", name, f"Show the pane {PANE_TITLES[name]}")
        for n, name in enumerate(PANES, 1)
    ),
    Key("compare", "d", "d", "compare", "compare two", "Two runs side by side", ("runs",), footer=2),
    Key("merged", "m", "m", "merged", "all ranks", "All ranks in one view, and back to one log", ("log",), footer=4),
    Key("jump", "semicolon", ";", "jump", "jump", "Jump: one key goes to a step or a pane", footer=7),
    Key("zoom", "z", "z", "zoom", "zoom", "Give the pane the whole screen, and back", footer=7),
    Key("messages", "M", "M", "messages", "messages", "All messages since the start", footer=7),
    Key("redraw", "ctrl+l", "ctrl+l", "redraw", "redraw", "Draw the whole screen again"),
    Key("suspend", "ctrl+z", "ctrl+z", "suspend", "suspend", "Suspend to the shell; fg comes back"),
    Key("back", "escape", "Esc", "back", "back", "Back: leave the search, the zoom, the pane"),
    Key("palette", "colon,ctrl+p", ":", "palette", "actions", "Every action by name", footer=8),
    Key("help", "question_mark", "?", "help", "help", "The keys of the pane you are in", footer=8),
    Key("quit", "q", "q", "quit", "quit", "Quit; asks if something is running", footer=8),
)  # fmt: skip

# Only while a recording is played. A tenth is one of the whole recording.
KEYS += (
    Key("replay_pause", "P", "P", "replay_pause", "pause", "Pause, go on (also Space)", (), False, 2, True),
    Key("replay_back", "less_than_sign", "<", "replay_seek(-10)", "-10 s", "Go back 10 s", (), False, 3, True),
    Key("replay_forward", "greater_than_sign", ">", "replay_seek(10)", "+10 s", "Go forward 10 s", (), False, 3, True),
    Key("replay_back_far", "left_curly_bracket", "{", "replay_part(-1)", "-1/10", "Go back a tenth", replay=True),
    Key("replay_forward_far", "right_curly_bracket", "}", "replay_part(1)", "+1/10", "Go on by a tenth", replay=True),
    Key("replay_slower", "minus", "-", "replay_speed(-1)", "slower", "Play slower, down to ×1", (), False, 4, True),
    Key("replay_faster", "plus,equals_sign", "+", "replay_speed(1)", "faster", "Faster, to ×100", (), False, 4, True),
)

PREPARING = ("mark", "options")  # they only prepare a start (in Runs, `mark` also prepares a comparison)

# Every pane and dialog that scrolls has these.
SCROLL_KEYS = (
    Key("move_down", "down,j", "↓ j", "move(1)", "down", "Move a line down"),
    Key("move_up", "up,k", "↑ k", "move(-1)", "up", "Move a line up"),
    Key("page_down", "pagedown,ctrl+f", "PgDn", "page(1)", "page", "Move a page down"),
    Key("page_up", "pageup,ctrl+b", "PgUp", "page(-1)", "page", "Move a page up"),
    Key("half_down", "ctrl+d", "ctrl+d", "page(0.5)", "half", "Move half a page down"),
    Key("half_up", "ctrl+u", "ctrl+u", "page(-0.5)", "half", "Move half a page up"),
    Key("top", "home,g", "g", "end(-1)", "top", "Go to the beginning"),
    Key("bottom", "end,G", "G", "end(1)", "bottom", "Go to the end"),
)


# Keys with a name: as people write them, and as Textual calls them.
NAMED = {
    name: name
    for name in (
        "enter", "escape", "tab", "shift+tab", "space", "backspace", "delete", "insert", "home", "end",
        "pageup", "pagedown", "up", "down", "left", "right", *(f"f{n}" for n in range(1, 13)),
    )
} | {"esc": "escape", "pgup": "pageup", "pgdn": "pagedown", "return": "enter"}  # fmt: skip
# Not compiled here: few settings files name a key, and compiling takes time.
_COMBINED = r"(?:ctrl|alt|shift)\+(?:[a-z0-9]|" + "|".join(sorted(NAMED, key=len, reverse=True)) + ")"
RESERVED = ("ctrl+c", "ctrl+q")  # they always leave the dashboard
NEEDED = ("quit", "back", "open", "palette", "help")  # nobody could find a way without these
# Textual shortens these Unicode names.
_SHORT = {
    "solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
    "plus_sign": "plus", "low_line": "underscore",
}  # fmt: skip


def bindings(keys: Sequence[Key] = KEYS) -> list[Binding]:
    """The bindings of these keys; each has its id, so that a keymap can change it."""
    return [Binding(key.keys, key.action, key.label, show=False, id=key.id) for key in keys]


@dataclass(frozen=True)
class Keymap:
    """The keys as the operator has set them: `changed` maps an id to its keys, which may be none."""

    changed: Mapping[str, Keys]
    replaying: bool = False
    hide_changes: bool = False  # read-only: it shows no key that changes something, or that only prepares a change

    def all(self) -> Iterator[Key]:
        """The keys of the main screen."""
        for key in KEYS:
            if self.replaying or not key.replay:
                yield self._configured(key)

    def hint(self, *names: str) -> str:
        """The keys of these actions as people read them, without actions that have no key or do not act."""
        return " ".join(self._hints[name] for name in names if name in self._hints)

    @cached_property
    def _hints(self) -> dict[str, str]:
        return {key.id: key.display for key in self.shown() if key.keys}

    def pane_hint(self, pane: str, words: str) -> str:
        """The key of a pane with `words` after it, for the end of a heading; "" if the pane has no key."""
        key = self.hint(f"tab{PANES.index(pane) + 1}")
        return f"{key} {words}" if key else ""

    def scroll_keys(self) -> Iterator[Key]:
        return (self._configured(key) for key in SCROLL_KEYS)

    def keys_for(self, pane: str) -> list[Key]:
        """The keys that do something in this pane."""
        return [key for key in self.shown() if key.keys and (not key.panes or pane in key.panes)]

    def shown(self) -> list[Key]:
        """The keys that help and palette name."""
        if not self.hide_changes:
            return list(self.all())
        found = [key for key in self.all() if not (key.changes or key.id in PREPARING)]
        if not self.replaying:  # there, Space pauses
            mark = next(key for key in self.all() if key.id == "mark")
            found.append(replace(mark, panes=("runs",), help="Mark two runs for d"))
        return found

    def works_in(self, action: str, pane: str) -> bool:
        """Whether an action works in a pane. It does not if its key means something else there."""
        table = list(self.all())
        mine = [key for key in table if key.action.partition("(")[0] == action]
        if any(not key.panes or pane in key.panes for key in mine):
            return True
        names = {name for key in mine for name in key.keys.split(",") if name}
        return not any(pane in key.panes and names.intersection(key.keys.split(",")) for key in table)

    def rebind(self, bound: BindingsMap) -> None:
        """Change the bindings of a widget or screen. (Textual's own keymap would also drop other uses of a key.)"""
        table = {key.id: key for key in (*KEYS, *SCROLL_KEYS)}
        for name, keys in self.changed.items():
            old = [binding for found in bound.key_to_bindings.values() for binding in found if binding.id == name]
            if not old:
                continue
            for key in list(bound.key_to_bindings):
                left = [binding for binding in bound.key_to_bindings[key] if binding.id != name]
                if left:
                    bound.key_to_bindings[key] = left
                else:
                    del bound.key_to_bindings[key]
            for textual_name, _ in keys:
                made = Binding(textual_name, table[name].action, table[name].label, show=False, id=name)
                # A new list, because all widgets of the class share the old one.
                bound.key_to_bindings[textual_name] = [*bound.key_to_bindings.get(textual_name, []), made]

    def _configured(self, key: Key) -> Key:
        if key.id not in self.changed:
            return key
        keys = self.changed[key.id]
        return replace(key, keys=",".join(name for name, _ in keys), display=" ".join(display for _, display in keys))


def read_keys(table: KeyTable) -> dict[str, Keys]:
    """The keys that config.toml changes, by the id of their action.

    Raises:
        Refused: an action or a key is unknown, or two actions would have the same key in one pane.
    """
    known = {key.id: key for key in (*KEYS, *SCROLL_KEYS)}
    changed: dict[str, Keys] = {}
    for name, value in table.entries.items():
        if name not in known:
            raise table.refusal(name, f"there is no key {name!r}; the keys are {', '.join(known)}.")
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise table.refusal(name, f'keys.{name} must be a key or a list of keys, such as "c" or ["c", "f5"].')
        keys = []
        for word in words:
            if not word:
                continue  # no key: the palette still offers the action
            key = key_name(word)
            if key is None or key in RESERVED:
                reason = "always leaves the dashboard" if key else "is not a key"
                raise table.refusal(
                    name,
                    f"keys.{name}: {word!r} {reason}; write one character, ctrl+ or alt+ with a letter, or one of "
                    f"{', '.join(NAMED)}.",
                )
            keys.append((key, word))
        if not keys and name in NEEDED:
            raise table.refusal(name, f"keys.{name} needs a key: the dashboard cannot be used without it.")
        changed[name] = tuple(keys)
    if (clash := find_conflict(changed)) is not None:
        name, other, word = clash
        raise table.refusal(
            name,
            f"keys.{name} = {word!r} is taken by {other} ({known[other].help.lower()}): choose another key, or also "
            f"change the key of {other}.",
        )
    return changed


def key_name(word: str) -> str | None:
    """A key as Textual names it (`?` is `question_mark`); None if there is no such key."""
    if len(word) == 1 and word.isprintable() and word != " ":
        if word.isalnum():
            return word
        try:
            name = unicodedata.name(word).lower().replace("-", "_").replace(" ", "_")
        except ValueError:
            return None
        return _SHORT.get(name, name)
    lower = word.lower()
    if lower in NAMED:
        return NAMED[lower]
    return lower if re.fullmatch(_COMBINED, lower) else None


def find_conflict(changed: Mapping[str, Keys]) -> tuple[str, str, str] | None:
    """Two ids with the same key in one pane, and that key as written; None without a conflict."""
    table = {key.id: key for key in (*KEYS, *SCROLL_KEYS)}
    for name, keys in changed.items():
        for wanted, display in keys:
            for other in table.values():
                if other.id == name or not _share_a_pane(table[name], other):
                    continue
                taken = [k for k, _ in changed[other.id]] if other.id in changed else other.keys.split(",")
                if wanted in taken:
                    return name, other.id, display
    return None


def _share_a_pane(first: Key, second: Key) -> bool:
    return not first.panes or not second.panes or bool(set(first.panes) & set(second.panes))
