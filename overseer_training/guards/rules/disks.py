"""What changes disks, partitions and file systems, and what fills them or the memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import chain_of, has_flag, operands_of
from overseer_training.guards.places import DEVICE, MEMORY, RIGHTS, SYSTEM_DISK, VITAL, place_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse
from overseer_training.guards.words import Word

UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
MUCH = 100 * 2**30  # bytes; chosen: more than people write at once without thinking
ENDLESS_FILES = {"/dev/zero", "/dev/urandom", "/dev/random", "/dev/full"}
# Subcommands and options that lose what a disk holds.
LOSING = {
    "cryptsetup": r"luksFormat|luksErase|\berase\b|reencrypt|luksRemoveKey|luksKillSlot",
    "hdparm": r"--security-(?:erase|set-pass)|--trim-sector|--make-bad|--dco|-\w*[Ww]\b",
    "nvme": r"\bformat\b|sanitize|write-|delete-ns|fw-",
    "diskutil": r"(?i)erase|zeroDisk|randomDisk|secureErase|partitionDisk|reformat|deleteVolume|deleteContainer|apfs delete|mergePart|splitPart",
    "mdadm": r"--zero-superblock|--create|--remove|--fail|--stop|-[SCf]\b",
    "zpool": r"\b(?:destroy|labelclear|create|detach|remove)\b",
    "zfs": r"\b(?:destroy|rollback|recv|receive)\b",
    "btrfs": r"\bdelete\b|\bremove\b|--repair|\brescue\b|check.*--repair",
    "badblocks": r"(?:^|\s)-\w*w",
    "tune2fs": r"(?:^|\s)-[OUEcCiejLIorsuTQJ]",
    "debugfs": r"(?:^|\s)-\w*w",
    "xfs_repair": r"(?:^|\s)-\w*L",
    "fdisk": r"", "sfdisk": r"", "cfdisk": r"", "parted": r"", "gdisk": r"", "sgdisk": r"",
    "lvm": r"remove|reduce", "vgcfgrestore": "", "lvremove": "", "vgremove": "", "pvremove": "", "lvreduce": "", "pvcreate": "",
    "resize2fs": r"/dev/\S+\s+\d", "xfs_growfs": r"-D", "e2fsck": r"(?:^|\s)-\w*[yp]", "fsck": r"(?:^|\s)-\w*[yp]",
    "dmsetup": r"remove|wipe", "losetup": r"(?:^|\s)-D", "ddrescue": r"", "dc3dd": r"", "dcfldd": r"", "scrub": "", "nwipe": "",
    "photorec": "", "fstrim": r"^$", "blockdev": r"--set|--flush|--rereadpt", "multipath": r"-[fF]",
}  # fmt: skip
ONLY_LOOKS = re.compile(
    r"(?:^|\s)(?:-l|--list|-d|--dump|print|-p|--print|-V|--version|-J|-s|--help|-h|status|unit|list|show|-n|--json|--info|-i|-o\s+\S+)(?:\s|$)"
)
SEVERE = {"cryptsetup", "hdparm", "nvme", "diskutil", "zpool", "zfs", "badblocks", "scrub", "nwipe", "dc3dd"}


@rule("mkfs", "mke2fs", "mkswap", "wipefs", "blkdiscard", "newfs", "mkdosfs", "mkntfs", "mkfs.ext4")
def makes_file_system(call: Call, folder: str) -> Iterator[Verdict]:
    """Programs that overwrite the disk they are given; a file in its place is harmless."""
    places = [place_of(word, folder) for word in operands_of(call)]
    on_disk = [
        place for place in places if DEVICE.match(place.path) or not place.is_certain or place.path.startswith("/dev/")
    ]
    looks = (call.name == "wipefs" and not has_flag(call, "af", "--all", "--force")) or has_flag(
        call, "nV", "--version"
    )
    if on_disk and not looks:
        known = SYSTEM_DISK.match(on_disk[-1].path) is not None
        yield (refuse if known else ask)(f"{call.name} erases what is on {on_disk[-1].path}")


@rule(*LOSING)
def _loses(call: Call, folder: str) -> Iterator[Verdict]:
    name, joined = call.name, " ".join(call.texts)
    if not re.search(LOSING[name], joined):
        return
    if name in ("fdisk", "sfdisk", "cfdisk", "parted", "gdisk", "sgdisk"):
        if re.search(r"--zap|-Z\b|\bmklabel\b|\bmktable\b|\brm\b|--delete|-o\b(?!\s+\w+,)", joined):
            yield refuse(f"{name} erases the partitions of a disk")
        elif call.texts and not ONLY_LOOKS.search(joined):
            yield ask(f"{name} changes the partitions of a disk")
        return
    verdict = refuse if name in SEVERE else ask
    yield verdict(f"{name} may lose what is on a disk")


@rule("dd", "dcfldd", "dc3dd")
def _dd(call: Call, folder: str) -> Iterator[Verdict]:
    values = {
        word.text.split("=", 1)[0]: Word(word.text.split("=", 1)[1], word.is_certain)
        for word in call.arguments
        if "=" in word.text
    }
    target, source = values.get("of", Word("")), values.get("if", Word(""))
    place = place_of(target, folder)
    if any(pattern.fullmatch(place.path) for pattern in (DEVICE, MEMORY, RIGHTS, VITAL)):
        spare = DEVICE.fullmatch(place.path) is not None and not SYSTEM_DISK.match(place.path)
        yield (ask if spare else refuse)(f"dd overwrites {target.shown}")
    elif not target.is_certain and target.text.startswith("$"):
        yield ask("dd writes to a place that is only known when it runs")
    elif source.text in ENDLESS_FILES and target.text and "count" not in values:
        yield ask("it writes until the disk is full")
    elif source.text in ENDLESS_FILES and "count" in values:
        blocks = size_of(values["count"].text)
        if size_of(values.get("bs", Word("512")).text) * blocks >= MUCH:
            yield ask("it writes more than most disks hold")
    if "wipe" in values:
        yield refuse("it wipes a disk")


def size_of(text: str) -> int:
    """Bytes of `10G`, `512`, `1.5T`; 0 where it is no size."""
    match = re.fullmatch(r"[+<>%/-]?([\d.]+)\s*([bkmgtpBKMGTP]?)(?:i?[bB])?", text)
    if match is None or not re.fullmatch(r"\d+(?:\.\d+)?", match[1]):
        return 0
    return int(float(match[1]) * UNITS[match[2].lower()])


@rule("fallocate", "truncate", "head", "stress", "stress-ng", "mkfile", "memtester")
def _takes_much(call: Call, folder: str) -> Iterator[Verdict]:
    if call.name.startswith("stress"):
        yield ask("it uses up the machine on purpose")
    elif any(size_of(re.sub(r"^(?:-[a-z]|--\w+=)", "", text)) >= MUCH for text in call.texts):
        yield ask("it takes more space than most disks have")


def fills(call: Call, folder: str) -> Iterator[Verdict]:
    """Sources that never end, poured into a file or into memory."""
    written = [
        r for r in call.redirects if r.operator.startswith((">", "&>")) and not re.match(r"/dev/|\d|&", r.target.text)
    ]
    is_kept = bool(written) or call.name in ("tee", "sponge", "cp")
    for stage in chain_of(call):
        if stage.name in ("head", "dd", "fold", "sed", "timeout"):
            return
        endless = stage.name == "yes" or bool(ENDLESS_FILES & set(stage.texts)) or any(r.target.text in ENDLESS_FILES for r in stage.redirects if r.operator == "<")  # fmt: skip
        if not endless or stage.name in (
            "ls",
            "stat",
            "dd",
            "shred",
            "test",
            "[",
            "echo",
            "file",
            "chmod",
            "ln",
            "mknod",
            "cmp",
        ):
            continue
        if is_kept and not any(r.target.text == "/dev/null" for r in call.redirects if r.operator == ">"):
            yield ask("it writes until the disk is full")
        elif stage.name in ("tail", "sort", "tac", "shuf") or (
            call.name == "yes" and call.texts and "$(" in call.texts[0]
        ):
            yield ask("it takes memory until none is left")


@rule("mount", "umount", "chroot", "pivot_root")
def _mounts(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    places = [place_of(word, folder) for word in operands_of(call)]
    if call.name == "umount":
        if has_flag(call, "a", "--all") or any(
            place.path in ("/", "/home", "/boot", "/usr", "/var") for place in places
        ):
            yield ask("it takes file systems away that are in use")
    elif call.name == "mount":
        if re.search(r"remount\S*(?:,exec|,suid|,dev\b)|remount\S*\s+/$", joined):
            yield ask("it changes how a running file system is protected")
        elif (
            re.search(r"--(?:r?bind|move)|\boverlay\b|tmpfs", joined)
            and places[-1:]
            and (places[-1].path in ("/", "/etc", "/usr", "/bin", "/home", "/var", "/lib", "/boot", "/root"))
        ):
            yield ask("it puts something else in place of a folder of the system")
