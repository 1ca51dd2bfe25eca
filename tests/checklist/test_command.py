import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmval_tui.checklist.command import Output, ParsedCommand, Word, parse_command
from llmval_tui.checklist.lexer import BUILTINS
from llmval_tui.foundation.errors import Refused

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENVIRONMENT = {"HOME": "/home/op er", "USER": "op", "SLURM_JOB_ID": "a b", "SCRATCH": "", "TMPDIR": "*"}


def read(text: str) -> ParsedCommand:
    return parse_command(text, now=NOW, environment=ENVIRONMENT)


def values(text: str) -> list[str]:
    return [word.value for word in read(text).words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc ", ["a", "b", "c"]),
        ("""a 'b  "c' "d 'e" f\\ g h'i'"j"k '' "" """, ["a", 'b  "c', "d 'e", "f g", "hijk", "", ""]),
        (r'''a "\$x \" \\ \n" '\n' \n''', ["a", '$x " \\ \\n', "\\n", "n"]),
        ("a o_$(date +%Y%m%d).json", ["a", "o_20260102.json"]),
        ('''a $( date -u "+%H:%M" ) "$(date +'%F %T')" $(date +%%)''', ["a", "03:04", "2026-01-02 03:04:05", "%"]),
        ("a ~ ~/x x~ '~' \\~ --d=~ A=~/x A=b:~", ["a", "/home/op er", "/home/op er/x", "x~", "~", "~", "--d=~",
                                                   "A=/home/op er/x", "A=b:/home/op er"]),
        ('''a $USER ${USER}s "$HOME/x" '$USER' \\$USER''', ["a", "op", "ops", "/home/op er/x", "$USER", "$USER"]),
        ("a b#c x=y --k=v % ^ ]", ["a", "b#c", "x=y", "--k=v", "%", "^", "]"]),
        ("a '*' \\? \"[\"", ["a", "*", "?", "["]),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert values(text) == words
    assert read(text).argv == words


def test_assignments_come_first_only() -> None:
    command = read("""NCCL_DEBUG=INFO X="a b" Y= Z=$SLURM_JOB_ID P=~/a:~/b run A=1""")
    assert command.environment == {
        "NCCL_DEBUG": "INFO", "X": "a b", "Y": "", "Z": "a b", "P": "/home/op er/a:/home/op er/b",
    }  # fmt: skip
    assert command.argv == ["run", "A=1"]
    assert values("'A=1' b") == ["A=1", "b"]


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("a > out/x.log", Output(Word("out/x.log"))),
        ("a b2>>'o p'", Output(Word("o p"), append=True)),
        ("a | tee x.log", Output(Word("x.log"), kind="tee")),
        ("a|tee -a x.log", Output(Word("x.log"), append=True, kind="tee")),
        ("a <date> >x_<date>", Output(Word("x_<date>", has_date=True))),
    ],
)
def test_output_is_data(text: str, output: Output) -> None:
    assert read(text).output == output
    assert read(read(text).shell_text()) == read(text)


@pytest.mark.parametrize(
    ("text", "output", "shown"),
    [
        ("a 2>&1", None, "a 2>&1"),
        ("a > x 2>&1", Output(Word("x")), "a > x 2>&1"),
        ("a >> x 2>&1", Output(Word("x"), append=True), "a >> x 2>&1"),
        ("a &> x", Output(Word("x")), "a > x 2>&1"),
        ("a &>> x", Output(Word("x"), append=True), "a >> x 2>&1"),
        ("a 2>&1 | tee x", Output(Word("x"), kind="tee"), "a 2>&1 | tee x"),
        ("a 2>&1 | tee -a x", Output(Word("x"), append=True, kind="tee"), "a 2>&1 | tee -a x"),
        ("a |& tee x", Output(Word("x"), kind="tee"), "a 2>&1 | tee x"),
    ],
)
def test_both_streams_go_to_one_place(text: str, output: Output | None, shown: str) -> None:
    command = read(text)
    assert (command.argv, command.output, command.merge_stderr) == (["a"], output, True)
    assert command.shell_text() == shown
    assert read(shown) == command


def test_values_fill_their_places_as_one_piece_of_a_word() -> None:
    values = {"pod": "a b", "X.Y.Z": "1.2", "NODE": "*", "node": "$HOME"}
    text = "a <pod> '<pod>' \"x <pod>\" vX.Y.Z dist/p-X.Y.Z.tar $NODE ${NODE}s {node} {{ node }} <date> '{node}'"
    command = parse_command(text, now=NOW, environment={}, values=values)
    assert [word.value for word in command.words] == [
        "a", "a b", "a b", "x a b", "v1.2", "dist/p-1.2.tar", "*", "*s", "$HOME", "$HOME", "<date>", "{node}",
    ]  # fmt: skip
    assert not any(word.has_glob for word in command.words)
    assert read(command.shell_text()) == command
    for value in ("", "a\nb"):
        with pytest.raises(Refused, match="empty or has control"):
            parse_command("a <pod>", now=NOW, environment={}, values={"pod": value})


