"""Programs in other languages on the command line: allowed where they compute and print, asked about where they do more.

The languages are not parsed: words that reach files, programs, the network or hidden code are looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import documents_of, operands_of
from overseer_training.guards.places import SHARED, place_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.rules.writing import written
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse
from overseer_training.guards.words import Word

CODE_OPTIONS = {
    "python": "c", "pypy": "c", "perl": "eE", "ruby": "e", "node": "ep", "nodejs": "ep", "deno": "", "bun": "e", "php": "rBRE",
    "lua": "e", "luajit": "e", "Rscript": "e", "julia": "eE", "guile": "c", "osascript": "e", "expect": "c", "tclsh": "", "irb": "e",
}  # fmt: skip
LONG_CODE_OPTIONS = {"--eval", "--print", "--run", "eval"}
AWKS = {"awk", "gawk", "mawk", "nawk"}
DOES_MORE = re.compile(
    # files
    r"rmtree|remove_tree|\bunlink|\.rmdir|\brm_?rf?\b|\brm(?:Sync|dirSync)?\s*\(|\bremove\s*\(|removedirs|File\.delete|FileUtils|fs\.(?:write|append|unlink|rename|chmod|truncate)"
    r"|write(?:File|_text|_bytes|Sync)|\btruncate\b|open\s*\([^)]*,\s*(?:mode\s*=\s*)?['\"][rb]*[waxt+>]|file_put_contents|\.chmod|\bchmod\b|\brename\b|\.replace\(\s*['\"]/|symlink|copyfile|\bmove\("
    # programs
    r"|\bos\.(?!path\b|getcwd|getenv|environ|cpu_count|listdir|getpid|getppid|uname|sep\b|linesep|name\b|walk|scandir|stat\b|get_terminal|getlogin|getuid|times|tmpdir|hostname|platform|cpus|freemem|totalmem|date|time|clock)\w+"
    r"|subprocess|popen|\bexec\w*\b|\bsystem\b|\bspawn\w*|\bfork\b|\bpty\b|child_process|shell_exec|passthru|proc_open|pcntl|\bqx\b|%x|do shell script|\bsyscall\b|\bsend\b.*\\r|processes?\.kill|process\.kill|os\.kill|Deno\.(?:run|Command|remove|write)"
    # the network
    r"|\bsocket\s*(?:,|as\b)|\bfrom\s+socket\b|\bsocket\.(?!gethost|getfqdn|inet)|sys/socket|IO::Socket|TCPSocket|fsockopen|net\.(?:connect|Socket|createConnection)|urlopen|urlretrieve|urllib\.request|\brequests?\.|http\.(?:client|request|get)|Net::|LWP|open-uri|ftplib|smtplib|paramiko|require\(['\"]https?|fetch\("
    # hidden code
    r"|\beval\b|\bcompile\s*\(|__(?!name__|version__|file__|doc__|main__|init__)\w+__|getattr|setattr|globals\s*\(|vars\s*\(|importlib|marshal|pickle|ctypes|codecs|b64decode|b32decode|b85decode|a85decode|base64\s+import|decodebytes|fromhex|unhexlify|\bpack\b|unpack\s*\(|\bchr\b|fromCharCode|atob|Buffer\.from|process\.(?:binding|mainModule|dlopen)|loadstring|dofile|(?<![.\w])load\s*\(|Function\s*\(|instance_eval|class_eval|Kernel|create_function|assert\s*\(|call_user_func|array_map|\bglob\s+['\"]|\bglob\(['\"]/"
    # the machine
    r"|['\"\])]\s*\*\s*10\s*\*\*|\*\*\s*\d{3,}\)|delete-directory|delete-file|shell-command|call-process"
)
BACKTICKS = re.compile(r"`[^`]+`")
SEVERE = re.compile(
    r"(?:rmtree|remove_tree|rm_rf|rmSync)\s*\(?\s*\[?\s*(?:os\.path\.expanduser\()?['\"](?:/|~|/(?:home|etc|usr|var|bin|boot|lib)/?)['\"]"
    r"|socket.*(?:dup2|pty|exec|/bin/|spawn|system)|rm -\w*[rf]\w* (?:/|~|/\*|\$HOME)(?:['\"\s]|$)|\bfork\b\s+while|while.*\bfork\b|/dev/(?:sd|nvme|mem)",
    re.DOTALL,
)
PIPES_IN_AWK = re.compile(r"(?<!\|)\|(?!\|)&?\s*(?:\"(\d+)\"|(\w+))")
HARMLESS_PIPES = re.compile(r"\s*(?:sort|uniq|wc|column|head|tail|cat)\b[\w\s,.:=&>12-]*")
WRITES_IN_AWK = re.compile(r"printf?\b[^;}]*>>?\s*\"([^\"]+)\"")


@rule(*CODE_OPTIONS, *AWKS)
def _programs(call: Call, folder: str) -> Iterator[Verdict]:
    name = re.sub(r"[\d.]+$", "", call.name)
    if name in AWKS:
        yield from _awk(call, folder)
        return
    for code in codes_of(call, name):
        if SEVERE.search(code):
            yield refuse(f"a program in {name} erases the system, fills it or opens it to others")
        elif (
            DOES_MORE.search(code)
            or (name == "osascript" and re.search(r"\bdelete\b|keystroke|do script", code))
            or (name in ("perl", "ruby", "php") and BACKTICKS.search(code))
        ):
            yield ask(f"a program in {name} changes files, runs others or talks to a server")
    reads_code = not [text for text in call.texts if not text.startswith("-") or text == "-m"] or "-" in call.texts[:1] or "/dev/stdin" in call.texts  # fmt: skip
    if reads_code and call.source is not None and not codes_of(call, name) and "--version" not in call.texts:
        yield ask("it runs what another program prints")
    if any(SHARED.match(place_of(word, folder).path) for word in operands_of(call)[:1]) and not codes_of(call, name):
        yield ask("it starts a program from a folder that everybody can write to")


def codes_of(call: Call, name: str) -> list[str]:
    """The programs that stand on the command line or in a here-document."""
    letters = CODE_OPTIONS.get(name, "")
    codes = (
        [document.text for document in documents_of(call)] if not operands_of(call) or call.texts[:1] == ("-",) else []
    )
    for position, text in enumerate(call.texts):
        is_option = letters and re.fullmatch(rf"-[a-zA-Z0-9]*[{letters}]", text)
        if (is_option or text in LONG_CODE_OPTIONS) and position + 1 < len(call.texts):
            codes.append(call.texts[position + 1])
        elif letters and (match := re.match(rf"-[a-zA-Z]*[{letters}](?=[^a-zA-Z=])(.+)|--eval=(.+)", text, re.DOTALL)):
            codes.append(match[1] or match[2])
        elif text.startswith("-M") and name == "perl" and re.search(r"Socket|LWP|Net::|File::Path|HTTP", text):
            codes.append(f"{text} Net::")
    return codes


def _awk(call: Call, folder: str) -> Iterator[Verdict]:
    values = {position + 1 for position, text in enumerate(call.texts) if text in ("-v", "-F", "-f")}
    operands = [
        word for position, word in enumerate(call.arguments) if position not in values and not word.text.startswith("-")
    ]
    for word in operands[:1]:
        strings: list[str] = []

        def numbered(match: re.Match[str], strings: list[str] = strings) -> str:
            strings.append(match[1])
            return f'"{len(strings) - 1}"'

        code = re.sub(r'"((?:[^"\\\n]|\\.)*)"', numbered, word.text)
        code = re.sub(r"(?<![\w)\]$])/(?:[^/\\\n]|\\.)+/", "//", code)  # without patterns, in which | means or
        piped = [strings[int(number)] if number else name for number, name in PIPES_IN_AWK.findall(code)]
        if (
            re.search(r"\bsystem\s*\(|@load|\|&", code)
            or any(text.startswith("/inet") for text in strings)
            or any(not HARMLESS_PIPES.fullmatch(text) for text in piped)
        ):
            yield ask("a program in awk runs others")
        for path in WRITES_IN_AWK.findall(word.text):
            yield from written(place_of(Word(path), folder), path, appends=False)
            if path.startswith("/") and not path.startswith(("/tmp/", "/dev/std")):
                yield ask(f"a program in awk writes {path}")


@rule(
    "emacs", "gdb", "lldb", "vim", "vi", "nvim", "ex", "sqlite3", "expect", "tclsh", "wish", "bpftrace", "R", "octave"
)
def _embedded(call: Call, folder: str) -> Iterator[Verdict]:
    """Editors and debuggers that take commands on the command line."""
    joined = " ".join([*call.texts, *(document.text for document in documents_of(call))])
    name = call.name
    if name == "emacs" and DOES_MORE.search(joined) and re.search(r"--eval|-l\b|--load|-f\b", joined):
        yield ask("a program in emacs changes files or runs others")
    elif name in ("gdb", "lldb") and re.search(r"\bsystem\b|\bshell\b|\bexec[vl]?|(?:^|\s)!|python\b", joined):
        yield ask("the debugger would run other programs")
    elif name in ("vim", "vi", "nvim", "ex") and re.search(r"(?:^|\s)(?:-c|--cmd|\+|-S)?\s*:?\w*!\s*\w|\bsystem\(|:(?:py|lua|perl|ruby)\w*\s|writefile|\bterm(?:inal)?\b", joined) and not re.search(r":(?:q|wq|x|w|qa|wqa)!(?:\s|$)", joined):  # fmt: skip
        yield ask("the editor would run other programs")
    elif name in ("tclsh", "wish", "expect") and re.search(r"\bexec\b|\bspawn\b|\bfile\s+delete\b|\bsocket\b", joined):
        yield ask(f"a program in {name} runs others")
    elif name == "bpftrace" and "--unsafe" in joined:
        yield ask("it runs programs from within the kernel")
