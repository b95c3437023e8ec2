"""What opens connections: back doors, secrets that leave, foreign code that comes in, tunnels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import SENDS, SHELLS, chain_of, operands_of, values_of
from overseer_training.guards.places import DEVICE, RIGHTS, SECRET, place_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse
from overseer_training.guards.words import HOME, Word

UPLOADS = ("-d", "--data", "--data-binary", "--data-raw", "--data-urlencode", "--json", "-F", "--form", "-T", "--upload-file", "--post-file", "--body-file", "--post-data", "--body-data")  # fmt: skip
LOCAL = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)(?=[:/]|$)")
SHOWS_SECRETS = {"env", "printenv", "set", "export", "history", "declare", "compgen", "tcpdump", "tshark"}
TUNNELS = {
    *(
        "ngrok",
        "chisel",
        "frpc",
        "ttyd",
        "gotty",
        "wetty",
        "shellinabox",
        "shellinaboxd",
        "tmate",
        "sshuttle-server",
        "bore",
        "rathole",
    ),
    *(
        "gs-netcat",
        "gsocket",
        "pwncat",
        "revsocks",
        "ligolo",
        "localtunnel",
        "lt",
        "dnscat",
        "iodine",
        "icmpsh",
        "upterm",
        "rustcat",
    ),
}
ATTACKS = {
    *(
        "hydra",
        "john",
        "hashcat",
        "sqlmap",
        "aircrack-ng",
        "aireplay-ng",
        "airodump-ng",
        "msfconsole",
        "msfvenom",
        "ettercap",
    ),
    *(
        "slowloris",
        "hping3",
        "xmrig",
        "minerd",
        "cpuminer",
        "medusa",
        "responder",
        "mimikatz",
        "bettercap",
        "linpeas.sh",
        "t50",
    ),
    *(
        "dsniff",
        "arpspoof",
        "thc-ssl-dos",
        "masscan",
        "goldeneye",
        "ddos",
        "nikto",
        "wpscan",
        "crackmapexec",
        "patator",
        "reaver",
    ),
}


@rule("nc", "ncat", "netcat", "socat", "telnet", "openssl", "xterm", "pwncat")
def _shells_for_others(call: Call, folder: str) -> Iterator[Verdict]:
    name, joined = call.name, " ".join(call.texts)
    runs = name in ("nc", "ncat", "netcat") and re.search(
        r"(?:^|\s)(?:-\w*[ec](?:\s|/|$)|--exec|--sh-exec|--lua-exec)", joined
    )
    if runs or (name == "socat" and re.search(r"(?i)\b(?:exec|system|shell):", joined)):
        yield refuse("it gives a shell to whoever connects")
    elif call.source is not None and any(stage.name in SHELLS for stage in chain_of(call.source)):
        yield refuse("it gives a shell to whoever listens")
    elif name == "xterm" and re.search(r"-display\s+\S+:\d", joined):
        yield refuse("it opens a shell on somebody else's screen")


@rule(*SENDS, "rclone", "aws", "gsutil", "s3cmd", "mc", "az")
def _sends(call: Call, folder: str) -> Iterator[Verdict]:
    """What leaves by upload, or through a pipe."""
    joined = " ".join(call.texts)
    is_local = any(LOCAL.match(text) for text in call.texts)
    if call.name in ("curl", "wget"):
        if any(text.startswith("file://") and SECRET.fullmatch(text.removeprefix("file://")) for text in call.texts):
            yield ask("it reads a secret")
        for word in values_of(call, *UPLOADS):
            yield from _uploaded(word, folder, is_local=is_local, as_file=_is_file_option(call, word))
        if (
            re.search(r"@-(?:\s|;|$)|(?:-T|--upload-file)[ =]?-(?:\s|$)", joined)
            and call.source is not None
            and not is_local
        ) and call.source.name not in ("echo", "printf", "jq"):
            yield ask("it sends the output of another program away")
    elif call.name in ("rclone", "aws", "gsutil", "s3cmd", "mc", "az"):
        for word in operands_of(call):
            if SECRET.fullmatch(place_of(word, folder).path):
                yield refuse(f"it sends the secret {word.shown} away")
        return
    elif any(
        redirect.operator == "<" and SECRET.fullmatch(place_of(redirect.target, folder).path)
        for redirect in call.redirects
    ):
        yield refuse("it sends secrets away")
    if call.name == "openssl" and "s_client" not in call.texts:
        return
    for stage in chain_of(call.source):
        yield from _poured(stage, call, folder)


def _is_file_option(call: Call, value: Word) -> bool:
    position = next((index for index, word in enumerate(call.arguments) if word is value), 0)
    option = call.arguments[position - 1].text if position else ""
    return option in ("-T", "--upload-file") or any(
        re.match(r"--(?:post|body|upload)-file=", text) for text in call.texts
    )


def _uploaded(word: Word, folder: str, *, is_local: bool, as_file: bool) -> Iterator[Verdict]:
    match = re.search(r"(?:^|=)[@<](.+?)(?:;.*)?$", word.text)
    if match is None and not as_file:
        if re.search(r"\$\((?:env|printenv|set|history)\)|\$\(<|\$\(cat\b|`(?:env|cat)\b", word.text) and not is_local:
            yield ask("it sends the output of another program away")
        return
    file = Word(match[1] if match else word.text, word.is_certain)
    place = place_of(file, folder)
    if file.text == "-":
        return
    if SECRET.fullmatch(place.path) or RIGHTS.fullmatch(place.path):
        yield refuse(f"it sends the secret {file.shown} away")
    elif not is_local and (not word.is_certain or place.is_system or re.search(r"(?:^|/)\.\w", file.text)):
        yield ask(f"it sends {file.shown} away")


def _poured(stage: Call, sink: Call, folder: str) -> Iterator[Verdict]:
    places = [place_of(word, folder) for word in stage.arguments]
    places += [place_of(redirect.target, folder) for redirect in stage.redirects if redirect.operator == "<"]
    if any(SECRET.fullmatch(place.path) or place.path == "/etc/shadow" for place in places):
        yield refuse("it sends secrets away")
    elif stage.name in SHOWS_SECRETS or (stage.name == "git" and "config" in stage.texts and "--list" in stage.texts):
        yield (
            refuse("it sends secrets away")
            if stage.name in ("env", "printenv", "set")
            else ask("it sends away what is private")
        )
    elif any(DEVICE.fullmatch(place.path) for place in places) or any(
        DEVICE.fullmatch(text.removeprefix("if=")) for text in stage.texts
    ):
        yield ask("it sends a whole disk away")
    elif stage.name in ("tar", "zip", "cat", "dd", "cpio", "7z", "grep", "rg", "find", "strings") and any(
        place.path in ("/", "/etc", HOME, "/home", "/root", "/etc/passwd", "/var/lib")
        or (place.is_critical and sink.name != "ssh")
        for place in places
    ):
        yield ask("it sends away all of the system's or somebody's files")
    elif re.fullmatch(r"mysqldump|pg_dump(?:all)?|mongodump|mariadb-dump", stage.name):
        yield ask("it sends a whole database away")
    elif re.search(r"\bget\s+secrets?\b|export-secret|find-\w+-password|dump-keychain", " ".join(stage.texts)):
        yield refuse("it sends secrets away")


@rule("ssh", "autossh", "scp", "sftp", "rsync", "mosh")
def _remote(call: Call, folder: str) -> Iterator[Verdict]:
    options = [word.text for word in values_of(call, "-o")]
    if any(
        re.match(r"(?i)(?:ProxyCommand|LocalCommand|KnownHostsCommand|PermitLocalCommand)\s*=?", text)
        for text in options
    ) and not any(re.match(r"(?i)ProxyCommand=(?:none|ssh |nc |cloudflared |aws ssm )", text) for text in options):
        yield ask("ssh would run another command on this machine")
    if call.name in ("ssh", "autossh") and any(
        re.fullmatch(r"-[a-zA-Z]*R", text) or re.match(r"-R\d", text) for text in call.texts
    ):
        yield ask("it opens this machine to the other one")


@rule("python", "python3", "php", "ruby", "busybox", "npx", "serve", "http-server")
def _serves(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    if re.search(r"http\.server|SimpleHTTPServer|-S\s|httpd", joined) or call.name in ("serve", "http-server"):
        for word in [*values_of(call, "--directory", "-d", "-t"), *operands_of(call)[-1:]]:
            place = place_of(word, folder)
            if SECRET.fullmatch(place.path) or place.path in ("/", HOME, "/etc", "/root", "/home"):
                yield ask(f"it shows {word.shown} to everybody in the network")


@rule(*TUNNELS)
def _tunnels(call: Call, folder: str) -> Iterator[Verdict]:
    yield ask("it opens this machine to others")


@rule(*ATTACKS)
def _attacks(call: Call, folder: str) -> Iterator[Verdict]:
    yield ask(f"{call.name} attacks other systems or wears this one out")


@rule("cat", "less", "more", "head", "tail", "strings", "xxd", "base64", "grep", "tar", "zip", "gpg", "bat", "od", "hexdump", "awk", "sed", "nl", "tac", "openssl", "vim", "view", "cut", "sort", "tee", "jq", "diff", "rev", "7z")  # fmt: skip
def _reads(call: Call, folder: str) -> Iterator[Verdict]:
    """Secrets on the screen end up in records and in other programs."""
    skipped = {word.text for word in values_of(call, "--exclude", "-x")}
    for word in [*operands_of(call), *values_of(call, "-in")]:
        path = place_of(word, folder).path
        if (
            SECRET.fullmatch(path)
            and word.text not in skipped
            and not re.search(r"_history$|/\.(?:kube|docker)/config\b", path)
        ) and not (call.name in ("openssl", "gpg") and path.endswith((".pem", ".crt"))):
            yield ask(f"{word.shown} holds secrets")


@rule("tcpdump")
def _captures(call: Call, folder: str) -> Iterator[Verdict]:
    if any(text == "-z" for text in call.texts):
        yield ask("tcpdump would run another program")


def started_files(call: Call) -> set[str]:
    """The files that a call starts as programs, without their folders."""
    names = [call.words[0].text] if "/" in call.words[0].text else []
    if call.name in SHELLS | {"source", "."} or re.match(r"python|perl|ruby|node|php", call.name):
        names += [word.text for word in operands_of(call)[:1]]
    return {name.rsplit("/", 1)[-1] for name in names}
