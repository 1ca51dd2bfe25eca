"""JSON objects as dataclasses, by their type hints."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")
_Converter = Callable[[Any], Any]


def decode(cls: type[_T], value: Mapping[str, Any]) -> _T:
    """Build a dataclass from a JSON object.

    Unknown keys are ignored, so that an older llmval can read a newer record. Dataclasses and enums, also in lists or
    optional, are built; every other value stays as JSON gave it.

    Raises:
        TypeError, AttributeError: `value` is no object, or a key without a default is missing.
        ValueError: a string is not a member of its enum.
    """
    names, converters = _plan(cls)
    known = {name: item for name, item in value.items() if name in names}
    for name, convert in converters:
        if name in known:
            known[name] = convert(known[name])
    return cls(**known)


@cache
def _plan(cls: type["DataclassInstance"]) -> tuple[frozenset[str], list[tuple[str, _Converter]]]:
    """The names of the fields, and a converter for each field that needs one."""
    hints = get_type_hints(cls)
    names = [item.name for item in fields(cls)]
    return frozenset(names), [(name, convert) for name in names if (convert := _converter(hints[name]))]


def _converter(hint: Any) -> _Converter | None:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(decode, hint)
    arguments = [part for part in get_args(hint) if part is not NoneType]
    convert = _converter(arguments[0]) if len(arguments) == 1 else None
    if convert is None:
        return None
    if get_origin(hint) is list:
        return lambda items: [convert(item) for item in items]
    return lambda item: None if item is None else convert(item)
