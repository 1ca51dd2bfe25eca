"""Writes sbom.cdx.json, the list of the dashboard's dependencies in CycloneDX, from requirements-hashed.txt.

The wheel carries it (PEP 770). The extra `runners` adds torch, which an operator chooses for the node's driver.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s\\]+)((?:[ \\\n]+--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE)


def pins(text: str) -> dict[str, tuple[str, list[str]]]:
    """Version and SHA-256 of every file, by the package's name."""
    return {
        name.lower().replace("_", "-"): (version, re.findall(r"sha256:([0-9a-f]{64})", hashes))
        for name, version, hashes in _PIN.findall(text)
    }


def sbom(text: str, version: str) -> dict[str, Any]:
    """The document; the same pins make the same bytes."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{number}",
            "name": name,
            "version": number,
            "purl": f"pkg:pypi/{name}@{number}",
            # One for each file that an index may serve; a component's own field is for the one that was used.
            "properties": [{"name": "sha256", "value": one} for one in hashes],
        }
        for name, (number, hashes) in sorted(pins(text).items())
    ]
    root = f"pkg:pypi/llmval-tui@{version}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": root, "name": "llmval-tui", "version": version}},
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": [one["bom-ref"] for one in components]}],
    }


def render() -> str:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return json.dumps(sbom((ROOT / "requirements-hashed.txt").read_text(), version), indent=1) + "\n"


if __name__ == "__main__":
    (ROOT / "sbom.cdx.json").write_text(render())