def test_date_stays_a_placeholder_until_filled() -> None:
    command = read("D=<date> python x.py results/<date>/*.json --output s_'<date>'.json")
    assert command.words[2:] == (
        Word("results/<date>/*.json", True, True), Word("--output"), Word("s_<date>.json", has_date=True),
    )  # fmt: skip
    assert read(command.shell_text()) == command
    assert command.has_date
    with pytest.raises(Refused, match="still contains a pattern"):
        _ = command.argv
    filled = command.fill("20260102")
    assert filled.shell_text() == "D=20260102 python x.py results/20260102/*.json --output s_20260102.json"
    assert filled.words[2].has_glob and not filled.has_date
    for date in ("", "..", "a/b", "-x", "a b", "*", "<date>", "a\n"):
        with pytest.raises(Refused, match="cannot stand for"):
            command.fill(date)


REFUSED = [
    ("a; rm -rf /", "“;” at column 2"),
    ("a && b", "“&&” at column 3"),
    ("a & b", "“&” at column 3"),
    ("a || b", "“||” at column 3"),
    ("a | grep x", "“|” at column 3"),
    ("a | tee x | tee y", "last word"),
    ("a | tee", "one path"),
    ("a | tee -i x", "“-i” at column 9"),
    ("a | tee x y", "“y” at column 11"),
    ("a > x b", "“b” at column 7"),
    ("> x a", "last word"),
    ("a >", "one path"),
    ("a > ''", "one path"),
    ("a > *.log", "name one file"),
    ("a > <date>*", "name one file"),
    ("a 2> x", "“2>” at column 3"),
    ("a >& x", "“>&”"),
    ("a >| x", "“>|”"),
    ("a < x", "“<” at column 3"),
    ("a << E", "“<”"),
    ("a <(b)", "“<”"),
    ("a >(b)", "“>(”"),
    ("a <path>", "“<path>” at column 3 is not understood in a command: it has no value: give one with --set path="),
    ("a <pod name>", "--set 'pod name'=VALUE"),
    ("a '<path>'", "--set path=VALUE"),
    ("a {node} v1", "--set node=VALUE"),
    ("a vX.Y.Z", "--set X.Y.Z=VALUE"),
    ("a $LD_PRELOAD", "“$LD_PRELOAD” at column 3"),
    ("NODES=2 a $NODES", "this command also assigns it"),
    ("a |& b", "fenced block"),
    ("a 2>&1 > x", "write it after the file"),
    ("a 2>&1 x", "2>&1 must be the last word"),
    ("a > x 2>&1 y", "last word"),
    ("a 2>/dev/null", "“2>” at column 3"),
    ("a `b`", "“`” at column 3"),
    ('a "`b`"', "“`” at column 4"),
    ("a $(curl x)", "“$(” at column 3"),
    ('a "$(curl x)"', "“$(” at column 4"),
    ("a $(date)", "“$(”"),
    ("a $(date +%Y; x)", "“$(”"),
    ("a $(date +$USER)", "“$(”"),
    ("a $(date +%Y %m)", "“$(”"),
    ('a $(date "+%Y %m")', "double quotes"),
    ("a $(date +%Q)", "“%Q” at column 11"),
    ("a $(date +%)", "“%” at column 11"),
    ("a $((1+1))", "“$((” at column 3"),
    ("a $HOSTNAME", "it is not set"),
    ("a ${USER:-x}", "“${” at column 3"),
    ("a $1", "“$” at column 3"),
    ("a $", "“$” at column 3"),
    ("a $'x'", "“$” at column 3"),
    ("a $SLURM_JOB_ID", "double quotes"),
    ("a X=$SLURM_JOB_ID", "double quotes"),
    ("a $SCRATCH", "double quotes"),
    ("a $TMPDIR", "double quotes"),
    ("USER=x a $USER", "this command also assigns it"),
    ("a {b,c}", "“{” at column 3"),
    ("a (b)", "“(” at column 3"),
    ("a !b", "“!” at column 3"),
    ('a "b!"', "“!” at column 5"),
    ("a #b", "“#” at column 3"),
    ("a *.py", "“*” at column 3"),
    ("a b?", "“?” at column 4"),
    ("a [b]", "“[” at column 3"),
    ("a <date>'*'*", "both literally and in a pattern"),
    ("A=* b", "not a file pattern"),
    ("a 'b", "“'” at column 3"),
    ('a "b', "“\"” at column 3"),
    ("a b\\", "“\\” at column 4"),
    ("a ~root", "“~” at column 3"),
    ("a\nb", "“line break” at column 2"),
    ("a 'b\nc'", "U+000A"),
    ("a \x1b[31m", "U+001B"),
    ("a \u200bb", "U+200B"),
    ("", "no command"),
    ("A=1", "no command"),
    ("'' a", "an empty word"),
    ("A+=1 b", "“A+=1”"),
    ("for x", "shell syntax"),
    ("cd x", "builtin"),
    ("'cd' x", "builtin"),
    ("X=1 export Y", "builtin"),
    (": x", "builtin"),
    ("A+='b' c", "NAME=value"),
    ("A+=$USER c", "NAME=value"),
    ("%1 c", "job of a shell"),
    ("'%a'", "job of a shell"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text for text, _ in REFUSED])
