"""The nature of a code span, from its own characters alone."""

import re
from enum import Enum

from llmval_tui.actions.reading.programs import ALONE, KNOWN, SUBCOMMANDS
from llmval_tui.actions.reading.shell import PROMPT, joined, without_prompt


class Nature(Enum):
    """What a code span looks like."""

    COMMAND = "command"  # a program with arguments
    SCRIPT = "script"  # only the path of a script or program: it may be run, or be talked about
    PROGRAM = "program"  # only the name of a program
    PERHAPS = "perhaps"  # words that may be a command: `acmectl nodes`
    FLAGS = "flags"  # `--fast`
    PATH = "path"  # a file or folder
    OTHER = "other"  # a value, a name, a message


_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\S*")
_PROGRAM = re.compile(r"[~.]{0,2}/?[A-Za-z0-9_<{$][\w./+@<>${}-]*")
_SCRIPT_NAME = re.compile(r".*\.(?:py|sh|bash|pl|rb|ps1|jl|R|lua|js|ts)")
_DATA_NAME = re.compile(
    r".*\.(?:md|rst|txt|json|jsonl|ya?ml|toml|ini|cfg|conf|cnf|csv|tsv|xml|log|html?|pdf|png|svg|jpe?g|tar|gz|tgz|zst|zip"
    r"|whl|deb|rpm|so|ko|a|o|pem|crt|key|csr|service|timer|socket|mount|rules|repo|list|sql|db|bin|img|iso|fio|jinja|j2"
    r"|tf|hcl|lock|engine|onnx|pt|pth|safetensors|gguf|npy|npz|parquet|ipynb|c|h|cc|cpp|cu|go|rs|java|proto|service|env)"
    r"(?:\.\d+)?"
)
_NUMBER = re.compile(r"[v~<>=≥≤±+-]?\d[\d.,:]*\S{0,6}")
_IN_A_PROGRAM_FOLDER = re.compile(r"(?:^|/)(?:s?bin|scripts?|tools?|build|libexec)/[^/]+$")
_STATEMENT = {"and", "are", "has", "is", "must", "not", "of", "or", "the", "was", "were", "will"}
_FLAG = re.compile(r"--?[A-Za-z][\w-]*(?:[= ].*)?|--", re.DOTALL)


def nature_of(content: str) -> Nature:
    """The nature of a code span's content."""
    text = joined(content)
    prompted = PROMPT.match(text) is not None
    text = without_prompt(text)
    words = text.split()
    assigned = 0
    while assigned < len(words) and _ASSIGNMENT.fullmatch(words[assigned]):
        assigned += 1
    words = words[assigned:]
    if not words:
        return Nature.OTHER  # only assignments
    first, rest = words[0].strip("\"'"), words[1:]
    if _FLAG.fullmatch(first):
        return Nature.FLAGS
    if first.endswith(":") or "://" in first or not _PROGRAM.fullmatch(first) or _NUMBER.fullmatch(first):
        return Nature.OTHER
    if rest and rest[0] in _STATEMENT:
        return Nature.OTHER  # "node is healthy"
    name = first.rsplit("/", 1)[-1]
    flagged = any(re.match(r"-{1,2}[A-Za-z]", word) for word in rest)
    known = name in KNOWN or re.fullmatch(
        r"(?:python|pip|gcc|g\+\+|clang|java|ruby|perl|node|php|lua)\d*(?:\.\d+)?", name
    )
    if not rest:
        if _SCRIPT_NAME.fullmatch(first) or first.startswith("./"):
            return Nature.PATH if _DATA_NAME.fullmatch(first) and not first.startswith("./") else Nature.SCRIPT
        if "/" in first:
            is_program = _IN_A_PROGRAM_FOLDER.search(first) and not _DATA_NAME.fullmatch(first)
            return Nature.SCRIPT if is_program or (known and first.startswith("/")) else Nature.PATH
        if known:
            return Nature.COMMAND if name in ALONE or prompted or assigned else Nature.PROGRAM
        if prompted or assigned:
            return Nature.COMMAND
        return Nature.PATH if _DATA_NAME.fullmatch(first) else Nature.OTHER
    if prompted or known or _SCRIPT_NAME.fullmatch(first) or first.startswith(("./", "../")):
        return Nature.COMMAND
    if _DATA_NAME.fullmatch(first):
        return Nature.OTHER
    if flagged and (first[:1].islower() or "/" in first or "<" in first):
        return Nature.COMMAND
    if "/" in first and _IN_A_PROGRAM_FOLDER.search(first):
        return Nature.COMMAND
    if first[:1].islower() and (rest[0] in SUBCOMMANDS or assigned):
        return Nature.COMMAND
    if first[:1].islower() and re.fullmatch(r"[\w.+-]+", first):
        return Nature.PERHAPS
    return Nature.OTHER
