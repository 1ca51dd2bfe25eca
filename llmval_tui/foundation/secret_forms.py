"""The forms in which secrets stand in files: words, values beside a word, and values of a name.

`llmval_tui/foundation/` and `runners/llmval_runners/process/` have the same file, as `redaction.py` says.
"""

import re

# -- strings that are secrets by their form ---------------------------------------------------------------------------
# user:password of a URL. No quotes, control bytes or high bytes, so that a match ends with the URL.
# A password may hold an `@`, and a `/` if it does not look like a port.
IN_URL = re.compile(
    rb"(?<=://)[^/\s:@\"'\x00-\x1f\x7f-\xff]*:"
    rb"(?:[^/\s@,\"'\x00-\x1f\x7f-\xff]+(?=@)(?:@[^/\s@,\"'\x00-\x1f\x7f-\xff]+(?=@))*|"
    rb"(?<=[^/]:)(?!\d+/)[^/\s@,\"'?\x00-\x1f\x7f-\xff]+/[^/\s@,\"'?\x00-\x1f\x7f-\xff]+(?=@))"
)
_TOKEN_USER = re.compile(rb"(?<=://)(?=[^/\s:@\"']*\d)[A-Za-z0-9_.~-]{16,}(?=:?@)")  # a token in place of a user
_WORDS = re.compile(
    rb"\b(?:"
    rb"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b(?::[A-Za-z0-9/+=]{30,})?|"
    rb"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|"
    rb"gl(?:pat|dt|rt|cbt|ptt|soat|agent|ft|imt)-[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.[0-9A-Za-z]{7,9})?|"
    rb"sk-[A-Za-z0-9_-]{20,}|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{20,}|"
    rb"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9A-Za-z-]{20,}|"
    rb"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,}|1//0[0-9A-Za-z_-]{30,}|"
    rb"nvapi-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}|dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}|"
    rb"do[por]_v1_[a-f0-9]{40,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|key-[0-9a-f]{32}\b|SK[0-9a-f]{32}\b|"
    rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|sq0(?:atp|csp)-[0-9A-Za-z_-]{22,}|gl(?:sa|c)_[A-Za-z0-9+/=_]{32,}|"
    rb"hv[sbr]\.[A-Za-z0-9_-]{20,}|dapi[a-f0-9]{32}|r8_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{40,}|pplx-[A-Za-z0-9]{40,}|"
    rb"xai-[A-Za-z0-9]{40,}|tskey-[A-Za-z0-9-]{20,}|lin_api_[A-Za-z0-9]{30,}|PMAK-[a-f0-9-]{40,}|"
    rb"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{40,}|"
    rb"wandb_v1_[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]+){0,2}|"
    rb"\d{8,10}:AA[A-Za-z0-9_-]{32,}|[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}|"
    rb"(?:ntn|secret)_(?=[A-Za-z0-9_]*\d)[A-Za-z0-9_]{38,}(?:\.[A-Za-z0-9]{24,})?|ms-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|figd_[A-Za-z0-9_-]{20,}|pul-[0-9a-f]{40}|"
    rb"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,}|dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{20,}|"
    rb"sntry[su]_[A-Za-z0-9+/=_-]{30,}|NRAK-[A-Z0-9]{20,}|fw_[A-Za-z0-9]{20,}|lsv2_[ps][tk]_[0-9a-f_]{32,}|"
    rb"rpa_[A-Za-z0-9]{20,}|xox[cd]-[A-Za-z0-9%+/=-]{20,}|ATBB[A-Za-z0-9_=.-]{24,}|ATATT[A-Za-z0-9_=.-]{30,}|"
    rb"LS0tLS1CRUdJTi(?!BDRVJU|BQVUJM)[A-Za-z0-9+/]{24,}={0,2}|"  # a private key in base64, not a certificate
    rb"HRKU-[A-Za-z0-9_-]{36,}|LTAI[A-Za-z0-9]{16,}|AKID[A-Za-z0-9]{32}\b|AQVN[A-Za-z0-9_-]{35,}|bkua_[0-9a-f]{40}|"
    rb"CCIP(?:AT|RJ)_[A-Za-z0-9]+_[0-9a-f]{40}|cio[A-Za-z0-9]{32}\b|rubygems_[0-9a-f]{48}|oy2[a-z0-9]{43}\b|"
    rb"AKCp[A-Za-z0-9]{60,}|tgp_v1_[A-Za-z0-9_-]{40,}|csk-[a-z0-9]{40,}|jina_[A-Za-z0-9_-]{40,}|"
    rb"pa-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{43}\b|pcsk_[A-Za-z0-9_]{40,}|local-[0-9a-f]{40}\b|SWMKEY-1-[A-Za-z0-9+/]{40,}|"
    rb"sb[ps]_[0-9a-f]{40}|pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_-]{32,}|nfp_[A-Za-z0-9]{36,}|fm[12]_[A-Za-z0-9+/=_,]{40,}|"
    rb"rnd_[A-Za-z0-9]{28,}|sq[uap]_[0-9a-f]{40}|duffel_(?:live|test)_[A-Za-z0-9_-]{40,}|tfp_[A-Za-z0-9_-]{40,}|"
    rb"ops_eyJ[A-Za-z0-9_-]{60,}|EAAA[A-Za-z0-9_-]{56,}|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}|[0-9a-f]{32}-us[0-9]{1,2}\b|"
    rb"sess-[A-Za-z0-9]{40,}|b3BlbnNzaC1rZXktdjE[A-Za-z0-9+/]{40,}={0,2}|K10[0-9a-f]{64}::\w+:[0-9A-Za-z]{16,}|EAA[A-Za-z0-9]{100,}|"
    rb"CFPAT-[A-Za-z0-9_-]{40,}|v1\.0-[0-9a-f]{24}-[0-9a-f]{146}|cf(?:ut|at|k)_[A-Za-z0-9]{36,}|secret_[A-Za-z0-9_]{24,}\.[A-Za-z0-9]{24,}|"
    rb"hf_(?:oauth|jwt)_[A-Za-z0-9._-]{20,}|ph[cx]_[A-Za-z0-9]{40,}|ddp_[A-Za-z0-9]{36}|[sp]k\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}|"
    rb"amzn\.mws\.[0-9a-f-]{36}|ABSK[A-Za-z0-9+/]{60,}={0,2}|A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-(?:[A-Z0-9]{5}-){1,2}[A-Z0-9]{5}|"
    rb"S[ACNOUX][A-Z2-7]{56}\b|\d{8,10}:(?=[A-Za-z0-9_-]*[a-z])(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{35}\b|"
    rb"eyJrIjoi[A-Za-z0-9+/=]{40,}|RWRTY0Iy[A-Za-z0-9+/=]{40,}|[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{30,}|(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[A-Za-z0-9/+=]{50,}"
    rb")"
)
_KEY_BLOCK = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:[\s\S]{1,20000}?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|"
    rb"(?:[\s\\rn\"',+]{0,8}[A-Za-z0-9+/=:., -]{4,})*)"
)
_PUTTY_KEY = re.compile(rb"(?<=Private-Lines: )\d+(?:(?!Private-Lines: )[\s\S]){1,20000}?(?=\nPrivate-MAC|\Z)")
_HASH = re.compile(rb"\$(?:apr1|1|2[abxy]|5|6|y|argon2id?)\$[./A-Za-z0-9$=,]{20,}")
_HOOK = re.compile(
    rb"(?<=hooks\.slack\.com/)[A-Za-z0-9/_-]{12,}|(?<=/webhooks/)\d{8,}/[A-Za-z0-9_-]{40,}|(?<=/api/webhooks/)\d+/[A-Za-z0-9_-]{20,}|"
    rb"(?<=\.webhook\.office\.com/)[^\s\"'<>]{16,}|(?<=outlook\.office\.com/webhook/)[^\s\"'<>]{16,}|"
    rb"(?<=api\.telegram\.org/bot)[0-9]+:[A-Za-z0-9_-]{20,}|(?<=hooks\.slack\.com/workflows/)[A-Za-z0-9/_-]{12,}|"
    rb"(?<=conda\.anaconda\.org/t/)[A-Za-z0-9-]{16,}(?=/)"
)
# Before each pattern are words, in lower case, of which every match has one: to look for a word in a large file takes a
# hundredth of the time. A pattern without words is always tried.
WHOLE: tuple[tuple[tuple[bytes, ...], re.Pattern[bytes]], ...] = (
    ((b"private key",), _KEY_BLOCK),
    ((b"private-lines: ",), _PUTTY_KEY),
    ((b"://",), IN_URL),
    ((b"://",), _TOKEN_USER),
    ((b"hooks.slack.com/", b"webhook", b"api.telegram.org/bot", b"conda.anaconda.org/t/"), _HOOK),
    ((), _WORDS),
    ((b"$",), _HASH),
)


