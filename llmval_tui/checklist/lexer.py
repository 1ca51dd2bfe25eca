"""Splitting a command into words, character by character; other shell syntax is refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn

from llmval_tui.foundation.errors import Refused

PLACEHOLDER = "<date>"

RESERVED = frozenset(
    [
        "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then",
        "time", "until", "while", "[[", "]]", "{", "}", "!",
    ]
)  # fmt: skip
BUILTINS = frozenset(
    [
        ".", ":", "alias", "bg", "bind", "break", "builtin", "cd", "command", "continue", "declare", "dirs", "disown",
        "eval", "exec", "exit", "export", "fc", "fg", "getopts", "hash", "history", "jobs", "let", "local",
        "logout", "mapfile", "popd", "pushd", "read", "readarray", "readonly", "return", "set", "shift",
        "shopt", "source", "suspend", "trap", "typeset", "ulimit", "umask", "unalias", "unset", "wait",
    ]
)  # fmt: skip

# The name of a value that somebody must give: <node>, {node}, {{ node }}, X.Y.Z.
STAND_IN = re.compile(
    r"<(?P<angle>[A-Za-z][\w.-]*(?: [\w.-]+){0,3})>"
    r"|\{\{ ?(?P<double>[A-Za-z_][\w.-]*) ?\}\}|(?<!\$)\{(?P<brace>[A-Za-z_][\w-]*)\}"
    r"|(?<![A-Za-z])(?P<letters>X\.Y(?:\.Z)?|x\.y\.z|YYYY-?MM-?DD|X{2,}|N{2,})(?![A-Za-z=])"
    r"|(?<=v)(?P<version>X\.Y(?:\.Z)?|x\.y\.z)(?![A-Za-z])"
    # YOUR_MODEL, your-bucket, /path/to/model, HOST:PORT
    r"|(?<![\w.-])(?P<own>(?:YOUR|MY)[_-][A-Z0-9_-]+|your[_-][a-z0-9]+(?:[_-][a-z0-9]+)*)(?![\w.-])"
    r"|(?<![\w./~-])(?P<path>/path/to(?:/[\w.-]+)*)"
    r"|(?<![\w.-])(?P<address>HOST:PORT)(?!\w)"
    # MODEL_NAME, NODE_IP; but `-e MODEL_NAME` hands on a variable
    r"|(?<![\w.${-])(?<!-e )(?<!-x )(?<!--env )(?<!export )"
    r"(?P<named>(?:MODEL|NODE|POD|HOST|IMAGE|CLUSTER|JOB|SERVER|DEVICE)_(?:NAME|ID|PATH|IP|DIR))(?![\w.=-])"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[[^\]]*\])?\+?=")
_APPENDED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+=(?:.*:)?")
_PLAIN_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_DATE = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:-]*")
_DATE_CALL = re.compile(
    r"""\$\([ \t]*date[ \t]+(?P<utc>(?:-u|--utc)[ \t]+)?"""
    r"""(?P<open>\+|"\+|'\+|\+"|\+')(?P<form>[A-Za-z0-9%_.,:/@ +-]*?)(?P<close>["']?)[ \t]*\)"""
)
# Numeric and the same in every locale, so that bash's `date` and strftime agree.
_DIRECTIVES = frozenset("YmdHMSFTjyVGuIDRC%")
# The characters that shlex.quote leaves bare, without `=` and `~`, which are special in some places.
_BARE = re.compile(r"[A-Za-z0-9_@%+:,./-]+")
_GLOB = "*?["

_MERGE = "2>&1"
_IN_A_BLOCK = "put the line into a fenced block, which bash runs as a script"
_INSTEAD = {
    ";": _IN_A_BLOCK,
    "&": f"llmval itself keeps a run going in the background; leave it out, or {_IN_A_BLOCK}",
    "(": f"quote it, or {_IN_A_BLOCK}",
    ")": f"quote it, or {_IN_A_BLOCK}",
    "<": f"give the file as an argument, or {_IN_A_BLOCK}",
    "`": f"write $(date +FORMAT) for the time, or {_IN_A_BLOCK}",
    "{": "write the words out, or quote it",
    "}": "write the words out, or quote it",
    "!": "put it in single quotes",
    "#": "quote it, or leave the comment out",
    "\n": "write the command on one line",
}


@dataclass(slots=True)
class Token:
    """A word, or one of the operators `|`, `>`, `>>`, `|&`, `&>`, `&>>`, `2>&1`."""

    value: str
    column: int  # from 1
    operator: bool = False
    quoted: bool = False  # some of it was quoted or escaped
    assigns: bool = False  # starts with an unquoted NAME=
    assigns_otherwise: bool = False  # or with NAME+= or NAME[…]=, which only bash takes for an assignment
    glob: str = ""  # the first unquoted glob character, and
    glob_column: int | None = None  # its column
    variables: set[str] = field(default_factory=set)


def is_date(text: str) -> bool:
    """Whether `text` may stand for `<date>`: one harmless path component."""
    return _DATE.fullmatch(text) is not None


def stand_in_name(match: re.Match[str]) -> str:
    """The name of the value that a match of `STAND_IN` stands for."""
    return next(text for text in match.groups() if text)


def quote(value: str, has_glob: bool = False, *, command: bool = False) -> str:
    """Quote a word for bash: bare if that is safe, else in single quotes; active glob characters stay bare."""
    if has_glob:
        # `]`, `^` and `-` too: they are special inside brackets, and quotes would change that.
        pieces = re.split(r"([*?\[\]^-]+)", value)
        return "".join(piece if index % 2 else quote(piece) if piece else "" for index, piece in enumerate(pieces))
    # So that `X\.Y` is not shown as the name of a value.
    special = (command and value in RESERVED) or STAND_IN.search(value) is not None
    # `=` is special only after a name before the command; options (`--a=b`) stay readable.
    bare = value if command else value.replace("=", "")
    if value and not special and (_BARE.fullmatch(bare) or (not bare and not command)):
        return value
    quoted = "'" + value.replace("'", "'\\''") + "'"
    return STAND_IN.sub(lambda name: name[0] if name[0] == PLACEHOLDER else name[0].replace("<", "<''"), quoted)


class Lexer:
    """One pass over a command's text; `tokens()` returns its words and operators."""

    def __init__(
        self,
        text: str,
        now: datetime,
        environment: Mapping[str, str],
        allowed: frozenset[str],
        values: Mapping[str, str],
    ) -> None:
        self.text = text
        self.now = now
        self.environment = environment
        self.allowed = allowed
        self.values = values
        self.missing: dict[str, int] = {}  # variables without a value, and where they stand
        self.at = 0

    def tokens(self) -> list[Token]:
        """The words and operators; raises `Refused` for everything outside the grammar."""
        found: list[Token] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in " \t":
                self.at += 1
            elif character in "|>" or self.text.startswith("&>", self.at):
                found.append(self._operator(found))
            elif self.text.startswith(_MERGE, self.at) and self.text[self.at - 1 : self.at] in ("", " ", "\t"):
                found.append(Token(_MERGE, self.at + 1, operator=True))
                self.at += len(_MERGE)
            else:
                found.append(self._word(leading=all(token.assigns for token in found)))
        return found

    def _refuse(self, what: str, at: int, instead: str) -> NoReturn:
        raise Refused(f"“{what}” at column {at + 1} is not understood in a command: {instead}.")

    def _operator(self, before: list[Token]) -> Token:
        at = self.at
        for sign in ("||", ">&", ">|", ">("):
            if self.text.startswith(sign, at):
                self._refuse(sign, at, _IN_A_BLOCK)
        last = before[-1] if before else None
        if self.text[at] == ">" and last and at and self.text[at - 1] not in " \t|>" and last.value.isdecimal():
            self._refuse(f"{last.value}>", last.column - 1, "llmval keeps standard error in its own log; leave it out")
        sign = next(sign for sign in ("&>>", "&>", "|&", ">>", ">", "|") if self.text.startswith(sign, at))
        self.at += len(sign)
        return Token(sign, at + 1, operator=True)

    def _word(self, leading: bool) -> Token:
        start = self.at
        token = Token("", start + 1, assigns=_PLAIN_ASSIGNMENT.match(self.text, start) is not None)
        token.assigns_otherwise = not token.assigns and _ASSIGNMENT.match(self.text, start) is not None
        literal: set[str] = set()  # quoted or escaped characters, which must not clash with active globs
        active: set[str] = set()
        while self.at < len(self.text) and (character := self.text[self.at]) not in " \t|>":
            if self.text.startswith(PLACEHOLDER, self.at):
                token.value += PLACEHOLDER
                self.at += len(PLACEHOLDER)
            elif stand_in := self._stand_in(token):
                literal.update(stand_in)
            elif character == "'":
                self._single(token, literal)
            elif character == '"':
                self._double(token, literal)
            elif character == "\\":
                self._escape(token, literal)
            elif character == "$":
                # Before the command, bash does not split the expanded value of an assignment.
                self._dollar(token, literal, whole=token.assigns and leading)
            elif character == "~" and self._tilde_here(token, start):
                self._tilde(token, literal)
            elif character == "~" and _APPENDED.fullmatch(token.value):
                # bash expands it here, even in an argument.
                self._refuse("~", self.at, "write the whole path, or quote the word")
            elif character in _GLOB:
                active.add(character)
                if token.glob_column is None:
                    token.glob, token.glob_column = character, self.at + 1
                self._take(token)
            else:
                self._plain(token, start)
        clash = literal & set("*?[]^-!" if "[" in active else _GLOB if active else "")
        if clash:
            self._refuse(min(clash), start, "a word cannot contain this character both literally and in a pattern")
        return token

    def _take(self, token: Token) -> None:
        token.value += self.text[self.at]
        self.at += 1

    def _stand_in(self, token: Token) -> str:
        """Replace the name of a value at the present position by its value; returns the value, "" if there is none."""
        if self.text[self.at] not in "<{XxYNMyH/":  # the first characters of `STAND_IN`
            return ""
        match = STAND_IN.match(self.text, self.at)
        if match is None or match[0] == PLACEHOLDER:
            return ""
        name = stand_in_name(match)
        value = self.values.get(name)
        if value is None:
            shown = f"'{name}'" if " " in name else name
            self._refuse(match[0], self.at, f"it has no value: give one with --set {shown}=VALUE")
        self._check_value(match[0], self.at, value)
        self.at = match.end()
        token.value += value
        token.quoted = True
        return value

    def _check_value(self, name: str, at: int, value: str) -> None:
        if not value or not all(character.isprintable() for character in value):
            self._refuse(name, at, "its value is empty or has control characters: give another one")

    def _printable(self, character: str, at: int) -> None:
        if not (character.isprintable() or character == " "):
            self._refuse(f"U+{ord(character):04X}", at, "remove the control or invisible character")

    def _plain(self, token: Token, start: int) -> None:
        character = self.text[self.at]
        if character == "&" and self.text.startswith("&&", self.at):
            self._refuse("&&", self.at, _INSTEAD["&"])
        if character == "\n" or (character in _INSTEAD and (character != "#" or self.at == start)):
            self._refuse("line break" if character == "\n" else character, self.at, _INSTEAD[character])
        self._printable(character, self.at)
        self._take(token)

    def _single(self, token: Token, literal: set[str]) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            self._refuse("'", self.at, "close the quote")
        self.at += 1
        token.quoted = True
        while self.at < end:
            if self.text.startswith(PLACEHOLDER, self.at):
                token.value += PLACEHOLDER
                self.at += len(PLACEHOLDER)
            elif self.text[self.at] == "<" and (stand_in := self._stand_in(token)):
                literal.update(stand_in)
            else:
                self._printable(self.text[self.at], self.at)
                literal.add(self.text[self.at])
                self._take(token)
        self.at = end + 1

    def _double(self, token: Token, literal: set[str]) -> None:
        opened = self.at
        token.quoted = True
        self.at += 1
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                self.at += 1
                return
            if character == "$":
                self._dollar(token, literal, whole=True)
                continue
            if character == "<" and not self.text.startswith(PLACEHOLDER, self.at) and self._stand_in(token):
                continue
            if character in "`!":
                self._refuse(character, self.at, _INSTEAD[character])
            if character == "\\" and self.text[self.at + 1 : self.at + 2] in ("$", "`", '"', "\\"):
                self.at += 1
                character = self.text[self.at]
            self._printable(character, self.at)
            literal.add(character)
            self._take(token)
        self._refuse('"', opened, "close the quote")

    def _escape(self, token: Token, literal: set[str]) -> None:
        if self.at + 1 == len(self.text):
            self._refuse("\\", self.at, "write the character after it, or quote it")
        self.at += 1
        self._printable(self.text[self.at], self.at)
        literal.add(self.text[self.at])
        token.quoted = True
        self._take(token)

    def _tilde_here(self, token: Token, start: int) -> bool:
        if self.at == start:
            return True
        # In an assignment bash also expands it after the = and after each unquoted colon.
        before = self.text[self.at - 1]
        first = before == "=" and token.value.count("=") == 1
        return token.assigns and (first or (before == ":" and self.text[self.at - 2] != "\\"))

    def _tilde(self, token: Token, literal: set[str]) -> None:
        if self.text[self.at + 1 : self.at + 2] not in ("", "/", " ", "\t", "|", ">", ":" if token.assigns else "/"):
            self._refuse("~", self.at, "write ~/… for your own home, or the whole path")
        value = self._variable("HOME", self.at, token)
        literal.update(value)
        token.value += value
        token.quoted = True  # its value is always one word
        self.at += 1

    def _dollar(self, token: Token, literal: set[str], *, whole: bool) -> None:
        at = self.at
        if self.text.startswith("$((", at):
            self._refuse("$((", at, "write the number")
        if self.text.startswith("$(", at):
            value = self._date(at)
        else:
            braced = self.text.startswith("${", at)
            name = _NAME.match(self.text, at + 1 + braced)
            if name is None or (braced and self.text[name.end() : name.end() + 1] != "}"):
                self._refuse("${" if braced else "$", at, "write $NAME or ${NAME}, or put a bare $ in single quotes")
            value = self._variable(name[0], at, token)
            self.at = name.end() + braced
            whole = whole or name[0] not in self.allowed  # a given value is always one piece of a word
        if not whole and (not value or set(value) & set(" \t*?[\\")):
            # bash would drop an empty value, and split and expand others.
            self._refuse(self.text[at : self.at], at, f"its value is “{value}”: put it in double quotes")
        literal.update(value)
        token.quoted = True
        token.value += value

    def _variable(self, name: str, at: int, token: Token) -> str:
        if name not in self.allowed:
            given = self.values.get(name)
            if given is None:
                token.variables.add(name)
                self.missing.setdefault(name, at)
                return "x"
            self._check_value(f"${name}", at, given)
            token.variables.add(name)
            return given
        value = self.environment.get(name)
        if value is None:
            self._refuse(f"${name}", at, "it is not set: set it before you start llmval, or write its value")
        if not all(character.isprintable() for character in value):
            self._refuse(f"${name}", at, "its value contains control or invisible characters: write the value")
        token.variables.add(name)
        return value

    def _date(self, at: int) -> str:
        call = _DATE_CALL.match(self.text, at)
        if call is None or call["open"].strip("+") != call["close"] or (" " in call["form"] and not call["close"]):
            self._refuse("$(", at, f"write $(date +%Y%m%d) for the day, or {_IN_A_BLOCK}")
        for sign in re.finditer(r"%(.?)", call["form"]):
            if not sign[1] or sign[1] not in _DIRECTIVES:
                self._refuse(
                    sign[0], call.start("form") + sign.start(), f"use only these formats of date: {self._formats()}"
                )
        self.at = call.end()
        moment = self.now.astimezone(UTC) if call["utc"] else self.now
        return moment.strftime(call["form"])

    @staticmethod
    def _formats() -> str:
        return ", ".join(f"%{letter}" for letter in sorted(_DIRECTIVES))
