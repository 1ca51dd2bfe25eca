"""Names and values that are secrets, and those that only look so.

`llmval_tui/foundation/` and `runners/llmval_runners/process/` have the same file, as `redaction.py` says.
"""

import re
from functools import lru_cache

# Names in upper case with `_` between words. In one group, any value is a secret; in the other, only one that looks so.
_SURE = re.compile(
    r"PASSW|PASS_?PHRASE|(?:^|_|PG|SSH|IPMI|BMC|ROOT|USER|ADMIN|SUDO|DB|SMTP|LDAP|PROXY)PASS$|_(?:PIN|OTP)$|(?:^|_)(?:PSK|SALT)$|(?:^|_)(?:PASS|PWD|PW)$|(?:^|_)SECRETS?(?:_|$)|"
    r"SECRET_?(?:ACCESS_?)?KEY|CLIENT_?SECRET|"
    r"(?:^|_)(?:CREDENTIALS?|CREDS?|DSN|PAT)(?:_|$)|API_?KEYS?|ACCESS_?KEY|PRIVATE_?KEY|ACCOUNT_?KEY|"
    r"SHARED_?(?:ACCESS_?)?(?:KEY|SIGNATURE)|"
    r"(?:ENCRYPTION|MASTER|SESSION|SIGNING|LICENSE|DEPLOY|SERVICE|WANDB|COMET)_?KEY|"
    r"KEY_DATA$|CONNECTION_?STRING|CONN_?STR|AUTHORIZATION|COOKIES?(?:_|$)|WEBHOOK|"
    r"DOCKERCONFIG|^BW_SESSION$|SAML_?RESPONSE|(?:CSRF|XSRF)_?TOKEN|(?:ART_API|HONEYCOMB_TEAM|STOREPASS|KEYPASS)$"
)
_LIKELY = re.compile(
    r"(?:^|_)(?:ACCESS|API|AUTH|BEARER|DEVICE|ID|IDENTITY|OAUTH|REFRESH|REGISTRY|SECURITY|SESSION|USER)?TOKENS?(?:_|$)|(?:^|_)AUTH(?:_|$)|_KEY$|"
    r"(?:^|_)(?:SIG|SIGNATURE)$|SESSION_?ID$|SESSID$|(?:^|_)JWT(?:_|$)|DEVICE_CODE$"
)
# A name with one of these words is a count, an identifier of a vocabulary, a place or a setting.
_HARMLESS = re.compile(
    r"(?:^|_)(?:MAX|MIN|NUM|N|TOTAL|LIMIT|COUNT|PER|IDS?|TYPES?|LEN|LENGTH|SIZE|BUDGET|RATE|PAD|PADDING|EOS|BOS|UNK|"
    r"SEP|CLS|"
    r"SPECIAL|STOP|INPUT|OUTPUT|PROMPT|COMPLETION|BATCHED|NEW|CACHED|GENERATED|DRAFT|IMAGE|TEXT|THROUGHPUT|SECOND|MS|"
    r"CACHE|PRIMARY|FOREIGN|PUBLIC|SORT|PARTITION|HOST|KNOWN|SOCK|HELPER|FILE|FILES|PATH|DIR|URL|URI|"
    r"POLICY|MODE|ENABLED|"
    r"REQUIRED|NAME|TIMEOUT|EXPIRY|EXPIRES|VERSION|ALGORITHM|AUTHOR|COMPILE|PARALLELISM|FIRST|LAST|VALID|HINT|REF|ROUNDS|FX_?GRAPH|GRAPH|KERNEL|LOOKUP|SHAPE|GUARD|ROUTING)(?:_|$)|TOKENIZ"
)
_NOT_HARMLESS = re.compile(
    r"(?:ACCESS|PRIVATE)_?KEY_ID|SECRET_?ID|WEBHOOK|SESSION_?ID|ID_?TOKEN|DATABASE_URL|(?:PASSWORD|PASSWD|PASSPHRASE|(?:API|SECRET|ACCESS|LICENSE|ROUTING)_?KEY|CLIENT_?SECRET)$"
)
_NO_SECRETS = ("PWD", "OLDPWD")


def secret_name(name: str) -> bool:
    """Whether a variable, key or flag with this name usually has a secret as its value."""
    return rank_of(name) > 0


@lru_cache(maxsize=4096)  # a file has few names, many times
def rank_of(name: str) -> int:
    """2: any value is a secret; 1: a value that looks like one is; 0: none is."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("-")).replace("-", "_").replace(".", "_").upper()
    if name in _NO_SECRETS or (_HARMLESS.search(words) and not _NOT_HARMLESS.search(words)):
        return 0
    if _SURE.search(words):
        return 2
    return int(bool(_LIKELY.search(words)))


_EMPTY_WORDS = re.compile(
    rb"(?i)^(?:none|null|nil|true|false|yes|no|on|off|auto|default|unset|undefined|required|optional|missing|n/a|empty|"
    rb"str|string|int|bool|bytes|optional\[.*)$"
)
_PLACEHOLDER = re.compile(
    rb"^(?:\$\{?[A-Za-z_][A-Za-z0-9_]*\}?|\$\(.*|<[^>]*>?|\{\{.*|%\(.*|\*+|x{3,}|\.{3}|\(.*|\[.*|\{.*)$"
)
_LETTER = re.compile(rb"[^\W_]")
_SCHEMES = (b"bearer", b"basic", b"token", b"digest", b"negotiate")  # of an Authorization header; its secret comes next
NUMBER = re.compile(rb"^[-+]?[\d.,_]+(?:e[-+]?\d+)?%?$")


def is_value(value: bytes) -> bool:
    if not _LETTER.search(value) or value.lower() in _SCHEMES:
        return False
    return not _PLACEHOLDER.match(value) and not _EMPTY_WORDS.match(value)


def looks_secret(value: bytes) -> bool:
    """At least eight characters, no number, no path, and not one plain word."""
    if len(value) < 8 or NUMBER.match(value) or value.startswith((b"/", b"./", b"~")) or b"<" in value or b"(" in value:
        return False
    digits = any(48 <= byte <= 57 for byte in value)
    letters = any(65 <= byte <= 90 or 97 <= byte <= 122 for byte in value)
    return (digits and letters) or len(value) >= 20
