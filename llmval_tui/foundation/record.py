"""Reading the records that llmval writes itself."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import orjson

from llmval_tui.foundation.decode import decode
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")
NEWEST = 1  # version `v` of the records that this llmval writes; a higher one was written by a newer llmval


def read_record(cls: type[_T], path: Path) -> _T | None:
    """The record in a JSON file; None if the file is missing.

    Records are written atomically, so a file that is not a record of this kind was damaged, on the disk or by hand.

    Raises:
        Refused: the file cannot be read, is not such a record, or is one of a newer llmval; the message names it.
    """
    try:
        value = orjson.loads(read_bytes(path))
        if type(version := value.get("v")) is int and version > NEWEST:
            raise Refused(
                f"{path} was written by a newer llmval (version {version}; this one reads up to {NEWEST}): "
                "update llmval and read it again."
            )
        return decode(cls, value)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error
    except (TypeError, AttributeError, ValueError) as error:  # a JSON error is a ValueError
        reason = str(error).partition(":")[0] if isinstance(error, orjson.JSONDecodeError) else str(error)
        raise Refused(
            f"{path} is damaged and cannot be read ({reason}): restore it, or move the folder {path.parent} away."
        ) from error
