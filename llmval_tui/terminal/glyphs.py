"""Signs for states, and characters for lines and charts. A state has a sign and a word; colour only repeats them."""

from dataclasses import dataclass, replace

from llmval_tui.actions.step_state import StepState
from llmval_tui.fleet.node_state import NodeState
from llmval_tui.runs.records import Outcome


@dataclass(frozen=True, slots=True)
class Sign:
    """A state's sign in both character sets, its word, and its theme role."""

    unicode: str
    ascii: str
    word: str
    role: str


STEP_SIGNS = {
    StepState.OPEN: Sign("○", ".", "open", "muted"),
    StepState.MEASURED: Sign("✓", "+", "measured", "good"),
    StepState.EXIT_CODE: Sign("◑", "e", "exit code", "text"),
    StepState.BY_HAND: Sign("◇", "v", "by hand", "text"),
    StepState.STALE: Sign("≠", "%", "stale", "warn"),
    StepState.CONTRADICTED: Sign("↯", "&", "contradicted", "bad"),
    StepState.TICKED: Sign("□", "u", "ticked", "warn"),  # without a record
    StepState.RUNNING: Sign("▸", ">", "running", "busy"),
    StepState.JUDGING: Sign("◔", "~", "judging", "busy"),
    StepState.PASSED: Sign("●", "o", "passed", "text"),
    StepState.FAILED: Sign("✗", "!", "failed", "bad"),
    StepState.INVALID: Sign("⊘", "#", "invalid", "warn"),
    StepState.INCONCLUSIVE: Sign("◌", "-", "inconclusive", "warn"),
    StepState.REFUSED: Sign("⊘", "#", "refused", "warn"),
    StepState.ASKING: Sign("?", "?", "asking", "accent"),
    StepState.UNREADABLE: Sign("▨", "=", "unreadable", "bad"),
}
QUEUED = Sign("◷", ":", "queued", "busy")

OUTCOME_SIGNS = {
    Outcome.PASS: Sign("✓", "+", "pass", "good"),
    Outcome.FAIL: Sign("✗", "!", "fail", "bad"),
    Outcome.INVALID: Sign("⊘", "#", "invalid", "warn"),
    Outcome.INCONCLUSIVE: Sign("◌", "-", "inconclusive", "warn"),
}


NODE_SIGNS = {
    NodeState.SLOW: Sign("▼", "<", "slow", "bad"),  # `v` is “by hand”
    NodeState.FAILED: Sign("✗", "!", "failed", "bad"),
    NodeState.LOST: Sign("∅", "0", "lost", "bad"),
    NodeState.NO_ANSWER: Sign("∅", "0", "no answer", "warn"),
    NodeState.INVALID: Sign("⊘", "#", "invalid", "warn"),
    NodeState.INCONCLUSIVE: Sign("◌", "-", "inconclusive", "warn"),
    NodeState.JUDGING: Sign("◔", "~", "judging", "busy"),
    NodeState.RUNNING: Sign("▸", ">", "running", "busy"),
    NodeState.QUEUED: QUEUED,
    NodeState.NOT_STARTED: Sign("○", ".", "not started", "muted"),
    NodeState.PASSED: Sign("✓", "+", "passed", "good"),
    NodeState.ANSWERS: Sign("●", "o", "answers", "text"),
}

# Cells of a power sweep, by the status in their file; None: no result yet.
CELL_SIGNS: dict[str | None, Sign] = {
    None: Sign("○", ".", "to do", "muted"),
    "running": Sign("▸", ">", "running", "busy"),
    "valid": Sign("✓", "+", "valid", "good"),
    "invalid": Sign("⊘", "#", "invalid", "warn"),
    "no_energy": Sign("◌", "-", "no energy", "warn"),
    "refused": Sign("◇", "v", "refused", "warn"),
    "failed": Sign("✗", "!", "failed", "bad"),
}


_ARROWS = {"↑": "up", "↓": "down", "←": "left", "→": "right", "×": "x"}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Signs, lines and chart characters of one character set."""

    ascii: bool
    cursor: str
    mark: str
    bullet: str
    ellipsis: str
    rule: str
    divider: str
    peak: str
    bar_full: str
    bar_parts: str  # eighths of a cell, thinnest first; "" if the set has none
    bar_empty: str
    gap: str  # a chart cell without a sample
    dash: str
    dot: str
    ramp: str  # chart levels of one cell, from zero to full; zero differs from the lowest level and from a gap
    braille: bool = False  # charts in braille: two samples per cell, four levels
    limit: str = "╌"  # a bound in a chart
    phase: str = "┊"  # where a phase begins
    tick: str = "╵"  # a time below a chart

    @property
    def charts(self) -> str:
        """The characters of charts: `braille`, `blocks` or `ascii`."""
        if self.ramp == ASCII.ramp:
            return "ascii"
        return "braille" if self.braille else "blocks"

    def sign(self, sign: Sign) -> str:
        return sign.ascii if self.ascii else sign.unicode

    def key(self, text: str) -> str:
        """Text that names keys. In ASCII an arrow becomes a word, because `?` would look like the help key."""
        if self.ascii:
            for arrow, word in _ARROWS.items():
                text = text.replace(arrow, word)
        return text


UNICODE = Glyphs(False, "❯", "◆", "•", "…", "─", "│", "▲", "█", "▏▎▍▌▋▊▉", "░", " ", "–", "·", "_▁▂▃▄▅▆▇█")
ASCII = Glyphs(True, ">", "*", "-", "~", "-", "|", "^", "#", "", ".", " ", "-", "|", "_.,:-=+*#", False, "-", "|", "'")


def glyphs(ascii_only: bool, charts: str = "braille") -> Glyphs:
    """The character set. `charts` is blocks, braille or ascii; with `ascii_only` it is always ascii."""
    if ascii_only:
        return ASCII
    return replace(UNICODE, braille=charts == "braille", ramp=ASCII.ramp if charts == "ascii" else UNICODE.ramp)
