"""Finds secrets in commands and requests and takes them out, so that they are gone before anything is stored or learned.

Takes a text; gives the secrets in it, or the text with `REDACTED` in their place: one plain word, so that a command keeps its form.
The words of a text are read with their quotes by a reader of its own, since requests are no bash. A value that is a variable, a
placeholder or a path is none. The forms are in `secret_forms.py`; detect-secrets is asked too.

Measured on generated texts of 62 kinds (`tests/guards/secret_cases.py`), n = 2,152: 99.9 % found. Forms that were set
aside before the rules were written, when first looked at: 97.3 % of 1,016. The rules that were here before: 51.0 %; detect-secrets
alone, all plugins: 21.6 %. False alarms: none in 9,462 commands of the corpus, of which 11 show a made-up secret; 1 in 12,000 texts
of NL2Bash, of which 2 show one. 0.1 ms a text in the mean, 0.2 s for the worst of 10,000 characters that was found.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from overseer_training.guards.secret_forms import (
    NAMES_OF_OTHER_THINGS,
    NO_PASSWORD,
    NO_VALUE,
    NO_WORD,
    NO_WORD_OR_VARIABLE,
    OPTION_RULES,
    OTHER_PASSES,
    PLACES,
    QUERY_NAMES,
    READS_SECRET,
    SEARCHERS,
    SECRET_PAIRS,
    SECRET_WORDS,
    SHORT_SECRET_WORDS,
    TOKENS,
    TRAILING_WORDS,
    VALUE,
    OptionRule,
)

PLACEHOLDER = "REDACTED"
LONGEST_CHARACTERS = 10_000  # of a text that is looked at; what is longer goes as a whole
DEEPEST, MOST_WORDS = 3, 40  # quotes within quotes; words behind a program in which its options are looked for
REPEATED_CHARACTERS = 6  # a secret this long is taken out wherever it stands again
RANDOM_BITS = 4.2  # a character, of a run of 32 that nobody types; chosen: hexadecimal digits have at most 4 bits
TOO_EAGER = {
    "Base64 High Entropy String",
    "Hex High Entropy String",
    "Public IP (ipv4)",
    "Secret Keyword",
    "Mailchimp Access Key",
}
SINGLE_DASH = re.compile(
    r"-(?:\w*pass(?:w(?:or)?d|phrase)?|token|secret)", re.IGNORECASE
)  # of Java's keytool and others
WORD = re.compile(
    r"(?P<word>(?:\$?'[^']*'(?!\w*\s\w+')|\"(?:\\.|[^\"\\])*\"|\\.|(?<=[A-Za-z])'(?=(?:t|s|re|ll|ve|d|m)\b)|[^\s'\"|;&()`])+|['\"])"
    r"|(?P<end>\|\||&&|[|;&\n()`])",
    re.DOTALL,
)
# Values are looked ahead at, so that one may hold the next name.
PAIR = re.compile(
    rf"(?<!\? [\"'])(?<![A-Za-z0-9])(?P<name>[A-Za-z][\w.-]{{0,60}})(?P<sign>[\"']?\s*(?::=|=>|=|:(?!//|\s*$))[ \t]*)(?={VALUE})"
)
SPOKEN = re.compile(
    rf"(?i)(?P<name>\b[\w.-]{{0,40}}(?:{'|'.join(sorted(SECRET_WORDS))}|_key|pass(?=\s)|api key|secret key|access key))"
    rf"(?P<filler>\s+(?:(?:of|for)\s+\S+\s+)?(?:on\s+\S+\s+)?(?:(?:is|was|to|as|:|=)\s+)?)(?={VALUE})"
)
QUOTED = re.compile(
    r"\\.|(?<=[A-Za-z])'(?=(?:t|s|re|ll|ve|d|m)\b)|'[^']*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL
)  # what the shell reads as one, and the apostrophes of a request
QUERY = re.compile(r"[?&](?P<name>\w+)=(?P<bare>[^\s&'\"#]{8,})")
RUN = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{32,}={0,2}(?![\w+/=-])")
NO_RUN = re.compile(r"AAAA|sha\d+-|/|[a-z_/-]+$")  # a public key of SSH, a checksum, a path, words


@dataclasses.dataclass(frozen=True)
class Secret:
    """A secret at `text[start:end]`, and how it was known."""

    kind: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Redaction:
    """A text without its secrets, and their kinds."""

    text: str
    kinds: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Word:
    """A word as typed; `within` is the quote around the text that it was read from, or empty."""

    raw: str
    start: int
    within: str = ""

    @property
    def text(self) -> str:
        return self.raw[1:-1] if _is_quoted(self.raw) else self.raw

    @property
    def text_start(self) -> int:
        return self.start + 1 if _is_quoted(self.raw) else self.start

    @property
    def quote(self) -> str:
        """The quote whose rules hold for `text`: in double quotes the shell puts variables into single quotes too."""
        return (self.within if self.within == '"' else self.raw[0]) if _is_quoted(self.raw) else ""

    def behind(self, cut: int) -> _Word:
        """The word without its first `cut` characters."""
        return dataclasses.replace(self, raw=self.raw[cut:], start=self.start + cut)


def find_secret(text: str) -> str | None:
    """The kind of the first secret in `text`, or None."""
    return next((secret.kind for secret in find_secrets(text)), None)


def remove_secrets(text: str) -> Redaction:
    """`text` with `PLACEHOLDER` for each secret, wherever it stands again too."""
    return remove_from_all([text])[0]


def remove_from_all(texts: Sequence[str]) -> list[Redaction]:
    """Like `remove_secrets` for texts that belong together: a secret found in one is taken out of all."""
    found = [find_secrets(text) for text in texts]
    values = {text[secret.start : secret.end] for text, secrets in zip(texts, found, strict=True) for secret in secrets}
    repeated = sorted((value for value in values if len(value) >= REPEATED_CHARACTERS), key=len, reverse=True)
    redactions = []
    for text, secrets in zip(texts, found, strict=True):
        for secret in sorted(secrets, key=lambda secret: -secret.start):
            text = text[: secret.start] + PLACEHOLDER + text[secret.end :]
        for value in repeated:
            text = text.replace(value, PLACEHOLDER)
        redactions.append(Redaction(text, tuple(secret.kind for secret in secrets)))
    return redactions


def find_secrets(text: str) -> list[Secret]:
    """All secrets in `text`, in order, none within another."""
    if len(text) > LONGEST_CHARACTERS:
        return [Secret("a text too long to be looked at", 0, len(text))]
    found = [*_by_form(text), *_by_place(text), *_by_name(text), *_by_program(text, 0, 0), *_second_opinion(text)]
    kept: list[Secret] = []
    for secret in sorted(found, key=lambda secret: (secret.start, -secret.end)):
        if kept and secret.start < kept[-1].end:
            kept[-1] = Secret(kept[-1].kind, kept[-1].start, max(kept[-1].end, secret.end))
        elif secret.end > secret.start:
            kept.append(secret)
    return kept


def _by_form(text: str) -> Iterator[Secret]:
    for kind, form in TOKENS.items():
        for match in re.finditer(form, text, re.DOTALL):
            yield Secret(kind, match.start(), match.end())
    for match in RUN.finditer(text):
        run = match[0]
        has_all = all(re.search(kind, run) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
        if has_all and not NO_RUN.match(run) and _bits(run) >= RANDOM_BITS:
            yield Secret("random characters", match.start(), match.end())


def _bits(run: str) -> float:
    """Shannon entropy of the characters of `run`, in bits a character."""
    return -sum(count / len(run) * math.log2(count / len(run)) for count in Counter(run).values())


def _by_place(text: str) -> Iterator[Secret]:
    for kind, place in PLACES.items():
        for match in re.finditer(place, text, re.IGNORECASE):
            yield from _secret(kind, match)


def _by_name(text: str) -> Iterator[Secret]:
    """`DB_PASS=x`, `"password": "x"`, `--token x`, `?key=x`, `the password is x`."""
    for match in PAIR.finditer(text):
        if is_secret_name(match["name"]):
            yield from _secret("named secret", match, _cut(text, match), weak_after=match["sign"].strip())
    for match in QUERY.finditer(text):
        if match["name"].lower() in QUERY_NAMES:
            yield from _secret("secret in an address", match)
    if not SEARCHERS.intersection(re.findall(r"(?:^|[|;&]\s*|\bsudo\s+)([\w-]+)", text)):
        for match in SPOKEN.finditer(text):
            yield from _secret("named secret", match, weak_after="is")


def is_secret_name(name: str) -> bool:
    """Whether `name` is that of a secret: DB_PASSWORD, apiKey, X-Auth-Token; not PASSWORD_FILE or --no-password."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    words = [part.lower() for part in parts if not part.isdigit()]
    while len(words) > 1 and words[-1] in TRAILING_WORDS:
        words.pop()
    if not words or words[0] in NAMES_OF_OTHER_THINGS:
        return False
    last = words[-1]
    return (
        last in SECRET_WORDS
        or (
            last.endswith(("pass", "password", "passwd", "passphrase", "secret", "apikey")) and last not in OTHER_PASSES
        )
        or (last in SHORT_SECRET_WORDS and len(words) > 1)
        or " ".join(words[-2:]) in SECRET_PAIRS
    )


