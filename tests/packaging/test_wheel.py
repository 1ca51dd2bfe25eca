"""The wheel in an empty environment, with the runners in another interpreter: what an operator installs."""

import ast
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(*argv: str | Path, cwd: Path = ROOT, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_everything_under_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith(".dist-info/sboms/sbom.cdx.json")]
    assert {name.split("/")[0] for name in names if ".dist-info" not in name and ".data/" not in name} == {"llmval_tui"}
    assert [name.split(".data/")[1] for name in names if ".data/" in name] == ["data/share/man/man1/llmval.1"]
    for wanted in (
        "llmval_tui/runners/inference_server_load_test.py",
        "llmval_tui/runners/capture_fp8_flexattention_traces.sh",
        "llmval_tui/runners/llmval_runners/process/launch.py",
        "llmval_tui/runners/llmval_runners/tracing/__main__.py",
        "llmval_tui/docs/llm_validation_checklist.md",
        "llmval_tui/docs/lists/node_acceptance.md",
        "llmval_tui/docs/how_to/without_internet.md",
        "llmval_tui/docs/schemas/load_test.schema.json",
        "llmval_tui/docs/schemas/trace_summary.schema.json",
        "llmval_tui/themes/dark.toml",
        "llmval_tui/tui/app.tcss",
    ):
        assert wanted in names
    modules = {
        path.relative_to(ROOT).as_posix() for top in ("llmval_tui", "runners") for path in (ROOT / top).rglob("*.py")
    }
    wanted_modules = {name if name.startswith("llmval_tui") else f"llmval_tui/{name}" for name in modules}
    assert wanted_modules == {name for name in names if name.endswith(".py")}
    assert not [name for name in names if "/results/" in name or "/images/" in name]


def test_an_editable_install_finds_runners_and_themes(tmp_path: Path) -> None:
    """The editable install is a `.pth` file that names the checkout."""
    call(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, "--editable", ROOT)
    (pth,) = tmp_path.glob("*.pth")
    code = "import json; from llmval_tui.foundation.paths import bundled; print(bundled('runners'), bundled('themes'))"
    environment = {"PYTHONPATH": pth.read_text().strip()}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(ROOT / "runners"), str(ROOT / "themes")]


@pytest.mark.slow
def test_installed_from_the_wheel_it_completes_the_load_test(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    call(python, "-m", "pip", "install", "--quiet", "-c", constraints, wheel, timeout=900)
    llmval = tmp_path / "env" / "bin" / "llmval"
    assert "0.1.0" in call(llmval, "--version", cwd=tmp_path).stdout
    for what in ("runners", "themes"):
        place = Path(json.loads(call(llmval, "locate", what, "--json", cwd=tmp_path).stdout)["path"])
        assert place.is_dir()
        assert tmp_path in place.parents
    # The dashboard's environment has no torch: the runners use the interpreter that the operator names.
    demo = call(
        llmval, "demo", "--headless", "--dir", tmp_path / "demo", "--runner-python", sys.executable, cwd=tmp_path
    )  # fmt: skip
    assert "pass, ticked" in demo.stdout
    checklist = (tmp_path / "demo" / "docs" / "llm_validation_checklist.md").read_text()
    assert checklist.count("[x]") == 1
    assert "smoke preset" in next(line for line in checklist.splitlines() if "[x]" in line)
    call(llmval, "verify", "--workspace", tmp_path / "demo", cwd=tmp_path)


def test_runners_need_only_torch_and_the_standard_library() -> None:
    """Everything else is imported where it is asked for, inside a function. The client of servers has an extra."""
    # Triton is part of torch's CUDA builds; where it is missing, the CPU path's tests show that it is not needed.
    allowed = set(sys.stdlib_module_names) | {"torch", "triton", "llmval_runners"}
    extra = {"openai_client": {"httptools", "uvloop"}}
    for path in (ROOT / "runners").rglob("*.py"):
        of_folder = allowed | extra.get(path.parent.name, set())
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:  # a relative import is our own
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in of_folder, f"{path.relative_to(ROOT)} imports {name}"
