"""The gates of a verdict by kind: what failed on top with its reason, and what passed in one row a kind."""

import re
from collections.abc import Sequence

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.terminal.format import fit
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.text_rows import gate_rows, heading

# Kind, and how the names of its gates begin. The first that fits counts.
_KINDS = (
    ("item", ("words:", "expect:")),
    ("hardware", ("telemetry.", "topology", "gpu")),
    (
        "load",
        ("generator rate", "schedule delay", "failed requests", "kept up", "slo ", "achieved rate", "highest rate",
         "ttft", "tpot"),
    ),
    (
        "records",
        ("exit", "artifact", "as written", "order of times", "totals", "runner's own", "ran as asked", "result",
         "evidence", "files", "run complete", "not cancelled", "return codes", "inputs", "ran to its own end"),
    ),
)  # fmt: skip
OTHER = "checks"
_WORD = re.compile(r"[A-Za-z]{4,}")
_UNITS = frozenset({"bytes", "requests", "tokens", "valid", "none", "true", "false"})  # which name no quantity
_LONG_NUMBER = re.compile(r"(?<![\w.,])(?<!pid )\d{5,}(?![\w,])")


def kind_of(gate: Gate) -> str:
    """The kind of a gate, by its name."""
    name = gate.name.lower()
    return next((kind for kind, starts in _KINDS if name.startswith(starts)), OTHER)


def gate_group_rows(
    gates: Sequence[Gate], width: int, glyphs: Glyphs, *, unfolded: bool, summary: str = ""
) -> list[Row]:
    """The heading, the gates that did not pass, and the others by kind; unfolded, each with measured and required.

    `summary` stands above them: unless they are unfolded, what it says in full is short here.
    """
    if not gates:
        return []
    bad = [gate for gate in gates if gate.outcome is not Outcome.PASS]
    good = [gate for gate in gates if gate.outcome is Outcome.PASS]
    failed = sum(gate.outcome is Outcome.FAIL for gate in bad)
    note = f"{len(good)} of {len(gates)} passed"
    role = "muted"
    if bad:
        others = len(bad) - failed
        parts = [f"{failed} failed"] if failed else []
        parts += [f"{others} not decided"] if others else []
        note, role = f"{' and '.join(parts)} of {len(gates)}", "bad" if failed else "warn"
    rows = heading("Gates", width, glyphs, note, role)[1:]
    if bad:
        rows += gate_rows(bad, width, glyphs, "" if unfolded else clean_line(summary))[1:]
    for kind in dict.fromkeys(kind_of(gate) for gate in good):
        mine = [gate for gate in good if kind_of(gate) == kind]
        sign = OUTCOME_SIGNS[Outcome.PASS]
        fold = (">v" if glyphs.ascii else "▸▾")[unfolded]
        head = f"{len(mine):>2} {kind:<9} "
        said = "" if unfolded else "; ".join(_told_apart(sorted(mine, key=_first)))
        room = max(0, width - len(head) - 6)
        rows.append(
            row(
                (f" {fold} ", "muted"),
                (f"{glyphs.sign(sign)} ", sign.role),
                (head, "title"),
                (fit(said, room, glyphs.ellipsis), "text"),
            )
        )
        if unfolded:
            rows += gate_rows(mine, width, glyphs)[1:]
    return rows


def _told_apart(gates: Sequence[Gate]) -> list[str]:
    """What each gate measured in short. Of values that are the same, as of two commands, each has its own name."""
    said = [short(gate) for gate in gates]
    return [
        f"{part}: {words}" if part and said.count(words) > 1 and not words.startswith(part) else words
        for part, words in zip((clean_line(gate.name).partition(": ")[2] for gate in gates), said, strict=True)
    ]


def _first(gate: Gate) -> bool:
    """What a reader looks for first comes first, because the end of the row may be cut: throttling, XID, processes."""
    return not gate.name.startswith(("telemetry.throttling", "telemetry.xid", "telemetry.foreign"))


def measured_words(gate: Gate) -> str:
    """What a gate measured; long numbers are split into groups."""
    return _LONG_NUMBER.sub(lambda found: f"{int(found[0]):,}", clean_line(str(gate.measured)))


def short(gate: Gate) -> str:
    """What a passed gate measured, with its name unless the first words of the value name the quantity."""
    measured = measured_words(gate).replace("; ", ", ")  # a semicolon separates gates
    if any(word not in _UNITS for word in _WORD.findall(measured.partition(", ")[0])):
        return measured
    return _named(gate, measured)


def _named(gate: Gate, measured: str) -> str:
    name = clean_line(gate.name).removeprefix("telemetry.").replace("_", " ")
    name = "XID" if name == "xid" else name
    head, _, rest = name.partition(": ")
    return f"{rest}: {measured}" if rest and kind_of(gate) == "item" else f"{head} {measured}"