def test_everything_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(Refused) as refusal:
        read(text)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def bash_words(texts: list[str], tmp_path: Path) -> list[list[str]]:
    """What bash makes of each text as arguments."""
    script = "".join(f"printf '%s\\0' {text}\nprintf '\\1'\n" for text in texts)
    # `failglob` off and `set -f` on: the empty folder has nothing to expand to anyhow.
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-f", "-c", script],
        env={**ENVIRONMENT, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    return [part.split("\0")[:-1] for part in done.stdout.decode().split("\1")[:-1]]


printable = st.text(
    st.one_of(
        st.sampled_from(" '\"\\$`!*?[]{}()<>|&;#~=^-+%:,.@/aZ0_ü"), st.characters(categories=["L", "N", "P", "S"])
    ),
    max_size=12,
)


@given(
    st.lists(printable, min_size=1, max_size=5), st.dictionaries(st.from_regex(r"[A-Z_]+", fullmatch=True), printable)
)
def test_display_reads_back(words: list[str], assignments: dict[str, str]) -> None:
    words[0] = "x" if words[0].startswith("%") or not words[0] or words[0] in BUILTINS else words[0]
    command = ParsedCommand(
        tuple(Word(word, "<date>" in word) for word in words),
        tuple((name, Word(value, "<date>" in value)) for name, value in assignments.items()),
        Output(Word("o " + words[-1], "<date>" in "o " + words[-1]), kind="tee"),
    )
    assert read(command.shell_text()) == command


@pytest.mark.parametrize("word", ["if", "A=1", "a b", "[["])
def test_a_program_with_a_name_that_bash_would_read_otherwise_is_quoted(word: str) -> None:
    command = ParsedCommand((Word(word), Word("if"), Word("A=1")))
    assert command.shell_text() == f"'{word}' if A=1"
    assert read(command.shell_text()) == command


def test_display_means_the_same_to_bash(tmp_path: Path) -> None:
    found: list[list[str]] = []

    @settings(database=None, max_examples=200)
    @given(st.lists(printable, min_size=2, max_size=5))
    def collect(words: list[str]) -> None:
        found.append(words)

    collect()
    shown = [ParsedCommand((Word("x"), *(Word(word) for word in words))).shell_text() for words in found]
    assert bash_words(shown, tmp_path) == [["x", *words] for words in found]


def test_whatever_is_accepted_means_the_same_to_bash(tmp_path: Path) -> None:
    """Random shell text: refused, or read exactly as bash reads it."""
    accepted: dict[str, list[str]] = {}
    pieces = st.sampled_from(
        ["a", "b=", "A=", "=", ":", " ", "  ", "'", '"', "\\", "$", "$USER", "${USER}", "$HOME", "~", "~/", "/", "#",
         "-", "*", "?", "[", "]", "{", "}", ",", "!", "^", ";", "&", "|", "<", ">", "(", ")", "`", "%", "@", "+", "1",
         "\t",         "$(date +%%)", '"$HOME"', "$SCRATCH", "ü", "if", "'x y'"]
    )  # fmt: skip

    @settings(database=None, max_examples=1500)
    @given(st.lists(pieces, max_size=7).map("".join))
    def collect(text: str) -> None:
        try:
            command = read("x " + text)
        except Refused:
            return
        if command.output is None and not any(word.has_glob for word in command.words):
            accepted["x " + text] = command.argv

    collect()
    assert len(accepted) > 100
    assert dict(zip(accepted, bash_words(list(accepted), tmp_path), strict=True)) == accepted


@pytest.mark.parametrize("text", ["x X\\.Y", "x X''.Y''.Z", r"x \<node\>", "x '<''node>'", "x Y'YYY-MM-DD'"])
def test_a_word_that_only_looks_like_a_placeholder_reads_back(text: str) -> None:
    command = read(text)
    assert read(command.shell_text()) == command


@pytest.mark.parametrize("word", ["X+=~/a", "X+=b:~/a"])
def test_a_tilde_that_bash_expands_after_an_appending_assignment_is_refused(word: str) -> None:
    with pytest.raises(Refused, match="write the whole path"):
        parse_command(f"python x.py {word}", now=datetime(2026, 1, 2), environment={"HOME": "/h"})


def test_the_name_of_a_variable_is_not_a_placeholder():
    assert parse_command("NN=1 make test", now=NOW, environment=ENVIRONMENT).environment == {"NN": "1"}
