"""Programs that a sandbox cannot run for real: services, packages, containers, networks, accounts, other systems.

Each is replaced by one small script that checks the subcommand, notes its arguments and prints a word, so that two
commands can be compared by the calls that they make. The word does not depend on the order of options: that is for
`compare.py` to judge. A subcommand that the real program does not know is refused.
Does not know the options of each program: wrong options of a right subcommand pass, and so does an unknown subcommand
right behind an option, before a known one, since it may be the option's value.
"""

from __future__ import annotations

import pathlib

# program -> the subcommands it accepts; an empty text means that any arguments are fine.
EMULATED_PROGRAMS: dict[str, str] = {
    # services and logs
    "systemctl": "start stop restart reload reload-or-restart try-restart status enable disable is-active is-enabled is-failed "
    "is-system-running mask unmask show cat edit kill list-units list-unit-files list-timers list-sockets "
    "list-dependencies list-jobs daemon-reload daemon-reexec reset-failed get-default set-default isolate reboot "
    "poweroff halt suspend hibernate rescue emergency revert preset help set-property show-environment link",
    "service": "", "journalctl": "", "dmesg": "", "systemd-analyze": "", "systemd-run": "", "loginctl": "",
    "timedatectl": "", "hostnamectl": "", "localectl": "", "update-rc.d": "", "resolvectl": "", "coredumpctl": "",
    "logrotate": "", "crontab": "", "at": "", "atq": "", "atrm": "", "shutdown": "", "reboot": "", "poweroff": "", "halt": "",
    "last": "", "lastlog": "", "lastb": "", "who": "", "w": "", "wall": "", "write": "",
    # packages
    "apt": "install remove purge update upgrade full-upgrade autoremove search show list edit-sources satisfy autoclean clean "
    "policy depends rdepends changelog download source build-dep reinstall moo autopurge dist-upgrade",
    "apt-get": "install remove purge update upgrade dist-upgrade autoremove clean autoclean check download source build-dep "
    "changelog satisfy reinstall autopurge",
    "apt-cache": "search show policy depends rdepends pkgnames stats showpkg madison dump",
    "apt-mark": "hold unhold showhold auto manual showauto showmanual minimize-manual",
    "apt-file": "", "add-apt-repository": "", "dpkg": "", "dpkg-query": "", "dpkg-reconfigure": "",
    "dnf": "", "yum": "", "rpm": "", "zypper": "", "pacman": "", "apk": "", "snap": "", "flatpak": "", "emerge": "", "nix": "", "nix-env": "",
    "brew": "install uninstall remove rm update upgrade search info list ls leaves outdated cleanup doctor tap untap pin unpin "
    "services deps uses home autoremove link unlink reinstall cat edit config commands bundle desc fetch log options",
    "port": "", "mas": "", "pip": "", "pip3": "", "pipx": "", "uv": "", "conda": "", "poetry": "",
    "npm": "", "npx": "", "yarn": "", "pnpm": "", "gem": "", "bundle": "", "cargo": "", "rustup": "", "go": "", "composer": "",
    # containers and clusters
    "docker": "attach build builder buildx commit compose config container context cp create diff events exec export "
    "history image images import info inspect kill load login logout logs manifest network pause plugin port ps pull "
    "push rename restart rm rmi run save search secret service stack start stats stop swarm system tag top unpause "
    "update version volume wait node --version -v --help",
    "docker-compose": "", "podman": "", "kubectl": "", "helm": "", "minikube": "", "vagrant": "", "virsh": "", "lxc": "",
    "ansible": "", "ansible-playbook": "", "terraform": "", "aws": "", "gcloud": "", "az": "",
    # network
    "ping": "", "ping6": "", "traceroute": "", "tracepath": "", "mtr": "", "dig": "", "nslookup": "", "host": "", "whois": "",
    "curl": "", "wget": "", "nc": "", "ncat": "", "netcat": "", "telnet": "", "ftp": "", "nmap": "", "tcpdump": "", "iperf3": "",
    "ssh": "", "scp": "", "sftp": "", "ssh-copy-id": "", "ssh-add": "", "ssh-keyscan": "", "sshfs": "", "mosh": "", "rclone": "",
    "ufw": "", "iptables": "", "ip6tables": "", "nft": "", "firewall-cmd": "", "nmcli": "", "iw": "", "iwconfig": "", "ethtool": "",
    "ifconfig": "", "route": "", "arp": "", "netstat": "", "ss": "", "ip": "", "speedtest-cli": "", "vnstat": "", "openvpn": "", "wg": "",
    # accounts
    "useradd": "", "adduser": "", "usermod": "", "userdel": "", "deluser": "", "groupadd": "", "addgroup": "", "groupdel": "",
    "groupmod": "", "gpasswd": "", "passwd": "", "chpasswd": "", "chage": "", "chown": "", "chgrp": "", "chsh": "", "visudo": "", "su": "",
    # disks, kernel, hardware
    "mount": "", "umount": "", "lsblk": "", "blkid": "", "fdisk": "", "sfdisk": "", "parted": "", "mkfs": "", "mkfs.ext4": "", "mkfs.xfs": "",
    "mkfs.vfat": "", "fsck": "", "tune2fs": "", "resize2fs": "", "e2label": "", "swapon": "", "swapoff": "", "mkswap": "", "fallocate": "",
    "lvs": "", "vgs": "", "pvs": "", "lvextend": "", "lvcreate": "", "vgextend": "", "pvcreate": "", "mdadm": "", "smartctl": "", "hdparm": "",
    "iostat": "", "mpstat": "", "sar": "", "iotop": "", "pidstat": "", "quota": "", "findmnt": "", "losetup": "", "cryptsetup": "",
    "lsmod": "", "modprobe": "", "rmmod": "", "modinfo": "", "sysctl": "", "lspci": "", "lsusb": "", "lshw": "", "dmidecode": "", "sensors": "",
    "nvidia-smi": "", "update-grub": "", "update-initramfs": "", "hwclock": "", "udevadm": "", "upower": "", "acpi": "", "lscpu": "",
    "strace": "", "ltrace": "", "perf": "", "getenforce": "", "setenforce": "", "restorecon": "", "setfacl": "", "getfacl": "", "chattr": "", "lsattr": "",
    # sessions, screens, editors
    "tmux": "", "screen": "", "watch": "", "nano": "", "vim": "", "vi": "", "emacs": "", "code": "", "htop": "", "btop": "", "glances": "", "xdg-open": "", "xclip": "",
    "notify-send": "", "xrandr": "", "espeak": "", "ffmpeg": "", "convert": "", "magick": "", "yt-dlp": "", "ollama": "",
    # macOS
    "launchctl": "list load unload start stop bootstrap bootout enable disable kickstart print kill remove submit print-disabled blame",
    "defaults": "read write delete domains find rename import export read-type", "diskutil": "", "hdiutil": "", "pbcopy": "", "pbpaste": "",
    "open": "", "sw_vers": "", "softwareupdate": "", "system_profiler": "", "dscl": "", "dscacheutil": "", "networksetup": "",
    "scutil": "", "mdfind": "", "mdls": "", "mdutil": "", "caffeinate": "", "osascript": "", "tmutil": "", "screencapture": "", "say": "",
    "pmset": "", "spctl": "", "xattr": "", "csrutil": "", "vm_stat": "", "airport": "", "nvram": "", "ditto": "", "plutil": "",
    "sips": "", "textutil": "", "codesign": "", "xcode-select": "", "qlmanage": "", "killall5": "", "wdutil": "", "fs_usage": "", "log": "", "kextstat": "",
}  # fmt: skip

