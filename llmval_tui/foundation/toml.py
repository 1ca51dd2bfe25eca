"""Parsing TOML from outside."""

import tomllib
from typing import Any


def parse_toml(text: str) -> dict[str, Any]:
    """The document in `text`.

    Raises:
        ValueError: it is not TOML, is nested too deep, or has a number that is too long.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("its arrays or tables are nested too deep") from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # Python converts no number of more than 4,300 digits
        raise ValueError("a number in it is too long") from error
