"""The bundle: which wheels it takes, which Python it refuses, and where it unpacks itself."""

import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundle import build

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
# A small llmval: the boot code is what is tested. It says which interpreter runs it, with what, and from where.
_PROBE = """
import json, os, sys
print(json.dumps({
    "executable": sys.executable, "prefix": sys.prefix, "base": sys.base_prefix, "arguments": sys.argv[1:],
    "file": __file__, "bundle": os.environ["LLMVAL_BUNDLE"], "started_by": os.environ["LLMVAL_STARTED_BY"],
}))
sys.exit(3)
"""


def make_wheel(folder: Path, name: str, files: dict[str, str]) -> None:
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(
        folder,
        "llmval_tui-9.9.0-py3-none-any.whl",
        {"llmval_tui/__init__.py": "", "llmval_tui/__main__.py": _PROBE, "x-1.data/scripts/x": ""},
    )
    make_wheel(folder, f"fast-1.0-cp{HERE.replace('.', '')}-abi3-manylinux_2_17_x86_64.whl", {"fast.py": ""})
    return folder


@pytest.fixture
def bundle(wheels: Path, tmp_path: Path) -> Path:
    return build.assemble(wheels, tmp_path / "llmval-9.9.0.pyz", (HERE,), ("x86_64",))


def start(bundle: Path, *arguments: str, python: str = sys.executable, **environment: str):
    """Start the bundle with this interpreter, in a home folder beside it."""
    home = bundle.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [python, str(bundle), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the wheels of this test are for x86_64")


def test_the_wheels_are_sorted_by_interpreter() -> None:
    pure, psutil_x = "a-1-py3-none-any.whl", "p-1-cp36-abi3-manylinux2010_x86_64.whl"
    psutil_a = "p-1-cp36-abi3-manylinux2014_aarch64.whl"
    exact = [f"o-1-cp3{minor}-cp3{minor}-manylinux_2_17_{one}.whl" for minor in (11, 12) for one in build.MACHINES]
    found = build.sorted_wheels([pure, psutil_x, psutil_a, *exact], ("3.11", "3.12"))
    assert found["any"] == [pure]
    assert found["cp312-aarch64"] == ["o-1-cp312-cp312-manylinux_2_17_aarch64.whl", psutil_a]
    with pytest.raises(ValueError, match=r"CPython 3.13 on x86_64: o"):
        build.sorted_wheels([pure, psutil_x, psutil_a, *exact], ("3.11", "3.13"))
    with pytest.raises(ValueError, match="nothing needs w-1"):
        build.sorted_wheels([pure, "w-1-cp311-cp311-win_amd64.whl"], ("3.11",), ())


def test_a_wheel_that_needs_an_installer_is_refused(wheels: Path, tmp_path: Path) -> None:
    make_wheel(wheels, "h-1-py3-none-any.whl", {"h-1.data/headers/h.h": ""})
    with pytest.raises(ValueError, match="files for other folders"):
        build.assemble(wheels, tmp_path / "b.pyz", (HERE,), ("x86_64",))


def test_the_same_wheels_make_the_same_bytes(wheels: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    again = build.assemble(wheels, tmp_path / "again" / bundle.name, (HERE,), ("x86_64",))
    assert again.read_bytes() == bundle.read_bytes()


def test_it_unpacks_itself_once_and_becomes_llmval(bundle: Path) -> None:
    first = start(bundle, "status", "--json")
    assert (first.returncode, first.stderr) == (3, "")
    found = json.loads(first.stdout)
    cache = bundle.parent / "home" / ".cache" / "llmval"
    assert Path(found["prefix"]).is_relative_to(cache) and Path(found["file"]).is_relative_to(cache)
    assert found["executable"].startswith(found["prefix"]) and found["base"] == sys.base_prefix
    assert found["arguments"] == ["status", "--json"]
    assert (found["bundle"], found["started_by"]) == (str(bundle), sys.executable)
    assert not list(cache.glob(".unpacking*")) and not list(cache.rglob("*.data"))
    # The second start only looks: it needs no wheel any more.
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.py")}
    assert start(bundle).returncode == 3
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.py")} == before


def test_it_starts_from_a_shell_and_without_the_right_to_write_beside_it(bundle: Path) -> None:
    (bundle.parent / "bin").mkdir()
    (bundle.parent / "bin" / "python3").symlink_to(sys.executable)
    done = subprocess.run(
        [str(bundle), "x y"],
        env={"PATH": str(bundle.parent / "bin"), "HOME": str(bundle.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and json.loads(done.stdout)["arguments"] == ["x y"]
    nothing = subprocess.run([str(bundle)], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False)
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("llmval: it needs CPython") and nothing.stderr.count("\n") == 1


def test_two_interpreters_of_a_shared_home_do_not_share_an_environment(bundle: Path, tmp_path: Path) -> None:
    first = json.loads(start(bundle).stdout)["prefix"]
    copy = tmp_path / "other" / "bin"
    copy.mkdir(parents=True)
    (copy / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python{HERE}")
    (tmp_path / "other" / "lib").symlink_to(Path(sys.base_prefix) / "lib")
    second = json.loads(start(bundle, python=str(copy / "python3")).stdout)["prefix"]
    assert first != second


def test_without_a_home_it_takes_a_folder_of_its_own_for_temporary_files(bundle: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    nowhere = {"HOME": "/proc/nowhere", "TMPDIR": str(temporary)}
    own = temporary / f"llmval-{os.getuid()}"
    found = json.loads(start(bundle, **nowhere).stdout)
    assert Path(found["prefix"]).is_relative_to(own) and own.stat().st_mode & 0o777 == 0o700


def test_a_folder_where_others_can_write_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "facts.py").write_text("DIGEST, VERSION, WHEELS = 'd', '1', {}")
    for folder in (tmp_path, build.BOOT):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("LLMVAL_CACHE", raising=False)
    unpack = importlib.import_module("unpack")
    folder = tmp_path / "llmval-0"
    assert not unpack._is_trusted(str(folder))
    folder.mkdir(0o700)
    assert unpack._is_trusted(str(folder))
    folder.chmod(0o770)
    assert not unpack._is_trusted(str(folder))
    (tmp_path / "link").symlink_to(tmp_path)
    assert not unpack._is_trusted(str(tmp_path / "link"))
    monkeypatch.setattr(unpack, "_places", lambda: iter([str(folder)]))
    with pytest.raises(unpack.NoPlace, match="is not yours alone"):
        unpack._environment()


def test_no_place_is_one_sentence(bundle: Path) -> None:
    done = start(bundle, LLMVAL_CACHE="/proc/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "LLMVAL_CACHE" in done.stderr
    as_json = json.loads(start(bundle, "--json", LLMVAL_CACHE="/proc/nowhere").stdout)
    assert as_json["ok"] is False and "/proc/nowhere" in as_json["message"]


def test_a_wrong_python_is_refused_in_one_sentence(wheels: Path, tmp_path: Path) -> None:
    for wheel in wheels.glob("fast*"):
        wheel.unlink()
    make_wheel(wheels, "fast-1.0-cp314-abi3-manylinux_2_17_x86_64.whl", {"fast.py": ""})
    other = build.assemble(wheels, tmp_path / "other.pyz", ("3.99",), ("x86_64",))
    done = start(other, PATH="/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"CPython {HERE} cannot run it" in done.stderr and "python3.99" in done.stderr
    assert json.loads(start(other, "--json").stdout)["ok"] is False


@pytest.mark.slow
def test_the_real_bundle_for_this_python(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    build.own_wheel(folder)
    build.download(folder, (HERE,), ("x86_64",))
    bundle = build.assemble(folder, tmp_path / "llmval.pyz", (HERE,), ("x86_64",))
    assert bundle.stat().st_size < 40e6
    version = start(bundle, "--version")
    assert version.stdout.startswith("llmval "), version.stderr
    doctor = json.loads(start(bundle, "doctor", "--json", PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin").stdout)
    runners = next(check for check in doctor["checks"] if check["name"] == "runner python")
    # The interpreter that started the bundle has torch, so the runners get it.
    assert sys.executable in runners["found"] and "the first one found with torch" in runners["found"]
