"""Words that keep a command from starting: each pattern looks before a code, behind it, or at what stands above it.

A code is one mark in its sentence (`sentences.MARK`). The patterns are general; they name no program and no list.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmval_tui.actions.reading.sentences import MARK, Code, Sentence

_RUN = (
    r"(?:re-?)?(?:run|execut|start|launch|us|invok|call|try|issu|enter|typ|perform|appl|trigger|touch|do|kick"
    r"|submit|enabl)"
    r"(?:e|ed|es|s|ing|y|ies|ning)?"
)
_PEOPLE = (
    r"(?:team|vendor|integrator|supplier|manufacturer|provider|contractor|admins?|administrators?|operations"
    r"|ops|sres?"
    r"|on-?call|dbas?|support|customers?|tenants?|owners?|managers?|lead|reviewers?|colleagues?|engineers?"
    r"|technicians?"
    r"|developers?|people|folks|crew|staff|noc|help ?desk|partner|hoster|remote hands|auditors?|secops|netops|devops"
    r"|release captain|captain|officer|security|networking|somebody|someone|anybody|anyone|everybody|everyone"
    r"|whoever)"
)
_MACHINERY = (
    r"(?:ci|pipelines?|cron(?:job)?s?|nightly|workflow|bots?|jenkins|github actions|gitlab(?: ci)?|scheduler|timer"
    r"|automation|playbook|argo ?cd|flux|renovate|dependabot|systemd|puppet|chef|terraform cloud|nightly job|hook)"
)
# Words in -s behind a person or a machine that are no verbs: "CI status", "vendor logs".
_THINGS = (
    r"(?:status|statuses|logs?|results?|jobs?|runs?:|settings|checks:|tests:|pipelines|tickets|users|limits"
    r"|hosts|nodes|keys"
    r"|rights|access|rules|reports|docs|contacts?|emails|has|was|is|secrets|variables|units|files|scripts"
    r"|charts|'s)\b"
)
_DOES = (
    r"(?:runs?|executes?|starts?|launch(?:es)?|uses?|drains?|uploads?|does|do|performs?|handles?|takes?|owns?"
    r"|triggers?"
    r"|calls?|will|would|should|shall|must|can|could|may|might|ha(?:s|ve) to|needs? to|is (?:going|responsible|to)"
    r"|are (?:going|responsible|to)|suggests?|suggested|appl(?:y|ies)|sets?|installs?|rotates?|deploys?|restarts?"
    r"|reboots?|resets?|push(?:es)?|publish(?:es)?|collects?|kicks?|invokes?|issues?|types?|enters?|sends?|submits?"
    r"|provides?|gives?|switch(?:es)?|changes?|migrates?|creates?|deletes?|removes?|updates?|upgrades?|builds?|tests?"
    r"|checks?|verif(?:y|ies)|confirms?|fails? over|promotes?|flash(?:es)?|reseats?|wipes?|asks?|wants?|prefers?)"
)
_ROLE = (
    r"(?:head|login|jump|bastion|admin|management|mgmt|control(?:[- ]?plane)?|controller|master|leader|primary"
    r"|secondary"
    r"|standby|replica|other|second|remote|peer|client|build|backup|storage|monitoring|gateway|front-?end"
    r"|submit|deploy"
    r"|external|neighbou?r(?:ing)?|source|destination|witness|arbiter|metadata|mds|oss|nfs|db|database|license"
    r"|proxy|edge"
    r"|spine|leaf|core|boot|provisioning|log)"
)
_MACHINE = (
    r"(?:nodes?|hosts?|servers?|machines?|box(?:es)?|vms?|systems?|switch(?:es)?|routers?|instances?|members?|side)"
)
_PLACES = (
    r"(?:bastion|laptop|workstation|jump ?-?(?:host|box|server)|switch(?:es)?|routers?|bmc|idrac|ilo|primary|standby"
    r"|replicas?|master|controller|head-?node|login-?node|desktop|firewall|load balancer|clients?|peer"
    r"|hypervisor|control"
    r"[- ]plane|nas|filer|pdu|gateway|proxy|other (?:side|end)|far end|receiver|sender|container|pod|chroot"
    r"|jail|bios|vm"
    r"|rescue (?:system|mode)|installer|web ui|gui|serial console|workers)"
)
# "Verify on pi: …": a name before a colon is a machine, if it is none of these.
_CHECK_ON = r"(?:re-?)?(?:verify|check|confirm|validate|test|run|execute|start|stop|restart)\s+"
_HERE = (
    r"(?:this|here|localhost|it|cpus?|gpus?|nodes?|hosts?|servers?|machines?|linux|ubuntu|debian|rhel|main|master|root"
    r"|repo|checkout|scratch|top|success|failure|error|exit|time|screen|disk|startup|boot|demand)"
)
# Names of single hosts as sites give them: n1, node-07, gpu-node3, dgx02.
_HOST = r"(?:n|cn|nid|(?:[a-z]+-)?(?:node|host|srv|server|worker|compute|rack|dgx|hgx|login|head|mgmt))-?\d{1,6}"
_FANOUT = re.compile(
    r"(?:sudo\s+)?(?:ssh|pdsh|pssh|clush|ansible|srun|sbatch|salloc|mpirun|mpiexec|kubectl|oc|helm|torchrun"
    r"|deepspeed|ray"
    r"|scontrol|sinfo|squeue|dcgmi|ceph|gluster|consul|nomad|docker|podman|k9s|talosctl|salt|parallel)\b"
)
_APPROVAL = (
    r"\b(?:needs?|requires?|with(?:out)?|after|pending|awaiting|upon|get|subject to"
    r"|wait(?:ing)? for)\s+(?:[\w'’]+\s+){0,2}?"
    r"(?:approval|sign-?off|permission|consent|go-?ahead|clearance|change request|maintenance window)\b"
)
_OUTCOME = re.compile(
    r"(?:[,;—–]|\band\b|\bbut\b)\s*(?:then\s+)?(?:if|when|should|unless)\s+(?:it|this|that|they|any|anything"
    r"|one|there"
    r"|something|nothing|not|so|the (?:check|test|command|run|result|output|script|job))\b",
    re.I,
)
_WHETHER = re.compile(
    r"\b(?:check|see|verify|test|determine|find out|confirm|decide|know|tell)\s+(?:if"
    r"|when)\b",
    re.I,
)
_DOUBLE = re.compile(r"\b(?:do not|don['’]?t|never)\s+(?:forget|skip|omit|miss|neglect|hesitate)\b", re.I)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The words of one hindrance before a code, behind it, and in titles or sentences above it."""

    before: str | None = None
    after: str | None = None
    above: str | None = None


_PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "prohibition": (
        Pattern(
            before=r"\b(?:under no circumstances?|on no account|in no case|at no time|by no means|make no use"
            r"|do not|don['’]?t|never|avoid|refrain from|no need to|needn['’]?t|need not|stop using"
            r"|not allowed to|forbidden to|instead of|rather than|in place of|forbids?|prohibits?|prohibited|banned"
            r"|(?:no ?body|no one|none) (?:should|may|must|needs?|has to|is to|is allowed|can|will)"
            rf"|(?:must|should|shall|may|can|is|are|did|does|will|would)(?: ?n['’]?t| not| never)\s+(?:be\s+)?{_RUN}"
            rf"|(?:without|not)\s+(?:be\s+)?{_RUN}(?!\w)|not(?: even| yet)?\s*\W?$|cannot\s+{_RUN}|nothing to do)\b",
            after=r"^\W*(?:is|are|was)?\s*(?:strictly\s+)?(?:forbidden|prohibited|not allowed|off[- ]limits|banned)"
            r"|\b(?:must|should|shall|may|can|is|are)(?: ?n['’]?t| not| never)\s+(?:to\s+)?(?:be\s+)?"
            r"(?:run|used|executed|started|called|issued|touched|applied|repeated|necessary|needed|done)\b"
            r"|^\W*(?:[—–-]\s*)?(?:never|not (?:here|on th|now|today|yet|in prod|while|before|during|until))\b"
            r"|^\W*(?:is|are)(?: ?n['’]?t| not| never) (?:(?:a )?part of|in scope|meant|intended|one of|supposed"
            r"|our|for us)\b"
            r"|^\W*(?:is|are) out of scope\b"
            r"|\bthe answer is no\b|\b(?:do not|don['’]t|never) (?:run|do|use|execute|start)\b",
            above=r"^\W*(?:do not|don['’]?t|never|avoid|what not to)\b|\b(?:forbidden|must not be (?:run|used))\b",
        ),
    ),
    "condition": (
        Pattern(
            before=r"(?:^|[\s(,;:—–-])(?:if|when|whenever|unless|in case|in the event|provided|assuming|suppose"
            r"|as soon as"
            r"|once (?:the|a|an|all|it|this|that|every|you|both|everything|\w+ (?:is|are|has|have|was))"
            r"|otherwise|failing that"
            r"|only (?:for|on|in|after|when|if|once|with)|(?:on|after|upon) (?:a |any )?(?:failure|errors?"
            r"|crash|regressions?)"
            r"|(?:on|for|with) (?:\w+ )?(?:nodes|hosts|machines|systems|clusters) (?:with|without|that|which"
            r"|where|in)"
            r"|(?:as|if|where|when) (?:needed|necessary|required|appropriate|applicable|available|possible)"
            r"|optional(?:ly)?"
            r"|depending|in doubt|worst case|last resort|fallback|plan b|until then|as a (?:fallback|last))\b"
            r"|^\W*(?:skip(?:ped|ping)?|n/a|not applicable|blocked|on hold|postponed|deferred|wont ?fix"
            r"|won['’]t (?:fix|do)"
            r"|wip|draft|tbd|cancel+ed|later|stretch(?: goal)?|if time (?:permits|allows))\b\W*[:)\]—–-]"
            r"|^\W*(?:manual(?:ly)?|by hand)\W*[:)—–-]"
            r"|^\W*(?:roll-? ?back|back-?out|undo|revert|emergency|contingency|recovery|next (?:week|month|quarter"
            r"|sprint)"
            r"|tomorrow|someday)\b[^:\ue000]{0,20}[:)—–-]|^[^:\ue000]{0,30}\bonly\s*[:)—–-]"
            rf"|\b(?:you (?:may|can|could|might)|feel free to)(?: also| now| then)?\s+{_RUN}\b"
            rf"|{_APPROVAL}"
            r"|(?:^|[,;:] )(?:should (?:the|a|an|any|it|this|that|one|you)|else|after (?:the|a|all|every|each"
            r"|you|it)\b[^,]*"
            r"\b(?:has|have|is|are|finish\w*|complet\w*|pass\w*|succeed\w*))\b"
            r"|(?:^|[;,(]\s?)(?:on|for)\s+[A-Z][\w.+-]*(?:\s[\w.+-]+){0,3}[:,]\s*$",
            after=r"^\W*(?:during|while)\b"
            rf"|{_APPROVAL}|\b(?:blocked|waiting|on hold) (?:by|on|for|until)\b"
            r"|\bafter (?:manually |first )?(?:start|launch|deploy|boot|drain|stopp|reboot)\w*"
            r"|\b(?:if|when|whenever|unless|in case|as soon as|as (?:needed|necessary|required"
            r"|appropriate)|where (?:applicable"
            r"|needed|available|possible|supported|present|installed)|depending|once (?:the|a|all|it|you|every"
            r"|\w+ (?:is|are|has|have))|optional(?:ly)?"
            r"|only (?:on|for|in)"
            r"|after (?:the|a|all|every|each|you|it)\b[^,.]*\b(?:has|have|is|are|finish\w*|complet\w*|pass\w*"
            r"|succeed\w*|done)"
            r"|(?:on|for) (?:nodes|hosts|machines|systems|clusters) (?:with|without|that|which|where))\b",
            above=r"\b(?:if|in case|when|unless|optional(?:ly)?|roll-? ?backs?|back-?out|emergency"
            r"|troubleshoot(?:ing)?|fallback"
            r"|(?<![\w-])only (?:if|on|for|when|in|after|with|needed)|(?:if|as|where) needed|skip|on failure"
            r"|plan b|nice to have"
            r"|once (?:the|all|a)|after (?:a |the )?(?:failure|failed)|otherwise|not (?:needed|required"
            r"|applicable))\b",
        ),
    ),
    "alternative": (
        Pattern(
            before=r"\b(?:either|alternatively|whichever|one of|any of|pick|choose|option [a-c1-9]|preferably"
            r"|ideally)\b"
            rf"|\bor\s+(?:just\s+|simply\s+)?(?:{_RUN})?\s*$",
            after=r"^\W*(?:or|alternatively)\b|^\s*/\s*\ue000",
            above=r"\b(?:either|one of|any of|pick one|choose|alternatives?|option [a-c1-9])\b",
        ),
    ),
    "example": (
        Pattern(
            before=r"\b(?:e\.\s?g\b\.?|eg\b|for example|for instance|such as|something like|along the lines of"
            r"|similar to"
            r"|examples?|say,)|(?<!looks )(?<!look )\blike\s*[:(]?\s*$",
            after=r"^[^\ue000]{0,12}\b(?:or (?:similar|equivalent|the like|something)|for (?:example|instance)"
            r"|as an example)\b|^\s*…",
            above=r"^\W*(?:examples?|e\.\s?g\.|for example|samples?|template)\b",
        ),
    ),
    "past": (
        Pattern(
            before=r"\b(?:(?:was|were|been|being|had)\s+(?:\w+\s+)?(?:run|executed|launched|started|invoked"
            r"|called|issued"
            r"|performed|done|made|measured|produced|created|generated|collected|taken|obtained|used|fixed"
            r"|caused|drained|set)"
            r"|(?:we|they|i|you|he|she|it|who|vendor|team|ops)\s+(?:already\s+|have\s+|had\s+)?(?:ran|did|had"
            r"|\w+ed)|stopped (?:using|running)|ran|used to"
            r"|(?:the )?old way|formerly|previously|historically|in the past|last (?:time|week|month|quarter"
            r"|year|night|release)"
            r"|yesterday|no longer|deprecated|obsolete|superseded|legacy|retired|already (?:run|ran|done"
            r"|executed|used)"
            r"|ha(?:s|ve) (?:already )?(?:run|executed|used|started))\b",
            after=r"^\W*(?:succeeded|completed|finished|passed|ran)\b|^\W*to (?:finish|complete|end|terminate"
            r"|be done)\b"
            r"|^\W*(?:was|were|has been|had been|have been|is no longer|is deprecated|is obsolete|used to|did)\b"
            r"|\b(?:no longer (?:needed|used|necessary)|obsolete|deprecated|superseded)\b",
            above=r"\b(?:history|historic(?:al)?|obsolete|deprecated|archived?|no longer|old (?:way|procedure))\b",
        ),
    ),
    "repetition": (
        Pattern(
            before=r"\b(?:repeat(?:edly)?|(?:two|three|four|five|ten|several|multiple|\d+)\s?(?:x|×|times)\s*\W*$)"
            rf"|\b{_RUN}\s+(?:twice|thrice|(?:two|three|four|five|ten|several|\d+) times)\b"
            r"|\bfor (?:each|every|all) (?:of )?[^\ue000]{1,40}[:,]\s*$|\bfor \w+ in\b"
            r"|\b(?:overnight|over the weekend|in parallel|concurrently|simultaneously)\b",
            after=r"^\W*(?:twice|thrice|(?:two|three|four|five|ten|several|multiple|\d+)\s?(?:x|×|times))\b"
            r"(?!\s+(?:faster|slower|more|less|the|as|higher|lower|better|worse|larger|smaller))"
            r"|\b(?:overnight|over the weekend|in parallel|concurrently|simultaneously|at the same time|repeatedly"
            r"|in a loop|back[- ]to[- ]back|until (?:it|they|all|no|the \w+) (?:pass|succeed|work"
            r"|fail|stop)\w*"
            r"|with and without|without and with|once (?:per|for each|for every|with)|for each of|for every one of)\b"
            r"|^\W*for (?:each|every|both)\b|^\W*for [\w.]+(?:, [\w.]+)*,? and [\w.]+\s*$"
            # "passes on Python 3.11 and 3.12", "on GPU 0 and GPU 1"
            r"|\b(?:on|with|under) (?:[A-Za-z]+ )?\d[\d.]*(?:, ?(?:[A-Za-z]+ )?\d[\d.]*)*,? and (?:[A-Za-z]+ )?\d[\d.]*"
            r"(?!\S|\s?(?:GPUs?|nodes|ranks|GB|GiB|ms|s|%))",
        ),
    ),
    "another actor": (
        Pattern(
            before=r"\b(?:ask|tell|have|get|let|request|remind|instruct|page|contact|wait for|order|expect|want)\s+"
            rf"(?:for\s+)?(?:the\s+|our\s+|your\s+|an?\s+|some\s+)?(?:[\w-]+\s+){{0,2}}(?:{_PEOPLE}|them|him"
            rf"|her|@\w+)\b"
            rf"|(?:^|[,;:(—–.]\s*|\b(?:and|while|then|because|since|that|as|so|but|which)\s+)(?:the\s+|our\s+"
            rf"|your\s+|an?\s+)?"
            rf"(?:[\w-]+\s+){{0,2}}(?:{_PEOPLE}|{_MACHINERY}|they|he|she|we)(?:\s+(?:\w+ly|then|also|already"
            rf"|usually))?\s+{_DOES}\b"
            r"|^[^:\ue000]{0,30}@[\w-]+\s*[:)—–-]|^\W*(?:owner|assigned to|assignee|responsible)\b[^:\ue000]{0,30}:"
            r"|\bit\s+(?:runs|uploads|starts|executes|calls|launches|installs|uses|triggers)\b"
            rf"|\b(?:{_PEOPLE}|{_MACHINERY})(?:\s+(?:on (?:call|duty|shift)"
            rf"|of (?:the\s+)?\w+))?(?:\s+\w+ly)?\s+(?!{_THINGS})"
            r"[a-z]{2,}s\b"
            rf"|\bby\s+(?:the\s+|our\s+|an?\s+)?(?:[\w-]+\s+){{0,2}}(?:{_PEOPLE}|{_MACHINERY})\b"
            rf"|^\W*(?:@[\w-]+|(?:the\s+)?(?:[\w-]+\s+)?{_PEOPLE})(?: only)?\s*[:)]",
            after=rf"^[^\ue000]{{0,60}}\bby\s+(?:the\s+|our\s+|an?\s+)?(?:[\w-]+\s+){{0,2}}(?:{_PEOPLE}"
            rf"|{_MACHINERY})\b"
            rf"|(?:[,;(—–]|\bwhich)\s*(?:the\s+|our\s+)?(?:[\w-]+\s+){{0,2}}(?:{_PEOPLE}|{_MACHINERY})\s+{_DOES}\b"
            r"|\b(?:done|run|executed|handled)\s+(?:automatically|elsewhere|by)\b",
            above=rf"^\W*(?:for\s+)?(?:the\s+|our\s+)?(?:[\w-]+\s+)?{_PEOPLE}(?:\s+only)?\s*(?::|$|\()"
            rf"|\b(?:done|run|handled|performed|owned|tasks?|work)\s+(?:by|of"
            rf"|for)\s+(?:the\s+)?(?:[\w-]+\s+){{0,2}}{_PEOPLE}\b",
        ),
    ),
    "another machine": (
        Pattern(
            before=rf"(?:^|[;,(]\s?)(?:{_CHECK_ON})?(?:on|from)\s+(?!{_HERE}\b)[\w.-]+:\s*$"
            rf"|\b(?:on|from|at|in|inside|within|into|to)\s+(?:the\s+|an?\s+|your\s+|our\s+|any\s+"
            rf"|its\s+)?{_ROLE}\s+{_MACHINE}\b"
            rf"|\b(?:on|from|inside|within|in|into)\s+(?:the\s+|an?\s+|your\s+|my\s+"
            rf"|our\s+)?(?:(?!one\b|two\b|three\b|single\b|each\b|every\b|all\b|\d)[\w-]+\s+)?{_PLACES}\b(?!['’]s)"
            r"|^\W*(?:prod(?:uction)?|staging|stage|dev|qa|uat|pre-?prod)\W*[:)—–-]"
            r"|^\W*(?:mac(?:os)?|os x|windows|wsl2?|powershell|cmd)(?:\s+users?)?\s*[:)—–-]"
            r"|\bon (?:a )?(?:mac(?:os|book)?|os x|windows|wsl2?)\b"
            r"|\b(?:leave|keep) (?:it|this|running|open)\b|\bin (?:tmux|screen|the background"
            r"|production|prod|staging)\b|\b(?:ssh|log(?:ged)?|connect(?:ed)?|attach|switch)\s+(?:in"
            r"|on)?\s?(?:in)?to\s+(?!`)"
            r"|\bin\s+(?:an?|the|your)\s*(?:second|other|another|different|separate|new|tmux|screen)[\w ]*"
            r"(?:terminal|window|shell|pane|session|tab|tmux|screen)",
            after=rf"^[^\ue000.]*\b(?:on|from|at|inside|within)\s+(?:the\s+|an?\s+|your\s+|our\s+|any\s+"
            rf"|its\s+)?{_ROLE}\s+{_MACHINE}\b"
            r"|^[^\ue000.]*\bon (?:a )?(?:mac(?:os|book)?|os x|windows|wsl2?)\b"
            rf"|^[^\ue000.]*\bfrom\s+(?:the\s+|an?\s+|your\s+|my\s+)?local\s+{_MACHINE}\b"
            rf"|^[^\ue000.]*\b(?:on|from|inside|within|in)\s+(?:the\s+|an?\s+|your\s+|my\s+"
            rf"|our\s+)?(?:(?!one\b|two\b|three\b|single\b|each\b|every\b|all\b|\d)[\w-]+\s+)?{_PLACES}\b(?!['’]s)"
            r"|\bin\s+(?:an?|another|the|your)\s*(?:second|other|different|separate|new|tmux|screen)?[\w ]*"
            r"(?:terminal|window|tmux|screen)\b|\bin (?:one|the first) (?:terminal|window|shell|pane)\b"
            r"|\bin (?:production|prod|staging)\b|\bin the background\b|\bleave it running\b|\bkeep (?:it"
            r"|this) (?:running|open)\b",
            above=rf"\b(?:on|from|at|in|inside)\s+(?:the\s+|an?\s+|your\s+|our\s+"
            rf"|any\s+)?(?:{_ROLE}\s+{_MACHINE}|{_PLACES})\b(?!['’]s)"
            rf"|^\W*(?:the\s+)?{_ROLE}\s+(?:nodes?|hosts?|servers?)\s*:?$|^\W*(?:bastion|laptop|(?:the\s+)?switches"
            rf"|bmc)\s*:?$",
        ),
        Pattern(
            before=r"\bas\s+(?:the\s+)?(?:root|superuser|admin(?:istrator)?|postgres|oracle|slurm|another user"
            r"|(?:the\s+)?\w+ user)\b",
            after=r"^[^\ue000]*\bas\s+(?:the\s+)?(?:root|superuser|admin(?:istrator)?|postgres|oracle|slurm"
            r"|another user|(?:\w+ ){1,3}user)\b",
            above=r"\bas\s+(?:the\s+)?(?:root|postgres|another user)\b",
        ),
        Pattern(
            before=rf"\b(?:on|from|across)\s+(?:host |node )?{_HOST}\b|\b(?:on|from|across|at)\s+(?:each|every|all"
            rf"|both|another|the other|a different|some other"
            r"|several|multiple"
            r"|two|three|\d+)\s+(?:of the\s+|the\s+)?(?:[\w-]+\s+)?(?:nodes?|hosts?|servers?|machines?|workers?"
            r"|members?|replicas?"
            r"|clients?|brokers?|switches|racks?)\b",
            after=r"^[^\ue000]*\b(?:on|from|across|at)\s+(?:each|every|all|both|another|the other|a different"
            r"|several|multiple|two"
            r"|three|\d+)\s+(?:of the\s+|the\s+)?(?:[\w-]+\s+)?(?:nodes?|hosts?|servers?|machines?|workers?"
            r"|members?|replicas?"
            r"|clients?|brokers?|switches|racks?)\b"
            rf"|^[^\ue000.]*\b(?:on|from|across)\s+(?:host |node )?{_HOST}\b"
            r"|^[^\ue000.]*\b(?:on|from|across)\s+(?:the\s+)?(?!(?:these|those|our|your|single|one)\b)[\w-]+\s+"
            r"(?:nodes|hosts|servers|machines|workers)\b",
            above=r"\bon\s+(?:each|every|all|both|another|the other)\s+(?:of the\s+)?(?:[\w-]+\s+)?(?:nodes?"
            r"|hosts?|servers?|machines?"
            r"|workers?)\b",
        ),
    ),
}

