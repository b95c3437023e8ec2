"""Packages: what must not be removed, what skips the checks, and what installs code from unnamed places."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import operands_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse

SYSTEM_MANAGERS = (
    *(
        "apt",
        "apt-get",
        "aptitude",
        "dpkg",
        "dnf",
        "yum",
        "rpm",
        "zypper",
        "pacman",
        "yay",
        "paru",
        "apk",
        "brew",
        "snap",
        "port",
    ),
    *("flatpak", "emerge", "xbps-remove", "pkg", "nix-env", "microdnf", "tdnf", "rpm-ostree", "opkg", "equo", "eopkg"),
)
LANGUAGE_MANAGERS = (
    "pip",
    "pip3",
    "pipx",
    "uv",
    "npm",
    "pnpm",
    "yarn",
    "gem",
    "cargo",
    "conda",
    "mamba",
    "composer",
    "bun",
)
RUNNERS = ("npx", "bunx", "pnpx", "uvx", "pipx")
REMOVES = {
    *(
        "remove",
        "purge",
        "autoremove",
        "erase",
        "uninstall",
        "del",
        "delete",
        "rm",
        "autopurge",
        "-e",
        "-r",
        "-P",
        "--purge",
        "--remove",
    ),
    *("--erase", "--uninstall", "-C", "--unmerge", "--depclean"),
}
ESSENTIAL = re.compile(
    r"\*|systemd|libc6|libc-bin|glibc\S*|musl|bash|dash|zsh|coreutils|sudo|doas|openssh\S*|linux|linux-image\S*|linux-\*|linux-generic\S*"
    r"|linux-headers-\*|kernel\S*|apt|dpkg|rpm|python3?|python3-minimal|grub\S*|shim\S*|network-manager|NetworkManager|util-linux|init"
    r"|base-files|base|login|passwd|libssl\S*|pacman|dnf|yum|zypper|filesystem|setup|alpine-base|busybox|initramfs-tools|dracut|lvm2"
    r"|cryptsetup\S*|mount|netbase|iproute2?|ifupdown|dbus|libpam\S*|pam|ca-certificates|snapd|gnome-shell|xorg|ubuntu-desktop|perl-base"
)
GUARDS = re.compile(r"fail2ban|clamav\S*|apparmor|auditd?|ufw|firewalld|rkhunter|aide|rsyslog|iptables|nftables|selinux\S*|falcon-sensor|wazuh\S*|unattended-upgrades|crowdsec")  # fmt: skip
UNCHECKED = re.compile(
    r"--force-(?:all|remove|depends|yes|confnew|overwrite|bad)\S*|--allow-(?:remove-essential|unauthenticated|downgrades|insecure|untrusted)\S*"
    r"|--nodeps|--noscripts|--no(?:gpgcheck|signature|digest)|--no-gpg-checks?|--ignore-dependencies|--trusted-host\S*|--allow-untrusted|-R\w*dd\w*"
    r"|--setopt=gpgcheck=0|--no-verify-ssl|--force-yes"
)


@rule(*SYSTEM_MANAGERS)
def _system_packages(call: Call, folder: str) -> Iterator[Verdict]:
    texts = set(call.texts)
    removes = bool(texts & REMOVES) or any(
        re.match(r"-R(?!e)", text) for text in texts if call.name in ("pacman", "yay", "paru")
    )
    if call.name in ("dpkg", "rpm") and not removes:
        removes = any(re.fullmatch(r"-(?:r|P|e)\w*", text) for text in texts)
    if call.name == "rpm" and any(text.startswith("-q") for text in texts):
        removes = False
    names = [word for word in operands_of(call) if word.text not in REMOVES]
    if removes:
        if any(ESSENTIAL.fullmatch(word.text) for word in names) and call.name not in ("brew", "flatpak"):
            yield refuse("the system does not work without it")
        elif any(GUARDS.fullmatch(word.text) for word in names):
            yield ask("it takes a guard of this machine away")
        elif any(not word.is_certain or "*" in word.text for word in names):
            yield ask("what it removes is only known when it runs")
    if any(UNCHECKED.fullmatch(text) for text in texts):
        yield ask("it skips what keeps the packages whole or trusted")
    elif any(re.match(r"http://|ftp://|https?://\d", text) for text in texts):
        yield ask("it installs what came without any protection")


@rule(*LANGUAGE_MANAGERS, "npx", "bunx", "pnpx", "uvx", "python", "python3")
def _language_packages(call: Call, folder: str) -> Iterator[Verdict]:
    texts = call.texts
    if call.name.startswith("python") and texts[:2] != ("-m", "pip"):
        return
    joined = " ".join(texts)
    if call.name in RUNNERS or re.search(r"(?:^|\s)(?:install|add|i|download|sync)\b", joined):
        if any(re.match(r"(?:git\+|hg\+|svn\+)?(?:https?|ssh|git|ftp)(?:\+\w+)?://", text) for text in texts):
            yield ask("it runs code from a server that no index has checked")
        elif any(
            re.match(r"--(?:extra-)?index(?:-url)?|--trusted-host|--registry|--source|-s$|--find-links", text)
            for text in texts
        ):
            yield ask("it runs code from another index")
    elif re.search(r"\bconfig\s+set\s+.*(?:registry|index-url|strict-ssl|script-shell|trusted-host)", joined):
        yield ask("code would come from another index")
    elif "uninstall" in texts and re.search(r"<\(|\$\(|`", joined):
        yield ask("what it removes is only known when it runs")
    elif {"publish", "unpublish"} & set(texts) and "--dry-run" not in texts:
        yield ask("it changes what others get")


@rule(
    "apt-key",
    "add-apt-repository",
    "do-release-upgrade",
    "rpmkeys",
    "yum-config-manager",
    "apt-add-repository",
    "softwareupdate",
)
def _sources(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    if call.name == "do-release-upgrade":
        if not re.search(r"-c\b|--check", joined):
            yield ask("it replaces the whole system with its next version")
    elif call.name == "softwareupdate":
        if re.search(r"--(?:fetch-full|erase)|--schedule off", joined):
            yield ask("it changes how the system is kept up to date")
    elif (call.name == "apt-key" and not re.search(r"\b(?:list|finger|export)\b", joined)) or re.search(
        r"http://|--add-repo|\bdeb\b|--import", joined
    ):
        yield ask("it trusts the packages of others")
