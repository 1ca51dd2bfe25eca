"""Finds secrets in bytes and overwrites each with as many `*`, so that lengths and offsets inside archives stay valid.

`llmval_tui/foundation/redaction.py` and `runners/llmval_runners/process/redaction.py` are one file twice, because the
two packages do not import each other. A test compares them: change both.
"""

import base64
import binascii
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

SHORTEST = 6  # a shorter value of a variable would appear in many files by chance
MASK = "******"  # in records, where the length of a secret is nobody's business
_Match = re.Match[bytes]

# -- names ------------------------------------------------------------------------------------------------------------
# Names in upper case with `_` between words. In one group, any value is a secret; in the other, only one that looks so.
_SURE = re.compile(
    r"PASSW|PASSPHRASE|(?:^|_|PG|SSH)PASS$|_(?:PIN|OTP)$|(?:^|_)(?:PSK|SALT)$|(?:^|_)(?:PASS|PWD|PW)$|(?:^|_)SECRETS?(?:_|$)|"
    r"SECRET_?(?:ACCESS_?)?KEY|CLIENT_?SECRET|"
    r"(?:^|_)(?:CREDENTIALS?|CREDS?|DSN|PAT)(?:_|$)|API_?KEYS?|ACCESS_?KEY|PRIVATE_?KEY|ACCOUNT_?KEY|"
    r"SHARED_?(?:ACCESS_?)?(?:KEY|SIGNATURE)|"
    r"(?:ENCRYPTION|MASTER|SESSION|SIGNING|LICENSE|DEPLOY|SERVICE|WANDB|COMET)_?KEY|"
    r"KEY_DATA$|CONNECTION_?STRING|CONN_?STR|AUTHORIZATION|COOKIES?(?:_|$)|WEBHOOK"
)
_LIKELY = re.compile(
    r"(?:^|_)(?:ACCESS|AUTH|BEARER|ID|REFRESH|SESSION|SECURITY|IDENTITY)?TOKENS?(?:_|$)|(?:^|_)AUTH(?:_|$)|_KEY$|"
    r"(?:^|_)(?:SIG|SIGNATURE)$|SESSION_?ID$|SESSID$|(?:^|_)JWT(?:_|$)"
)
# A name with one of these words is a count, an identifier of a vocabulary, a place or a setting.
_HARMLESS = re.compile(
    r"(?:^|_)(?:MAX|MIN|NUM|N|TOTAL|LIMIT|COUNT|PER|IDS?|TYPES?|LEN|LENGTH|SIZE|BUDGET|RATE|PAD|PADDING|EOS|BOS|UNK|"
    r"SEP|CLS|"
    r"SPECIAL|STOP|INPUT|OUTPUT|PROMPT|COMPLETION|BATCHED|NEW|CACHED|GENERATED|DRAFT|IMAGE|TEXT|THROUGHPUT|SECOND|MS|"
    r"CACHE|PRIMARY|FOREIGN|PUBLIC|SORT|PARTITION|HOST|KNOWN|SOCK|HELPER|FILE|FILES|PATH|DIR|URL|URI|"
    r"POLICY|MODE|ENABLED|"
    r"REQUIRED|NAME|TIMEOUT|EXPIRY|EXPIRES|VERSION|ALGORITHM|AUTHOR|PARALLELISM|FIRST|LAST|VALID|HINT)(?:_|$)|TOKENIZ"
)
_NOT_HARMLESS = re.compile(r"ACCESS_?KEY_ID|WEBHOOK|SESSION_?ID|ID_?TOKEN|DATABASE_URL")
_NO_SECRETS = ("PWD", "OLDPWD")


def secret_name(name: str) -> bool:
    """Whether a variable, key or flag with this name usually has a secret as its value."""
    return _rank(name) > 0


