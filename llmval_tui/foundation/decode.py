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
# A JSON number without a fraction is an int, also where a float is expected; true is not a number.
_SCALARS: dict[type, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}


def decode(cls: type[_T], value: Mapping[str, Any]) -> _T:
    """Build a dataclass from a JSON object.

    Unknown keys are ignored, so that an older llmval can read a newer record. Dataclasses and enums, also in lists,
    mappings or optional, are built; strings, numbers, truth values, lists and mappings are checked. A value with
    another hint (`Any`, a tuple, a union) stays as JSON gave it.

    Raises:
        TypeError, AttributeError: `value` is not an object, a key without a default is missing, or a value has another
            type than its hint.
        ValueError: a string is not a member of its enum.
    """
    converters = _plan(cls)
    known = {}
    for name, item in value.items():
        if name in converters:
            convert = converters[name]
            known[name] = item if convert is None else convert(item)
    return cls(**known)


@cache
def _plan(cls: type["DataclassInstance"]) -> dict[str, _Converter | None]:
    """A converter for each field; None for a field that accepts everything."""
    hints = get_type_hints(cls)
    return {item.name: _converter(hints[item.name]) for item in fields(cls)}


def _converter(hint: Any) -> _Converter | None:
    """A function that builds or checks a value of this hint; None if every value is accepted."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(decode, hint)
    if isinstance(hint, type) and hint in _SCALARS:
        return _checked(_SCALARS[hint])
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is list:
        return partial(_list, _converter(arguments[0]))
    if kind is dict:
        return partial(_mapping, _converter(arguments[1]))
    others = [part for part in arguments if part is not NoneType]
    if len(others) == 1 and len(arguments) == 2:
        convert = _converter(others[0])
        return None if convert is None else partial(_optional, convert)
    return None


def _checked(types: tuple[type, ...]) -> _Converter:
    def check(value: Any) -> Any:
        if type(value) not in types:
            raise TypeError(f"{value!r:.40} is not of the type {types[0].__name__}")
        return value

    return check


def _list(convert: _Converter | None, value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"{value!r:.40} is not a list")
    return value if convert is None else [convert(item) for item in value]


def _mapping(convert: _Converter | None, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise TypeError(f"{value!r:.40} is not an object")
    return value if convert is None else {name: convert(item) for name, item in value.items()}


def _optional(convert: _Converter, value: Any) -> Any:
    return None if value is None else convert(value)
