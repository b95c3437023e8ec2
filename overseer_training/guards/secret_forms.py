"""What secrets look like and where people type them: tables only, read by `secrets.py`."""

from __future__ import annotations

import dataclasses
import re

# The forms of tokens are those that their issuers publish.
TOKENS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:.*?-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|.*)",
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})",
    "GitLab token": r"\bgl(?:pat|dt|rt|ptt|cbt)-[\w-]{20,}",
    "Slack token": r"\bxox[abeposr]-[\w-]{10,}|\bxapp-[\w-]{20,}",
    "web hook": r"(?<=hooks\.slack\.com/services/)T\w+/B\w+/\w{16,}|(?<=/api/webhooks/)\d{15,}/[\w-]{30,}",
    "Telegram token": r"(?<!\d)\d{8,10}:AA[\w-]{32,34}(?![\w-])",
    "API key": r"\b(?:sk|pk|rk)[-_](?:live[-_]|test[-_]|proj[-_]|ant[-_])?[A-Za-z0-9_-]{20,}",
    "Google key": r"\bAIza[\w-]{35}|\bGOCSPX-[\w-]{20,}|\bya29\.[\w-]{20,}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}",
    "PyPI token": r"\bpypi-[\w-]{50,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "SendGrid key": r"\bSG\.[\w-]{16,}\.[\w-]{16,}",
    "DigitalOcean token": r"\bdo[opr]_v1_[a-f0-9]{64}\b",
    "Grafana token": r"\bgl(?:sa|c)_[A-Za-z0-9_+/=]{32,}",
    "Vault token": r"\bhv[sbr]\.[\w-]{20,}",
    "Docker token": r"\bdckr_[op]at_[\w-]{20,}",
    "Databricks token": r"\bdapi[a-f0-9]{32}\b",
    "age key": r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}",
    "JSON web token": r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}",
}
TOKEN = re.compile("|".join(f"(?:{form})" for form in TOKENS.values()), re.DOTALL)

# A name is split at signs and capitals; its last words decide: DB_PASSWORD, apiKey, X-Auth-Token.
SECRET_WORDS = {"password", "passwd", "passphrase", "passcode", "passw", "secret", "token", "psk", "apikey", "authtoken", "credentials", "storepass", "keypass", "requirepass"}  # fmt: skip
SHORT_SECRET_WORDS = {"pwd", "pw", "auth"}  # only behind another word: DB_PWD, REDISCLI_AUTH
OTHER_PASSES = {"bypass", "compass", "overpass", "underpass", "surpass"}
SECRET_PAIRS = {f"{first} key" for first in ("api", "access", "secret", "private", "account", "auth", "signing", "encryption", "master", "age")}  # fmt: skip
TRAILING_WORDS = {"base", "value", "string", "new", "old"}  # SECRET_KEY_BASE
NAMES_OF_OTHER_THINGS = {
    "no",
    "ask",
    "prompt",
    "with",
    "use",
    "show",
    "require",
    "max",
    "min",
    "num",
}  # --no-password, --ask-become-pass

