"""No kind of secret stays, whatever its place; lines without secrets stay as they are."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from llmval_runners.process import redaction
from llmval_runners.process.redaction import masked_argv, redact, redact_text, secrets_of
from llmval_runners.process.secret_forms import ASSIGNED

from llmval_tui.foundation import redaction as dashboards_own
from tests.helpers.secret_kinds import HARMLESS, KINDS

AROUND: dict[str, Callable[[str], str]] = {
    "alone": str,
    "in a log": lambda line: f"2026-11-29 03:00:00 INFO [main.py:7] {line}\nnext line\n",
    "in JSON": lambda line: json.dumps({"a": 1, "message": line}),
    "on a line of its own in JSON": lambda line: json.dumps({"output": f"first\n{line}\nlast"}),
    "in JSON in JSON": lambda line: json.dumps({"log": json.dumps({"message": line})}),
    "after a word of argv": lambda line: f"argv: ['sh', '-c', \"{line}\"]" if '"' not in line else line,
    "in YAML": lambda line: "run:\n  - " + line.replace("\n", "\n    "),
}
# A file's line that another text stands before is not that file's line any more.
OWN_LINE = ("pgpass", "YAML password of words")


@pytest.mark.parametrize("name", ["redaction.py", "secret_names.py", "secret_forms.py", "secret_places.py"])
def test_both_copies_are_one_file(name: str) -> None:
    ours, theirs = (Path(str(module.__file__)).with_name(name) for module in (redaction, dashboards_own))
    assert ours.read_bytes() == theirs.read_bytes()


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 69


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_of_this_kind_stays(kind: str) -> None:
    line, secret = KINDS[kind]
    assert secret in line
    kept = []
    for around, put in AROUND.items():
        text = put(line)
        seen = json.dumps(secret)[1:-1] if "JSON" in around else secret
        if around != "alone" and kind in OWN_LINE:
            continue
        if seen in redact_text(text):
            kept.append((around, redact_text(text)))
        assert len(redact(text.encode())[0]) == len(text.encode()), "offsets stay valid"
    assert kept == []


@pytest.mark.parametrize("kind", KINDS)
def test_json_stays_json(kind: str) -> None:
    for value in ({"message": KINDS[kind][0]}, {"argv": KINDS[kind][0].split(" ")}):
        json.loads(redact_text(json.dumps(value)))
        json.loads(redact_text(json.dumps(value, indent=1)))


@pytest.mark.parametrize("line", HARMLESS)
def test_a_line_without_a_secret_stays(line: str) -> None:
    assert redact_text(line) == line


def test_redacting_again_changes_nothing() -> None:
    for line, _ in KINDS.values():
        once = redact(line.encode())[0]
        assert redact(once) == (once, 0), line


def test_the_words_that_are_looked_for_first_hide_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern whose words are not in the data is not tried; that must change nothing, whatever the data."""
    rng = random.Random(3)
    lines = [*(line for line, _ in KINDS.values()), *HARMLESS]
    samples = []
    for _ in range(400):
        data = bytearray("\n".join(rng.choices(lines, k=rng.randint(1, 6))).encode())
        for _ in range(rng.randint(0, 8)):
            at = rng.randrange(len(data))
            change = rng.choice([b"", b"pass", b"TOKEN", b"Key=", b'\\"', b"://", b": ", bytes([data[at]]).swapcase()])
            data[at : at + rng.randint(0, 2)] = change
        samples.append(bytes(data))
    fast = [redact(data) for data in samples]
    monkeypatch.setattr(redaction, "_has_one_of", lambda words, lower: True)
    monkeypatch.setattr(redaction, "_assigned_in", lambda lower: ASSIGNED.search)
    assert fast == [redact(data) for data in samples]
    assert sum(count for _, count in fast) > 400


def test_values_of_secret_variables_are_found_without_their_names() -> None:
    found, short = secrets_of(
        {"HF_TOKEN": "open sesame", "MY_TOKEN": "abc", "URL": "http://u:hunter22@h", "MAX_TOKENS": "9999999"}
    )
    assert (
        redact_text("said open sesame, and open%20sesame; hunter22", found)
        == "said ***********, and *************; ********"
    )
    assert short == ["MY_TOKEN"]


