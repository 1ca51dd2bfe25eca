"""Dataclasses from JSON objects."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest

from llmval_tui.foundation.decode import decode


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    colour: Colour | None = None


@dataclass(slots=True)
class Whole:
    first: Part
    v: int = 1
    second: Part | None = None
    parts: list[Part] = field(default_factory=list)
    sizes: dict[str, float | None] = field(default_factory=dict)
    anything: Any = None


def test_nested_values_are_built_and_unknown_keys_ignored() -> None:
    value = {
        "first": {"name": "a", "colour": "red", "newer": 1},
        "second": None,
        "parts": [{"name": "b"}],
        "sizes": {"x": None},
        "anything": [1],
        "newer": {},
    }
    whole = decode(Whole, value)
    assert whole == Whole(Part("a", Colour.RED), 1, None, [Part("b")], {"x": None}, [1])
    assert whole.first.colour is Colour.RED


@pytest.mark.parametrize("value", [{}, {"first": {}}, {"first": 3}, {"first": {"name": "a"}, "parts": None}, [], None])
def test_a_missing_key_or_another_kind_of_value_is_an_error(value: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        decode(Whole, value)


@pytest.mark.parametrize(
    "changed",
    [
        {"v": "1"}, {"v": None}, {"v": True}, {"v": 1.5}, {"first": {"name": 1}}, {"first": {"name": ["a"]}},
        {"parts": {"name": "b"}}, {"parts": ["b"]}, {"sizes": {"x": "1"}}, {"sizes": [1]}, {"second": "a"},
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_an_error(changed: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        decode(Whole, {"first": {"name": "a"}, **changed})


def test_a_word_that_is_not_a_member_is_an_error() -> None:
    with pytest.raises(ValueError, match="green"):
        decode(Part, {"name": "a", "colour": "green"})
