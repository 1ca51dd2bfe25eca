"""Command lines: refused, or read exactly as bash reads them."""

import fcntl
import os
import random
import select
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from fuzzing.target import Target, Wrong, scratch
from llmval_tui.checklist.command import ParsedCommand, parse_command
from llmval_tui.foundation.errors import Refused

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)  # noqa: UP017
VARIABLES = {"HOME": "/h o/me", "USER": "me", "SCRATCH": "/s*", "TMPDIR": "~/t", "HOSTNAME": "$USER", "PWD": "/p"}
ASSIGNED = ("A", "B", "_x")
PIECES = (
    *"ab01 =:'\"\\$~/#-*?[]{},!^;&|<>()`%@+.\t\n\r",
    "  ", "A=", "B=", "_x=", "A+=", "A[0]=", "$USER", "${USER}", "$HOME", "$SCRATCH", "$HOSTNAME", "${TMPDIR}", "$A",
    "${A}", "$$", "$?", "$1", "$@", "~/", "~me", ":~", "=~", "$(date +%Y)", "$(date +%Y-%m-%d)", "$( date -u +'%H%M' )",
    '"$(date +%s)"', "$(date +%d%%)", "`date`", "$(x)", '"$HOME"', "'x y'", '"x y"', "\\ ", "\\\n", "\\'", "$'a'",
    '$"a"', "ü", "\u00a0", "\u2028", "é́", "💥", "\x7f", "\x1b", "if", "then", "time", "!", "[[", "]]", "[", "]", "test",
    "tee", "| tee o", "| tee -a o", "> o", ">> o", "2>&1", "&> o", "|& tee o", ">o 2>&1", "2> e", "< i", "<<<", "<(",
    ">(", "&&", "||", ";;", "-a", "--", "{a,b}", "{1..3}", "${A:-b}", "${#A}", "$((1+1))", "<date>", "<node>", "X.Y",
    "args", "'args'", "\\args", "ar''gs", "echo", "cd", "export", "eval", "exec", ".", ":", "args=", "a/b", "+=", "#x",
)  # fmt: skip
_BASH = r"""
shopt -s extglob 2>/dev/null; shopt -u extglob
said() { builtin printf '%s\0' "$@" >&3; }
args() { said W args "$@" V "${A-}" "${B-}" "${_x-}"; }
command_not_found_handle() { said W "$@" V "${A-}" "${B-}" "${_x-}"; return 0; }
for name in test echo true false pwd kill; do
  eval "$name() { said W $name \"\$@\" V \"\${A-}\" \"\${B-}\" \"\${_x-}\"; }"
done
[() { said W [ "$@" V "${A-}" "${B-}" "${_x-}"; }
tee() { if [[ -p /dev/stdin ]]; then said T "$@"; else said W tee "$@" V "${A-}" "${B-}" "${_x-}"; fi; }
date() {
  local TZ=UTC format=$1; [[ $1 == -u || $1 == --utc ]] && format=$2
  builtin printf "%(${format#+})T" "$NOW_EPOCH"
}
unset A B _x
while IFS= read -r -d '' text <&4; do
  eval -- "$text" </dev/null 2>/dev/null
  unset A B _x
  builtin printf '\1\0' >&3
done
"""


class Bash:
    """A bash without programs, which says as what words it would start a command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._into, self._out = -1, -1

    @property
    def folder(self) -> Path:
        return scratch("commands")

    def _start(self) -> None:
        read_end, self._into = os.pipe()
        self._out, write_end = os.pipe()
        # Above 9, because bash gives them the numbers 3 and 4, which may be theirs already.
        theirs_in, theirs_out = (fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (read_end, write_end))
        epoch = str(int(NOW.timestamp()))
        environment = {**VARIABLES, "PATH": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC", "NOW_EPOCH": epoch}
        bash = shutil.which("bash")
        assert bash is not None
        command = f'exec {bash} --noprofile --norc -c "$1" 3>&{theirs_out} 4<&{theirs_in}'
        self._process = subprocess.Popen(
            [bash, "-c", command, "-", _BASH],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
        )
        for one in (read_end, write_end, theirs_in, theirs_out):
            os.close(one)

    def close(self) -> None:
        if self._process is not None:
            os.close(self._into)
            os.close(self._out)
            self._process.kill()
            self._process.wait()
            self._process = None

    def reading(self, text: str) -> list[str] | None:
        """Everything that bash's functions said about this command line; None if it ended bash or takes too long."""
        if self._process is None:
            self._start()
        os.write(self._into, text.encode() + b"\0")
        said = b""
        while not said.endswith(b"\1\0"):
            ready = select.select([self._out], [], [], 20)[0]
            part = os.read(self._out, 65536) if ready else b""
            if not part:
                self.close()
                return None
            said += part
        return said.decode("utf-8", "surrogateescape").split("\0")[:-2]


