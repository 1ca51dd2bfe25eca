"""The bodies of the requests: prompts of a known number of tokens, without the server's tokenizer.

Token ids are exactly as many tokens as drawn. Words are fitted: two short requests before the window tell how many
tokens the server counts for words, and how many its chat template adds. Every prompt begins with some tokens of its
own, so that no prefix cache answers for the model.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_runners.load_test.generator import Arrival
from llmval_runners.openai_client.options import CHAT, TEXT, ServerOptions
from llmval_runners.process.errors import Refused

POOL = 65_536
UNIQUE = 8  # tokens of its own at the start of each prompt
LOWEST_ID = 1000  # below are special and byte tokens in most vocabularies
# One token each, with a blank before it, in the vocabulary of every large model.
WORDS = (
    "the", "of", "and", "to", "in", "is", "for", "that", "on", "with", "as", "it", "by", "at", "from", "are", "this",
    "be", "an", "or", "was", "not", "can", "all", "which", "have", "one", "will", "more", "about", "if", "when",
    "other", "new", "time", "people", "into", "some", "two", "first", "also", "these", "after", "only", "most", "use",
    "work", "like", "how", "than", "them", "way", "may", "over", "such", "our", "out", "then", "between", "need",
    "same", "day", "number", "part", "system", "point", "where", "place", "right", "still", "world", "good",
)  # fmt: skip
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")  # where words have different numbers of tokens


@dataclass(frozen=True, slots=True)
class TextFit:
    """The tokens that the server counts for a prompt of w words: `overhead + per_word * w`."""

    words: Sequence[str] = WORDS
    overhead: float = 0.0
    per_word: float = 1.0

    @classmethod
    def through(cls, words: Sequence[str], small: tuple[int, int], large: tuple[int, int]) -> "TextFit":
        """Through two prompts, each (words, tokens). Raises Refused if more words are not more tokens."""
        per_word = (large[1] - small[1]) / (large[0] - small[0])
        if per_word <= 0:
            raise Refused(
                f"the server counts {small[1]} prompt tokens for {small[0]} words and {large[1]} for {large[0]}: its "
                "usage.prompt_tokens does not count the prompt, so pass --prompts FILE."
            )
        return cls(words, small[1] - per_word * small[0], per_word)

    @property
    def exact(self) -> bool:
        """Whether every number of tokens above the overhead can be reached."""
        return self.per_word == 1 and self.overhead == round(self.overhead)

    def count(self, tokens: int) -> int:
        """The words of a prompt of about `tokens` tokens, at least one."""
        return max(1, round((tokens - self.overhead) / self.per_word))

    def as_json(self) -> dict[str, Any]:
        return {"tokens_per_word": self.per_word, "overhead_tokens": self.overhead}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of the operator; `output_tokens` None: as drawn."""

    text: str
    output_tokens: int | None


