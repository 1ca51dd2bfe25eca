"""What leaves with the bundle, and what must not."""

import base64
import json
import tarfile
import urllib.parse
from pathlib import Path

import pytest
from llmval_runners.compile_study import bundle, redact
from llmval_runners.compile_study.layout import Layout, read_json, write_json

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
    told = bundle.pack(layout, include_model_code=False, environment={})
    assert not any("private" in name for name in contents(layout)) and told["left_out"]
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


def test_a_secret_too_short_to_search_for_is_said(tmp_path: Path) -> None:
    assert bundle.pack(study(tmp_path), include_model_code=False, environment={"MY_TOKEN": "abc"})[
        "secrets_too_short_to_search"
    ] == ["MY_TOKEN"]
