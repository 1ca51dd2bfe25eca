"""Every key in one table: the bindings, the footer, the help and the palette are all made from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from textual.binding import Binding, BindingsMap

from llmval_tui.tui.settings import Keys

PANES = ("run", "log", "telemetry", "load", "artifacts", "document")
PANE_TITLES = {
    "run": "Run",
    "log": "Log",
    "telemetry": "Telemetry",
    "load": "Load",
    "artifacts": "Artifacts",
    "document": "Document",
}


def pane_names(where: Sequence[str]) -> str:
    """Panes by name, for people."""
    return "the panes" if tuple(where) == PANES else ", ".join(PANE_TITLES.get(name, "the list") for name in where)


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `id` names it in a keymap, `where` the panes it is for (none: everywhere)."""

    id: str
    keys: str  # as Textual names them, comma separated
    shown: str  # as people read it
    action: str
    label: str  # a word for the footer
    help: str  # a sentence for help and palette
    where: tuple[str, ...] = ()
    changes: bool = False  # it changes something: grey in read-only mode
    foot: int = 9  # its rank in the footer; 9 is not shown there
    replay: bool = False  # only while a recording is played


SEARCHABLE = ("list", "log", "document")
KEYS: tuple[Key, ...] = (
    Key("open", "enter", "Enter", "open", "open", "Open the step, or what is under the cursor", foot=1),
    Key("complete", "c", "c", "complete", "complete", "Complete the item: run, judge, tick, record", (), True, 2),
    Key("complete_all", "C", "C", "complete_all", "all", "Complete everything that is left", ("list",), True, 5),
    Key("run", "r", "r", "run", "run", "Run and judge the item, without a tick", (), True, 3),
    Key("cancel", "x", "x", "cancel", "cancel", "Stop the run, or the whole plan (asks)", (), True, 4),
    Key("tick", "t", "t", "tick", "tick", "Tick the item on your own word, with a note", ("list", "run"), True, 6),
    Key("answer", "o", "o", "answer", "answer", "CommandResult what a verdict asks", ("list", "run"), True, 6),
    Key("mark", "space", "Space", "mark", "mark", "Mark steps: c and r take all that are marked", ("list",), foot=5),
    Key("options", "p", "p", "options", "options", "Choose the preset, and whether fewer GPUs will do", (), False, 6),
    Key("find", "slash", "/", "find", "find", "Filter the list; search the text", SEARCHABLE, foot=4),
    Key("next", "n", "n", "find_next(1)", "next", "Next place found", ("log", "document"), foot=5),
    Key("previous", "N", "N", "find_next(-1)", "previous", "Place found before", ("log", "document")),
    Key("other_next", "right_square_bracket", "]", "other(1)", "other", "The next log, run or document", PANES, foot=3),
    Key("other_previous", "left_square_bracket", "[", "other(-1)", "other", "The log, run or document before", PANES),
    Key("end", "f", "f", "follow", "follow", "Follow the end of the log", ("log",), foot=2),
    Key("shift_left", "H", "H", "shift(-1)", "left", "Shift long lines to the left", ("log", "document")),
    Key("shift_right", "L", "L", "shift(1)", "right", "Shift long lines to the right", ("log", "document")),
    Key("artifacts", "a", "a", "tab(5)", "artifacts", "Show the artifacts", foot=7),
    Key("copy", "y", "y", "copy", "copy", "Copy the exact command, or the path under the cursor", foot=7),
    Key("list", "h,left", "h ←", "side(0)", "list", "Go to the list"),
    Key("detail", "l,right", "l →", "side(1)", "detail", "Go to the panes"),
    Key("switch", "tab,shift+tab", "Tab", "switch", "switch", "Change between the list and the panes"),
    *(
        Key(f"tab{n}", str(n), str(n), f"tab({n})", name, f"Show the pane {PANE_TITLES[name]}")
        for n, name in enumerate(PANES, 1)
    ),
    Key("merged", "m", "m", "merged", "merged", "All ranks in one view, and back to one log", ("log",), foot=4),
    Key("jump", "semicolon", ";", "jump", "jump", "Jump: one key goes to a step or a pane", foot=7),
    Key("zoom", "z", "z", "zoom", "zoom", "Give the pane the whole screen, and back", foot=7),
    Key("redraw", "ctrl+l", "ctrl+l", "redraw", "redraw", "Draw the whole screen again"),
    Key("suspend", "ctrl+z", "ctrl+z", "suspend", "suspend", "Suspend to the shell; fg comes back"),
    Key("back", "escape", "Esc", "back", "back", "Back: leave the search, the zoom, the pane"),
    Key("palette", "colon,ctrl+p", ":", "palette", "palette", "Every action by name", foot=8),
    Key("help", "question_mark", "?", "help", "help", "The keys of the pane you are in", foot=8),
    Key("quit", "q", "q", "quit", "quit", "Quit; asks where work is under way", foot=8),
)  # fmt: skip

