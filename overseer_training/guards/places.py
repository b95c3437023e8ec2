"""Places of a file system and what it means to lose, change or show them.

Takes words and the directory they are written in; gives `Place`. A place is known by its path alone: nothing is looked up.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import posixpath
import re

from overseer_training.guards.words import HOME, Word

TOPS = {
    *(
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "usr",
    ),
    *(
        "var",
        "Users",
        "System",
        "Library",
        "Applications",
        "Volumes",
        "private",
        "mnt",
        "media",
        "snap",
        "nix",
        "cores",
    ),
}
CRITICAL = {
    *("/", HOME, "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin", "/usr/share", "/usr/local", "/usr/local/bin"),
    *("/var/lib", "/var/log", "/var/www", "/var/mail", "/var/spool", "/var/backups", "/etc/ssh", "/etc/pam.d"),
    *(
        "/etc/systemd",
        "/etc/sudoers.d",
        "/sys/firmware/efi/efivars",
        "/lib/modules",
        "/var/lib/dpkg",
        "/var/lib/docker",
    ),
    *(f"/{top}" for top in TOPS),
}
SYSTEM = (
    *(
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/proc",
        "/root",
        "/sbin",
        "/sys",
        "/usr",
        "/var/lib",
    ),
    *("/var/log", "/var/spool", "/var/mail", "/var/backups", "/System", "/Library", "/nix/store", "/private/etc"),
)
PERSONAL = re.compile(
    rf"(?:{HOME}|/(?:home|Users)/[^/]+)/(?:Documents|Desktop|Pictures|Photos|Music|Videos|Movies|Downloads|Library|Mail|Maildir"
    r"|\.ssh|\.gnupg|\.config|\.local|\.local/share|\.aws|\.kube|\.mozilla|\.thunderbird|\.password-store|Dropbox|Nextcloud)"
)
SHARED = re.compile(r"(?:/private)?(?:/tmp|/var/tmp|/dev/shm)/.+")  # everybody can write there
DEVICE = re.compile(
    r"/dev/(?:r?disk\d|[shvx]v?d[a-z*?\[]|nvme\d?|mmcblk|md\d|dm-|mapper/|loop|disk/by-|zd\d|nbd\d|sr\d|block/|zvol/|vg)[\w/*?\[\]-]*"
)
SYSTEM_DISK = re.compile(
    r"/dev/(?:[shvx]v?d[a*?\[]|nvme0|mmcblk0|r?disk[0*?\[]|mapper/|md|dm-|vg)"
)  # where a system is, by custom
MEMORY = re.compile(r"/dev/(?:k?mem|port)|/proc/(?:sysrq-trigger|kcore)|/sys/power/.*|/sys/firmware/.*|/dev/cpu/.*")
# Who may do what: whoever writes here owns the machine.
RIGHTS = re.compile(
    r"/etc/(?:passwd|shadow|group|gshadow|sudoers|doas\.conf|ld\.so\.preload|subuid|subgid)-?|/etc/(?:sudoers\.d|pam\.d|polkit-1|security/(?!limits))/?.*"
)
# What the machine needs to start and to let its owner in.
VITAL = re.compile(
    r"/etc/(?:fstab|crypttab|inittab|machine-id|ld\.so\.(?:conf(?:\.d/.*)?|cache)|nsswitch\.conf|shells|hosts|resolv\.conf|default/grub"
    r"|hosts\.(?:deny|allow)|ssh/(?:sshd_config.*|ssh_host.*)|selinux/.*|netplan/.*|network/interfaces|modprobe\.d/.*|login\.defs)"
    r"|/boot/.*|/(?:usr/)?s?bin/.*|/(?:usr/)?lib(?:32|64)?/.*|/lib/modules/.*|/proc/sys/kernel/.*|/System/.*"
)
# What is run later without being asked for, or decides what is.
STARTUP = re.compile(
    r".*/authorized_keys2?|/etc/(?:cron.*|anacrontab|profile(?:\.d/.*)?|bash\.bashrc|bashrc|zsh/.*|zshrc|zshenv|environment|rc\.local"
    r"|init\.d/.*|rc\d?\.d/.*|systemd/.*|udev/.*|xdg/autostart/.*|apt/(?:sources\.list.*|apt\.conf.*|trusted.*)|yum\.repos\.d/.*"
    r"|ld\.so\.conf\.d/.*|update-motd\.d/.*|skel/.*|NetworkManager/dispatcher\.d/.*)"
    r"|/(?:usr/)?lib/systemd/.*|/var/spool/cron.*|.*/(?:LaunchAgents|LaunchDaemons|StartupItems)(?:/.*)?"
    r"|.*/\.config/(?:autostart|systemd)/.*|(?:.*/)?\.git/hooks/.*|.*/\.ssh/(?:rc|environment)"
)
OWN_STARTUP = re.compile(  # of one person's shell: people add lines to them every day
    r".*/\.(?:bashrc|bash_profile|bash_login|bash_logout|bash_aliases|profile|zshrc|zshenv|zprofile|zlogin|zlogout|kshrc|cshrc"
    r"|tcshrc|xprofile|xinitrc|xsession|inputrc|envrc|aliases)|.*/\.config/fish/.*\.fish|.*/\.ssh/config|.*/\.gitconfig"
)
SECRET = re.compile(
    r"/etc/g?shadow-?|(?:.*/)?\.ssh(?:/(?!.*\.pub$|config$|known_hosts|authorized_keys|rc$).*)?|(?:.*/)?id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"
    r"|.*/\.(?:aws|gnupg|kube|docker|password-store|azure|config/gcloud)(?:/.*)?|(?:.*/)?\.(?:netrc|pgpass|my\.cnf|git-credentials|vault-token)"
    r"|.*\.(?:kdbx|keystore|jks)|.*/(?:logins\.json|key4\.db|Login Data|Cookies|cookies\.sqlite|wallet\.dat|login\.keychain.*)"
    r"|/proc/(?:\d+|self|\*)/environ|/etc/ssl/private(?:/.*)?|/etc/ssh/ssh_host_\w+_key|.*/secring\.gpg|/root/\.\w+.*"
    r"|(?:.*/)?\.(?:bash|zsh|mysql|psql|python)_history|/var/lib/(?:sss/secrets|NetworkManager/system-connections).*"
    r"|/run/secrets/.*|/var/run/secrets/.*|.*/Keychains(?:/.*)?|/etc/NetworkManager/system-connections.*|/etc/wireguard(?:/.*)?"
)
HISTORY = re.compile(r"(?:.*/)?\.?(?:\w+_history|node_repl_history|lesshst|viminfo)|\$\{?HISTFILE\}?")
RECORDS = re.compile(r"/var/log(?:/.*)?|/private/var/log(?:/.*)?|/var/account/.*|.*/Library/Logs")
# Places that a pattern may be written for, so that the name itself does not stand there.
GUARDED = (
    "/etc/shadow",
    "/etc/passwd",
    "/etc/sudoers",
    f"{HOME}/.ssh/id_rsa",
    f"{HOME}/.ssh/id_ed25519",
    "/root/.ssh/id_rsa",
)
EVERYTHING = re.compile(r"(?:^|/)(?:\*|\.\*|\*\*|\*\.\*|\.\[\^?!?\.\]\*|\.\?\?\*|\?\*|\[[^\]]*\]\*|\{\*,\.\*\})$")


@dataclasses.dataclass(frozen=True)
class Place:
    """A path as the shell would see it: absolute where that is known, normalized, `HOME` for the home directory.

    Attributes:
        is_content: everything in it (`path/*`).
    """

    path: str
    is_certain: bool
    is_content: bool

    @property
    def is_critical(self) -> bool:
        """The system, or all that somebody owns, goes with it."""
        if self.path in CRITICAL or PERSONAL.fullmatch(self.path):
            return True
        top = self.path.strip("/").split("/")[0]
        somebody = re.fullmatch(r"/(?:home|Users)/[^/]+", self.path) is not None
        wild = self.path.startswith("/") and re.search(r"[*?\[]", top) is not None
        return somebody or wild

    @property
    def is_system(self) -> bool:
        return self.path in SYSTEM or self.path.startswith(tuple(f"{folder}/" for folder in SYSTEM))

    @property
    def is_here(self) -> bool:
        """The working directory itself, or one above it, whichever that is."""
        return re.fullmatch(r"\.|\.\.(?:/\.\.)*|\.\*", self.path) is not None


def _matches(path: str, pattern: str) -> bool:
    parts, forms = path.split("/"), pattern.split("/")
    return len(parts) == len(forms) and all(map(fnmatch.fnmatchcase, parts, forms))


def place_of(word: Word, folder: str) -> Place:
    """Where `word` points, from `folder` (empty: an unknown working directory, written as `.`)."""
    text = re.sub(r"^/+", "/", word.text)
    if re.match(r"~(?=/|$)", text):
        text = HOME + text[1:]
    is_content = EVERYTHING.search(text) is not None
    if is_content:
        text = (text.rsplit("/", 1)[0] or "/") if "/" in text else "."
    path = posixpath.normpath(posixpath.join(folder or ".", text))
    path = re.sub(r"^/home/\.\.(?=/|$)", "/", path)
    if path.startswith("/") and re.search(r"[*?\[]", path):
        path = next((each for each in GUARDED if _matches(each, path)), path)
    return Place(path, word.is_certain, is_content)