# -- values beside a word that is not a name --------------------------------------------------------------------------
_GAP = re.compile(rb"(\[\^(?:\\.|[^]\\])+\])\*\??")  # `[^\r\n]*?` in a pattern


def _linear(pattern: bytes) -> bytes:
    """The pattern, each of whose gaps ends where the words before the gap stand again: another match begins there.

    Else a line with a thousand `curl` takes a million steps, and with `docker` and `login` a thousand times more.
    """
    found, at = b"", 0
    if pattern.startswith(b"(?m)^"):  # it begins once in a line
        return pattern
    for gap in _GAP.finditer(pattern):
        head = re.sub(rb"^\(\?[a-z]+\)", b"", pattern[at : gap.start()])
        if gap[0].endswith(b"?") and head:
            found += pattern[at : gap.start()] + rb"(?:(?!" + head + rb")" + gap[1] + rb")*?"
            at = gap.end()
    return found + pattern[at:]


# Group 1 is the secret. Words as above. JSON's `\n`, `\r` and `\t` are `\` and a vertical tab here, and in `WHOLE`, so
# that a word begins after them.
BESIDE = tuple((words, re.compile(_linear(pattern))) for words, pattern in (
    ((b"authorization",), (
        rb"(?i)\b(?:proxy-)?authorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?"
        rb"(?:(?:bearer|basic|token|digest|negotiate|apikey|aws4-hmac-sha256)[ ]+)?([^\r\n\"'\\]{4,})")),
    ((b"cookie",), rb"(?i)\b(?:set-)?cookie\\?[\"']?\s{0,3}:\s{0,3}\\?[\"']?([^\r\n\"'\\]{4,})"),
    ((b"bearer",),
     rb"\b[Bb]earer[ ]+((?=[A-Za-z0-9._~+/=-]*[0-9=._~+/-])[A-Za-z0-9._~+/=-]{8,}|[A-Za-z0-9._~+/=-]{20,})"),
    ((b"machine",), rb"(?i)\bmachine\s+\S+\s+login\s+\S+\s+password\s+([^\s\"'\\]+)"),
    ((b"bindpw", b"authtok"), rb"\b(?:bindpw[ \t]+|ldap_default_authtok[ \t]*=[ \t]*)([^\s\"'\\]+)"),
    ((b"login",), rb"(?i)\blogin\s+\S+\s+password\s+([^\s\"'\\]{4,})"),
    ((b"identified",), rb"(?i)\bidentified\s+by\s+\\*['\"]([^'\"\\\r\n]+)"),
    ((b"thin:",), rb"(?i)\bthin:[^/\s@]+/([^@\s]+)@"),
    ((b";pwd=", b";password="), rb"(?i);(?:pwd|password)=([^;\s\"'/][^;\s\"']*)"),
    ((), rb"(?m)^[\w.*-]+:(?:\d{2,5}|\*):[\w*-]+:[\w*-]+:([^\s:/]{4,})$"),  # a line of .pgpass
    ((b"wandb",), rb"\bwandb\s+login\s+(?:--\S+\s+)*([0-9a-f]{32,}|[A-Za-z0-9_-]{36,})"),
    ((b"curl", b"wget", b"http"),
     (rb"\b(?:curl|wget|http)\b[^\r\n]*?\s(?:-[A-Za-z]{0,8}[uU]|--(?:proxy-)?user)[ =]{0,24}\\*[\"']?"
     rb"[^\s:\"'\\]+:([^\s\"'\\]+)")),
    ((b"sshpass",), rb"\bsshpass\s+-p\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"ipmitool",), rb"\bipmitool\b[^\r\n;|&]*?\s-P\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"redis-cli",), rb"\bredis-cli\b[^\r\n;|&]*?\s-a\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"mongo",), rb"\bmongo(?:sh|dump|restore|export|import)?\b[^\r\n;|&]*?\s-p\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"ldap",), rb"\bldap(?:search|add|modify|delete|whoami|passwd)\b[^\r\n;|&]*?\s-w\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"zip",), rb"\b(?:un)?zip\b[^\r\n;|&]*?\s-P\s{0,24}\\*[\"']?([^\s\"'\\;|&]+)"),
    ((b"7z",), rb"\b7z[ar]?(?=\s)[^\r\n;|&]*?\s-p([^\s\"'\\;|&]+)"),
    ((b"sqlcmd", b"bcp"), rb"\b(?:sqlcmd|bcp)\b[^\r\n;|&]*?\s-P\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"smbclient", b"rpcclient"), rb"\b(?:smb|rpc)client\b[^\r\n]*?\s-U\s?[^\s%]+%([^\s\"'\\]+)"),
    ((b"-pass",), rb"\s-pass(?:in|out)?\s+pass:([^\s\"'\\]+)"),
    ((b"http",), rb"\bhttps?(?=\s)[^\r\n;|&]*?\s-a\s?[^\s:\"']+:([^\s\"'\\]+)"),
    ((b"vault",), rb"\bvault\s+login\s+(?:-\S+\s+)*([A-Za-z0-9._-]{20,})"),
    ((b"curl",), rb"\bcurl\b[^\r\n]*?\s(?:-b|--cookie)[ =]{0,24}\\*[\"']?[^\s=\"']+=([^\s\"'\\]+)"),
    ((b"-stdin",), rb"\becho\s+(?:-n\s+)?[\"']?([^\s\"'\\$|]+)[\"']?\s*\|[^\r\n|]*--password-stdin"),
    ((b"password",), rb"(?i)\b(?:with|set)\s+password\s*=?\s*\\*'([^'\\\r\n]+)"),
    ((b"-server",), rb"\b(?:tacacs|radius)-server\b[^\r\n]*?\bkey\s+(?:\d\s+)?([^\s\"'\\]+)"),
    ((b"digest",), rb"(?i)\bdigest\b[^\r\n]*?\bresponse=\\*[\"']?([0-9a-f]{16,})"),
    ((b"key=", b"code=", b"assertion="),
     rb"[?&](?:key|code|client_assertion|assertion)=((?=[A-Za-z0-9_.~-]*\d)[A-Za-z0-9_.~-]{20,})"),
    ((b"assertion",), rb"\bclient_assertion=([^\s&\"'\\]+)"),
    ((b"%3d",), rb"(?i)(?:%3f|%26)[a-z0-9_.-]*(?:token|key|secret|passw(?:or)?d|sig)%3d([A-Za-z0-9_.~-]{6,})"),
    ((b" is",),
     rb" is(?<=(?i:oken|word|rase|.key|cret) is):?\s+((?=\S*\d)(?=\S*[A-Za-z])[A-Za-z0-9_.-]{20,})"),
    ((b"mysql", b"mariadb"), (
        rb"\b(?:mysql(?:dump|admin|import|show|slap|check)?|mariadb(?:-\w+)?|mycli)\b[^\r\n]*?"
        rb"\s-p([^\s\"'\\]+)")),
    ((b"login",),
     (rb"\b(?:docker|podman|helm|skopeo|buildah|oras|nerdctl|apptainer|singularity|regctl|crane|oc|az)\b[^\r\n]*?"
     rb"\blogin\b[^\r\n]*?\s-p[ =]{0,24}\\*[\"']?([^\s\"'\\]+)")),
    ((b"twine", b"racadm"), rb"\b(?:twine\s+upload|racadm)\b[^\r\n;|&]*?\s-p\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"lftp",), rb"\blftp\b[^\r\n;|&]*?\s-u\s?[\"']?[^\s,\"']+,([^\s\"'\\]+)"),
    ((b"sudo", b"cryptsetup"),
     rb"\becho\s+(?:-n\s+)?\\*[\"']?([^\s\"'\\$|]+)\\*[\"']?\s*\|\s*(?:sudo\s+(?:-\w\s+)*-S|(?:sudo\s+)?cryptsetup)\b"),
    ((b"chpasswd",),
     rb"\becho\s+(?:-\w\s+)?\\*[\"']?[^\s:\"'\\]+:([^\s\"'\\]+)\\*[\"']?\s*\|[^\r\n|]*\bchpasswd"),
    ((b"snmp",),
     rb"\bsnmp(?:walk|get|getnext|bulkwalk|set|trap|status)\b[^\r\n;|&]*?\s-[cAX]\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"snmp",), rb"\bsnmp(?:walk|get|set)\b[^\r\n;|&]*?\s-X\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"x11vnc",), rb"\bx11vnc\b[^\r\n;|&]*?\s-passwd\s+([^\s\"'\\]+)"),
    ((b"freerdp",), rb"\b[wx]l?freerdp\b[^\r\n;|&]*?\s/p:([^\s\"'\\]+)"),
    ((b"net use",), rb"(?i)\bnet +use\b[^\r\n;|&]*?/user:[^\s\"]+ +([^\s\"'\\/]+)"),
    ((b"influx",), rb"\binflux\b[^\r\n;|&]*?\s-t\s?([A-Za-z0-9_=-]{20,})"),
    ((b"keytool", b"jarsigner"), rb"\b(?:keytool|jarsigner)\b[^\r\n;|&]*?\s-(?:src|dest)?storepass\s+([^\s\"'\\]+)"),
    ((b"keytool", b"jarsigner"), rb"\b(?:keytool|jarsigner)\b[^\r\n;|&]*?\s-(?:src|dest)?keypass\s+([^\s\"'\\]+)"),
    ((b"openssl",), rb"\bopenssl\s+enc\b[^\r\n;|&]*?\s-[kK]\s+([^\s\"'\\]+)"),
    ((b"htpasswd",), rb"\bhtpasswd +-\w*b\w* +(?:-\w+ +)*[^\s\"]+ +[^\s\"]+ +([^\s\"'\\]+)"),
    ((b"mosquitto_",), rb"\bmosquitto_(?:pub|sub|rr)\b[^\r\n;|&]*?\s-P\s?([^\s\"'\\]+)"),
    ((b"poetry",), rb"\bpoetry +config +(?:--\S+ +)*pypi-token\.[^\s\"]+ +([^\s\"'\\]+)"),
    ((b"poetry",), rb"\bpoetry +config +(?:--\S+ +)*http-basic\.[^\s\"]+ +[^\s\"]+ +([^\s\"'\\]+)"),
    ((b"mc ",), rb"\bmc +(?:alias +set|config +host +add) +[^\s\"-][^\s\"]* +[^\s\"]+ +[^\s\"]+ +([^\s\"'\\]+)"),
    ((b"-auth",), rb"\s-auth\s+[^\s:@]+:([^\s\"'\\]+)"),
    ((b"--username",), rb"\s--username[ =]\S+\s+-p\s+[\"']?([^\s\"'\\]+)"),
    ((b"dockerconfigjson", b"device_code", b"samlresponse", b"-art-api", b"honeycomb-team", b"bw_session"), (
        rb"(?i)(?:\.dockerconfigjson|device_code|SAMLResponse|X-JFrog-Art-Api|X-Honeycomb-Team|BW_SESSION)\\*[\"']?"
        rb"\s{0,3}[:=]\s{0,3}\\*[\"']?([^\s\"'\\]{16,})")),
    ((b"pass = ",), rb"\bpass = ((?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,})(?![A-Za-z0-9_.:/-])"),  # of rclone
    ((b"unseal key",), rb"\bUnseal Key \d+:\s+([A-Za-z0-9+/=]{20,})"),
    ((b"login(",), rb"\blogin\(\s*(?:key|token|api_key)\s*=\s*\\*[\"']([^\"'\\]{8,})"),
    ((b'"username',),
     rb"\\*\"username\\*\"\s*:\s*\\*\"[^\"\\]*\\*\"\s*,\s*\\*\"key\\*\"\s*:\s*\\*\"([0-9a-f]{32})"),
    ((b"key",), rb"key\s*=\s*\\*[\"']?(AQ[A-Za-z0-9+/]{34,}==)"),  # of Ceph
    ((b'"kty',), rb"\\*\"(?:d|k|p|q|dp|dq|qi)\\*\"\s*:\s*\\*\"([A-Za-z0-9_-]{22,})\\*\""),  # of a JSON web key
    ((b"\ttrue", b"\tfalse", b"\\ttrue", b"\\tfalse"),
     rb"(?:TRUE|FALSE)(?:\t|\\+\v)\d+(?:\t|\\+\v)[^\s\\]+(?:\t|\\+\v)([^\s\"'\\]{6,})"),  # a file of cookies
    ((b"api key", b"access key", b"access token", b"secret key", b"api token"),
     (rb"(?i)\b(?:api|access|secret)[ ](?:key|token)[*_`\"']{0,3}(?::|=|[ ]is)[ *_`:\"']{1,5}"
     rb"((?=[^\s\"'`\\]*\d)(?=[^\s\"'`\\]*[A-Za-z])[^\s\"'`\\<>$(){}]{8,})")),
    ((b"--user", b"-u ", b"-u\t"), (  # --user me -p X; not the partition of Slurm, not a port, not a path
        rb"(?m)^(?![^\r\n]*\bs(?:run|batch|alloc|queue|info|acct|cancel|control|udo)\b)[^\r\n]*?"
        rb"\s(?:-[uU]|--user(?:name)?)[ =]\s{0,24}[^\s-]\S*\s+(?:-[pP]|--pass(?:w(?:or)?d)?[ =])\s{0,24}"
        rb"(?![\d.:]{1,30}(?:[\s\"',]|\Z)|[\d.]*:\d|[/.~$-])([^\s\"'\\;|&]+)")),
    ((b" -u", b" --user"), (  # -u me:X; not user and group of a container
        rb"(?m)^(?![^\r\n]*\b(?:docker|podman|nerdctl|chroot|crun|buildah)\b)[^\r\n]*?"
        rb"\s(?:-u|--user[ =])\s{0,24}\\*[\"']?[\w.@-]+:"
        rb"(?![a-z_-]+(?:[\s\"'`]|\Z)|\d+(?:[\s\"'`:]|\Z))([^\s\"'\\`/]+)")),
    ((b" -p ",), (
        rb"\s-p\s+(?![\d.:]{1,30}\s|[\d.]*:\d|[/.~$-])([^\s\"'\\;|&]+)\s+--?u(?:ser(?:name)?)?[ =]")),
    ((b"--from-literal",), rb"--from-literal[ =]\\*[\"']?[^\s=\"'\\]+=\\*[\"']?([^\s\"'\\]+)"),
    ((b"<<<",), (
        rb"\b(?:login|chpasswd|passwd|sudo|kinit|cryptsetup|ssh-add|vncpasswd)\b[^\r\n<]*?<<<\s*\\*[\"']?"
        rb"(?:[\w.-]+:)?([^\s\"'\\$]+)")),
    ((b"|",), (
        rb"\b(?:echo|printf)\s+(?:-\w+\s+)*(?:\\*[\"']?%s(?:\\*[n\v])?\\*[\"']?\s+)?\\*[\"']?([^\s\"'\\$|]+)\\*[\"']?\s*\|\s*(?:sudo\s+)?"
        rb"(?:passwd\s+--stdin|kinit\b|vncpasswd\b|[^\r\n|]*--password-stdin)")),
    ((b"sqlplus",), rb"\bsqlplus\s+(?:-\S+\s+)*\\*[\"']?[^\s/\"'\\]+/([^\s@\"'\\]+)"),
    ((b"rar ",), rb"\b(?:un)?rar\s+[^\r\n;|&]*?\s-h?p([^\s\"'\\;|&]+)"),
    ((b"acl set-agent-token",), rb"\bacl\s+set-agent-token\s+(?:-\S+\s+)*\w+\s+([^\s\"'\\]+)"),
    ((b"secret id", b"secretid"), rb"(?i)\bsecret ?id\s*[:=]\s*([0-9a-f]{8}-[0-9a-f-]{27})"),
    ((b"basicauth", b"digestauth", b"auth=", b"auth =", b"client("), (
        rb"\b(?:\w*(?:Basic|Digest)Auth|auth\s?=\s?|(?i:twilio\w*|Client))\(\s*\\*[\"'][^\"'\\]*\\*[\"'],\s*\\*[\"']([^\"'\\]{4,})")),
    ((b"pass=",), rb"(?:,|\s-o\s)pass=([^,\s\"'\\]+)"),  # of mount.cifs
    ((b": psk",), rb":\s+PSK\s+\\*[\"']([^\"'\\]+)"),
    ((b"assword:",), rb"assword:[^\r\n]{0,20}\bsend(?:\s+--)?\s+\\*[\"']([^\"'\\]+)"),
    ((b"password is", b"password was", b"password for", b"phrase is", b"phrase for"), (
        rb"(?:[Pp]assword|[Pp]assphrase|PASSWORD)"
        rb"(?:\s+(?:is|was)(?:\s+(?:set|changed|reset)\s+to)?|[ \t]+for\s+[^\s:]+):?\s+[\"'`]?"
        rb"((?=[^\s\"'`]*\d)(?=[^\s\"'`]*[A-Za-z])[^\s\"'`\\<>(){}]{6,}(?<![.,:;]))")),
    ((b"**", b"`"), (
        rb"(?:\*\*|`)(?i:[\w -]{0,30}(?:password|passphrase|passwd|secret|token|api[ _-]?key))"
        rb"(?:\*\*|`)?:(?:\*\*|`)?[ \t]*[*_`]{0,2}"
        rb"((?=[^\s\"'`]*\d)(?=[^\s\"'`]*[A-Za-z])[^\s\"'`\\<>(){}*]{6,})")),
    ((b"<input",), rb"(?i)<input\b(?=[^<>]*\btype=\\*[\"']password)[^<>]*\bvalue=\\*[\"']([^\"'\\]+)"),
    ((b"mac=",), rb"\bmac=\\*[\"']([A-Za-z0-9+/]{20,}={0,2})"),  # of Hawk
    ((b"-api-key", b"-api_key"), (  # several keys of one server
        rb"--(?:[a-z]+[-_])?api[-_]keys?[ =]\s{0,24}[^\s-]\S*((?:[ \t]+(?=\S*\d)(?=\S*[A-Za-z])[\w.~+/=-]{12,})+)")),
    ((b"secretstr(", b"secretbytes("),
     rb"\bSecret(?:Str|Bytes)\(\s*[bu]?\\*[\"']([^\"'\\\r\n]{4,})\\*[\"']"),
    ((b"hey", b"oha", b"ab"), rb"\b(?:hey|oha|ab)(?=\s)[^\r\n;|&]*?\s-[aA]\s+\\*[\"']?[^\s:\"'\\]+:([^\s\"'\\]+)"),
    ((b"%",), rb"\s-U\s?\\*[\"']?[\w.@-]+%([^\s\"'\\]+)"),  # of Samba
    ((b"authtoken",), rb"\bauthtoken\s+([A-Za-z0-9_-]{20,})"),
    ((b"add-mask::", b"insecure-api-key."), rb"(?:::add-mask::|\binsecure-api-key\.)([^\s\"'\\]+)"),
    ((b"curl",),
     rb"\bcurl\b[^\r\n]*?\s(?:-E|--(?:proxy-)?cert)[ =]\\*[\"']?[^\s:\"'\\]+:([^\s\"'\\]+)"),
    ((b"ipmitool",), rb"\bipmitool\b[^\r\n;|&]*?\spassword\s+\d+\s+\\*[\"']?([^\s\"'\\]+)"),
    ((b"weka",), rb"\bweka\s+user\s+login\s+\S+\s+([^\s\"'\\]+)"),
    ((b"auth",),  # whose quotes a shell has removed
     rb"(?:\bauth\s?=\s?|(?:Basic|Digest)Auth)\([\w.@-]+,\s((?=[^\s)]*\d)[^\s\"'\\()]{6,})\)"),
    ((b" key ",), (
        rb"\b(?:the|your|my|this)[ ]key[ ]+[`\"']?"
        rb"((?=[A-Za-z]*\d)(?=[A-Z0-9]*[a-z])(?=[a-z0-9]*[A-Z])[A-Za-z0-9_-]{20,})")),
    ((b"pass",), (
        rb"(?m)^[ \t]*pass[ \t]*[:=][ \t]*"
        rb"((?=\S*\d)(?=\S*[a-z])(?=\S*[A-Z])[^\s\"'\\_/.:()\[\]]{8,})[ \t]*$")),
    ((b"wpa_passphrase",), rb"\bwpa_passphrase\s+\S+\s+\\*[\"']?([^\s\"'\\]+)"),
    ((b"ssh-keygen",), rb"\bssh-keygen\b[^\r\n;|&]*?\s-[NP]\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"useradd", b"usermod"), rb"\buser(?:add|mod)\b[^\r\n;|&]*?\s-p\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"bw",), rb"\bbw\s+(?:unlock|login(?:\s+[^\s-]\S*@\S+)?)\s+(?:--\S+\s+)*\\*[\"']?([^\s\"'\\-][^\s\"'\\]*)"),
    ((b"rootpw",), rb"\brootpw\s+(?:--\S+\s+)*([^\s\"'\\-][^\s\"'\\]*)"),
    ((b"ipa-",), rb"\bipa-(?:client|server|replica)-install\b[^\r\n;|&]*?\s-[wa]\s{0,24}\\*[\"']?([^\s\"'\\]+)"),
    ((b"nmcli", b"username", b"neighbor"), (  # of the network's devices
        rb"(?i)\b(?:nmcli|username|neighbor)\b[^\r\n]*?\s(?:password|secret|[\w.-]*psk)\s+(?:\d{1,2}\s+)?\\*[\"']?"
        rb"(?![a-z]+(?:[\s,.;:\"']|\Z))([^\s\"'\\]+)")),
    ((b"enable", b"community"),
     (rb"\b(?:enable\s+(?:secret|password)\s+(?:\d{1,2}\s+)?|snmp-server\s+community\s+)"
     rb"(?![a-z]+(?:[\s,.;:\"']|\Z))([^\s\"'\\]+)")),
    ((b"chpasswd",), (  # of cloud-init, and of a here-document: user:X on each line
        rb"\bchpasswd\b(?::(?:\s|\\+\v)+(?:expire:[ ]+\w+(?:\s|\\+\v)+)?list:[ ]*\|?|"
        rb"[ \t]*<<-?[ ]*[\"']?\w+[\"']?)[ \t]*((?:(?:\r?\n|\\+\v)[ \t]*(?:-[ ]+)?[\w.-]+:[^\s\"'\\]+)+)")),
    ((b"send(", b"sendline("),
     rb"assword[^\r\n]{0,20}[\"']\)(?:\s|\\+\v|;){0,8}\w+\.send(?:line)?\(\s*[bu]?\\*[\"']([^\"'\\]+)"),
    ((b"password ", b"passphrase "), (  # password X in a sentence: letters and digits, and capitals or a sign
        rb"(?:[Pp]assword|[Pp]assphrase)(?:[ ]to)?[ ]+[\"'`]?"
        rb"(?=[^\s\"'`]*\d)(?=[^\s\"'`]*[a-z])(?=[^\s\"'`]*[A-Z!@#$%^&*+?])([^\s\"'`\\<>(){}=:/]{8,}(?<![.,;]))")),
    ((b"api key ", b"access key ", b"secret key ", b"api token ", b"access token "), (
        rb"(?i:\b(?:api|access|secret)[ ](?:key|token))(?:[ ]to)?[ ]+[\"'`]?"
        rb"((?=[^\s\"'`]*\d)(?=[^\s\"'`]*[a-z])(?=[^\s\"'`]*[A-Z])[\w.~+/-]{16,})")),
    ((b"requirepass", b"masterauth"), rb"(?i)\b(?:requirepass|masterauth)\s+\\*[\"']?([^\s\"'\\]+)"),
    ((b"auth ",), (
        rb"(?:^|(?<=[\r\n\v\"'> ]))AUTH\s+(?:[\w.-]+\s+)?"
        rb"((?=[^\s\"'\\]*\d)(?=[^\s\"'\\]*[a-z])[^\s\"'\\]{8,})")),
    ((b"password(",), rb"(?i)\bpassword\(\\*'([^'\\]+)"),
    ((b"login", b"user", b"credentials"), (
        rb"(?i)\b(?:login|user(?:name)?|credentials?):[ \t]+[\w.@-]+[ ]?[/][ ]?"
        rb"((?=[^\s\"'\\]*\d)(?=[^\s\"'\\]*[A-Za-z])[^\s\"'\\/]{6,})")),
    ((b"ansible_vault",), rb"\$ANSIBLE_VAULT;[\d.]+;AES256(?:;\w+)?((?:[\s\\\v]+n?[ ]*[0-9a-f]{8,})+)"),
    ((b"ssh2",), rb"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----((?:(?!---- BEGIN)[\s\S]){1,20000}?)---- END SSH2"),
    ((b"</",), (
        rb"(?i)<(?:[a-z0-9_.-]*(?:password|passwd|secret|apikey|api[_-]key|access[_-]?key|token))>"
        rb"([^<\s][^<\r\n]*)</")),
))  # fmt: skip
# A name and its value that no sign joins, or more than a sign. Words as above.
_BEGIN = rb"(?:\b|(?<=\\[nrt]))"  # of a word, also after the end of a line as JSON has it
_NAME = rb"(?P<name>(?:(?<![A-Za-z0-9_.-])|(?<=\\[nrt]))-{0,2}[A-Za-z][A-Za-z0-9_.-]{1,63}+(?![A-Za-z0-9_.-]))"
_NEWLINE = rb"(?:\r?\n|\\{1,7}n)"  # also as JSON has it
_QUOTE = rb"\\{0,7}[\"']"
NAMED = tuple((words, re.compile(pattern)) for words, pattern in (
    # export, in other shells and in containers
    ((b"set", b"env"),
     rb"(?:" + _BEGIN + rb"(?:set(?:env)?(?:[ \t]+-[a-zA-Z]+)*|ENV)|-genv|-env)[ \t]+" + _NAME + rb"[ \t]+(?:"
     + _QUOTE + rb")?(?![a-z]+(?:[\s,.;\"'\\]|\Z))(?P<value>[^\s\"'\\]+)"),
    ((b"\t", b"\\t"), rb"(?P<name>" + _BEGIN + rb"[A-Z][A-Z0-9_]{2,63})(?:\t|\\{1,7}t)+(?P<value>[^\s|\"'\\]{6,})"),
    # name: X, value: Y
    ((b"value",),
     rb"\b(?:name|key)(?:" + _QUOTE + rb")?\s{0,3}[:=]\s{0,3}(?:" + _QUOTE + rb")?" + _NAME + rb"(?:" + _QUOTE
     + rb")?(?:[\s,]|\\{1,7}n){1,40}(?:" + _QUOTE + rb")?value(?:" + _QUOTE + rb")?\s{0,3}[:=]\s{0,3}(?:" + _QUOTE
     + rb")?(?P<value>[^\s\"'\\]+)"),
    ((b"value",),
     rb"\bvalue(?:" + _QUOTE + rb")?\s{0,3}[:=]\s{0,3}(?:" + _QUOTE + rb")?(?P<value>[^\s\"'\\,;]+)(?:" + _QUOTE
     + rb")?,?(?:\s|\\{1,7}n){1,40}(?:" + _QUOTE + rb")?name(?:" + _QUOTE + rb")?\s{0,3}[:=]\s{0,3}(?:" + _QUOTE
     + rb")?" + _NAME),
    ((b"<name>",), rb"<name>" + _NAME + rb"</name>(?:\s|\\{1,7}n)*<value>(?P<value>[^<\r\n\\]+)"),
    ((b"|",), rb"\|[ ]*[*_`]{0,2}" + _NAME + rb"[*_`]{0,2}[ ]*\|[ ]*`?(?P<value>(?=[^\s|]*\d)[^\s|`]{6,})`?[ ]*\|"),
    ((b"form-data",),
     rb"name=" + _QUOTE + _NAME + _QUOTE + rb"(?:(?:\r?\n|(?:\\{1,7}r)?\\{1,7}n)[ ]*){2}(?P<value>[^\s\\]+)"),
    ((b"echo", b"printf"), rb"(?P<name>" + _BEGIN + rb"[A-Z][A-Z0-9_]{2,63})=(?:" + _QUOTE
     + rb")?(?:\$\(|`)\s*(?:echo|printf)\s+(?:-\w+\s+)*(?:" + _QUOTE + rb")?(?P<value>[^\s\"'`)$\\|]+)"),
    ((b"<key>",), rb"<key>" + _NAME + rb"</key>\s*<string>(?P<value>[^<\r\n\\]+)"),
    # environ["X"] = "Y", ("X", "Y")
    ((b"['", b'["', b"('", b'("', b"[\\", b"(\\"),
     rb"[\[(]\s?" + _QUOTE + _NAME + _QUOTE + rb"\s?(?:\]\s?=|,)\s?[bu]?" + _QUOTE + rb"(?P<value>[^\"'\\\r\n]+)"),
    # a variable of several lines, and a flag whose value is on the next line
    ((b"='", b'="', b"=\\"),
     rb"(?P<name>" + _BEGIN + rb"[A-Z][A-Z0-9_]{2,63})=(?P<quote>" + _QUOTE
     + rb")(?P<value>[^\"']{4,4000}?)(?P=quote)"),
    ((b"--",),
     rb"(?P<name>--[a-z][a-z0-9-]{1,63})[ \t]+\\{1,8}(?:\r?\n|n)[ \t]*(?P<value>[^\s\"'\\-][^\s\"'\\]*)"),
))  # fmt: skip
# A name, and a value in brackets, on the next line, or in a block of YAML or TOML. They are tried where a name has one
# of the words of `ASSIGNED_WORD`: to look for them everywhere would take longer than all the rest.
LED = tuple(re.compile(_NAME + pattern) for pattern in (
    rb"\s{0,3}[=:]\s{0,3}[\w.]{0,40}quote(?:_plus)?\(\s?" + _QUOTE + rb"(?P<value>[^\"'\\\r\n]+)",
    # of Python code whose quotes a shell has removed
    rb"\]\s?=\s?(?P<value>[^\s\"'\\\[\](){}]{6,})",
    rb"(?<=[A-Z]),\s(?P<value>[^\s\"'\\,(){}=]{6,})\)",
    rb"\s{0,3}[=:]\s{0,3}\[(?P<value>(?=[^\s\]]*\d)(?=[^\s\]]*[A-Za-z])[^\s\[\]\"'\\,{}<>()]{12,})[\],]",
    rb"\s{0,3}=\s{0,3}\[\s{0,20}" + _QUOTE + rb"(?P<value>[^\[\]\r\n\"']{1,4096}?)(?=" + _QUOTE + rb"\s{0,20}\])",
    rb"\s{0,3}=\s{0,3}\[\[(?P<value>[^\]\r\n\\]+)\]\]",
    rb":\s{0,3}&?[A-Za-z][\w:.<>]*\s{0,3}=\s{0,3}" + _QUOTE + rb"(?P<value>[^\"'\\\r\n]+)",
    rb":[ \t]*" + _NEWLINE + rb"[ \t]+value:[ \t]+(?:" + _QUOTE + rb")?(?P<value>[^\s\"'\\]+)",
    rb":[ \t]+(?:[&!][\w!]+[ \t]+)+(?:" + _QUOTE + rb")?(?P<value>[^\s\"'\\]+)",
    _QUOTE + rb"\s{0,3}:\s{0,3}\{\s{0,20}" + _QUOTE + rb"value" + _QUOTE + rb"\s{0,3}:\s{0,3}" + _QUOTE
    + rb"(?P<value>[^\"'\\\r\n]+)",
    _QUOTE + rb"[ \t]*:[ \t]*" + _NEWLINE + rb"\s*" + _QUOTE + rb"(?P<value>[^\"'\\\r\n]+)",
    rb"(?:" + _QUOTE + rb")?:[ \t]*[|>][+-]?[ \t]*" + _NEWLINE + rb"\s+(?P<value>[^\s\\\"'][^\r\n\\\"']*)",
    rb":[ \t]*" + _NEWLINE + rb"[ \t]*-[ \t]+(?:" + _QUOTE + rb")?(?P<value>[^\s\"'\\]+)",
    rb"\s{0,3}=\s{0,3}(?:" + _QUOTE + rb"){3}(?:\s|\\{1,7}n)*(?P<value>[^\"'\\\r\n]+)",
))  # fmt: skip
# user:password in base64
ENCODED = (
    ((b"basic",), re.compile(rb"\b[Bb]asic[ ]+([A-Za-z0-9+/]{8,}={0,2})")),
    ((b"auth",), re.compile(rb"\\?[\"']auth\\?[\"']\s*:\s*\\?[\"']([A-Za-z0-9+/]{8,}={0,2})\\?[\"']")),
)