# A sentence without a command that restricts the item's command.
_RESTRICTION = re.compile(
    r"^\W*(?:only\s+(?:if|when|on|for|in|after|needed|necessary|required|once|applies|with)|skip\b|optional\b"
    r"|not (?:needed|necessary|required|on|for|if|when|applicable)\b|(?:do not|don['’]?t|never)\s+(?:do|run|use"
    r"|execute|try"
    r"|repeat|start)\b|(?:applies|needed|required|necessary|relevant|valid) only|n/a\b|obsolete|deprecated|no longer)"
    r"|\bonly (?:if|when)\b|\b(?:if|where) (?:needed|necessary|required|applicable)\b|\(optional\)"
    r"|\bthis (?:step |item |test )?is (?:optional|only|not)\b|\b(?:the answer is no|nothing to do)\b",
    re.I,
)

_COMPILED = {
    name: [
        (
            re.compile(one.before, re.I) if one.before else None,
            re.compile(one.after, re.I) if one.after else None,
            re.compile(one.above, re.I) if one.above else None,
        )
        for one in patterns
    ]
    for name, patterns in _PATTERNS.items()
}


@dataclass(frozen=True, slots=True)
class Hindrance:
    """The name of a hindrance, and the words that say so."""

    name: str
    words: str


def hindrances_of(sentence: Sentence, index: int, code: Code) -> Iterator[Hindrance]:
    """The hindrances in a code's own sentence, and in the sentence that leads to it."""
    before, after = sentence.before(index), sentence.after(index)
    lead = sentence.lead if sentence.kind in ("bullet", "fence", "paragraph") else ""
    before = _DOUBLE.sub(" ", _WHETHER.sub(" ", before))
    lead = _DOUBLE.sub(" ", _WHETHER.sub(" ", lead))
    for name, patterns in _COMPILED.items():
        # "Rather than `a`, use `b`": the words speak of the first one.
        own = sentence.between(index)
        turned = name == "prohibition" and index and re.match(rf"\s*[,;—–]\W*(?:but\s+)?{_RUN}\b", own, re.I)
        for number, (in_before, in_after, _) in enumerate(patterns):
            if name == "another machine" and _is_reached(code.text, number):
                continue
            match = in_before.search(own if turned else before) if in_before else None
            match = match or (in_before.search(lead) if in_before and lead else None)
            if match is None and in_after:
                match = next((one for one in in_after.finditer(after) if not _is_outcome(name, after, one)), None)
            if match is not None:
                yield Hindrance(name, _words(match[0]))
                break


def _is_reached(text: str, number: int) -> bool:
    """Whether the command itself goes to the other machines, or becomes the other user."""
    return bool(_FANOUT.match(text)) if number == 2 else text.startswith("sudo ") if number == 1 else False


def _is_outcome(name: str, after: str, match: re.Match[str]) -> bool:
    """Whether a condition behind a command says what comes next ("…, if it fails, call"), not whether it runs."""
    if name != "condition":
        return False
    return any(one.start() <= match.start() < one.end() for one in _OUTCOME.finditer(after))


def above_of(texts: tuple[str, ...]) -> Iterator[Hindrance]:
    """The hindrances in a title or an introduction."""
    for text in texts:
        for name, patterns in _COMPILED.items():
            for _, _, above in patterns:
                if above is not None and (match := above.search(text)):
                    yield Hindrance(name, _words(match[0]))


def restriction_of(sentence: Sentence) -> Hindrance | None:
    """The restriction in a sentence without a command; None if it has none."""
    match = _RESTRICTION.search(sentence.text)
    return Hindrance("condition", _words(match[0])) if match else None


def _words(text: str) -> str:
    return " ".join(text.replace(MARK, "…").split()).strip(" ,;:(—–-.") or text.strip()
