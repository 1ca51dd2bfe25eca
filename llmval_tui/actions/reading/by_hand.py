"""Tasks of a person beside a command: "run `x` and call the vendor"; and words in another language than English."""

import re

from llmval_tui.actions.reading.item import ItemView
from llmval_tui.actions.reading.roles import Role
from llmval_tui.actions.reading.sentences import MARK, Sentence

_HAND = (
    r"(?:power[- ]cycle|hard[- ]reset|call|phone|page|notify|inform|tell|e-?mail|mail|ask|message|announce|post"
    r"|publish|upload|send|attach"
    r"|paste|copy"
    r"|write|note|record|document|file|open|create|raise|close|update|edit|change|adjust|add|append|remove"
    r"|delete|replace"
    r"|swap|reseat|re-seat|plug|unplug|pull|connect|disconnect|label|power|reboot|restart|reset|press|click|log|sign"
    r"|hand|give"
    r"|return|order|compare|review|read|repeat|commit|push|tag|merge|approve|escalate|book|schedule|drain"
    r"|undrain|mark"
    r"|enable|disable|install|uninstall|mount|unmount|move|archive|inspect|discuss|agree|decide|investigate"
    r"|report|share"
    r"|submit|fill|print|store|save|keep|put|bump|rotate|revoke|flash|rack|cable|clean|tidy|wait|look (?:at"
    r"|through|over)"
    r"|parse|identify|determine|count|extract|calculate|compute|estimate|assess|interpret|analy[sz]e|plot"
    r"|summari[sz]e|monitor|observe"
    r"|watch|ctrl[-+ ]?c|kill|interrupt|abort"
    r"|go through|walk|set|switch|turn|roll|re-?enable|re-?run|try|do the same|let|make a|take a)"
)
_THEN = re.compile(
    rf"(?:[,;—–&]|\band\b|\bthen\b|\bbefore\b|\bafterwards\b)\s*(?:and\s+|then\s+|also\s+|finally\s+"
    rf"|immediately\s+)*(?P<verb>{_HAND})\b"
    r"(?!\s*[:=])",
    re.I,
)
_FIRST = re.compile(
    rf"^\W*(?:please\s+|then\s+|also\s+|finally\s+|afterwards,?\s+|first,?\s+"
    rf"|next,?\s+)*(?P<verb>{_HAND})\b(?!\s*[:=])",
    re.I,
)
# What a person adds to the record: "screenshot please", "result: ____ GB/s", "OK / NOK".
_RECORD = re.compile(
    r"\b(?:screenshots?|photos?|signatures?|initials|sign-?off)\b|_{3,}|\.{5,}|…{2,}"
    r"|\b(?:ok|yes|pass(?:ed)?|y)\s*/\s*(?:nok|not ok|no|fail(?:ed)?|n)\b|\[\s?\]",
    re.I,
)
# Words that keep what a run prints: llmval keeps it in its log.
_KEEPS = re.compile(
    r"\b(?:save|keep|store|record|log|write|put|capture|archive)\s+(?:the\s+|its\s+|all\s+)?(?:outputs?"
    r"|results?|logs?|stdout|it|report)\b"
    r"(?!\s+(?:in|to|into|on)\s+the\s+(?:ticket|wiki|issue|channel|sheet|spreadsheet))",
    re.I,
)


# "Check `a` and the state of b": the second thing has no command.
_ALSO = re.compile(
    r"^\s*(?:,|and|plus|as well as)\s+(?:also\s+)?"
    r"(?P<what>(?:the|its|their|all|any|other|relevant)\s+\w[^\ue000.;:]*)$",
    re.I,
)
_LOOKS = re.compile(r"\b(?:check|inspect|verify|confirm|validate|examine|look at|watch)\s*$", re.I)


