"""Redaction and packing: the bundle contains no secret, and no model code without consent."""

import base64
import json
import tarfile
import urllib.parse
from pathlib import Path

import pytest
from llmval_runners.compile_study.bundle import bundle, redact
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.process.files import read_json, write_json
from llmval_runners.process.redaction import redact as redact_bytes
from llmval_runners.process.secret_names import secret_name

SECRET = 'hfx"very secret/+value'


def study(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "study")
    layout.make()
    write_json(layout.run, {"v": 1, "note": f"before {SECRET} after"})
    forms = (
        SECRET,
        urllib.parse.quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        repr(SECRET)[1:-1],
    )
    (layout.logs / "main.rank0.stdout.log").write_text("\n".join(forms))
    (layout.logs / "main.rank1.stderr.log").write_text("key AKIAIOSFODNN7EXAMPLE and hf_abcdefghijklmnopqrstuvwx\n")
    layout.trace(0).mkdir(parents=True)
    (layout.trace(0) / "trace.log").write_text(f"model code {SECRET}")
    return layout


def contents(layout: Layout) -> dict[str, bytes]:
    with tarfile.open(layout.archive) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_a_secret_is_in_no_byte_of_the_folder_or_the_archive(tmp_path: Path) -> None:
    layout = study(tmp_path)
    manifest = bundle.pack(layout, include_model_code=True, environment={"HF_TOKEN": SECRET, "PATH": "/bin"})
    everything = b"".join(contents(layout).values()) + b"".join(
        path.read_bytes() for path in layout.root.rglob("*") if path.is_file()
    )
    for form in (
        SECRET,
        json.dumps(SECRET)[1:-1],
        urllib.parse.quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
    ):
        assert form.encode() not in everything
    assert b"AKIAIOSFODNN7EXAMPLE" not in everything and b"hf_abcdefghij" not in everything
    assert set(manifest["redacted"]) == {
        "run.json",
        "logs/main.rank0.stdout.log",
        "logs/main.rank1.stderr.log",
        "private/trace/rank0/trace.log",
    }
    assert read_json(layout.run) is not None, "a redacted JSON file is still JSON"


def test_compile_traces_go_in_only_with_consent(tmp_path: Path) -> None:
    layout = study(tmp_path)
    manifest = bundle.pack(layout, include_model_code=False, environment={})
    assert not any("private" in name for name in contents(layout)) and manifest["left_out"]
    assert (layout.trace(0) / "trace.log").is_file(), "it stays where it is"
    bundle.pack(layout, include_model_code=True, environment={})
    assert "study/private/trace/rank0/trace.log" in contents(layout)


def test_logs_added_later_are_packed_and_what_was_redacted_is_remembered(tmp_path: Path) -> None:
    layout = study(tmp_path)
    bundle.pack(layout, include_model_code=False, environment={"HF_TOKEN": SECRET})
    (layout.logs / "added.log").write_text("new")
    manifest = bundle.pack(layout, include_model_code=False, environment={"HF_TOKEN": SECRET})
    assert "study/logs/added.log" in contents(layout) and "run.json" in manifest["redacted"]
    assert {entry["path"] for entry in manifest["files"]} == {
        name.removeprefix("study/") for name in contents(layout)
    } - {"manifest.json"}


def test_a_secret_in_a_name_is_not_packed(tmp_path: Path) -> None:
    layout = study(tmp_path)
    (layout.logs / "rank.swordfish1.log").write_text("x")
    with pytest.raises(ValueError, match="rename it"):
        bundle.pack(layout, include_model_code=False, environment={"DB_PASSWORD": "swordfish1"})
    assert not layout.archive.exists()


def test_the_environment_goes_in_by_allow_list() -> None:
    environment = {
        "NCCL_DEBUG": "INFO",
        "TORCH_LOGS": "dynamo",
        "HF_TOKEN": "x",
        "NCCL_API_KEY": "x",
        "HOME": "/root",
        "TORCH_AUTH_TOKEN": "x",
    }
    assert redact.allowed(environment) == {"NCCL_DEBUG": "INFO", "TORCH_LOGS": "dynamo"}