def _cut(text: str, match: re.Match[str]) -> Callable[[str], str]:
    """What ends a bare value where it stands: the sign of a `sed`, the next option of a mount."""
    if re.search(r"\bsed\b", text[: match.start()]):
        return lambda value: re.split(r"[/|#]", value)[0]
    return lambda value: re.split(r",(?=\w+=)|;(?=\w+=)", value)[0]


def _by_program(text: str, offset: int, depth: int, within: str = "") -> Iterator[Secret]:
    """Options of known programs, named options, and what is piped into a program that reads a secret; in quotes too."""
    calls: list[list[_Word]] = [[]]
    ends: list[str] = []
    for match in WORD.finditer(text):
        if match["end"]:
            calls.append([])
            ends.append(match["end"])
        else:
            calls[-1].append(_Word(match["word"], offset + match.start(), within))
    for position, words in enumerate(calls):
        for index, word in enumerate(words):
            yield from _option(words, index)
            if _is_quoted(word.raw) and depth < DEEPEST and re.search(r"\s", word.raw):
                yield from _by_program(word.text, word.text_start, depth + 1, word.quote)
        reader = (
            " ".join(word.raw for word in calls[position + 1]) if position < len(ends) and ends[position] == "|" else ""
        )
        if reader and READS_SECRET.search(reader + " "):
            yield from _printed(words)
        yield from _here_string(words)