# "`uname -m`, distro, kernel", "`nvidia-smi` and process CPU": a list goes on with things that have no command.
_NOUNS = re.compile(
    r"^\s*(?:,|\+|/|and\b)\s*(?!(?:then|verify|confirm|check|expect|see|make|ensure|show|which|it|no|all|each|every|both"
    r"|the|they|look|wait|p\d\d|at|in|on|for|with|within|over|under|above|below|exit|zero|not|so|but|or|run|if|when"
    r"|where|while|until|after|before|once|as|plus|one|two|using|via)\b)(?P<what>[A-Za-z][^\ue000.;:<>≤≥=\d]{2,80})$"
)
_SAYS_SOMETHING = re.compile(
    r"\b(?:must|should|shall|that|is|are|be|has|have|appears?|pass(?:es)?|succeeds?|completes?|prints?|shows?|reports?"
    r"|returns?|exits?|finish(?:es)?|ends?|stays?|takes?|gives?)\b",
    re.I,
)
# Words with which an introduction begins, not a task: "For each GPU, run …".
_INTRODUCES = re.compile(
    r"^\W*(?:for|from|on|in|inside|at|with|using|as|first(?:ly)?|then|next|finally|after|before|once|when|if|to|via|by"
    r"|per|during|now|also|please|again|optionally|otherwise|afterwards|last(?:ly)?|second(?:ly)?|third(?:ly)?|step|and"
    r"|while|until|under|within|against|across|without|alternatively|ideally|simply|just|here|there|locally)\b",
    re.I,
)


def _tasks(before: str) -> bool:
    """Whether two tasks or more stand before "run": "pack it, install it, run …". One may be a title."""
    words = re.split(r"[:：]\s*", before)[-1]
    chunks = [chunk for chunk in re.split(r",", words)[:-1] if chunk.strip()]
    return sum(len(chunk.split()) > 1 and not _INTRODUCES.match(chunk) for chunk in chunks) > 1


def task_by_hand(view: ItemView) -> str | None:
    """The words of a task that no command of the item does; None if there is none."""
    for sentence in view.prose.sentences:
        if sentence.kind in ("quote", "table"):
            continue
        found = _in_sentence(view, sentence)
        if found is not None and not _KEEPS.search(found):
            return found
    words = _CODE.sub(" ", view.step.text)
    return match[0] if view.to_run and (match := _RECORD.search(words)) else None


def setting_beside(view: ItemView) -> str | None:
    """A variable or an option that the item names beside its command: "`make bench` with `NCCL_DEBUG=INFO`".

    The command as written would run without it.
    """
    written = " ".join(one.code.text for one in view.to_run)
    for sentence in {id(one.sentence): one.sentence for one in view.to_run if not one.code.is_fence}.values():
        for index, code in enumerate(sentence.codes):
            if _SETTING.fullmatch(code.text) and code.text not in written and _ADDS.search(sentence.before(index)):
                return code.text
    return None


def _in_sentence(view: ItemView, sentence: Sentence) -> str | None:
    candidates = [one for one in view.to_run if one.sentence is sentence]
    if not candidates or any(one.code.is_fence for one in candidates):
        if candidates:
            return None
        match = _FIRST.match(sentence.text)
        # The paragraph above a fence or bullets says what they do.
        is_lead = any(one.sentence.lead == sentence.text for one in view.to_run if one.sentence.lead)
        return None if match is None or is_lead else _words(sentence.text)
    last = max(sentence.codes.index(one.code) for one in candidates)
    after = sentence.after(last)
    for match in _THEN.finditer(after):
        return _words(after[match.start("verb") :])
    more = _NOUNS.match(after)
    if (
        more
        and not _SAYS_SOMETHING.search(more["what"])
        and sentence.codes.index(candidates[-1].code) == len(sentence.codes) - 1
    ):
        return _words(more["what"])
    lead = sentence.before(0)
    if re.search(r",\s*(?:then\s+|and\s+|and then\s+)?(?:run|execute)\s*$", lead, re.I) and _tasks(lead):
        return _words(lead)
    if (also := _ALSO.match(after.strip(" ."))) and _LOOKS.search(sentence.between(last)):
        return _words(also["what"])
    first = min(sentence.codes.index(one.code) for one in candidates)
    before = sentence.before(first)
    match = _FIRST.match(before)
    if match is not None and re.search(r"(?:,|;|\band\b)\s*(?:then\s+)?[^,;\ue000]*$", before[match.end() :]):
        rest = re.split(r",|;|\band\b", before[match.end() :])
        if len(rest) > 1 and not re.search(r"[:：—–(]\s*$", before) and "," in before + ",":
            return (
                _words(before)
                if re.search(r"(?:,|\band|\bthen)\s+(?:then\s+)?(?:run|execute|use|launch|start)\b", before, re.I)
                else None
            )
    return None