@lru_cache(maxsize=4096)  # a file has few names, many times
def _rank(name: str) -> int:
    """2: any value is a secret; 1: a value that looks like one is; 0: none is."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("-")).replace("-", "_").replace(".", "_").upper()
    if name in _NO_SECRETS or (_HARMLESS.search(words) and not _NOT_HARMLESS.search(words)):
        return 0
    if _SURE.search(words):
        return 2
    return int(bool(_LIKELY.search(words)))


# -- values -----------------------------------------------------------------------------------------------------------
_EMPTY_WORDS = re.compile(
    rb"(?i)^(?:none|null|nil|true|false|yes|no|on|off|auto|default|unset|undefined|required|optional|missing|n/a|"
    rb"str|string|int|bool|bytes|optional\[.*)$"
)
_PLACEHOLDER = re.compile(
    rb"^(?:\$\{?[A-Za-z_][A-Za-z0-9_]*\}?|\$\(.*|<[^>]*>?|\{\{.*|%\(.*|\*+|x{3,}|\.{3}|\(.*|\[.*|\{.*)$"
)
_LETTER = re.compile(rb"[^\W_]")
_SCHEMES = (b"bearer", b"basic", b"token", b"digest", b"negotiate")  # of an Authorization header; its secret comes next
_NUMBER = re.compile(rb"^[-+]?[\d.,_]+(?:e[-+]?\d+)?%?$")


def _is_value(value: bytes) -> bool:
    if not _LETTER.search(value) or value.lower() in _SCHEMES:
        return False
    return not _PLACEHOLDER.match(value) and not _EMPTY_WORDS.match(value)


def _looks_secret(value: bytes) -> bool:
    """At least eight characters, no number, no path, and not one plain word."""
    if (
        len(value) < 8
        or _NUMBER.match(value)
        or value.startswith((b"/", b"./", b"~"))
        or b"<" in value
        or b"(" in value
    ):
        return False
    digits = any(48 <= byte <= 57 for byte in value)
    letters = any(65 <= byte <= 90 or 97 <= byte <= 122 for byte in value)
    return (digits and letters) or len(value) >= 20


# -- strings that are secrets by their form ---------------------------------------------------------------------------
# user:password of a URL. No quotes, control bytes or high bytes, so that a match ends with the URL.
_IN_URL = re.compile(rb"(?<=://)[^/\s:@\"'\x00-\x1f\x7f-\xff]*:[^/\s@\"'\x00-\x1f\x7f-\xff]+(?=@)")
_TOKEN_USER = re.compile(rb"(?<=://)(?=[^/\s:@\"']*\d)[A-Za-z0-9_.~-]{16,}(?=@)")  # a token in place of a user
_WORDS = re.compile(
    rb"\b(?:"
    rb"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b|"
    rb"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|"
    rb"gl(?:pat|dt|rt|cbt|ptt|soat|agent|ft|imt)-[A-Za-z0-9_-]{20,}|"
    rb"sk-[A-Za-z0-9_-]{20,}|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{20,}|"
    rb"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9A-Za-z-]{20,}|"
    rb"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,}|1//0[0-9A-Za-z_-]{30,}|"
    rb"nvapi-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}|dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}|"
    rb"do[por]_v1_[a-f0-9]{40,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|key-[0-9a-f]{32}\b|SK[0-9a-f]{32}\b|"
    rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|sq0(?:atp|csp)-[0-9A-Za-z_-]{22,}|gl(?:sa|c)_[A-Za-z0-9+/=_]{32,}|"
    rb"hv[sbr]\.[A-Za-z0-9_-]{20,}|dapi[a-f0-9]{32}|r8_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{40,}|pplx-[A-Za-z0-9]{40,}|"
    rb"xai-[A-Za-z0-9]{40,}|tskey-[A-Za-z0-9-]{20,}|lin_api_[A-Za-z0-9]{30,}|PMAK-[a-f0-9-]{40,}|"
    rb"AGE-SECRET-KEY-1[0-9A-Z]{40,}|"
    rb"wandb_v1_[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]+){0,2}|"
    rb"\d{8,10}:AA[A-Za-z0-9_-]{32,}|[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}|"
    rb"(?:ntn|secret)_(?=[A-Za-z0-9_]*\d)[A-Za-z0-9_]{38,}|figd_[A-Za-z0-9_-]{20,}|pul-[0-9a-f]{40}|"
    rb"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,}|dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{20,}|"
    rb"sntry[su]_[A-Za-z0-9+/=_-]{30,}|NRAK-[A-Z0-9]{20,}|fw_[A-Za-z0-9]{20,}|lsv2_[ps][tk]_[0-9a-f_]{32,}|"
    rb"rpa_[A-Za-z0-9]{20,}|xox[cd]-[A-Za-z0-9%+/=-]{20,}|ATBB[A-Za-z0-9_=.-]{24,}|ATATT[A-Za-z0-9_=.-]{30,}|"
    rb"LS0tLS1CRUdJTi(?!BDRVJU|BQVUJM)[A-Za-z0-9+/]{24,}={0,2}|"  # a private key in base64, no certificate
    rb"[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{30,}|(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[A-Za-z0-9/+=]{50,}"
    rb")"
)
_KEY_BLOCK = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:[\s\S]{1,20000}?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|"
    rb"(?:[\s\\rn\"',+]{0,8}[A-Za-z0-9+/=:., -]{4,})*)"
)
_PUTTY_KEY = re.compile(rb"(?<=Private-Lines: )\d+[\s\S]{1,20000}?(?=\nPrivate-MAC|\Z)")
_HASH = re.compile(rb"\$(?:apr1|1|2[abxy]|5|6|y|argon2id?)\$[./A-Za-z0-9$=,]{20,}")
_HOOK = re.compile(
    rb"(?<=hooks\.slack\.com/)[A-Za-z0-9/_-]{12,}|(?<=/api/webhooks/)\d+/[A-Za-z0-9_-]{20,}|"
    rb"(?<=\.webhook\.office\.com/)[^\s\"'<>]{16,}|(?<=outlook\.office\.com/webhook/)[^\s\"'<>]{16,}|"
    rb"(?<=api\.telegram\.org/bot)[0-9]+:[A-Za-z0-9_-]{20,}"
)
# Before each pattern are words, in lower case, of which every match has one: to look for a word in a large file takes a
# hundredth of the time. A pattern without words is always tried.
_WHOLE: tuple[tuple[tuple[bytes, ...], re.Pattern[bytes]], ...] = (
    ((b"private key",), _KEY_BLOCK),
    ((b"private-lines: ",), _PUTTY_KEY),
    ((b"://",), _IN_URL),
    ((b"://",), _TOKEN_USER),
    ((b"hooks.slack.com/", b"webhook", b"api.telegram.org/bot"), _HOOK),
    ((), _WORDS),
    ((b"$",), _HASH),
)

# -- values beside a word that is not a name --------------------------------------------------------------------------
# Group 1 is the secret. Words as above.
_BESIDE = tuple((words, re.compile(pattern)) for words, pattern in (
    ((b"authorization",), (
        rb"(?i)\b(?:proxy-)?authorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?"
        rb"(?:(?:bearer|basic|token|digest|negotiate|apikey|aws4-hmac-sha256)[ ]+)?([^\r\n\"'\\]{4,})")),
    ((b"cookie",), rb"(?i)\b(?:set-)?cookie\\?[\"']?\s{0,3}:\s{0,3}\\?[\"']?([^\r\n\"'\\]{4,})"),
    ((b"bearer",),
     rb"\b[Bb]earer[ ]+((?=[A-Za-z0-9._~+/=-]*[0-9=._~+/-])[A-Za-z0-9._~+/=-]{8,}|[A-Za-z0-9._~+/=-]{20,})"),
    ((b"machine",), rb"(?i)\bmachine\s+\S+\s+login\s+\S+\s+password\s+([^\s\"'\\]+)"),
    ((b"login",), rb"(?i)\blogin\s+\S+\s+password\s+([^\s\"'\\]{4,})"),
    ((b"identified",), rb"(?i)\bidentified\s+by\s+['\"]([^'\"\r\n]+)"),
    ((b"thin:",), rb"(?i)\bthin:[^/\s@]+/([^@\s]+)@"),
    ((b";pwd=", b";password="), rb"(?i);(?:pwd|password)=([^;\s\"'/][^;\s\"']*)"),
    ((), rb"(?m)^[\w.*-]+:(?:\d{2,5}|\*):[\w*-]+:[\w*-]+:([^\s:/]{4,})$"),  # a line of .pgpass
    ((b"wandb",), rb"\bwandb\s+login\s+(?:--\S+\s+)*([0-9a-f]{32,}|[A-Za-z0-9_-]{36,})"),
    ((b"curl", b"wget", b"http"),
     rb"\b(?:curl|wget|http)\b[^\r\n]*?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']+:([^\s\"']+)"),
    ((b"sshpass",), rb"\b(?:sshpass)\s+-p\s?[\"']?([^\s\"']+)"),
    ((b"ipmitool",), rb"\bipmitool\b[^\r\n;|&]*?\s-P\s?[\"']?([^\s\"'\\]+)"),
    ((b"redis-cli",), rb"\bredis-cli\b[^\r\n;|&]*?\s-a\s?[\"']?([^\s\"'\\]+)"),
    ((b"mongo",), rb"\bmongo(?:sh|dump|restore|export|import)?\b[^\r\n;|&]*?\s-p\s?[\"']?([^\s\"'\\]+)"),
    ((b"ldap",), rb"\bldap(?:search|add|modify|delete|whoami|passwd)\b[^\r\n;|&]*?\s-w\s?[\"']?([^\s\"'\\]+)"),
    ((b"zip",), rb"\b(?:un)?zip\b[^\r\n;|&]*?\s-P\s?[\"']?([^\s\"'\\;|&]+)"),
    ((b"7z",), rb"\b7z[ar]?(?=\s)[^\r\n;|&]*?\s-p([^\s\"'\\;|&]+)"),
    ((b"sqlcmd", b"bcp"), rb"\b(?:sqlcmd|bcp)\b[^\r\n;|&]*?\s-P\s?[\"']?([^\s\"'\\]+)"),
    ((b"smbclient", b"rpcclient"), rb"\b(?:smb|rpc)client\b[^\r\n]*?\s-U\s?[^\s%]+%([^\s\"'\\]+)"),
    ((b"-pass",), rb"\s-pass(?:in|out)?\s+pass:([^\s\"'\\]+)"),
    ((b"http",), rb"\bhttps?(?=\s)[^\r\n;|&]*?\s-a\s?[^\s:\"']+:([^\s\"'\\]+)"),
    ((b"vault",), rb"\bvault\s+login\s+(?:-\S+\s+)*([A-Za-z0-9._-]{20,})"),
    ((b"curl",), rb"\bcurl\b[^\r\n]*?\s(?:-b|--cookie)[ =]?[\"']?[^\s=\"']+=([^\s\"'\\]+)"),
    ((b"-stdin",), rb"\becho\s+(?:-n\s+)?[\"']?([^\s\"'\\$|]+)[\"']?\s*\|[^\r\n|]*--password-stdin"),
    ((b"password",), rb"(?i)\b(?:with|set)\s+password\s*=?\s*\\*'([^'\\\r\n]+)"),
    ((b"-server",), rb"\b(?:tacacs|radius)-server\b[^\r\n]*?\bkey\s+(?:\d\s+)?([^\s\"'\\]+)"),
    ((b"digest",), rb"(?i)\bdigest\b[^\r\n]*?\bresponse=\\*[\"']?([0-9a-f]{16,})"),
    ((b"key=", b"code=", b"assertion="),
     rb"[?&](?:key|code|client_assertion|assertion)=((?=[A-Za-z0-9_.~-]*\d)[A-Za-z0-9_.~-]{20,})"),
    ((b"assertion",), rb"\bclient_assertion=([^\s&\"'\\]+)"),
    ((b"%3d",), rb"(?i)(?:%3f|%26)[a-z0-9_.-]*(?:token|key|secret|passw(?:or)?d|sig)%3d([A-Za-z0-9_.~-]{6,})"),
    ((b" is",),
     rb"(?i)\b(?:token|password|passphrase|api key|secret)\s+is:?\s+((?=\S*\d)(?=\S*[A-Za-z])[A-Za-z0-9_.-]{20,})"),
    ((b"secret",),
     rb"(?i)\bkind:\s*Secret\b[\s\S]{0,400}?data:\s*(?:\n|\\+n)\s+[\w.-]+:\s*([A-Za-z0-9+/=]{8,})"),
    ((b"mysql", b"mariadb"), rb"\b(?:mysql|mysqldump|mariadb)\b[^\r\n]*?\s-p([^\s\"']+)"),
    ((b"login",),
     rb"\b(?:docker|podman|helm|skopeo|buildah|oras)\b[^\r\n]*?\blogin\b[^\r\n]*?\s-p[ =]?[\"']?([^\s\"']+)"),
    ((b"</",), (
        rb"(?i)<(?:[a-z0-9_.-]*(?:password|passwd|secret|apikey|api[_-]key|access[_-]?key|token))>"
        rb"([^<\s][^<\r\n]*)</")),
))  # fmt: skip
# A name and its value that no sign joins, or more than a sign. Words as above.
_NAME = rb"(?P<name>(?<![A-Za-z0-9_.-])-{0,2}[A-Za-z][A-Za-z0-9_.-]{1,63}+(?![A-Za-z0-9_.-]))"
_NEWLINE = rb"(?:\r?\n|\\{1,7}n)"  # also as JSON has it
_QUOTE = rb"\\{0,7}[\"']"
_NAMED = tuple((words, re.compile(pattern)) for words, pattern in (
    # export, in other shells and in containers
    ((b"set", b"env"),
     rb"(?:\bset(?:env)?(?:[ \t]+-[a-zA-Z]+)*|\bENV|-genv|-env)[ \t]+" + _NAME + rb"[ \t]+(?:" + _QUOTE
     + rb")?(?![a-z]+(?:[\s,.;\"'\\]|\Z))(?P<value>[^\s\"'\\]+)"),
    ((b"\t", b"\\t"), rb"(?P<name>\b[A-Z][A-Z0-9_]{2,63})(?:\t|\\{1,7}t)+(?P<value>[^\s|\"'\\]{6,})"),
    # name: X, value: Y
    ((b"value",),
     rb"\b(?:name|key)(?:" + _QUOTE + rb")?\s{0,3}[:=]\s{0,3}(?:" + _QUOTE + rb")?" + _NAME + rb"(?:" + _QUOTE
     + rb")?(?:[\s,]|\\{1,7}n){1,40}(?:" + _QUOTE + rb")?value(?:" + _QUOTE + rb")?\s{0,3}[:=]\s{0,3}(?:" + _QUOTE
     + rb")?(?P<value>[^\s\"'\\]+)"),
    ((b"<key>",), rb"<key>" + _NAME + rb"</key>\s*<string>(?P<value>[^<\r\n\\]+)"),
    # environ["X"] = "Y", ("X", "Y")
    ((b"['", b'["', b"('", b'("', b"[\\", b"(\\"),
     rb"[\[(]\s?" + _QUOTE + _NAME + _QUOTE + rb"\s?(?:\]\s?=|,)\s?[bu]?" + _QUOTE + rb"(?P<value>[^\"'\\\r\n]+)"),
    # a variable of several lines, and a flag whose value is on the next line
    ((b"='", b'="', b"=\\"),
     rb"(?P<name>\b[A-Z][A-Z0-9_]{2,63})=(?P<quote>" + _QUOTE + rb")(?P<value>[^\"']{4,4000}?)(?P=quote)"),
    ((b"--",),
     rb"(?P<name>--[a-z][a-z0-9-]{1,63})[ \t]+\\{1,8}(?:\r?\n|n)[ \t]*(?P<value>[^\s\"'\\-][^\s\"'\\]*)"),
))  # fmt: skip
# A name, and a value in brackets, on the next line, or in a block of YAML or TOML. They are tried where a name has one
# of the words of `_ASSIGNED_WORD`: to look for them everywhere would take longer than all the rest.
_LED = tuple(re.compile(_NAME + pattern) for pattern in (
    rb"(?:" + _QUOTE + rb")?\s{0,3}[:=]\s{0,3}\[\s{0,20}" + _QUOTE + rb"(?P<value>[^\[\]\r\n]{1,4096}?)(?=" + _QUOTE
    + rb"\s{0,20}\])",
    _QUOTE + rb"\s{0,3}:\s{0,3}\{\s{0,20}" + _QUOTE + rb"value" + _QUOTE + rb"\s{0,3}:\s{0,3}" + _QUOTE
    + rb"(?P<value>[^\"'\\\r\n]+)",
    _QUOTE + rb"[ \t]*:[ \t]*" + _NEWLINE + rb"\s*" + _QUOTE + rb"(?P<value>[^\"'\\\r\n]+)",
    rb"(?:" + _QUOTE + rb")?:[ \t]*[|>][+-]?[ \t]*" + _NEWLINE + rb"\s+(?P<value>[^\s\\\"'][^\r\n\\\"']*)",
    rb":[ \t]*" + _NEWLINE + rb"[ \t]*-[ \t]+(?:" + _QUOTE + rb")?(?P<value>[^\s\"'\\]+)",
    rb"\s{0,3}=\s{0,3}(?:" + _QUOTE + rb"){3}(?:\s|\\{1,7}n)*(?P<value>[^\"'\\\r\n]+)",
))  # fmt: skip
_BASIC = re.compile(rb"\b[Bb]asic[ ]+([A-Za-z0-9+/]{8,}={0,2})")
_BASE64_AUTH = re.compile(rb"\\?[\"']auth\\?[\"']\s*:\s*\\?[\"']([A-Za-z0-9+/]{8,}={0,2})\\?[\"']")

# -- NAME=value, name: value, "name": "value", --name value, ?name=value ----------------------------------------------
# Of these words, one begins every match of `_ASSIGNED`. The search for them in lower case is ten times as fast as (?i).
_ASSIGNED_WORD = re.compile(
    b"pass|pwd|pw|secret|cred|token|key|auth|dsn|cookie|conn|pat|jwt|sess|sig|webhook|pin|otp|psk|salt"
)
_ASSIGNED = re.compile(
    rb"(?i)(?:pass|pwd|pw\b|secret|cred|token|key|auth|dsn|cookie|connection_?string|conn_?str|pat\b|jwt|"
    rb"session_?id|sessid|"
    rb"signature|sig\b|webhook|pin\b|otp\b|psk\b|salt\b)[A-Za-z0-9_.-]{0,48}"
    rb"(?:(?P<sep>\\{0,7}[\"']?[ \t]{0,8}(?:=>|:=|=|:)[ \t]{0,8})|"
    rb"(?P<list>\\{0,7}[\"'],\s{0,20}(?=\\{0,7}[\"']))|(?P<space>[ \t]+))"
    rb"(?:[bu]?(?P<quote>\\{0,7}[\"'])(?P<quoted>[^\r\n]{1,4096}?)(?<!\\)(?P=quote)|(?P<bare>[^\s\"',;&<>)}\]]+))"
)  # fmt: skip
_NAME_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_NAME_END = re.compile(rb"[A-Za-z0-9_.-]*")
_LINE_KEY = re.compile(rb"(?:^|\n|\\n|\")[ \t]*(?:-[ \t]+)?$")  # what stands before a key of YAML
_LINE_END = re.compile(rb"[\r\n\"]|\\+[nr\"]|\Z")


def redact(data: bytes, secrets: Iterable[bytes] = ()) -> tuple[bytes, int]:
    """The data with every secret overwritten, and the number of overwritten places.

    `secrets`: values to overwrite wherever they are, as `secrets_of` finds them in an environment.
    """
    count = 0
    for secret in sorted(secrets, key=len, reverse=True):
        if secret in data:
            count += data.count(secret)
            data = data.replace(secret, b"*" * len(secret))
    lower = data.lower()  # overwriting makes no new word, so this one is good for all patterns
    for words, pattern in _WHOLE:
        if _has_one_of(words, lower):
            data, times = pattern.subn(lambda match: _stars(match[0]), data)
            count += times
    for words, pattern in _BESIDE:
        if _has_one_of(words, lower):
            data, times = _overwrite(data, pattern.search, lambda match: match.span(1))
            count += times
    for words, pattern in (((b"basic",), _BASIC), ((b"auth",), _BASE64_AUTH)):
        if _has_one_of(words, lower):
            data, times = _overwrite(
                data, pattern.search, lambda match: match.span(1) if _is_user_and_password(match[1]) else None
            )
            count += times
    for words, pattern in _NAMED:
        if _has_one_of(words, lower):
            data, times = _overwrite(data, pattern.search, _named_span)
            count += times
    for search, span_of in ((_led_in(lower), _named_span), (_assigned_in(lower), _assigned_span)):
        data, times = _overwrite(data, search, span_of)
        count += times
    return data, count


def _has_one_of(words: tuple[bytes, ...], lower: bytes) -> bool:
    return not words or any(word in lower for word in words)


def _assigned_in(lower: bytes) -> Callable[[bytes, int], _Match | None]:
    """The search for `_ASSIGNED` in data of which this is the lower case, before anything in it was overwritten."""

    def search(data: bytes, at: int) -> _Match | None:
        while (word := _ASSIGNED_WORD.search(lower, at)) is not None:
            if (match := _ASSIGNED.match(data, word.start())) is not None:
                return match
            at = word.start() + 1
        return None

    return search


def _led_in(lower: bytes) -> Callable[[bytes, int], _Match | None]:
    """The search for `_LED`, as `_assigned_in`."""

    def search(data: bytes, at: int) -> _Match | None:
        place = at
        while (word := _ASSIGNED_WORD.search(lower, place)) is not None:
            start = word.start()
            while start > at and word.start() - start < 64 and data[start - 1] in _NAME_BYTES:
                start -= 1
            for pattern in _LED:
                if (match := pattern.match(data, start)) is not None:
                    return match
            end = _NAME_END.match(data, word.end())
            place = max(word.end(), end.end() if end is not None else 0)
        return None

    return search


def redact_text(text: str, secrets: Iterable[bytes] = ()) -> str:
    """The text with every secret overwritten."""
    return redact(text.encode("utf-8", "surrogateescape"), secrets)[0].decode("utf-8", "surrogateescape")


def masked_argv(words: Sequence[str]) -> list[str]:
    """The words of a command with `MASK` for every secret: `--token X`, `--token=X`, `NAME=X`, `-u user:X`, tokens."""
    out: list[str] = []
    hidden = False
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        name, equals, value = word.partition("=")
        if hidden and not word.startswith("-"):
            out.append(MASK if _is_value(word.encode("utf-8", "surrogateescape")) else word)
        elif equals and value and _hides(name, value):
            out.append(f"{name}={MASK}")
        elif before in ("-u", "--user") and ":" in word:
            out.append(f"{word.partition(':')[0]}:{MASK}")
        else:
            cleaned = redact_text(word)
            out.append(word if cleaned == word else re.sub(r"\*{4,}", MASK, cleaned))
        following = words[number + 1] if number + 1 < len(words) else ""
        hidden = word.startswith("--") and not equals and _hides(word, following)
    return _of_known_programs(words, out)


def _of_known_programs(words: Sequence[str], out: list[str]) -> list[str]:
    """`out` without the secrets that only the program's name gives away: `redis-cli -a X`, `mysql -pX`."""
    raw = [word.encode("utf-8", "surrogateescape") for word in words]
    whole, at = redact(b" ".join(raw))[0], 0
    for number, word in enumerate(raw):
        left = whole[at : at + len(word)]
        at += len(word) + 1
        if left != word and out[number] == words[number]:
            same = next(place for place, byte in enumerate(left) if byte != word[place])
            # To the end, because a word may hold blanks.
            out[number] = word[:same].decode("utf-8", "surrogateescape") + MASK
    return out