def _option(words: Sequence[_Word], index: int) -> Iterator[Secret]:
    word = words[index]
    following = words[index + 1] if index + 1 < len(words) else None
    name, sign, _ = word.raw.partition("=")
    if (re.match(r"--[A-Za-z]", name) and is_secret_name(name)) or re.fullmatch(SINGLE_DASH, name):
        if sign:
            yield from _value("password option", word.behind(len(name) + 1))
        elif following is not None:
            yield from _value("password option", following)
    program = word.text.rsplit("/", 1)[-1]
    for rule in OPTION_RULES:
        if program in rule.programs:
            yield from _options_of(rule, words, index)


def _options_of(rule: OptionRule, words: Sequence[_Word], index: int) -> Iterator[Secret]:
    rest = words[index + 1 : index + 1 + MOST_WORDS]
    if rule.needs and rule.needs not in [word.text for word in rest]:
        return
    for position, word in enumerate(rest):
        for option in rule.options:
            is_short = re.fullmatch(r"-[A-Za-z]", option) is not None
            cluster = rf"-[A-Za-z]*{option[1]}" if is_short and not rule.is_attached_only else re.escape(option)
            if not rule.is_attached_only and re.fullmatch(cluster, word.raw) and position + 1 < len(rest):
                yield from _value("password option", rest[position + 1], rule.separator)
            elif word.raw.startswith(f"{option}="):
                yield from _value("password option", word.behind(len(option) + 1), rule.separator)
            elif (is_short or option.endswith(":")) and word.raw.startswith(option):
                yield from _value("password option", word.behind(len(option)), rule.separator)


def _printed(words: Sequence[_Word]) -> Iterator[Secret]:
    """The operands of `echo` or `printf`; behind a user's name where they are `user:password`."""
    if not words or words[0].text not in ("echo", "printf"):
        return
    for word in words[1:]:
        text = word.text
        if re.match(r"-\w+$", word.raw) or "%" in text[:1]:
            continue
        for match in re.finditer(r"(?:(?<=^)[\w.-]+:)?((?:[^\\\s]|\\[^nrt])+)", text):
            yield from _literal("piped password", match[1], word.text_start + match.start(1), word.quote)