def test_a_secret_too_short_to_search_for_is_reported(tmp_path: Path) -> None:
    assert bundle.pack(study(tmp_path), include_model_code=False, environment={"MY_TOKEN": "abc"})[
        "secrets_too_short_to_search"
    ] == ["MY_TOKEN"]


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "hf_token", "API_TOKENS", "ADMIN_TOKENS", "DB_PASS", "SMTP_PASS", "PGPASS", "pass",
        "PGPASSWORD", "SESSION_COOKIE", "COOKIES", "MY_PAT", "AUTH_HEADER", "AWS_ACCESS_KEY_ID",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "VLLM_MAX_NUM_BATCHED_TOKENS", "MAX_TOTAL_TOKENS", "max_tokens", "MAX_TOKENS_PER_STEP", "TOKENS_LIMIT",
        "COMPASS", "NO_BYPASS", "TOKENIZERS_PARALLELISM", "PASS_MANAGER", "GIT_AUTHOR_NAME", "PATH",
    ],
)  # fmt: skip
def test_names_that_only_look_like_secrets(name: str) -> None:
    assert not secret_name(name)


def test_a_number_is_never_overwritten(tmp_path: Path) -> None:
    layout = study(tmp_path)
    write_json(layout.result, {"sequence_length": 131072})
    numbers = {"VLLM_MAX_NUM_BATCHED_TOKENS": "131072", "MAX_TOTAL_TOKENS": "131072", "MY_KEY": "131072"}
    manifest = bundle.pack(layout, include_model_code=False, environment=numbers)
    assert read_json(layout.result) == {"sequence_length": 131072}
    assert manifest["secrets_too_short_to_search"] == ["MY_KEY"]


def test_if_redaction_would_break_json_nothing_is_changed_or_packed(tmp_path: Path) -> None:
    layout = study(tmp_path)
    write_json(layout.result, {"gain": -0.03125, "note": SECRET})
    before = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"result\.json would no longer be JSON"):
        bundle.pack(layout, include_model_code=True, environment={"HF_TOKEN": SECRET, "MY_KEY": "-0.03125"})
    assert {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()} == before


def test_a_file_that_was_no_valid_json_is_redacted_all_the_same(tmp_path: Path) -> None:
    layout = study(tmp_path)
    (layout.logs / "torn.json").write_text(f'{{"note": "{SECRET}')
    assert (
        "logs/torn.json" in bundle.pack(layout, include_model_code=False, environment={"HF_TOKEN": SECRET})["redacted"]
    )


@pytest.mark.parametrize(
    ("name", "value", "password"),
    [
        ("HTTPS_PROXY", "http://bob:hunter22@proxy.example:3128", "hunter22"),
        ("DATABASE_URL", "postgresql+psycopg://u:p%2Fss%40word@db/x", "p/ss@word"),
        ("REDIS_URL", "redis://:swordfish@cache:6379/0", "swordfish"),
    ],
)
def test_a_password_in_a_url_is_redacted_wherever_it_appears(
    tmp_path: Path, name: str, value: str, password: str
) -> None:
    layout = study(tmp_path)
    (layout.logs / "main.rank0.stdout.log").write_text(f"via {value}\nlogin with {password} failed\n")
    bundle.pack(layout, include_model_code=False, environment={name: value})
    text = (layout.logs / "main.rank0.stdout.log").read_text()
    assert password not in text and urllib.parse.quote(password, safe="") not in text
    assert value.rpartition("@")[2] in text, "the host is not a secret"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("git clone https://me:s3cr3t-x@host/r", "git clone https://***********@host/r"),
        ("ghp_" + "a1B2" * 9, "*" * 40),
        ("gho_" + "a1B2" * 9, "*" * 40),
        ("key AKIAIOSFODNN7EXAMPLE.", "key " + "*" * 20 + "."),
        ("sk-" + "a" * 20, "*" * 23),
    ],
)
def test_strings_that_look_like_tokens_are_redacted_without_a_variable(text: str, left: str) -> None:
    assert redact_bytes(text.encode(), set()) == (left.encode(), 1)


def test_a_private_key_is_redacted_with_all_its_lines() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
    left = "\n".join("*" * len(line) for line in key.split("\n"))
    assert redact_bytes(f"a\n{key}\nb".encode(), set()) == (f"a\n{left}\nb".encode(), 1)


@pytest.mark.parametrize(
    "text",
    [
        "tcp://127.0.0.1:29500",
        '{"url":"http://host:8080","mail":"a@b"}',
        "see http://host:8080 and a@b",
        "https://host/path:1@2",
        "https://user@host/x",
        "tcp://127.0.0.1:29500\x94\x8c@",
    ],
)
def test_a_url_without_a_password_stays(text: str) -> None:
    data = text.encode("latin-1")
    assert redact_bytes(data, set()) == (data, 0)
