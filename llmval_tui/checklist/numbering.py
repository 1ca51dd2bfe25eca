"""The numbers of sections and steps. They never contradict the numbers that the list itself gives.

1. A section keeps the number that its title begins with: “7.”, “7)”, “7.5 …”, “Step 7.5:”. A bare number and a space
   (“8 GPUs”) counts only if every title begins with a number and all differ.
2. If no title has a number, sections are counted from 1. If only some have one, or two have the same, the other
   sections get the letters A, B, …
3. In a section with an ordered list, an item's last part is its number in that list (“7.” in section 3 is 3.7), items
   without a number follow after the highest, and nested items count below their parent (3.7.1). In other sections all
   items are counted in their order.
4. An item that begins with a dotted number (“1.2 …”, “Step 7.5: …”) keeps it, if no other item has the same.
5. If a number from rule 3 is one that the list gives to something else, all sections get letters.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from string import ascii_uppercase

from llmval_tui.checklist.entries import Item

_OWN = re.compile(
    r"[*_~]*(?P<word>(?:step|task|item|check|test|phase|part|section|stage|no\.|#|§)\s*)?"
    r"(?P<number>\d{1,6}(?:\.\d{1,6}){0,3})(?P<end>[.):]?)(?=[\s*_~]|$)(?P<dash>\s+[–—-]\s)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Own:
    """The number at the start of a title or an item."""

    number: str
    is_sure: bool  # False: a bare number and a space, which may be a quantity

    @property
    def is_dotted(self) -> bool:
        return "." in self.number


def own_number(text: str) -> Own | None:
    """The number that the text begins with; None if it begins with none."""
    match = _OWN.match(text)
    if match is None:
        return None
    return Own(match["number"], bool(match["word"] or match["end"] or match["dash"]))


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of one section and its items."""

    section: str
    items: tuple[str, ...]
    written: tuple[str | None, ...]  # the numbers that the list itself gives the items: "7", "7.5"


def numbers_of(sections: Sequence[tuple[str, Sequence[Item]]]) -> list[Numbers]:
    """The numbers of all sections, each given as its title and its items in order."""
    kept = _kept_titles([own_number(title) for title, _ in sections])
    dotted = _kept_dotted([items for _, items in sections])
    found = _numbered(sections, _section_numbers(kept), dotted)
    claimed = {number for number in (*kept, *(one for row in dotted for one in row)) if number and "." in number}
    plain = [
        number
        for numbers, row in zip(found, dotted, strict=True)
        for number, own in zip(numbers.items, row, strict=True)
        if own is None
    ]
    if claimed & set(plain) or len(set(plain)) < len(plain):
        letters = _letters()
        found = _numbered(sections, [next(letters) for _ in sections], dotted)
    return found


def _kept_titles(owns: list[Own | None]) -> list[str | None]:
    """The numbers of the titles that rule 1 keeps."""
    numbers = [own.number for own in owns if own is not None]
    all_have = len(numbers) == len(owns) == len(set(numbers))
    kept = [own.number if own and (own.is_sure or own.is_dotted or all_have) else None for own in owns]
    counts = Counter(kept)
    return [number if counts[number] == 1 else None for number in kept]


def _section_numbers(kept: list[str | None]) -> list[str]:
    if not any(kept):
        return [str(position) for position in range(1, len(kept) + 1)]
    letters = _letters()
    return [number or next(letters) for number in kept]


def _letters() -> Iterator[str]:
    """A, B, …, Z, AA2, AB2, …"""
    for turn in count(1):
        for letter in ascii_uppercase:
            yield letter if turn == 1 else f"{letter}{turn}"


def _kept_dotted(groups: list[Sequence[Item]]) -> list[list[str | None]]:
    """The dotted numbers of the items that rule 4 keeps."""
    found: list[list[str | None]] = []
    for items in groups:
        owns = [own_number(item.text) for item in items]
        all_have = len(owns) > 1 and all(own is not None and own.is_dotted for own in owns)
        found.append(
            [own.number if own is not None and own.is_dotted and (own.is_sure or all_have) else None for own in owns]
        )
    counts = Counter(number for row in found for number in row)
    return [[number if counts[number] == 1 else None for number in row] for row in found]


def _numbered(
    sections: Sequence[tuple[str, Sequence[Item]]], numbers: list[str], dotted: list[list[str | None]]
) -> list[Numbers]:
    found = []
    for (_, items), number, row in zip(sections, numbers, dotted, strict=True):
        ordinals = [_ordinal(item) for item in items]
        counted = _item_numbers(number, items, ordinals)
        shown = tuple(own or other for own, other in zip(row, counted, strict=True))
        written = tuple(
            own or (str(ordinal) if ordinal is not None else None) for own, ordinal in zip(row, ordinals, strict=True)
        )
        found.append(Numbers(number, shown, written))
    return found


def _ordinal(item: Item) -> int | None:
    """The whole number that the item itself has: in its text, else in its ordered list."""
    own = own_number(item.text)
    return int(own.number) if own is not None and own.is_sure and not own.is_dotted else item.ordinal


def _item_numbers(section: str, items: Sequence[Item], ordinals: list[int | None]) -> list[str]:
    """The numbers of rule 3."""
    top = [index for index, item in enumerate(items) if not item.depth]
    given = [ordinals[index] for index in top if ordinals[index] is not None]
    if not given or len(given) != len(set(given)):
        return [f"{section}.{position}" for position in range(1, len(items) + 1)]
    path: list[int] = []  # the open items, the outermost first
    parents: dict[int, int] = {}
    for index, item in enumerate(items):
        del path[item.depth :]
        if path:
            parents[index] = path[-1]
        path.append(index)
    families: dict[int | None, list[int]] = {}
    for index in range(len(items)):
        families.setdefault(parents.get(index), []).append(index)
    found: dict[int, str] = {}
    for index in range(len(items)):
        if index in found:
            continue
        prefix = found[parents[index]] if index in parents else section
        siblings = families[parents.get(index)]
        for sibling, last in zip(siblings, _last_parts([ordinals[one] for one in siblings]), strict=True):
            found[sibling] = f"{prefix}.{last}"
    return [found[index] for index in range(len(items))]


def _last_parts(ordinals: list[int | None]) -> list[int]:
    given = [ordinal for ordinal in ordinals if ordinal is not None]
    if len(given) != len(set(given)):
        return list(range(1, len(ordinals) + 1))
    free = count(max(given, default=0) + 1)
    return [ordinal if ordinal is not None else next(free) for ordinal in ordinals]
