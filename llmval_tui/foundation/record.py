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


def read_record(cls: type[_T], path: Path) -> _T | None:
    """The record in a JSON file; None if the file is missing.

    Records are written atomically, so a file that is no record of this kind was damaged, on the disk or by hand.

    Raises:
        Refused: the file cannot be read, or is not such a record; the message names it.
    """
    try:
        return decode(cls, orjson.loads(read_bytes(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error
    except (TypeError, AttributeError, ValueError) as error:  # a JSON error is a ValueError
        reason = str(error).partition(":")[0] if isinstance(error, orjson.JSONDecodeError) else str(error)
        raise Refused(
            f"{path} is damaged and cannot be read ({reason}): restore it, or move the folder {path.parent} away."
        ) from error