def _hides(name: str, value: str) -> bool:
    rank, raw = _rank(name), value.encode("utf-8", "surrogateescape")
    if not rank or not _is_value(raw):
        return False
    return rank == 2 or not _NUMBER.match(raw)


def secrets_of(environment: Mapping[str, str]) -> tuple[set[bytes], list[str]]:
    """The values of secret variables to search for, in all encodings; and the variables whose values are too short.

    A password in a URL counts whatever the variable's name is: a log may contain it without the URL.
    """
    found: set[bytes] = set()
    short = set()
    for name, value in environment.items():
        values = {value} if secret_name(name) and value else set()
        for match in _IN_URL.findall(os.fsencode(value)):
            password = os.fsdecode(match.partition(b":")[2])
            values |= {password, urllib.parse.unquote(password)}
        for secret in values:
            if len(secret) < SHORTEST or secret.strip().isdecimal():
                short.add(name)
            else:
                found |= _forms(secret)
    return found, sorted(short)


def _forms(secret: str) -> set[bytes]:
    raw = os.fsencode(secret)
    return {
        raw,
        os.fsencode(json.dumps(secret)[1:-1]),
        urllib.parse.quote_from_bytes(raw, safe="").encode(),
        os.fsencode(repr(secret)[1:-1]),
        base64.b64encode(raw).rstrip(b"="),
    }