# -- NAME=value, name: value, "name": "value", --name value, ?name=value ----------------------------------------------
# Of these words, one begins every match of `ASSIGNED`. The search for them in lower case is ten times as fast as (?i).
ASSIGNED_WORD = re.compile(
    b"pass|pwd|pw|secret|cred|token|key|auth|dsn|cookie|conn|pat|jwt|sess|sig|webhook|pin|otp|psk|salt"
)
ASSIGNED = re.compile(
    rb"(?i)(?:pass|pwd|pw\b|secret|cred|token|key|auth|dsn|cookie|connection_?string|conn_?str|pat\b|jwt|"
    rb"session_?id|sessid|"
    rb"signature|sig\b|webhook|pin\b|otp\b|psk\b|salt\b)[A-Za-z0-9_.-]{0,48}"
    rb"(?:(?P<sep>\\{0,7}[\"']?[ \t]{0,8}(?:=>|:=|=|:(?!:))[ \t]{0,8})|"
    rb"(?P<list>\\{0,7}[\"'](?:,\s{0,20}| a\d{1,4}=)(?=\\{0,7}[\"']))|(?P<space>(?:[ \t\x00]|\\{1,7}u0000)+))"
    rb"(?:[bu]?(?P<quote>\\{0,7}[\"'])(?P<quoted>[^\r\n]{1,4096}?)(?<!\\)(?P=quote)|(?P<bare>[^\s\x00\"',;&<>)}\]]+))"
)  # fmt: skip
NAME_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
NAME_END = re.compile(rb"[A-Za-z0-9_.-]*")
LINE_KEY = re.compile(rb"(?:^|\n|\\n|\")[ \t]*(?:-[ \t]+)?$")  # what stands before a key of YAML
LINE_END = re.compile(rb"[\r\n\"]|\\+[nr\"]|\Z")
# The data of a Secret of Kubernetes, in JSON (group 1) and in YAML (group 2), and each value in it.
SECRET_KIND = re.compile(rb"(?i)(?:\b|(?<=\\[nrt]))kind\\*[\"']?:\s*\\*[\"']?Secret\b")
SECRET_DATA = re.compile(
    rb"(?:\b|(?<=\\[nrt]))(?:stringData|data)(?:\\*\"\s*:\s*\{([^{}]*)\}|:[ \t]*(?:\r?\n|\\+n)"
    rb"((?:[ \t]+[\w.-]+:[ \t]+[^\r\n\\]+(?:\r?\n|\\+n|\Z|(?=[\"\\])))+))"
)
SECRET_VALUE = re.compile(rb":[ \t]*\\*\"?([^\s\"\\,][^\"\r\n\\,]*)")
