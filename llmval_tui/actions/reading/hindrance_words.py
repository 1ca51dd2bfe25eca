"""The words that keep a command from starting: before a code, behind it, or in what stands above it.

A code span or a block is one mark in its sentence (`sentences.MARK`). The patterns are general: they name no
program and no list.
"""

from dataclasses import dataclass

RUN = (
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
    r"|whoever|facilities)"
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
FANOUT = (
    r"(?:sudo\s+)?(?:ssh|pdsh|pssh|clush|ansible|srun|sbatch|salloc|mpirun|mpiexec|kubectl|oc|helm|torchrun"
    r"|deepspeed|ray"
    r"|scontrol|sinfo|squeue|dcgmi|ceph|gluster|consul|nomad|docker|podman|k9s|talosctl|salt|parallel)\b"
)
_APPROVAL = (
    r"\b(?:needs?|requires?|with(?:out)?|after|pending|awaiting|upon|get|subject to"
    r"|wait(?:ing)? for)\s+(?:[\w'’]+\s+){0,2}?"
    r"(?:approval|sign-?off|permission|consent|go-?ahead|clearance|change request|maintenance window)\b"
)

_HOURS = (
    r"\b(?:outside|within|during|in|after|before)\s+(?:of\s+)?(?:business|office|working|core|peak|off-?peak)[\s-]*"
    r"(?:hours|time|window)s?\b|\b(?:before|after|until|by|at|from)\s+\d{1,2}(?::\d\d)?\s?(?:am|pm|h|o['’]clock|utc|cet)\b"
    r"|\bat (?:night|midnight|noon)\b|\b(?:before|after|until|by|at) \d{1,2}:\d\d\b"
)
_HARDWARE = (
    r"(?:(?:A|H|B|V|T|GB|GH|MI|L)\d{2,4}[A-Z]?(?:\s?NVL\d*)?|(?:DGX|HGX|RTX)\s?\w+|Grace|Hopper|Blackwell|Ampere)"
)
_SYSTEMS = (
    r"(?:ubuntu|debian|rhel|centos|rocky|alma(?:linux)?|sles|suse|fedora|arch linux|alpine|amazon linux|windows|macos"
    r"|debian/ubuntu|rhel/rocky|aws|gcp|azure|slurm|kubernetes|k8s|bare metal)"
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The words of one hindrance before a code, behind it, and in titles or sentences above it."""

    before: str | None = None
    after: str | None = None
    above: str | None = None


PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "prohibition": (
        Pattern(
            before=r"\b(?:under no circumstances?|on no account|in no case|at no time|by no means|make no use"
            r"|do not|don['’]?t|never|avoid|refrain from|no need to|needn['’]?t|need not|stop using"
            r"|not allowed to|forbidden to|instead of|rather than|in place of|forbids?|prohibits?|prohibited|banned"
            r"|(?:no ?body|no one|none) (?:should|may|must|needs?|has to|is to|is allowed|can|will)"
            rf"|(?:must|should|shall|may|can|is|are|did|does|will|would)(?: ?n['’]?t| not| never)\s+(?:be\s+)?{RUN}"
            rf"|(?:without|not)\s+(?:be\s+)?{RUN}(?!\w)|not(?: even| yet)?\s*\W?$|cannot\s+{RUN}|nothing to do)\b",
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
        # "WRONG: `a` RIGHT: `b`", "❌ `a`", "nobody has ever run `a`", "`a`: not on production", "`a` is not running"
        Pattern(
            before=r"(?:(?:^|[;,(.]\s*)(?:wrong|incorrect|bad|anti-?pattern|don['’]?ts?)\s*[:)]|[❌🚫⛔✗✘])\s*$"
            rf"|\b(?:no ?body|no one)\s+(?:\w+\s+){{0,3}}?{RUN}",
            after=r"^\W*not (?:on|as|for|with|in (?:prod|the|an?))\b"
            r"|^\W*(?:is|are|has|have)(?:\s+(?:been|already|all))*\s+(?:not|no longer|n['’]t)\s+"
            r"(?:running|active|started|alive|up|left)\b"
            r"|^\W*(?:is|are|has|have)\s+(?:been\s+)?(?:stopped|killed|gone|ended|terminated|shut down)\b",
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
            rf"|\b(?:you (?:may|can|could|might)|feel free to)(?: also| now| then)?\s+{RUN}\b"
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
        # What comes first, where, and when: "On Xid 79 run", "With MIG on, run", "After the reboot, run", "before 8 am"
        Pattern(
            before=r"^\W*(?:up)?on\s+(?![^,:\ue000]*\b(?:nodes?|hosts?|gpus?|cpus?|machines?|systems?|servers?|linux|it"
            rf"|this|here|localhost)\b)[^,:\ue000]{{2,50}}[,:]?\s+{RUN}\s*$"
            rf"|^\W*with\s+(?!the following)[^,:\ue000]{{2,60}},\s*(?:then\s+)?{RUN}\s*$"
            r"|^\W*(?:after|following|before|prior to)\s+(?!(?:that|this|which|each|all)\b)[^,:\ue000]{2,60}[,:]"
            r"|\b(?:except|excluding|other than)\s+(?:on|in|for|at|when|if|during)\b"
            r"|^\W*(?:waiting|disabled|parked|paused|deferred|future|inactive)\b[^:\ue000]{0,30}[:)]"
            r"|^\W*(?:escape hatch|work-?around|manual override|roll(?:ing)? back|roll-?back|recovery)\b"
            rf"|{_HOURS}",
            after=r"\b(?:except|excluding|other than|(?:every|any)where but|all but)\b"
            r"|^\W*(?:can|may|could|might) be (?:skipped|omitted|left out|ignored)\b|^\W*nice to have\b"
            r"|\bafter (?:the |an? |each |every )?(?:re-?boot|restart|upgrade|update|power.?cycle|fail-?over"
            r"|maintenance|firmware|driver|reset)\w*"
            rf"|{_HOURS}",
            above=r"^\W*(?:\d+\.?\s*)?(?:destructive|dangerous|out of scope|known (?:issues|problems)|rejected"
            r"|dropped|removed|de-?commission\w*|tear-?down|won['’]t (?:fix|do)|parked|deferred|backlog|future|ideas)\b"
            rf"|\b{_HARDWARE} only\b|\bonly\s*:?\s*$",
        ),
        # The hardware or the system that it is for: "H100: `a`; B200: `b`", "Ubuntu: `a`, RHEL: `b`"
        Pattern(
            before=rf"(?:(?:^|[;,(.]\s*)(?:for\s+|on\s+)?(?:{_HARDWARE}|{_SYSTEMS})(?:\s+[\w.]+)?(?:\s+(?:nodes?|systems?"
            rf"|hosts?|machines?|users?))?\s*[:)]|\b(?:for|on)\s+{_HARDWARE}\b[^\ue000:]{{0,20}})\s*(?:{RUN})?\s*$",
            after=rf"^\W*\((?:on |for )?(?:{_SYSTEMS}|{_HARDWARE})(?: only)?\)|\bonly (?:on|for) {_HARDWARE}\b",
        ),
    ),
    "alternative": (
        Pattern(
            before=r"\b(?:either|alternatively|whichever|one of|any of|pick|choose|option [a-c1-9]|preferably"
            r"|ideally)\b"
            rf"|\bor\s+(?:just\s+|simply\s+)?(?:{RUN})?\s*$",
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
        # "Document how to run `a`", "Teach the team to run `a`"
        Pattern(
            before=r"\bhow (?:to|you|we|one|they)\b|\b(?:teach|train|show|remind|explain|document|describe|discuss"
            rf"|decide|understand|learn|know)\b[^,.:\ue000]*\bto\s+{RUN}\s*$",
            above=r"^\W*(?:\d+\.?\s*)?(?:appendix|cheat ?sheet|(?:useful|handy|helpful|common) commands"
            r"|command reference|snippets|faq|glossary)\b",
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
            above=r"^\W*(?:already\s+)?(?:done|completed|finished|resolved)\W*$"
            r"|\b(?:history|historic(?:al)?|obsolete|deprecated|archived?|no longer|old (?:way|procedure))\b",
        ),
    ),
    "repetition": (
        Pattern(
            before=r"\b(?:repeat(?:edly)?|(?:two|three|four|five|ten|several|multiple|\d+)\s?(?:x|×|times)\s*\W*$)"
            rf"|\b{RUN}\s+(?:twice|thrice|(?:two|three|four|five|ten|several|\d+) times)\b"
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
        # "Every Monday: `a`", "`a` hourly", "`a` ×3", "`a` before and after the update"
        Pattern(
            before=r"^\W*(?:every|each)\s+(?:\w+day|day|week|month|quarter|hour|night|morning|shift|release|\d+)\b"
            r"|^\W*(?:hourly|daily|weekly|nightly|monthly|quarterly)\b",
            after=r"^[^\ue000]*\b(?:hourly|daily|weekly|nightly|monthly|quarterly|before and after"
            r"|every\s+(?:\d+\s+)?(?:minutes?|hours?|days?|weeks?|\w+day|night|morning|month|quarter))\b"
            r"|^\W*(?:\d+|two|three|four|five|ten|several)\s+(?:runs|repetitions|repeats|trials|rounds)\b"
            r"|^[\s,(]*(?:[×x]\s?\d+|\d+\s?[×x])(?!\w)",
        ),
        # "with TP 2, 4 and 8", "on GPU 0..7"; but not if the command has these numbers
        Pattern(
            after=r"^[^\ue000.;:]*\b(?:with|for|at|on|using|under|in)\b[^\ue000.;:<>≤≥]{0,30}?(?P<series>(?<![\w.])\d+"
            r"(?:(?:,\s+|/|\s*\.{2,3}\s*)\d+)+(?:,?\s*(?:and|or)\s+\d+)?)(?![\w%]|\.\d|\s?(?:GB|GiB|ms|s|%)\b)",
        ),
    ),
    "another actor": (
        Pattern(
            before=r"\b(?:ask|tell|have|get|let|request|remind|instruct|page|contact|wait for|order|expect|want)\s+"
            rf"(?:for\s+)?(?:the\s+|our\s+|your\s+|an?\s+|some\s+)?(?:[\w-]+\s+){{0,2}}(?:{_PEOPLE}|them|him"
            rf"|her|@\w+)\b"
            rf"|\b(?:ask|tell|request|remind|instruct|order)\s+(?:[\w'-]+\s+){{1,5}}to\s+{_DOES}\b"  # whoever it is
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
            rf"|for)\s+(?:the\s+)?(?:[\w-]+\s+){{0,2}}{_PEOPLE}\b"
            rf"|^\W*(?:[\w-]+\s+)?{_PEOPLE}(?:['’]s)?\s+(?:tasks?|actions?|work|steps?|checks?|items?|part|duties)\W*$",
        ),
        # "@ops please run `a`", "TODO(anna): `a`"
        Pattern(
            before=r"^[^\ue000]{0,30}(?<![\w.])@[a-z][\w-]*\b|\b(?:todo|fixme|action|owner)\s*\(\s*@?[\w. -]+\)\s*:"
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
            rf"|workers?)\b|^\W*(?:on\s+)?(?:node\s+|host\s+)?{_HOST}\s*:?\W*$",
        ),
        # "`a` (staging)", "on a canary first", "as user slurm", "in the `vllm` pod", "Terminal 1: `a`", "client: `b`"
        Pattern(
            before=r"(?:^|[;,(.]\s*)(?:terminal|window|shell|pane|tab|session|console)\s*#?\d+\s*[:)]\s*$"
            r"|(?:^|[;,(.]\s*)(?:(?:server|client) side|clients?|senders?|receivers?|initiators?)\s*:\s*$",
            after=r"^\W*\(\s*(?:prod(?:uction)?|staging|stage|dev|qa|uat|canary|lab)(?:\s+only)?\s*\)"
            r"|\bon (?:an?|one|the|our) (?:canary|spare|lab|test (?:node|host|machine|server)|staging)\b"
            r"|\bon (?:an?|one) \w+(?: \w+)? first\b|\bas\s+(?:the\s+)?user\s+\w+"
            r"|^\W*in(?:side)?\s+the\s+\ue000\s+(?:pod|container|namespace|venv|env|environment)\b",
        ),
    ),
}