def _words(text: str) -> str:
    return " ".join(text.replace(MARK, "…").split())[:80].strip(" .,;:")


_CODE = re.compile(r"(`+).+?\1(?!`)", re.DOTALL)
_SETTING = re.compile(r"[A-Z_][A-Z0-9_]*=\S*|--?[A-Za-z][\w-]*(?:[= ]\S+)?")
_ADDS = re.compile(
    r"\b(?:with|using|plus|and|set|setting|add|adding|pass|passing|export|under|append)(?:\s+(?:the|an?|env(?:ironment)?"
    r"|variables?|flags?|options?|arguments?)\b)*\s*$",
    re.I,
)
_FOREIGN = """
aber als auch auf aus ausführen bei beim bitte das dem den der des dies diese dieser durch ein eine einem einen
einer einmal falls für im ist jede jeder kein keine keinen mit nach nicht nie niemals noch nur oder ob prüfen
sicherstellen sind sobald sofern sollte soll muss über um und vom von vor wenn wird zu zum zur alle au aux avant
avec ce cette dans du elle est et jamais lancer le les leur ne nous ou par pas pour que qui sans ses sont sur un une
vérifier vous el al antes cuando del después ejecutar es esta este hay las lo los nunca para pero por según sin
verificar che da di dopo e eseguire gli il mai nel non prima quando sono executar com depois em esse não nas nos
pelo são sempre uma aan bij een het ingen inte när och om på som til uitvoeren voor wordt jeśli oraz przed uruchom
danach vorher nachher zuerst anschließend dann notfalls fehlerfall wartung leeren neustart neustarten zurücksetzen
erst vorm en cas caso erreur errore puis ensuite ainsi si se luego primero segundo dopo poi depois daarna eerst indien
się aldrig ikke med ved eller kör nikdy pokud
"""
_FOREIGN_WORDS = frozenset(_FOREIGN.split())
_ENGLISH = """
a all also an and any are as at be below both by check each every exactly for from has have if in into is it its
make must no not of off on one only or our over run same shows should still than that the them then there these this
to under until up use was we when with without you your
"""
_ENGLISH_WORDS = frozenset(_ENGLISH.split())
_SCRIPTS = re.compile(r"[\u0370-\u1fff\u2c00-\udfff\uf900-\ufaff\uff66-\uffdc]")
_ACCENTS = re.compile(r"[À-ÖØ-öø-ÿĀ-ž]")
# In these languages a word that asks for a check, and none that forbids, conditions or offers a choice.
_CHECKS = re.compile(r"確認|検証|チェック|实行|実行して|检查|檢查|核对|验证|確認する|확인|검사|проверить|проверьте")
_FORBIDS = re.compile(
    r"ない|ません|禁止|場合|なら|もし|とき|時[はに]|たら|れば|または|もしく|以外|のみ|だけ|不|勿|别|別|如果|若|除非|或|仅|僅|才|않|말|금지|경우|"
    r"면|또는|만\s|не|никогда|если|или|только|例|昔|以前|あと|後|先|他"
)


def other_language(view: ItemView) -> bool:
    """Whether the item's words are in another language, so that llmval cannot tell what they ask for."""
    text = " ".join(sentence.text.replace(MARK, " ") for sentence in view.prose.sentences)
    if _SCRIPTS.search(text):
        first = view.to_run[0] if view.to_run else None
        label = (
            first.sentence.before(first.sentence.codes.index(first.code)) if first and not first.code.is_fence else ""
        )
        asks_to_check = _CHECKS.search(label) and re.search(r"[:：]\s*$", label)
        return not (asks_to_check and not _FORBIDS.search(text))
    words = re.findall(r"[^\W\d_]+", text.lower())
    foreign = sum(word in _FOREIGN_WORDS for word in words)
    english = sum(word in _ENGLISH_WORDS for word in words)
    return foreign > english or (len(_ACCENTS.findall(text)) >= 2 and not english)


def needs_role(view: ItemView) -> bool:
    """Whether some code may be a command, and the words do not say so."""
    return any(one.role is Role.UNCLEAR for one in view.candidates)
