"""The needle test: a number is hidden in a long text and asked for at its end. Does the model still find it?

After Kamradt's "Needle in a haystack" (github.com/gkamradt/LLMTest_NeedleInAHaystack). An answer passes if it contains
the whole number, which no model knows and which cannot be guessed.
"""

import random
from pathlib import Path
from typing import Any, Protocol, cast

from llmval_runners.long_context.engine_adapter import Context
from llmval_runners.long_context.measure.timing import RunControl, prefill
from llmval_runners.process.errors import Refused
from llmval_runners.process.install import how_to_install

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ANSWER_TOKENS = 16
DIGITS = 7
_PLACES = ("harbour", "orchard", "station", "quarry", "library", "bakery", "mill", "bridge", "market", "lighthouse")
_THINGS = (
    "opened early",
    "was quiet",
    "needed paint",
    "had visitors",
    "closed at noon",
    "smelled of rain",
    "was repaired",
)


class Tokenizer(Protocol):
    """The methods of a Hugging Face tokenizer that this test uses."""

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...

    def decode(self, ids: list[int]) -> str: ...


def tokenizer_of(folder: Path) -> Tokenizer:
    """The checkpoint's tokenizer.

    Raises:
        Refused: transformers is not installed, or the folder has no readable tokenizer.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise Refused(
            f"--checkpoint runs a needle test, which needs a tokenizer: {how_to_install('transformers')}, or use "
            "--model, whose weights are random."
        ) from None
    try:
        found = cast(Tokenizer, AutoTokenizer.from_pretrained(str(folder), local_files_only=True))
        if not found.encode("The number is 7.", add_special_tokens=False):  # transformers 5 makes one without files
            raise ValueError("it has no vocabulary")
        return found
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise Refused(f"{folder} has no tokenizer that can be read ({reason}): add its tokenizer files.") from None


def haystack(tokenizer: Tokenizer, length: int, depth: float, number: str) -> list[int]:
    """Exactly `length` token ids: filler with the needle at `depth` (0 first, 1 last), then the question.

    Raises:
        ValueError: needle and question alone are longer than `length`.
    """
    beginning = tokenizer.encode("", add_special_tokens=True)
    needle = tokenizer.encode(f" The secret number of the town hall is {number}. ", add_special_tokens=False)
    question = tokenizer.encode(
        "\nQuestion: What is the secret number of the town hall?\nAnswer: The secret number of the town hall is",
        add_special_tokens=False,
    )
    room = length - len(beginning) - len(needle) - len(question)
    if room < 0:
        raise ValueError(f"{length} tokens do not hold a needle and a question")
    before = round(room * depth)
    filler = _filler(tokenizer, room)
    return [*beginning, *filler[:before], *needle, *filler[before:], *question]


def _filler(tokenizer: Tokenizer, tokens: int) -> list[int]:
    chance = random.Random(0)
    sentences = [
        f" On day {day} the {chance.choice(_PLACES)} {chance.choice(_THINGS)}, and the {chance.choice(_PLACES)} "
        f"{chance.choice(_THINGS)}."
        for day in range(1, 201)
    ]
    ids = tokenizer.encode("".join(sentences), add_special_tokens=False)
    return (ids * (tokens // max(len(ids), 1) + 1))[:tokens]


def search(context: Context, tokenizer: Tokenizer, length: int, seed: int, control: RunControl) -> dict[str, Any]:
    """The needle test at one length as the result records it: for each depth, whether the answer has the number."""
    found = []
    for depth in DEPTHS:
        number = str(random.Random(f"{seed} {length} {depth}").randrange(10 ** (DIGITS - 1), 10**DIGITS))
        try:
            ids = haystack(tokenizer, length, depth, number)
        except ValueError as error:
            return {"depths": [], "missing": str(error)}
        prefill(context, [ids[:-1]], control, "needle")
        answer = list(context.prefill(0, length - 1, ids[-1:], True))
        for step in range(min(ANSWER_TOKENS, context.setup.decode_tokens)):
            control.begin(f"needle: depth {depth:g}, answer token {step + 1}")
            answer += list(context.decode(length + step))[:1]
        text = tokenizer.decode(answer)
        found.append({"depth": depth, "found": number in text, "expected": number, "answer": text[:200]})
    return {"depths": found, "missing": None}
