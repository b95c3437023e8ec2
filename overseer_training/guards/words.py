"""Reads one word of a shell command as the shell would: quotes off, variables of the same text put in, braces expanded.

Takes a node of the syntax tree and the variables known so far; gives `Word`s. What only the running shell can know is kept as
it is written and marked as uncertain.
"""

from __future__ import annotations

import dataclasses
import itertools
import re

import tree_sitter

Node = tree_sitter.Node
HOME = "/home/~"  # stands for the home directory, whatever it is called
SPACES = " \t\n"
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v"}
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|[uU]([0-9a-fA-F]{1,8})|0?([0-7]{1,3})|(.))", re.DOTALL)
BRACES = re.compile(r"(?<!\$)\{([^{}\s]*,[^{}\s]*)\}")
DEFAULT = re.compile(r"\$\{(\w+):?[-=](.*)\}", re.DOTALL)
TILDE = re.compile(r"~([\w+-]*)(?=/|$)")
MANY_WORDS = 64  # of one brace expansion; more are left as they are
SPLIT = "\0"  # where the shell splits a word at the spaces of an unquoted variable


@dataclasses.dataclass(frozen=True)
class Word:
    """A word after quotes are taken off.

    Attributes:
        is_certain: False where an expansion or a substitution decides a part of it, which stands in `text` as written.
        is_quoted: whether a part was quoted.
        is_disguised: quotes, escapes or codes inside a plain name, which nobody types without wanting to hide it.
    """

    text: str
    is_certain: bool = True
    is_quoted: bool = False
    is_disguised: bool = False

    @property
    def shown(self) -> str:
        """The word for a reader, with the home directory as people write it."""
        text = self.text.replace(HOME, "~")
        return text if len(text) <= 60 else f"{text[:57]}…"