class Bodies:
    """Makes the body of each request. It takes some microseconds, as it runs between the answers of others."""

    def __init__(
        self,
        server: ServerOptions,
        model: str,
        *,
        prompt_format: str,
        vocab: int,
        prompts: Sequence[Prompt] = (),
        fit: TextFit | None = None,
    ) -> None:
        self.fit = fit or TextFit()
        self._chat, self._text = server.api == CHAT, prompt_format == TEXT
        self._prompts = prompts
        fields: dict[str, Any] = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": server.temperature,
        }
        fields |= {"ignore_eos": True} if server.ignore_eos else {}
        self._fields = json.dumps(fields | server.extra_body)[1:-1]
        source = random.Random("pool of prompts")
        if self._text:
            self._separator = " "
            self._tokens: Sequence[str] = self.fit.words
        else:
            self._separator = ","
            self._tokens = [str(number) for number in range(min(LOWEST_ID, vocab // 4), vocab)]
        self._pool = source.choices(self._tokens, k=POOL)

    def body(self, arrival: Arrival, seed: int) -> bytes:
        """The JSON of a request. The prompt depends on seed and index only."""
        if self._prompts:
            prompt = json.dumps(self._prompts[arrival.index % len(self._prompts)].text)
        elif self._text:
            prompt = f'"{self._run(self.fit.count(arrival.input_tokens), seed, arrival.index)}"'
        else:
            prompt = f"[{self._run(arrival.input_tokens, seed, arrival.index)}]"
        content = f'"messages":[{{"role":"user","content":{prompt}}}]' if self._chat else f'"prompt":{prompt}'
        return f'{{{self._fields},"max_tokens":{self.output_tokens(arrival)},{content}}}'.encode()

    def output_tokens(self, arrival: Arrival) -> int:
        """The output tokens to ask for."""
        if self._prompts:
            return self._prompts[arrival.index % len(self._prompts)].output_tokens or arrival.output_tokens
        return arrival.output_tokens

    def input_tokens(self, arrival: Arrival) -> int | None:
        """The prompt tokens that were asked for; None: a prompt of the operator."""
        return None if self._prompts else arrival.input_tokens

    def _run(self, count: int, seed: int, index: int) -> str:
        source = random.Random(f"prompt {seed} {index}")
        own = source.choices(self._tokens, k=min(count, UNIQUE))
        left, start = count - len(own), source.randrange(POOL)
        parts = own
        while left > 0:
            piece = self._pool[start : start + left]
            parts += piece
            left, start = left - len(piece), 0
        return self._separator.join(parts)


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts in a file, one a line: text, or a JSON object. Raises Refused with the line that is neither."""
    found = []
    for number, line in _lines(path, "--prompts"):
        if not line.startswith("{"):
            found.append(Prompt(line, None))
            continue
        value = _json(line, path, number, "--prompts")
        text, count = value.get("prompt"), value.get("output_tokens")
        if not isinstance(text, str) or not text or not (count is None or (isinstance(count, int) and count > 0)):
            raise Refused(
                f'line {number} of --prompts {path} is not {{"prompt": "…", "output_tokens": N}}: correct it, or write '
                "the text alone."
            )
        found.append(Prompt(text, count))
    if not found:
        raise Refused(f"--prompts {path} has no prompt: write one per line.")
    return found


def read_trace(path: Path) -> list[Arrival]:
    """The arrivals in a file, by time. The first counts as 0 s. Raises Refused with the line that is not an arrival.

    A line is `seconds,prompt tokens,output tokens`, or JSON with `timestamp` (ms), `input_length` and `output_length`.
    """
    found: list[tuple[float, int, int]] = []
    for number, line in _lines(path, "--trace"):
        try:
            if line.startswith("{"):
                value = _json(line, path, number, "--trace")
                numbers = (float(value["timestamp"]) / 1e3, value["input_length"], value["output_length"])
            else:
                words = line.split(",")
                if number == 1 and len(words) == 3 and not words[0].strip()[:1].isdigit():
                    continue  # the names of the columns
                time, prompt, output = words
                numbers = (float(time), prompt, output)
            arrival = numbers[0], int(numbers[1]), int(numbers[2])
        except (KeyError, TypeError, ValueError):
            arrival = -1.0, 0, 0
        if not 0 <= arrival[0] < 1e9 or min(arrival[1:]) < 1:
            raise Refused(
                f"line {number} of --trace {path} is not an arrival: write `seconds,prompt tokens,output tokens`, or "
                "JSON with timestamp, input_length and output_length."
            )
        found.append(arrival)
    found.sort(key=lambda one: one[0])
    if len(found) < 2 or found[-1][0] == found[0][0]:
        raise Refused(f"--trace {path} has no two arrivals at different times, and a rate needs 2.")
    return [Arrival(index, time - found[0][0], prompt, output) for index, (time, prompt, output) in enumerate(found)]


def _lines(path: Path, flag: str) -> list[tuple[int, str]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Refused(f"{flag} {path} cannot be read ({why}): pass a text file.") from None
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _json(line: str, path: Path, number: int, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise Refused(f"line {number} of {flag} {path} is not JSON ({error}): correct it.") from None
    if not isinstance(value, dict):
        raise Refused(f"line {number} of {flag} {path} is not a JSON object: correct it.")
    return value