SCRIPT = r"""#!/bin/bash
# Notes the call, refuses a subcommand that the real program does not know, and prints one word.
program=${0##*/}
known=$(<"/run/emulated/.known/$program")
verdict=ok subcommand= unknown= before=
if [ -n "$known" ]; then
  for argument in "$@"; do
    case $argument in
      -*) ;;
      *) if [[ " $known " == *" $argument "* ]]; then subcommand=$argument unknown=; break; fi
         unknown=${unknown:-$argument}
         # Behind an option it may be its value, as in `systemctl --type service list-units`; elsewhere it is the subcommand.
         if [[ $before != -* ]]; then break; fi ;;
    esac
    before=$argument
  done
  if [ -n "$unknown" ]; then verdict=refused; fi
fi
( IFS=$'\x1f'; line="$verdict"$'\x1f'"$program"; for argument in "$@"; do line+=$'\x1f'"${argument//$'\n'/\\n}"; done
  printf '%s\n' "$line" >>/run/result/calls )
if [ $verdict = refused ]; then echo "$program: unknown command '$unknown'" >&2; exit 64; fi
case $program in pbcopy|xclip) cat >/dev/null;; chown|chgrp) ;; *) printf '%s\n' "$program${subcommand:+-$subcommand}" ;; esac
"""

SUDO_SCRIPT = r"""#!/bin/bash
# The user of the sandbox may do what its commands need; sudo runs them as they are.
while [ $# -gt 0 ]; do
  case $1 in -u|-g|-h|-p|-C|-T) shift 2 ;; -*) shift ;; *=*) export "$1"; shift ;; *) break ;; esac
done
[ $# -eq 0 ] && exit
command -v "$1" >/dev/null || { echo "sudo: $1: command not found" >&2; exit 1; }
exec "$@"
"""


def write_emulators(folder: pathlib.Path) -> None:
    """Write one script for each emulated program, and `sudo`, into `folder`."""
    known = folder / ".known"
    known.mkdir(parents=True)
    for program, subcommands in EMULATED_PROGRAMS.items():
        (known / program).write_text(subcommands)
        (folder / program).write_text(SCRIPT)
        (folder / program).chmod(0o755)
    for program in ("sudo", "doas"):
        (folder / program).write_text(SUDO_SCRIPT)
        (folder / program).chmod(0o755)