# What stands for a secret in quotes and out of them: words, and whole placeholders, paths and patterns. A sign at the beginning
# alone says nothing there, since quotes are what a person puts around `@dm1n` or `[k3V!`.
_STANDS_FOR_ONE = (
    r"<[^<>]*>|\{\{.*\}\}|\{[\w.\s-]*\}|\{\s*\".*\}|%\w+%|\[[a-z_ -]*\]|\\?\$\{\w+[^{}]*\}|\$\(.*\)|\$\d|"
    r"~/[\w./-]+|\./[\w./-]*|/(?:etc|home|root|run|var|srv|opt|usr|tmp|mnt|media|dev|proc|sys|data|secrets?|path|vault|app)(?:/[\w.-]+)+|"
    r"\.\*.*|\\[KdDwWsS](?:[+*?{\[(\\].*)?|\[\^.*|\[[^\]]*\][+*?{].*|x{3,}|\*+|\.{3,}|redacted.*|\d{1,3}|"
    r"(?:your|my|the|some|new|old|a)?[-_]?(?:password|passwd|passphrase|secret|token|key|value|here|string|file|prompt|stdin|none|null|true|false|yes|no|"
    r"required|optional|required_pam|pass|changed|expired|empty|random|auth|sha256|sha512|md5|plain|hash(?:ed)?|env|keyring|publickey|files|compat|systemd|"
    r"authentication|auto|disabled|enabled|default|ask|int|str|text|bool)s?"
)
_VARIABLE = r"\$\w+|\$\{.*|\$\(.*|`.*"
NO_WORD = re.compile(rf"(?is)^(?:{_STANDS_FOR_ONE})$")  # for a value in single quotes
NO_WORD_OR_VARIABLE = re.compile(rf"(?is)^(?:{_VARIABLE}|{_STANDS_FOR_ONE})$")  # in double quotes
NO_VALUE = re.compile(  # without quotes
    rf"(?is)^(?:{_VARIABLE}|<.*|\{{.*|\[.*|/[^+=]*|~.*|\./.*|-.*|\^\w*=.*|@.*|&.*|\\.*|{_STANDS_FOR_ONE})$"
)
NO_PASSWORD = re.compile(
    r"[\w./-]+\.[A-Za-z]\w{0,4}|https?://.*|[\w.]+@[\w.]+|[a-z][\w./-]*:\d[\d.]*"
)  # a file, an address, an image
QUERY_NAMES = {"key", "sig", "signature", "appid", "apikey", "auth", "code"}  # in the query of an address
# Programs whose words are patterns or names of packages: a password beside them is none.
SEARCHERS = {"grep", "egrep", "fgrep", "rg", "ag", "ack", "find", "fd", "locate", "man", "apropos", "apt", "apt-cache", "awk", "ls", "cat", "less", "pass", "journalctl", "which", "type"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OptionRule:
    """Options of programs whose value is a secret.

    Attributes:
        options: as typed; `/p:` and the like only with their value attached.
        separator: the secret stands behind it: `user:secret`.
        needs: a word that must stand before the option, such as `login`.
        is_attached_only: as of `mysql -p`, where a word that follows is something else.
    """

    programs: frozenset[str]
    options: tuple[str, ...]
    separator: str = ""
    needs: str = ""
    is_attached_only: bool = False


def _rule(
    programs: str, options: str, separator: str = "", needs: str = "", is_attached_only: bool = False
) -> OptionRule:
    return OptionRule(frozenset(programs.split()), tuple(options.split()), separator, needs, is_attached_only)


MYSQL = "mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mariadb mariadb-dump mariadb-admin mycli xtrabackup mydumper"
OPTION_RULES = (
    _rule(MYSQL, "-p", is_attached_only=True),
    _rule("7z 7za 7zz 7zr rar unrar", "-p", is_attached_only=True),
    _rule("xfreerdp xfreerdp3 wlfreerdp sdl-freerdp", "/p:", is_attached_only=True),
    _rule("mongo mongosh mongodump mongorestore mongoexport mongoimport", "-p"),
    _rule("sshpass rdesktop twine conan ncftp ncftpget ncftpput useradd usermod", "-p"),
    _rule("docker podman nerdctl buildah az oc vault helm", "-p", needs="login"),
    _rule("redis-cli valkey-cli", "-a --pass"),
    _rule("curl", "-u --user -U --proxy-user", ":"),
    _rule("curl", "--oauth2-bearer"),
    _rule("http https xh", "-a --auth", ":"),
    _rule("skopeo podman buildah", "--creds --src-creds --dest-creds", ":"),
    _rule("smbclient rpcclient smbget smbmap net crackmapexec", "-U --user", "%"),
    _rule("lftp", "-u", ","),
    _rule("openssl", "-pass -passin -passout", "pass:"),
    _rule("openssl", "-k -K", needs="enc"),
    _rule("zip zipcloak unzip ipmitool sqlcmd bcp tsql mosquitto_pub mosquitto_sub", "-P"),
    _rule("mosquitto_pub mosquitto_sub", "--pw"),
    _rule("ssh-keygen", "-N -P"),
    _rule("ldapsearch ldapmodify ldapadd ldapdelete ldapwhoami ldappasswd ldapcompare", "-w"),
    _rule("ldappasswd", "-s -a"),
    _rule("snmpwalk snmpget snmpset snmpbulkwalk snmptrap", "-A -X -c"),
    _rule("doctl", "-t"),
    _rule("swaks", "-ap"),
    _rule("iwctl", "-P"),
)
VALUE = r"(?:'(?P<single>[^'\s][^']*)'|\"(?P<double>(?:\\.|[^\"\\\s])(?:\\.|[^\"\\])*)\"|(?P<bare>[^\s'\"|;&`]+))"
# What follows each of these is a secret, whatever it looks like.
PLACES = {
    "password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*:(?P<bare>[^\s/@'\"]+)@",
    "token in an address": r"\bhttps?://(?P<bare>[^\s/:@'\"$]{20,})@",
    "authorization header": r"\b(?:proxy-)?authorization:\s*['\"]?(?:(?:bearer|basic|token|apikey|digest)\s+)?(?P<bare>(?!bearer\b|basic\b|token\b)[^\s'\"]{6,})",
    "password in SQL": r"\b(?:identified\s+(?:with\s+\S+\s+)?by\s+|password\s+|password\s*\(\s*)(?:'(?P<single>[^']+)'|\\'(?P<bare>[^'\\]+)\\')",
    "password of htpasswd": rf"\bhtpasswd\s+(?:-\w+\s+)*(?:-(?=\w*b)(?=\w*n)\w+\s+(?:-\w+\s+)*\S+|-(?=\w*b)(?!\w*n)\w+\s+(?:-\w+\s+)*\S+\s+\S+)\s+{VALUE}",
    "password of mysqladmin": rf"\b(?:mysql|mariadb-)admin\s[^|;&]*?\b(?:password)\s+{VALUE}",
    "password of a message queue": rf"\brabbitmqctl\s+(?:add_user|change_password|authenticate_user)\s+\S+\s+{VALUE}",
    "Wi-Fi password": rf"\b(?:wpa_passphrase\s+(?:'[^']*'|\"[^\"]*\"|\S+)|(?:nmcli\s[^|;&]*\s(?:password|[\w.-]*\.psk|psk|[\w.-]*\.wep-key\d)))\s+{VALUE}",
    "Vault token": rf"\bvault\s+(?:login|token\s+(?:lookup|revoke|renew))\s+{VALUE}",
    "password of a package index": rf"\bconfig\s+http-basic\S*\s+\S+\s+{VALUE}",
    "password of Redis": rf"\brequirepass\s+{VALUE}",
    "password of a database client": r":\d{2,5}:[\w*.-]+:[\w*.-]+:(?P<bare>[^\s:'\"]{4,})(?=['\"\s]|$)",  # a line of .pgpass
}
# Programs that read a secret from their input.
READS_SECRET = re.compile(
    r"\b(?:sudo\s[^|;&]*-\w*S\b|(?:docker|podman|helm|oc|nerdctl)\b[^|;&]*--password-stdin|passwd\b|chpasswd\b|smbpasswd\b[^|;&]*-s|cryptsetup\b"
    r"|gh\s+auth\s+login\b|doctl\s+auth\b|wg\s+pubkey|gpg2?\b[^|;&]*--passphrase-fd|vault\s+login|npm\s+login|ssh-add\s+-(?:\s|$)|kinit\b|rclone\s+obscure|"
    r"su\s+-)"
)