_bash = Bash()


def close() -> None:
    """End the bash of this process."""
    _bash.close()


def read(text: str, values: dict[str, str] | None = None) -> ParsedCommand:
    return parse_command(text, now=NOW, environment=VARIABLES, values=values)


def _text(chance: random.Random) -> str:
    words = chance.choice(("", "", "", "A=", "A=b ", "B='x y' ", "_x=~ "))
    words += chance.choice(("args ", "args ", "args ", "args ", "", "prog "))
    return words + "".join(chance.choices(PIECES, k=chance.randrange(1, 9)))


def case(chance: random.Random) -> str:
    """One random command line."""
    text = _text(chance)
    if chance.random() < 0.05:
        return _placeholder(text, chance)
    try:
        command = read(text)
    except Refused as refusal:
        if "\n" in str(refusal):
            raise Wrong(f"{text!r} is refused in several lines: {refusal}") from refusal
        return "refused"
    shown = command.shell_text()
    has_pattern = command.has_date or any(word.has_glob for word in command.words)
    if not has_pattern and read(shown) != command:
        raise Wrong(f"{text!r} is shown as {shown!r}, which reads otherwise")
    if has_pattern or "/" in command.words[0].value:
        return "accepted, with a pattern or a path"  # bash would look for files
    for one in (text, shown):
        _compare(one, command)
    return "accepted, and the same for bash"


def _compare(text: str, command: ParsedCommand) -> None:
    values = [command.environment.get(name, "") for name in ASSIGNED]
    expected = ["W", *command.argv, "V", *values]
    tee: list[str] = []
    target = command.output.path.value if command.output is not None else "o"
    path = _bash.folder / target
    if not Path(os.path.abspath(path)).is_relative_to(_bash.folder):  # noqa: PTH100  (bash follows no link there)
        return  # bash may write into its own folder only
    if target.endswith(("/", "/.", "/..")) or not path.parent.is_dir() or path.is_dir():
        return  # bash cannot open it, and starts nothing
    if command.output is not None and command.output.kind == "tee":
        tee = ["T", *(["-a"] if command.output.append else []), command.output.path.value]
    said = _bash.reading(text)
    # The two sides of a pipe speak in any order; `--append` is the same as `-a`.
    said = ["-a" if word == "--append" and tee else word for word in said] if said is not None else None
    if said not in (expected + tee, tee + expected):
        raise Wrong(f"{text!r} is {expected + tee} here and {said} for bash")
    if command.output is not None and command.output.kind == "redirect":
        if not path.is_file():
            raise Wrong(f"{text!r}: bash does not write {target!r}")
        path.unlink()


def _placeholder(text: str, chance: random.Random) -> str:
    """A value of a placeholder is never syntax: it stays one piece of a word."""
    hostile = "".join(chance.choices([piece for piece in PIECES if "<" not in piece], k=chance.randrange(1, 5)))
    text += " <node>x"
    try:
        plain = read(text, {"node": "QQQ"})
        filled = read(text, {"node": hostile})
    except Refused:
        return "refused"
    if plain.has_date:
        return "accepted, with a pattern or a path"
    if [word.replace("QQQ", hostile) for word in plain.argv] != filled.argv:
        raise Wrong(f"{text!r} with node={hostile!r} is {filled.argv}")
    return "placeholder filled"


TARGET = Target(
    "commands",
    "random command lines: refused, or the argv, assignments and output that bash makes of them",
    case,
    1_000_000,
    packages=("llmval_tui.checklist",),
)