@pytest.mark.parametrize(("words", "left"), [
    (["vllm", "serve", "m", "--api-key", "sesame"], ["vllm", "serve", "m", "--api-key", "******"]),
    (["x", "--token=abc"], ["x", "--token=******"]),
    (["env", "HF_TOKEN=abc", "x"], ["env", "HF_TOKEN=******", "x"]),
    (["x", "--max-tokens", "512", "--tokenizer", "t"], ["x", "--max-tokens", "512", "--tokenizer", "t"]),
    (["x", "--token", "$HF_TOKEN"], ["x", "--token", "$HF_TOKEN"]),
    (["x", "--password", "--port", "1"], ["x", "--password", "--port", "1"]),
    (["curl", "-u", "me:pw", "http://me:pw@h/"], ["curl", "-u", "me:******", "http://******@h/"]),
    (["curl", "-H", "Authorization: Bearer abcdefghijk"], ["curl", "-H", "Authorization: Bearer ******"]),
    (["x", "hf_" + "a" * 30], ["x", "******"]),
    (["redis-cli", "-a", "pw"], ["redis-cli", "-a", "******"]),
    (["mysql", "-u", "me", "-phunter22"], ["mysql", "-u", "me", "-p******"]),
    (["mpiexec", "-genv", "HF_TOKEN", "abc1", "x"], ["mpiexec", "-genv", "HF_TOKEN", "******", "x"]),
    (["influx", "-password", "pw", "x"], ["influx", "-password", "******", "x"]),
    (["x", "--api-key", "abc", "Zq7vR2mK9xTb4LwN"], ["x", "--api-key", "******", "******"]),
    (["Namespace(m=1,", "api_key=[abc],"], ["Namespace(m=1,", "api_key=******"]),
    (["os.putenv(HF_TOKEN,", "hunter22)"], ["os.putenv(HF_TOKEN,", "******"]),
    (["x", "-key", "k.pem", "-tokens", "12"], ["x", "-key", "k.pem", "-tokens", "12"]),
    (["ipmitool", "-P", "a b", "power"], ["ipmitool", "-P", "******", "power"]),
])  # fmt: skip
def test_the_words_of_a_command_keep_no_secret(words: list[str], left: list[str]) -> None:
    assert masked_argv(words) == left


def test_at_most_one_line_in_a_hundred_of_real_logs_is_changed() -> None:
    """The logs of the recorded sessions that the repository holds."""
    root = Path(__file__).parents[3] / "docs" / "results"
    lines = [line for path in root.rglob("*") if path.suffix in (".log", ".txt", ".md", ".jsonl")
             for line in path.read_bytes().splitlines()]  # fmt: skip
    changed = [line for line in lines if redact(line)[1]]
    assert len(lines) > 1000 and len(changed) <= len(lines) / 100, changed[:5]


def test_a_user_with_a_password_and_one_with_a_group() -> None:
    assert redact_text("x -u bob:hunter22 list") == "x -u bob:******** list"
    for line in ("docker run -u bob:video x", "tool -u 1000:1000 x", "torchrun -u a.py:1", "--pass:#aa33ff;"):
        assert redact_text(line) == line


@pytest.mark.parametrize(("line", "secret"), [
    ("curl -sku root:hunter22 https://bmc/redfish/v1", "hunter22"),
    ("modelscope login ms-0a1b2c3d-1234-4321-abcd-0123456789ab", "0a1b2c3d-1234-4321-abcd-0123456789ab"),
    ("secret_my1key_0123456789abcdef0123456789abcdef.Zq7vR2mK9xTb4LwNXk8pZq7v", "Zq7vR2mK9xTb4LwNXk8pZq7v"),
    ("bindpw hunter22", "hunter22"),
    ("ldap_default_authtok = hunter22", "hunter22"),
])  # fmt: skip
def test_a_secret_among_short_flags_and_in_files_of_ldap(line: str, secret: str) -> None:
    assert secret not in redact_text(line)


def test_an_object_in_a_secret_object_is_looked_through_once() -> None:
    """What is masked stays the same: the outer object has all values of the inner one."""
    assert redact_text('{"passwords": {"passwords": {"me": "a1b2c3d4e5"}}}').count("*") == 10


@pytest.mark.parametrize("words", [
    "curl ", "wget ", "http ", "ipmitool ", "mongosh ", "zip ", "7z ", "rar ", "docker login ", "login ", "<input ",
    "mysql ", "hey ", "nmcli ", "digest ", "jenkins ",
])  # fmt: skip
def test_a_program_many_times_in_a_line_is_looked_at_once_each(words: str) -> None:
    """If each looked through the rest of the line, this would take minutes."""
    line = words * (200_000 // len(words))
    assert redact_text(line) == line
