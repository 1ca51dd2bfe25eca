"""Changes to valid input: values inside JSON, and bytes."""

import copy
import random
from collections.abc import Sequence
from typing import Any

JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 64, 2**31, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e-300, 1e300, "", "a", "0", "1",
    "nan", "-1", "\ud800", "\x1b[2J", "a\nb", "../../etc/passwd", "/", ".", "x" * 1000, [], [1], [1.0] * 4, [None],
    [[]], {}, {"a": 1}, {"v": None}, float("nan"), float("inf"),
)  # fmt: skip


def mutate(value: Any, chance: random.Random, junk: Sequence[Any] = JUNK, fields: Sequence[str] = ()) -> Any:
    """`value` with a change somewhere inside; `fields` are keys that may be added to an object."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.15:
            del value[key]
        elif kind < 0.35 and fields:
            value[chance.choice(fields)] = copy.deepcopy(chance.choice(junk))
        elif kind < 0.45:
            value[str(key) + chance.choice("_x \n\0é")] = value.pop(key)
        else:
            value[key] = mutate(value[key], chance, junk, fields)
        return value
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        value[place] = mutate(value[place], chance, junk, fields)
        return value
    if type(value) is int and chance.random() < 0.5:
        return value + chance.choice([-1, 1, 2, 4, 8, -8, 2**20])
    return copy.deepcopy(chance.choice(junk))  # a later mutation may change it


def damage(data: bytes, chance: random.Random, keep: int = 0) -> bytes:
    """`data` with bytes changed, removed, inserted or cut off; the first `keep` bytes may stay when a part is moved."""
    for _ in range(chance.choice([1, 1, 2, 8])):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place] + data[place + chance.randrange(1, 40) :]
        elif kind == 3:
            data = (
                data[:place] + chance.choice([b"[" * 5000, b"9" * 5000, b'{"a":', b"\xff", b"NaN", b'"']) + data[place:]
            )
        elif kind == 4 and place < len(data):
            data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
        else:
            data = data[:keep] + data[place:] if chance.random() < 0.3 else data + data[:place]
    return data
