"""Every key in one table: the bindings, the footer, the help and the palette are all made from it."""

from dataclasses import dataclass

from textual.binding import Binding

PANES = ("run", "log", "telemetry", "load", "artifacts", "document")
PANE_TITLES = {
    "run": "Run",
    "log": "Log",
    "telemetry": "Telemetry",
    "load": "Load",
    "artifacts": "Artifacts",
    "document": "Document",
}


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


SEARCHED = ("list", "log", "document")
KEYS = (
    Key("open", "enter", "Enter", "open", "open", "Open the step, or what is under the cursor", foot=1),
    Key("complete", "c", "c", "complete", "complete", "Complete the item: run, judge, tick, record", (), True, 2),
    Key("complete_all", "C", "C", "complete_all", "all", "Complete everything that is left", ("list",), True, 5),
    Key("run", "r", "r", "run", "run", "Run and judge the item, without a tick", (), True, 3),
    Key("cancel", "x", "x", "cancel", "cancel", "Stop the run, or the whole plan (asks)", (), True, 4),
    Key("tick", "t", "t", "tick", "tick", "Tick the item on your own word, with a note", ("list", "run"), True, 6),
    Key("answer", "o", "o", "answer", "answer", "Answer what a verdict asks", ("list", "run"), True, 6),
    Key("mark", "space", "Space", "mark", "mark", "Mark steps: c and r take all that are marked", ("list",), foot=5),
    Key("options", "p", "p", "options", "options", "Choose the preset, and whether fewer GPUs will do", (), False, 6),
    Key("find", "slash", "/", "find", "find", "Filter the list; search the text", SEARCHED, foot=4),
    Key("next", "n", "n", "find_next(1)", "next", "Next place found", ("log", "document"), foot=5),
    Key("previous", "N", "N", "find_next(-1)", "previous", "Place found before", ("log", "document")),
    Key("other_next", "right_square_bracket", "]", "other(1)", "other", "The next log, run or document", PANES, foot=3),
    Key("other_previous", "left_square_bracket", "[", "other(-1)", "other", "The one before", PANES),
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
    Key("zoom", "z", "z", "zoom", "zoom", "Give the pane the whole screen, and back", foot=7),
    Key("back", "escape", "Esc", "back", "back", "Back: leave the search, the zoom, the pane"),
    Key("palette", "colon,ctrl+p", ":", "palette", "palette", "Every action by name", foot=8),
    Key("help", "question_mark", "?", "help", "help", "The keys of the pane you are in", foot=8),
    Key("quit", "q", "q", "quit", "quit", "Quit; asks where work is under way", foot=8),
)  # fmt: skip

MOVING = (
    ("j k ↓ ↑", "Move a line"),
    ("PgDn PgUp", "Move a page; ctrl+d and ctrl+u half a page"),
    ("g G", "Go to the beginning, to the end"),
)


def bindings() -> list[Binding]:
    """The bindings of the main screen; each has its id, so that a keymap can change its key."""
    return [Binding(key.keys, key.action, key.label, show=False, id=key.id) for key in KEYS]


def keys_for(pane: str) -> list[Key]:
    """The keys that do something in this pane."""
    return [key for key in KEYS if not key.where or pane in key.where]
