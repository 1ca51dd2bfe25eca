"""Writes answers and values: into the TOML file beside a list, or as llmval comments into the list itself.

Comments and the order of a TOML file that a person edited are kept.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmval_tui.actions.review.model import Answer
from llmval_tui.actions.review.settings import parse_settings, settings_path
from llmval_tui.checklist.edit import edit_document
from llmval_tui.checklist.model import Checklist, Step, parse
from llmval_tui.foundation.errors import Refused

_HEADER = "# Site settings and answers of llmval for {name}; docs: checklists.md, “Before the first run”.\n"
_COMMENT = re.compile(rb"[ \t]*<!--\s*llmval:\s+answer=[^<>\n]*-->")


def record_answers(
    checklist: Path, workspace: Path, answers: Sequence[Answer], values: Mapping[str, str] | None = None
) -> None:
    """Put answers and values into the file beside the list; an earlier answer for the same item is replaced.

    Raises:
        Refused: the file cannot be parsed or written; nothing was changed.
    """
    import tomlkit  # slow to import; only this needs it

    path = settings_path(checklist)

    def change(data: bytes) -> bytes:
        text = data.decode("utf-8")
        parse_settings(text, path, workspace)  # a wrong file is refused, and not written over
        document = tomlkit.parse(text)
        if values:
            table = document.setdefault("values", tomlkit.table())
            for name, value in values.items():
                table[name] = value
        if answers:
            entries: Any = document.setdefault("answer", tomlkit.aot())
            for answer in answers:
                _put(entries, answer)
        new = document.as_string()
        parse_settings(new, path, workspace)  # what is written must be readable
        return new.encode()

    edit_document(path, change, "the file beside the list", missing=_HEADER.format(name=checklist.name).encode())


def _put(entries: Any, answer: Answer) -> None:
    """Replace the entry of the same item, or append one."""
    import tomlkit

    if answer.replaces is not None:
        _remove(entries, {answer.replaces})
    table = next((one for one in entries if _key(one) == answer.key), None)
    if table is None:
        table = tomlkit.table()
        entries.append(table)
        table = entries[-1]
    fields: dict[str, Any] = {
        "section": answer.section,
        "item": answer.item,
        "occurrence": answer.occurrence if answer.occurrence > 1 else None,
        "answer": answer.decision.value,
        "sha256": answer.sha256,
        "commands": list(answer.commands) or None,
        "scripts": dict(answer.scripts) or None,
        "by": answer.by,
        "when": answer.when,
    }
    for name, value in fields.items():
        if value is None:
            table.pop(name, None)
        elif name == "scripts":
            inline = tomlkit.inline_table()
            inline.update(value)
            table[name] = inline
        elif name == "commands" and len(value) > 1:
            array = tomlkit.array()
            array.extend(value)
            table[name] = array.multiline(True)
        else:
            table[name] = value


def _key(table: Any) -> tuple[str, str, int]:
    return table["section"], table["item"], table.get("occurrence", 1)


def _remove(entries: Any, keys: Collection[tuple[str, str, int]]) -> None:
    for index in reversed(range(len(entries))):
        if _key(entries[index]) in keys:
            del entries[index]


def write_into_list(path: Path, step: Step, answer: Answer) -> None:
    """Put the answer as an llmval comment after the item's text; an earlier answer there is replaced.

    Raises:
        Refused: the item is gone, or the list cannot be written; nothing was changed.
    """
    words = [f"answer={answer.decision}", f"hash={answer.sha256}"]
    words += [f"by={_word(answer.by)}"] if answer.by else []
    words += [f"on={_word(answer.when[:10])}"] if answer.when else []
    comment = f" <!-- llmval: {' '.join(words)} -->".encode()

    def change(data: bytes) -> bytes:
        before = parse(data, path)
        found = before.find(step.key)
        if found is None:
            raise Refused(f"{path} no longer has the step “{step.text[:60]}”; nothing was changed.")
        new = _with_comment(data, before, found, comment)
        _check(before, parse(new, path), found)
        return new

    edit_document(path, change, "a checklist")


def forget_answers(checklist: Path, workspace: Path, steps: Sequence[Step]) -> None:
    """Remove the answers of these steps from the list and from the file beside it.

    Raises:
        Refused: one of the two cannot be parsed or written.
    """
    keys = {key for step in steps for key in step.keys_in_records}
    path = settings_path(checklist)
    if path.exists():
        import tomlkit

        def change(data: bytes) -> bytes:
            text = data.decode("utf-8")
            parse_settings(text, path, workspace)
            document = tomlkit.parse(text)
            _remove(document.get("answer", []), keys)
            return document.as_string().encode()

        edit_document(path, change, "the file beside the list")
    for step in steps:
        if "answer" in step.directives:
            edit_document(checklist, partial(_without_comment, path=checklist, step=step), "a checklist")


def _without_comment(data: bytes, path: Path, step: Step) -> bytes:
    before = parse(data, path)
    found = before.find(step.key)
    if found is None or "answer" not in found.directives:
        return data
    old = _COMMENT.search(data, found.mark_offset, _end_of(before, found))
    return data[: old.start()] + data[old.end() :] if old else data


def _end_of(checklist: Checklist, step: Step) -> int:
    """Where the next item begins, in bytes."""
    later = [one.mark_offset for one in checklist.steps if one.mark_offset > step.mark_offset]
    return min(later, default=len(checklist.source))


def _with_comment(data: bytes, checklist: Checklist, step: Step, comment: bytes) -> bytes:
    old = _COMMENT.search(data, step.mark_offset, _end_of(checklist, step)) if "answer" in step.directives else None
    if old is not None:
        return data[: old.start()] + comment + data[old.end() :]
    return data[: step.end_offset] + comment + data[step.end_offset :]


def _check(before: Checklist, after: Checklist, step: Step) -> None:
    """Refuse a change that would make the list read differently, for instance after an open code span."""
    was = [(one.key, one.checked, one.blocks, one.deviation) for one in before.steps]
    now = [(one.key, one.checked, one.blocks, one.deviation) for one in after.steps]
    found = after.find(step.key)
    if was != now or found is None or "answer" not in found.directives:
        raise Refused(
            f"{before.path}, line {step.line}: the comment would change how the list reads; nothing was changed: leave "
            "out --write."
        )


def _word(text: str) -> str:
    return re.sub(r"[^\w.@+-]+", "_", text).replace("--", "–").strip("-") or "somebody"