# Played recordings only. A tenth is of the whole recording.
KEYS += (
    Key("replay_pause", "P", "P", "replay_pause", "pause", "Pause, go on (Space does it too)", (), False, 2, True),
    Key("replay_back", "less_than_sign", "<", "replay_seek(-10)", "-10 s", "Go back 10 s", (), False, 3, True),
    Key("replay_forward", "greater_than_sign", ">", "replay_seek(10)", "+10 s", "Go forward 10 s", (), False, 3, True),
    Key("replay_back_far", "left_curly_bracket", "{", "replay_part(-1)", "-1/10", "Go back a tenth", replay=True),
    Key("replay_forward_far", "right_curly_bracket", "}", "replay_part(1)", "+1/10", "Go on by a tenth", replay=True),
    Key("replay_slower", "minus", "-", "replay_speed(-1)", "slower", "Play slower, down to ×1", (), False, 4, True),
    Key("replay_faster", "plus,equals_sign", "+", "replay_speed(1)", "faster", "Faster, to ×100", (), False, 4, True),
)

IDLE = ("mark", "options")  # of no use where nothing can be started

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


def bindings(keys: Sequence[Key] = KEYS) -> list[Binding]:
    """The bindings of the main screen; each has its id, so that a keymap can change its key."""
    return [Binding(key.keys, key.action, key.label, show=False, id=key.id) for key in keys]


@dataclass(frozen=True)
class Keymap:
    """The keys as the operator has them: `changed` maps an id to its keys, which may be none."""

    changed: Mapping[str, Keys]
    replaying: bool = False
    quiet: bool = False  # a replay of a run: nothing can be changed, so the keys for it are not even shown

    def all(self) -> Iterator[Key]:
        """The keys of the main screen."""
        for key in KEYS:
            if self.replaying or not key.replay:
                yield self._as_set(key)

    def shown(self, *names: str) -> str:
        """The keys of these actions as people read them, for hints; those without a key are left out."""
        table = {key.id: key.shown for key in self.all() if key.keys}
        return " ".join(table[name] for name in names if name in table)

    def moves(self) -> Iterator[Key]:
        """The keys by which panes scroll."""
        return (self._as_set(key) for key in SCROLL_KEYS)

    def keys_for(self, pane: str) -> list[Key]:
        """The keys that do something in this pane."""
        keys = (key for key in self.all() if key.keys and not (self.quiet and (key.changes or key.id in IDLE)))
        return [key for key in keys if not key.where or pane in key.where]

    def rebind(self, bound: BindingsMap) -> None:
        """Change the bindings of a widget or screen. (Textual's own keymap drops every other use of a key as well.)"""
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
            for name_of_key, _ in keys:
                made = Binding(name_of_key, table[name].action, table[name].label, show=False, id=name)
                # A new list, for the old one is shared by every widget of the class.
                bound.key_to_bindings[name_of_key] = [*bound.key_to_bindings.get(name_of_key, []), made]

    def _as_set(self, key: Key) -> Key:
        if key.id not in self.changed:
            return key
        keys = self.changed[key.id]
        return replace(key, keys=",".join(name for name, _ in keys), shown=" ".join(shown for _, shown in keys))


def find_conflict(changed: Mapping[str, Keys]) -> tuple[str, str, str] | None:
    """Two ids that a changed key would call in one place, and that key as written; None where every key is clear."""
    table = {key.id: key for key in (*KEYS, *SCROLL_KEYS)}
    for name, keys in changed.items():
        for wanted, shown in keys:
            for other in table.values():
                if other.id == name or not _meet(table[name], other):
                    continue
                taken = [k for k, _ in changed[other.id]] if other.id in changed else other.keys.split(",")
                if wanted in taken:
                    return name, other.id, shown
    return None


def _meet(first: Key, second: Key) -> bool:
    """Whether both can be meant in some pane."""
    return not first.where or not second.where or bool(set(first.where) & set(second.where))