_KEPT = re.compile(rb"(\\u[0-9a-fA-F]{4}|\\.|[\"'\r\n])|[\s\S]")


def _stars(secret: bytes) -> bytes:
    """As many `*`, without touching what a JSON string needs: escapes, quotes and ends of lines."""
    return _KEPT.sub(lambda match: match[1] or b"*", secret)


def _overwrite(
    data: bytes,
    search: Callable[[bytes, int], _Match | None],
    span_of: Callable[[_Match], tuple[int, int] | None],
) -> tuple[bytes, int]:
    """Overwrite the span that `span_of` gives for each match; None leaves the match as it is."""
    spans, at = [], 0
    while (match := search(data, at)) is not None:
        span = span_of(match)
        if span is not None and _stars(data[span[0] : span[1]]) != data[span[0] : span[1]]:
            spans.append(span)
        # The value of a name that is no secret may itself hold one: --env HF_TOKEN=…
        at = match.end() if span is not None else max(_end_of_name(match), match.start() + 1)
    if not spans:
        return data, 0
    changed = bytearray(data)
    for start, end in spans:
        changed[start:end] = _stars(data[start:end])
    return bytes(changed), len(spans)


def _end_of_name(match: _Match) -> int:
    found = _NAME_END.match(match.string, match.start())
    return found.end() if found else match.start()


