"""Text as records hold it: without secrets. The patterns are imported only when a text is looked at."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

MASK = "******"  # that of `redaction.py`; the length of a secret is nobody's business
_STARS = re.compile(rb"\*+")


@lru_cache(maxsize=4096)  # of the same texts, several records are written
def without_secrets(text: str) -> str:
    """The text with `MASK` for every secret that `redaction.py` recognises. The same text always gives the same.

    A code span is also looked at as a line of its own, because some forms of secrets are whole lines.
    """
    from llmval_tui.foundation.redaction import redact  # slow to import, and a look at a list needs no pattern

    raw = text.encode("utf-8", "surrogatepass")
    hidden = bytearray(raw)
    for form in dict.fromkeys((raw, raw.replace(b"`", b"\n"))):
        cleaned = redact(form)[0]  # of the same length
        for at, (new, old) in enumerate(zip(cleaned, form, strict=True)) if cleaned != form else ():
            if new != old and raw[at] != ord("`"):  # the end of a code span stays one
                hidden[at] = ord("*")
    if hidden == raw:
        return text

    def masked(match: re.Match[bytes]) -> bytes:
        # Stars that the text itself has stay, so that its bold words do.
        return match[0] if raw[match.start() : match.end()] == match[0] else MASK.encode()

    return _STARS.sub(masked, bytes(hidden)).decode("utf-8", "replace")


def is_recorded_as(recorded: str, text: str) -> bool:
    """Whether a record's text is that of a list, as it is or without its secrets."""
    return recorded == text or (MASK in recorded and recorded == without_secrets(text))


def masked_values(value: Any) -> Any:
    """A value of JSON whose texts have no secrets. The keys of mappings stay."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {key: masked_values(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [masked_values(one) for one in value]
    return value
