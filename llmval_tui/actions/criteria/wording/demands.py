"""Words that demand nothing of the output: success, which the exit code shows, and how or when something is run."""

import re

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.wording.prose import COMMAND, LITERAL

# A demand for nothing but success, which the exit code answers.
_SUCCESS_WORDS = (
    "that it this they to also still the command script test tests run job cleanly successfully again then and on "
    "a an all of both must should shall has have need needs make sure verify verifies check confirm ensure expect "
    "expected whether if is pass passes succeed succeeds work works complete completes finish finishes runs exit "
    "exits end ends return returns with code status 0 zero ok successful through without failing be in repo "
    "folder clean clone suite build builds compile compiles green packages package steps step checks crates targets "
    "jobs locally"
)
_SUCCESS = frozenset(_SUCCESS_WORDS.split())
# Demands on the operator: how and when something is run.
PROCEDURE = re.compile(
    r"\b(?:must|should|shall|has to|have to|needs? to|needs?)\s+(?:not\s+)?(?:be\s+)?(?:run|ran|started?|done"
    r"|executed|installed|used|called|repeated"
    r"|booked|drained|logged|built|set|exported|loaded|mounted|copied|root|replaced|changed|edited|on the"
    r"|in the|from|as root)\b",
    re.IGNORECASE,
)

# Words of other languages that demand something which the run must show. Clauses are told apart less well there, so
# these words count for a whole sentence.
OTHER_DEMANDS = re.compile(
    r"\b(?:prüfen|prüfe|überprüfen|sicherstellen|stelle? sicher|muss|müssen|soll(?:en|te)?|vérifie[rz]"
    r"|assure[rz]|doit|doivent"
    r"|verificar|verifique|asegúrese|debe|deben|garanta|deve|controleer|moet)\b|確認|こと。?$|检查|確保|确认|确保|必须|확인"
    r"|убедиться|убедитесь|проверить|должн"
    # "Keine Fehler", "aucune erreur", "sin errores"
    r"|\b(?:keine?[rnms]?|aucune?|sin|ning[uú]n[oa]?|nessun[oa]?|senza|geen|sem|nenhuma?|inga|ingen|brak"
    r"|нет|без)\b"
    r"|没有|沒有|无|無|なし|ない(?:こと|。|$)|없",
    re.IGNORECASE,
)
# "`…` exits with 3", "`…` exits non-zero": exit code 0 would be wrong.
_FAILS = re.compile(
    rf"{COMMAND}\W*(?:(?:must|should|shall|has to|needs to)\s+)?"
    r"(?:(?:exits?|ends?|returns?)\s+(?:with\s+)?(?:an?\s+)?(?:exit\s+)?(?:code\s+|status\s+)?(?:non-?zero|an? error)"
    r"|(?:(?:exits?|ends?)\s+(?:with\s+)?|returns?\s+(?:with\s+)?(?:an?\s+)?(?=exit|code|status))(?:exit\s+)?"
    r"(?:code\s+|status\s+)?[1-9]\d*\b(?!\s*[A-Za-z%]))",
    re.IGNORECASE,
)
_FAILS_BEFORE = re.compile(
    rf"\b(?:(?:exits?|ends?|returns?)\s+(?:with\s+)?(?:an?\s+)?(?:exit\s+)?(?:code\s+|status\s+)?"
    r"(?:non-?zero|an? error|error)"
    rf"|(?:is|are|gets?)\s+(?:refused|rejected|denied|forbidden)|fails(?!\s+(?:if|when)\b))\b[^\n:;.\ue000-\ue0ff]*[:(–—→]\s*{COMMAND}",
    re.IGNORECASE,
)


def must_fail(text: str) -> re.Match[str] | None:
    """The words that demand a failing command (“exits with 3”), for which exit code 0 would be wrong."""
    return _FAILS.search(text) or _FAILS_BEFORE.search(text)


def only_success(clause: str) -> bool:
    """Whether the words ask for nothing but success, which the exit code answers."""
    return all(word in _SUCCESS for word in re.findall(rf"\w+|{LITERAL}", re.sub(COMMAND, " ", clause).lower()))


def unreadable(text: str, command: int | None = None) -> Criterion:
    """A demand that no gate can judge."""
    return Criterion(
        text,
        StatedBy.WORDS,
        "output",
        "unreadable",
        command=command,
        unreadable=f"llmval cannot judge “{text}”: say what the output must show in the item's llmval comment, such as "
        'expect="stdout ~ /WORDS/", or expect="exit == 0" if the exit code is enough',
    )


# Programs that end with 0 whatever they measured, and what to write.
_ALWAYS_0 = {
    "wrk": "wrk exits 0 if requests failed as well: use another client",
    "wrk2": "wrk2 exits 0 if requests failed as well: use another client",
    "hey": "hey exits 0 if requests failed as well: use another client",
    "ab": "ab exits 0 if requests failed as well: use another client",
    "xhpl": "xhpl exits 0 if a residual check failed as well: demand its figure (“at least 900 TFLOPS”)",
}


def proves_nothing(text: str) -> str | None:
    """Why the exit code of a command proves nothing, and what to write; None if it may prove something."""
    words = [word for word in text.split() if "=" not in word and word != "sudo"]
    names = [word.rsplit("/", 1)[-1] for word in words]
    if words[:1] in (["curl"], ["/usr/bin/curl"]):
        fails = any(word.startswith("--fail") or re.fullmatch(r"-[A-Za-z]*f[A-Za-z]*", word) for word in words)
        return None if fails else "curl exits 0 for HTTP errors as well: add --fail to it"
    starts = names[:1] if names[:1] != ["mpirun"] else names
    return next((_ALWAYS_0[name] for name in starts if name in _ALWAYS_0), None)