def _assigned_span(match: _Match) -> tuple[int, int] | None:
    """The value of a secret name, or None if the name or the value is none."""
    data, start = match.string, match.start()
    while start > 0 and match.start() - start < 64 and data[start - 1] in _NAME_BYTES:
        start -= 1
    end = _end_of_name(match)
    name = data[start:end].decode("ascii")
    flag = name.startswith("--")
    if match["sep"] is None and not flag:
        return None
    rank = _rank(name)
    if not rank:
        return None
    place = "quoted" if match["quoted"] is not None else "bare"
    value, span = match[place], match.span(place)
    if not _is_value(value) or (value.startswith(b"-") and flag and match["space"] is not None):
        return None
    if not _values_a_secret(name, rank, value, match):
        return None
    if (
        rank == 2
        and place == "bare"
        and b":" in (match["sep"] or b"")
        and _LINE_KEY.search(data[max(0, start - 64) : start])
    ):
        end_of_line = _LINE_END.search(data, span[0])  # an unquoted value of YAML goes to the end of its line
        return span[0], max(span[1], end_of_line.start() if end_of_line else 0)
    return span


def _named_span(match: _Match) -> tuple[int, int] | None:
    """The value of a secret name that stands beside it."""
    name, value = match["name"].decode("ascii"), match["value"]
    rank = _rank(name)
    if not rank or not _is_value(value) or _NUMBER.match(value):
        return None
    return match.span("value") if rank == 2 or name.isupper() or _looks_secret(value) else None


def _values_a_secret(name: str, rank: int, value: bytes, match: _Match) -> bool:
    """A sure name has any value but a bare number or word in prose; a likely one needs a value that looks secret."""
    variable = name.isupper() and b"=" in (match["sep"] or b"")
    if name.upper() in ("PASS", "PW", "CRED", "CREDS") and (
        _NUMBER.match(value) or (match["quoted"] is None and not variable)
    ):
        return False  # the outcome of a test
    if rank == 2 and name.upper().endswith("PASS") and not variable and _NUMBER.match(value):
        return False
    if rank == 2:
        prose = match["quoted"] is None and b":" in (match["sep"] or b"") and (match["sep"] or b"").endswith(b" ")
        return not (prose and (_NUMBER.match(value) and len(value) < 6)) and value not in (b":", b"=", b"-")
    if variable or name.startswith("--"):
        return not _NUMBER.match(value)
    return _looks_secret(value)


def _is_user_and_password(encoded: bytes) -> bool:
    try:
        text = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return b":" in text and all(32 <= byte < 127 for byte in text)