class WordReader:
    """Words of one text; `variables` holds the values that the text itself has set so far."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.variables: dict[str, str] = {}

    def text(self, node: Node) -> str:
        return self.source[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def words(self, node: Node) -> list[Word]:
        """The words that `node` becomes: more than one after braces, or an unquoted variable with spaces."""
        word = self._word(node)
        parts = [part for part in word.text.split(SPLIT) if part] if SPLIT in word.text else [word.text]
        words = [dataclasses.replace(word, text=part) for part in parts]
        if word.is_quoted or not word.is_certain or "{" not in word.text:
            return words
        return [dataclasses.replace(word, text=_at_home(text)) for one in words for text in expand_braces(one.text)]

    def assign(self, name: str, words: list[Word]) -> None:
        """Remember what a variable holds, or that nobody knows."""
        if len(words) == 1 and words[0].is_certain:
            self.variables[name] = words[0].text
        else:
            self.variables.pop(name, None)

    def value(self, node: Node) -> Word:
        """What an assignment stores: never split."""
        word = self._word(node)
        return dataclasses.replace(word, text=word.text.replace(SPLIT, " "))

    def _word(self, node: Node) -> Word:
        text = self.text(node)
        match node.type:
            case "raw_string":
                return Word(text[1:-1], is_quoted=True)
            case "ansi_c_string":
                return Word(unescape(text[2:-1]), is_quoted=True, is_disguised="\\" in text)
            case "string" | "translated_string":
                return self._joined(
                    node, len(text[: text.index('"')].encode()) + 1, node.end_byte - node.start_byte - 1, is_quoted=True
                )
            case "concatenation" | "command_name" if node.named_child_count:
                return self._joined(node, 0, node.end_byte - node.start_byte, is_quoted=False)
            case "simple_expansion" | "expansion":
                return self._expansion(text, node)
            case "command_substitution" | "process_substitution" | "arithmetic_expansion":
                return Word(text, is_certain=False)
        return Word(_at_home(text)) if "\\" not in text else _unescaped(text)

    def _joined(self, node: Node, start: int, end: int, *, is_quoted: bool) -> Word:
        """The words of the children and the text between them, as one."""
        parts: list[Word] = []
        position, base, raw = start, node.start_byte, self.source[node.start_byte : node.end_byte]
        for child in node.named_children:
            if child.type == "string_content":
                continue
            parts += [self._between(raw[position : child.start_byte - base], is_quoted), self._word(child)]
            position = child.end_byte - base
        parts = [part for part in (*parts, self._between(raw[position:end], is_quoted)) if part.text or part.is_quoted]
        text = "".join(part.text for part in parts)
        if is_quoted:
            text = re.sub(r'\\([$`"\\\n])', r"\1", text.replace(SPLIT, " "))
        hidden = any(part.is_disguised for part in parts)
        if not is_quoted and len(parts) > 1:
            hidden |= any(part.is_quoted and part.is_certain and re.fullmatch(r"\w*", part.text) for part in parts)
        certain = all(part.is_certain for part in parts)
        return Word(
            text if is_quoted else _at_home(text), certain, is_quoted or any(p.is_quoted for p in parts), hidden
        )

    @staticmethod
    def _between(raw: bytes, is_quoted: bool) -> Word:
        text = raw.decode("utf-8", "replace")
        return Word(text) if is_quoted or "\\" not in text else _unescaped(text)

    def _expansion(self, text: str, node: Node) -> Word:
        name = re.sub(r"^\$\{?|\}$", "", text)
        is_split = node.parent is None or node.parent.type != "string"
        separators = self.variables.get("IFS", SPACES)
        if name in self.variables:
            value = self.variables[name]
            if is_split and separators:
                value = re.sub(f"[{re.escape(separators)}]+", SPLIT, value)
            return Word(value)
        if name == "HOME":
            return Word(HOME)
        if name == "PWD":
            return Word(".")
        if re.match(r"IFS\b", name):
            return Word(SPLIT)
        default = DEFAULT.fullmatch(text)
        if default:
            return Word(self.variables.get(default[1], _at_home(default[2])), is_certain=default[1] in self.variables)
        return Word(text, is_certain=False)


def joined(first: Word, second: Word) -> Word:
    """Two words without a space between them, as the one that they are."""
    text = first.text + second.text
    return Word(text, first.is_certain and second.is_certain, first.is_quoted or second.is_quoted, is_disguised=True)


def _unescaped(text: str) -> Word:
    plain = re.sub(r"\\(.)", r"\1", text.replace("\\\n", ""), flags=re.DOTALL)
    return Word(_at_home(plain), is_disguised=re.search(r"[\w/]\\\w", text) is not None)


def _at_home(text: str) -> str:
    """`text` with a leading `~`, `~name`, `~+` or `~-` replaced by the folder it stands for."""
    match = TILDE.match(text)
    if match is None:
        return text
    name = match[1]
    folder = {"": HOME, "+": ".", "-": "$OLDPWD", "root": "/root"}.get(name, f"/home/{name}")
    return folder + text[match.end() :]


def unescape(text: str) -> str:
    """`text` with the escapes of `$'…'` and `printf` replaced."""

    def character(match: re.Match[str]) -> str:
        hexadecimal, unicode, octal, other = match.groups()
        if hexadecimal or unicode:
            code = int(hexadecimal or unicode, 16)
            return chr(code) if code < 0x110000 else "?"
        return chr(int(octal, 8) & 0xFF) if octal else ESCAPES.get(other, other)

    return ESCAPE.sub(character, text)


def expand_braces(text: str) -> list[str]:
    """The words of `a{b,c}`; `text` alone where they are too many."""
    return _expanded(text) if _alternatives(text) <= MANY_WORDS else [text]


def _alternatives(text: str) -> int:
    """How many words `text` becomes, counted no further than above MANY_WORDS and without making them: thirty `{a,b}` are 2^30."""
    number = 1
    while number <= MANY_WORDS and (match := BRACES.search(text)) is not None:
        number *= match[1].count(",") + 1
        text = f"{text[: match.start()]}x{text[match.end() :]}"
    return number


def _expanded(text: str) -> list[str]:
    match = BRACES.search(text)
    if match is None:
        return [text]
    parts = (text[: match.start()] + part + text[match.end() :] for part in match[1].split(","))
    return list(itertools.chain.from_iterable(map(_expanded, parts)))
