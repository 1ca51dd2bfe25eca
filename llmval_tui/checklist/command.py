"""Commands as an operator writes them in a checklist, parsed by a small grammar and never by a shell."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from llmval_tui.checklist.lexer import (
    BUILTINS,
    PLACEHOLDER,
    RESERVED,
    Lexer,
    Token,
    is_date,
    quote,
)
from llmval_tui.foundation.errors import Refused

DEFAULT_VARIABLES = frozenset(
    {
        "CUDA_VISIBLE_DEVICES", "HOME", "HOSTNAME", "LOGNAME", "PWD", "SCRATCH", "SLURM_JOB_ID", "SLURM_JOB_NAME",
        "SLURM_NODEID", "SLURMD_NODENAME", "TMPDIR", "USER",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Word:
    """One argument. `value` is the program's argument, except for `<date>` and, with `has_glob`, `*`, `?` and `[…]`."""

    value: str
    has_date: bool = False  # contains the placeholder <date>
    has_glob: bool = False  # contains unquoted glob characters; only in a word with <date>


@dataclass(frozen=True, slots=True)
class Output:
    """The destination of the standard output: `> PATH`, `>> PATH` or `| tee [-a] PATH`."""

    path: Word
    append: bool = False
    kind: Literal["redirect", "tee"] = "redirect"


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A parsed command: the assignments before it, its words, and the destination of its output."""

    words: tuple[Word, ...]
    assignments: tuple[tuple[str, Word], ...] = ()
    output: Output | None = None
    merge_stderr: bool = False  # `2>&1`: the standard error goes where the standard output goes

    @property
    def has_date(self) -> bool:
        """Whether any part still contains `<date>`."""
        words = [*self.words, *(word for _, word in self.assignments)]
        return any(word.has_date for word in words) or (self.output is not None and self.output.path.has_date)

    @property
    def argv(self) -> list[str]:
        """The words as program arguments.

        Raises:
            Refused: a word still contains a date or a glob.
        """
        for word in self.words:
            if word.has_date or word.has_glob:
                raise Refused(f"“{word.value}” still contains a pattern: no file matches it yet.")
        return [word.value for word in self.words]

    @property
    def environment(self) -> dict[str, str]:
        """The assignments; a later one replaces an earlier one of the same name."""
        return {name: word.value for name, word in self.assignments}

    def fill(self, date: str) -> "ParsedCommand":
        """The command with `<date>` replaced everywhere; the caller expands globs.

        Raises:
            Refused: `date` is not one path component of letters, digits and `._:-`.
        """
        if not is_date(date):
            raise Refused(f"“{date}” cannot stand for {PLACEHOLDER}: use letters, digits and . _ : - only.")

        def filled(word: Word) -> Word:
            return replace(word, value=word.value.replace(PLACEHOLDER, date), has_date=False)

        return ParsedCommand(
            tuple(filled(word) for word in self.words),
            tuple((name, filled(word)) for name, word in self.assignments),
            replace(self.output, path=filled(self.output.path)) if self.output else None,
            self.merge_stderr,
        )

    def shell_text(self) -> str:
        """The command as one line for bash; `parse_command` parses it back to the same command.

        The exception is a glob after its `<date>` was filled in: bash expands it, `parse_command` refuses it.
        """
        parts = [f"{name}={quote(word.value, word.has_glob)}" for name, word in self.assignments]
        for index, word in enumerate(self.words):
            parts.append(quote(word.value, word.has_glob, command=index == 0))
        merge = ["2>&1"] if self.merge_stderr else []
        if self.output is None:
            parts += merge
        else:
            path = quote(self.output.path.value, self.output.path.has_glob)
            if self.output.kind == "tee":
                parts += [*merge, "| tee -a" if self.output.append else "| tee", path]
            else:
                parts += [">>" if self.output.append else ">", path, *merge]
        return " ".join(parts)


def parse_command(
    text: str,
    *,
    now: datetime,
    environment: Mapping[str, str],
    allowed_variables: frozenset[str] = DEFAULT_VARIABLES,
    values: Mapping[str, str] | None = None,
) -> ParsedCommand:
    """Parse one command.

    The grammar has words with quotes and backslashes, `$(date +FORMAT)` (the time is `now`; only numeric formats), `~`,
    `$NAME` and `${NAME}` of `allowed_variables` with their values in `environment`, `NAME=value` before the command,
    and, at the end, `> PATH`, `>> PATH` or `| tee [-a] PATH`, with `2>&1` where it sends both streams there (`&>` and
    `|&` mean the same). `<date>` stays a placeholder, quoted or not. `<name>`, `{name}`, `X.Y.Z` and other variables
    get their value from `values`, as one piece of a word.

    Raises:
        Refused: anything else; the message has the character, its column (from 1) and the alternative.
    """
    lexer = Lexer(text, now, environment, allowed_variables, values or {})
    tokens = lexer.tokens()
    body, output, merge_stderr = _split_output(tokens)
    assignments: list[tuple[str, Word]] = []
    words: list[Word] = []
    for token in body:
        if token.assigns and not words:
            name, _, value = token.value.partition("=")
            if token.glob_column is not None:
                raise _refused(token.glob, token.glob_column, "quote it: an assignment is not a file pattern")
            assignments.append((name, Word(value, PLACEHOLDER in value)))
            continue
        if not words:
            _check_command_word(token)
        words.append(_word(token))
    assigned = {name for name, _ in assignments}
    for token in tokens:
        for name in sorted(token.variables & assigned):
            raise _refused(f"${name}", token.column, "write its value, since this command also assigns it")
    for name, at in lexer.missing.items():
        raise _refused(f"${name}", at + 1, f"it has no value: give one with --set {name}=VALUE")
    if not words:
        raise Refused("There is no command: write the program and its arguments.")
    return ParsedCommand(tuple(words), tuple(assignments), output, merge_stderr)


def _refused(what: str, column: int, instead: str) -> Refused:
    return Refused(f"“{what}” at column {column} is not understood in a command: {instead}.")


def _word(token: Token, *, path: bool = False) -> Word:
    has_date = PLACEHOLDER in token.value
    if token.glob_column is not None and (path or not has_date):
        instead = "name one file" if path else f"name the files, quote it, or use {PLACEHOLDER} in the same word"
        raise _refused(token.glob, token.glob_column, instead)
    return Word(token.value, has_date, token.glob_column is not None)


def _check_command_word(token: Token) -> None:
    if not token.value:
        raise _refused("an empty word", token.column, "write the program's name")
    if token.value in BUILTINS:
        raise _refused(token.value, token.column, "it is a shell builtin and has no effect here; write a program")
    if token.glob_column is not None:
        raise _refused(token.glob, token.glob_column, "write the program's own name")
    if token.value.startswith("%"):
        raise _refused(token.value, token.column, "it names a job of a shell; write a program")
    if token.assigns_otherwise:  # quotes in its value change nothing about that
        raise _refused(token.value, token.column, "write NAME=value with a plain name and one =")
    if token.quoted:
        return  # for bash a quoted word is neither syntax nor an assignment
    if token.value in RESERVED:
        raise _refused(token.value, token.column, "it is shell syntax; write one command, or put a script into a file")


def _split_output(tokens: list[Token]) -> tuple[list[Token], Output | None, bool]:
    """The tokens before the output operators, the output, and whether the standard error goes there too."""
    at = next((index for index, token in enumerate(tokens) if token.operator), None)
    if at is None:
        return tokens, None, False
    body, rest = tokens[:at], tokens[at:]
    merge = rest[0].value == "2>&1"
    if merge:
        rest = rest[1:]
        if rest and rest[0].operator and rest[0].value != "|":
            raise _refused("2>&1", tokens[at].column, "write it after the file: > FILE 2>&1")
        if rest and not rest[0].operator:
            raise _refused(rest[0].value, rest[0].column, "2>&1 must be the last word, or stand before | tee PATH")
        if not rest:
            return body, None, True
    operator, rest = rest[0], rest[1:]
    merge = merge or "&" in operator.value
    append = operator.value in (">>", "&>>")
    kind: Literal["redirect", "tee"] = "redirect"
    if operator.value.startswith("|"):
        if not rest or rest[0].operator or rest[0].value != "tee":
            raise _refused("|", operator.column, "put the line into a fenced block, which bash runs as a script")
        kind, rest = "tee", rest[1:]
        if rest and rest[0].value in ("-a", "--append"):
            append, rest = True, rest[1:]
        if rest and not rest[0].operator and rest[0].value.startswith("-"):
            raise _refused(rest[0].value, rest[0].column, "tee may only have -a and one path")
    if not rest or rest[0].operator or not rest[0].value:
        raise _refused(operator.value, operator.column, "one path must follow")
    if kind == "redirect" and len(rest) == 2 and rest[1].operator and rest[1].value == "2>&1":
        merge, rest = True, rest[:1]
    if len(rest) > 1:
        raise _refused(rest[1].value, rest[1].column, "the output's path must be the last word")
    return body, Output(_word(rest[0], path=True), append, kind), merge
