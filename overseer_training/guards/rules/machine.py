"""What runs the machine: processes, services, power, network, firewall, kernel, records."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import documents_of, operands_of
from overseer_training.guards.places import HISTORY, SHARED, place_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse

# Services without which nobody gets in, nothing is recorded, or nobody watches.
ACCESS = re.compile(
    r"ssh|sshd|networking|network|networkmanager|wpa_supplicant|dhcpcd|firewalld|ufw|pf|dbus|dbus-broker|auditd|rsyslog|syslog|syslog-ng"
    r"|systemd-(?:networkd|resolved|logind|journald|udevd)|apparmor|selinux|fail2ban|iptables|nftables|crowdsec|clamav\S*|falcon-sensor"
    r"|wazuh\S*|osqueryd|ossec|sysmon|mdatp|cbdaemon|filebeat|auditbeat|snort|suricata|getty@\S*|display-manager|gdm3?|sddm|lightdm"
    r"|wg-quick@\S*|openvpn\S*|tailscaled|cloud-init|systemd-timesyncd|chronyd|polkit|unattended-upgrades|dnf-automatic\S*|aide|usbguard"
)
SYSTEM_PROCESSES = re.compile(
    r"-?(?:systemd\S*|init|\.\*?|sshd?|Xorg|Xwayland|gnome-shell|plasmashell|kwin\S*|dbus-\w+|launchd|WindowServer|loginwindow|auditd"
    r"|rsyslogd?|NetworkManager|firewalld|fail2ban\S*|falcon-sensor|clamd|apparmor\S*|agetty|login|kthreadd|osqueryd|wazuh\S*|bash|zsh)"
)


@rule("kill", "pkill", "killall", "killall5", "skill", "xkill", "slay")
def _kills(call: Call, folder: str) -> Iterator[Verdict]:
    texts, joined = call.texts, " ".join(call.texts)
    if call.name == "killall5" or (call.name == "kill" and len(texts) > 1 and texts[-1] == "-1"):
        yield refuse("it ends every process")
    elif (
        call.name == "kill"
        and "1" in texts[:1] + texts[-1:]
        and not re.match(r"-s$|-n$", texts[-2] if len(texts) > 1 else "")
    ):
        yield refuse("process 1 is the system itself")
    elif call.name == "kill" and any(text in ("$$", "$PPID") for text in texts):
        yield ask("it ends the shell that you work in")
    elif call.name in ("pkill", "killall", "skill") and not re.search(r"-(?:HUP|1|USR[12]|0|s\s*(?:HUP|0))\b", joined):
        if any(SYSTEM_PROCESSES.fullmatch(text) for text in texts):
            yield ask("the system, the session or a guard ends with it")
        elif re.search(r"(?:^|\s)-(?:u|-user|-euid|U|-uid)[ =]?\S+$", joined) or "." in texts:
            yield ask("it ends everything that somebody runs")


@rule("shutdown", "reboot", "halt", "poweroff", "init", "telinit", "systemctl", "service", "rc-service", "rc-update", "loginctl", "initctl", "sv", "pmset", "kexec", "chkconfig", "update-rc.d", "invoke-rc.d")  # fmt: skip
def _services(call: Call, folder: str) -> Iterator[Verdict]:
    name, texts = call.name, call.texts
    verbs = set(texts)
    if name in ("shutdown", "reboot", "halt", "poweroff", "kexec"):
        if not verbs & {"-c", "--help", "--show", "--version"}:
            yield ask("it ends everything that runs here")
    elif name in ("init", "telinit"):
        if re.search(r"(?:^|\s)[0-6Ss](?:\s|$)", " ".join(texts)):
            yield ask("it changes what runs here, or ends it")
    elif verbs & {"poweroff", "reboot", "halt", "kexec", "rescue", "emergency", "isolate", "hibernate", "suspend", "set-default", "soft-reboot", "terminate-user", "kill-user", "terminate-session", "kill-session", "sleepnow", "default"} and name in ("systemctl", "loginctl", "pmset"):  # fmt: skip
        yield ask("it ends what runs here")
    elif verbs & {"stop", "disable", "mask", "kill", "off", "del", "remove"}:
        names = {re.sub(r"\.(?:service|socket|target|timer)$", "", text.lower()) for text in texts}
        if any(ACCESS.fullmatch(each) for each in names):
            yield ask("you may lock yourself out, or take a guard away")
        elif any("$" in text or "*" in text for text in texts):
            yield ask("which services stop is only known when it runs")
    if name == "systemctl":
        if verbs & {"enable", "link", "start", "reenable"} and any("/" in text for text in texts):
            yield ask("it makes a program run without being asked")
        elif "edit" in verbs and ("--stdin" in verbs or call.source is not None):
            yield ask("it changes what a service runs")
        elif verbs & {"set-environment", "import-environment"} and re.search(r"LD_|PATH=", " ".join(texts)):
            yield ask("it changes what services load")


@rule("launchctl", "crontab", "at", "batch", "atrm")
def _schedules(call: Call, folder: str) -> Iterator[Verdict]:
    """What runs later. A list that is only shown, or opened in an editor, is harmless."""
    name, texts, joined = call.name, call.texts, " ".join(call.texts)
    if name == "launchctl":
        if re.search(r"\b(?:load|bootstrap|submit|enable|setenv)\b", joined):
            yield ask("it makes a program run without being asked")
        elif re.search(r"\b(?:unload|bootout|disable|remove)\b", joined) and re.search(
            r"com\.apple|/System|/Library/LaunchDaemons|\bsystem$", joined
        ):
            yield ask("a service of the system stops")
        elif re.search(r"\breboot\b", joined):
            yield ask("it ends everything that runs here")
    elif name == "crontab":
        if re.search(r"(?:^|\s)-\w*r", joined):
            yield ask("all scheduled tasks of the account go")
        elif (
            (operands_of(call) and not re.search(r"(?:^|\s)-[le]\b", joined))
            or call.source is not None
            or list(documents_of(call))
        ):
            yield ask("it replaces all scheduled tasks of the account")
    elif name in ("at", "batch") and (
        any(text.startswith("-f") for text in texts) or call.source is not None or call.redirects
    ):
        yield ask("it runs something later, when nobody looks")


@rule(
    "iptables",
    "ip6tables",
    "iptables-restore",
    "nft",
    "ufw",
    "firewall-cmd",
    "pfctl",
    "ipset",
    "ebtables",
    "socketfilterfw",
)
def _firewall(call: Call, folder: str) -> Iterator[Verdict]:
    name, joined = call.name, " ".join(call.texts)
    patterns = {
        r"(?:ip6?|eb)tables": r"(?:^|\s)(?:-F|--flush|-X|-P|--policy|-D|--delete)\b|--dports?\s+\S*\b22\b.*\b(?:DROP|REJECT)|-[IA]\s+\w+(?:\s+\d+)?\s+-j\s+(?:ACCEPT|DROP|REJECT)\s*$|-s\s+0\.0\.0\.0/0.*ACCEPT",
        r"iptables-restore|ipset": r"^$|flush|destroy|\S",
        r"nft": r"\bflush\b|\bdelete\b|\bdestroy\b",
        r"ufw": r"\b(?:disable|reset)\b|\bdefault\s+(?:allow|deny|reject)\b|\b(?:deny|reject|limit)\b.*\b(?:22|ssh|OpenSSH)\b|\ballow\s+from\s+any(?:\s+to\s+any)?\s*$|\ballow\b.*\b1:65535|delete.*\b(?:22|ssh|OpenSSH)\b",
        r"firewall-cmd": r"--panic-on|--set-default-zone=(?:trusted|drop)|--remove-service=ssh|--zone=trusted",
        r"pfctl": r"(?:^|\s)-\w*d|-F",
        r"socketfilterfw": r"off",
    }
    for program, pattern in patterns.items():
        if re.fullmatch(program, name) and re.search(pattern, joined):
            yield ask("it takes the firewall away, opens it, or locks you out")


@rule("setenforce", "auditctl", "aa-teardown", "aa-disable", "aa-complain", "csrutil", "spctl", "defaults", "mokutil", "nvram", "bless", "getsebool", "setsebool", "semanage", "apparmor_parser", "systemextensionsctl", "tmutil", "zmodload", "ztcp")  # fmt: skip
def _watchers(call: Call, folder: str) -> Iterator[Verdict]:
    name, joined = call.name, " ".join(call.texts)
    patterns = {
        "setenforce": r"0|[Pp]ermissive", "auditctl": r"(?:^|\s)(?:-D|-e\s*0|-d)", "aa-teardown": r"", "aa-disable": r"", "aa-complain": r"",
        "csrutil": r"disable|clear", "spctl": r"disable|--add|--remove", "mokutil": r"--disable|--import|--reset|--delete|--set",
        "nvram": r"=|(?:^|\s)-[cd]", "bless": r"--set", "setsebool": r"\b(?:1|on)\b", "semanage": r"permissive|--delete|-d\b",
        "apparmor_parser": r"-R|--remove", "tmutil": r"delete|disable|inherit|thin", "zmodload": r"net/", "ztcp": r"", "systemextensionsctl": r"reset|uninstall",
        "defaults": r"write.*(?:com\.apple\.(?:alf|LaunchServices|security|screensaver|SoftwareUpdate|loginwindow)|globalstate|LSQuarantine|GatekeeperConfig)|\bdelete\s+(?:-g|NSGlobalDomain)",
    }  # fmt: skip
    if name in patterns and re.search(patterns[name], joined):
        yield ask("it changes what protects this machine")


@rule(
    "ip",
    "ifconfig",
    "ifdown",
    "route",
    "nmcli",
    "networksetup",
    "netplan",
    "tc",
    "wg-quick",
    "rfkill",
    "dhclient",
    "nmtui",
)
def _links(call: Call, folder: str) -> Iterator[Verdict]:
    patterns = {
        "ip": r"\bflush\b|link\s+set\s+.*\bdown\b|\br(?:oute)?\s+(?:del|delete|replace)\b|link\s+del|addr(?:ess)?\s+del|\brule\s+(?:add|del)",
        "ifconfig": r"\bdown\b|\bdelete\b", "ifdown": r"", "route": r"\bdel\b|\bdelete\b|flush",
        "nmcli": r"\b(?:n|networking|radio)\b.*\boff\b|\bcon\w*\s+(?:del|delete|down)|\bdev\w*\s+(?:disconnect|down|delete)",
        "networksetup": r"-(?:setairportpower|setnetworkserviceenabled)\b.*\boff\b|-remove|-set\w*proxy|-setdnsservers",
        "netplan": r"\bapply\b", "tc": r"netem|loss|\badd\b.*\btbf\b", "rfkill": r"\bblock\b", "dhclient": r"(?:^|\s)-r",
    }  # fmt: skip
    if call.name in patterns and re.search(patterns[call.name], " ".join(call.texts)):
        yield ask("the connection to this machine may break")


@rule("sysctl", "modprobe", "rmmod", "insmod", "kmod", "setpci", "wrmsr", "flashrom", "fwupdmgr", "fwupdtool", "efibootmgr", "grub-install", "grub2-install", "dracut", "mkinitcpio", "ldconfig", "update-alternatives", "bootctl", "kldunload", "kextunload", "kextload", "ipmitool", "depmod")  # fmt: skip
def _kernel(call: Call, folder: str) -> Iterator[Verdict]:
    patterns = {
        "sysctl": r"kernel\.(?!hostname|pid_max|threads)[\w.]*\s*=|ip_forward\s*=\s*1|fs\.(?:suid_dumpable|protected)\S*=|panic|\.rp_filter=0|vm\.overcommit_memory=1\b.*panic",
        "modprobe": r"(?:^|\s)(?:-\w*r|--remove)|(?:^|\s)-\w*f|--force", "rmmod": r"", "insmod": r"", "kmod": r"unload|load",
        "setpci": r"=", "wrmsr": r"", "flashrom": r"(?:^|\s)-\w*[wE]|--write|--erase", "fwupdmgr": r"\binstall\b|--force|downgrade|reinstall",
        "fwupdtool": r"install|write", "efibootmgr": r"(?:^|\s)-\w*[BcoOnNaAt]\b|--delete|--create|--bootorder", "grub-install": r"", "grub2-install": r"",
        "dracut": r"--omit|-o\b", "mkinitcpio": r"-S", "ldconfig": r"(?:^|\s)-[rCf]", "update-alternatives": r"--set\s+(?:sh|sudo)|/tmp/|--remove-all",
        "bootctl": r"remove|set-default|unlink", "kldunload": r"", "kextunload": r"", "kextload": r"", "ipmitool": r"power|mc reset|user set",
    }  # fmt: skip
    if call.name in patterns and re.search(patterns[call.name], " ".join(call.texts)):
        yield ask("it changes the kernel, the firmware, or how the machine starts")


@rule("history", "fc", "set", "shopt", "journalctl", "dmesg", "log", "wevtutil", "utmpdump", "logrotate", "faillock")
def _records(call: Call, folder: str) -> Iterator[Verdict]:
    patterns = {
        "history": r"(?:^|\s)-\w*[cdw]", "fc": r"(?:^|\s)-W", "set": r"\+o\s+history", "shopt": r"-u.*(?:histappend|cmdhist)",
        "journalctl": r"--vacuum-(?:time=\s*\d+(?:s|sec|m|min|h)?$|size=\s*\d{1,2}[KB]?$|files=[01]$)|--rotate.*--vacuum",
        "dmesg": r"(?:^|\s)(?:-\w*[cC]|--clear|--read-clear)\b", "log": r"\berase\b", "wevtutil": r"cl", "utmpdump": r"(?:^|\s)-r",
    }  # fmt: skip
    if call.name in patterns and re.search(patterns[call.name], " ".join(call.texts)):
        yield ask("it erases the record of what happened")


def assigned(name: str, value: str, is_certain: bool) -> Iterator[Verdict]:
    """Verdicts for a variable that is set: some decide what other programs load or run."""
    if re.fullmatch(
        r"LD_(?:PRELOAD|AUDIT|LIBRARY_PATH)|DYLD_INSERT_LIBRARIES|BASH_ENV|BASHOPTS|SHELLOPTS|PERL5OPT|RUBYOPT|PYTHONSTARTUP|PERL5DB|GCONV_PATH",
        name,
    ):
        if name != "LD_LIBRARY_PATH" or SHARED.match(value):
            yield ask(f"{name} makes other programs run foreign code")
    elif name == "ENV" and "/" in value:
        yield ask("ENV makes other shells run foreign code")
    elif name == "NODE_OPTIONS" and re.search(r"--require|--import|-r\b", value):
        yield ask(f"{name} makes other programs run foreign code")
    elif name == "PATH":
        first = value.split(":")[0]
        if (
            not value
            or SHARED.match(f"{first}/x")
            or first in (".", "")
            or ("PATH" not in value and "/bin" not in value)
        ):
            yield ask("programs would be looked for in a wrong or unsafe place")
    elif name in ("HISTFILE", "HISTSIZE", "HISTFILESIZE", "HISTCONTROL", "SAVEHIST", "HISTIGNORE"):
        if value in ("", "0", "/dev/null", "*"):
            yield ask("no record of commands is kept")
    elif re.fullmatch(r"GIT_SSL_NO_VERIFY|NODE_TLS_REJECT_UNAUTHORIZED|PYTHONHTTPSVERIFY", name):
        yield ask("connections would not be checked")


@rule("unset", "hash", "enable", "ulimit")
def _of_the_shell(call: Call, folder: str) -> Iterator[Verdict]:
    if call.name == "unset" and any(
        HISTORY.fullmatch(f"${text}") or text in ("HISTFILE", "PATH") for text in call.texts
    ):
        yield ask("no record of commands is kept, or no program is found")
    elif call.name == "hash" and "-p" in call.texts:
        yield ask("a program would run under the name of another")
    elif call.name == "enable" and "-f" in call.texts:
        yield ask("the shell would load foreign code")


@rule("ping", "hping3", "nmap", "arpspoof")
def _floods(call: Call, folder: str) -> Iterator[Verdict]:
    if call.name == "ping" and any(re.fullmatch(r"-\w*f\w*|--flood", text) for text in call.texts):
        yield ask("it floods another machine")
    elif call.name == "nmap" and any(
        re.match(r"--script=?(?:.*/|.*(?:exploit|brute|dos|vuln))", text) for text in call.texts
    ):
        yield ask("it runs scripts against another machine")


@rule("source", ".")
def _sources(call: Call, folder: str) -> Iterator[Verdict]:
    for word in operands_of(call)[:1]:
        place = place_of(word, folder)
        if re.match(r"<\(|/dev/(?:stdin|fd|tcp)|\$\(", word.text) or SHARED.match(place.path):
            yield ask("it runs what is only known when it runs")