def _here_string(words: Sequence[_Word]) -> Iterator[Secret]:
    for index, word in enumerate(words):
        if not word.raw.startswith("<<<") or not READS_SECRET.search(" ".join(w.raw for w in words[:index]) + " "):
            continue
        value = word.behind(3) if len(word.raw) > 3 else words[index + 1] if index + 1 < len(words) else None
        if value is not None:
            text = value.text
            cut = text.find(":") + 1 if re.match(r"[\w.-]+:", text) else 0
            yield from _literal("piped password", text[cut:], value.text_start + cut, value.quote)


def _value(kind: str, word: _Word, separator: str = "") -> Iterator[Secret]:
    """The secret in the word of an option; none where it lacks the separator or is no value."""
    text, start = word.text, word.text_start
    if separator:
        before, found, text = text.partition(separator)
        if not found:
            return
        start += len(before) + len(separator)
    yield from _literal(kind, text, start, word.quote)


def _literal(kind: str, text: str, start: int, quote: str) -> Iterator[Secret]:
    if text and not _stands_for_another(text, quote):
        yield Secret(kind, start, start + len(text))


def _stands_for_another(value: str, quote: str) -> bool:
    """Whether `value`, in single, double or no quotes, is a variable, a placeholder or a path instead of a secret."""
    return {"'": NO_WORD, '"': NO_WORD_OR_VARIABLE}.get(quote, NO_VALUE).match(value) is not None


def _quote_of(text: str, start: int) -> str:
    """The quote whose rules hold for a value that begins behind a quote at `text[start - 1]`.

    Empty where that quote ends an earlier text, as in `'PASS='$x''`. See also `_Word.quote`.
    """
    quote = text[start - 1]
    for match in QUOTED.finditer(text):
        if match.start() >= start - 1:
            break
        if match.end() >= start and match[0][0] in "'\"":
            return "" if match[0][0] == quote else '"'
    return quote


def _secret(
    kind: str, match: re.Match[str], cut: Callable[[str], str] = lambda value: value, weak_after: str = ""
) -> Iterator[Secret]:
    """The secret in the value of a match.

    Args:
        weak_after: what stands before the value. Behind `=` any value counts, behind other signs one in quotes or one
            that is no word, and behind words only one that is no word.
    """
    groups = match.groupdict()
    group = next(name for name in ("single", "double", "bare") if groups.get(name) is not None)
    value = match[group]
    if group == "bare":
        value = cut(value)
        value = value.rstrip(",.?:") if "\\" not in value and weak_after == "is" else value.rstrip(",")
        if value.endswith((")", "}", "]")) and not re.search(r"[({\[]", value):
            value = value.rstrip(")}]")
    start = match.start(group)
    if len(value) < 3 or _stands_for_another(value, "" if group == "bare" else _quote_of(match.string, start)):
        return
    if weak_after == "is" and not is_unlike_a_word(value):
        return
    if (
        weak_after.endswith(":")
        and group == "bare"
        and re.search(r"\s$", match["sign"])
        and re.fullmatch(r"[a-z]+", value)
    ):
        return
    yield Secret(kind, start, start + len(value))


def is_unlike_a_word(value: str) -> bool:
    """Whether `value` has signs, or digits or capitals between letters, as passwords have and words of a request have not."""
    if len(value) < 5 or NO_PASSWORD.fullmatch(value):
        return False
    mixes = re.search(r"[A-Za-z].*\d|\d.*[A-Za-z]", value) or re.search(r"[a-z][A-Z]", value)
    return bool(mixes or re.search(r"[!@#$%^*+?=~&]", value))


def _is_quoted(raw: str) -> bool:
    return len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "'\"" and raw[0] not in raw[1:-1].replace('\\"', "")


def _second_opinion(text: str) -> Iterator[Secret]:
    """What detect-secrets finds: the forms of tokens that it knows."""
    for plugin in _plugins():
        for value in plugin.analyze_string(text):
            start = text.find(value) if value and not NO_VALUE.match(value) else -1
            if start >= 0:
                yield Secret(plugin.secret_type, start, start + len(value))


@functools.cache
def _plugins() -> tuple[Any, ...]:
    """All plugins of the library that know a form; those that weigh randomness or names alone find too much in commands."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: dict[str, Any] = dict(get_mapping_from_secret_type_to_class())
    return tuple(plugin() for name, plugin in sorted(kinds.items()) if name not in TOO_EAGER)
