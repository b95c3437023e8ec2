"""Reads a shell command into the programs that it calls, with their words, redirections and pipes.

Takes a text; gives `Script`. Runs nothing and judges nothing: see `judge.py`. The grammar is tree-sitter's for bash.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import tree_sitter
import tree_sitter_bash

from overseer_training.guards.words import Node, Word, WordReader, joined

MOST_VALUES = 8  # of a loop whose body is read once for each; with more, the variable is unknown
MOST_PASSES = 64  # through a loop and those in it; in later ones, the variables of the inner ones are unknown
MOST_CALLS = 200  # of one text; what follows is not read, and the script is not whole
DEEPEST_TREE = 200  # nodes within nodes; chosen: the reader has about 400 levels before Python stops it
NOT_ASCII = re.compile(rb"[\x80-\xff]")
MANY_PASSES = re.compile(r"(?:seq\s+(?:\d+\s+)*|\.\.)\d{4,}")
PAUSES = {
    "sleep",
    "read",
    "wait",
    "break",
    "exit",
    "return",
    "inotifywait",
    "nc",
    "select",
    "accept",
    "timeout",
    "fswatch",
}
ALWAYS_TRUE = re.compile(r":|true|\[+\s*(?:1|true|1 -eq 1)\s*\]+|\(\(\s*1\s*\)\)")
FILLS_VARIABLES = {"read", "mapfile", "readarray", "getopts", "printf", "unset"}
EXPRESSIONS = ("command_substitution", "process_substitution")


@dataclasses.dataclass(frozen=True)
class Redirect:
    """`operator` is one of > >> < >| &> >& <<< <<; `target` a path, or the text of a here-document or here-string."""

    operator: str
    target: Word


@dataclasses.dataclass(frozen=True)
class Call:
    """One program with its words; the first word is its name.

    Attributes:
        source: what the call reads from its pipe: the call before it, or None.
        assignments: variables set for this call alone, or by it (`export`): (name, value).
    """

    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()
    source: Call | None = None
    assignments: tuple[tuple[str, Word], ...] = ()

    @functools.cached_property
    def name(self) -> str:
        """The program without its folder."""
        return self.words[0].text.rstrip("/").rsplit("/", 1)[-1] if self.words else ""

    @property
    def arguments(self) -> tuple[Word, ...]:
        return self.words[1:]

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """The texts of the arguments."""
        return tuple(word.text for word in self.words[1:])


@dataclasses.dataclass
class Script:
    """All calls of a command in the order of the text, those inside functions, loops and substitutions too.

    Attributes:
        functions: names of functions that the text defines, and the names that each one calls.
        assignments: variables that the text sets for itself.
        is_endless: a loop without end or pause, or one that starts programs in the background for ever.
        is_whole: whether the grammar of bash accepts the text, and all of it was read.
    """

    calls: list[Call] = dataclasses.field(default_factory=list)
    functions: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    assignments: list[tuple[str, Word]] = dataclasses.field(default_factory=list)
    is_endless: bool = False
    is_whole: bool = True


def read_script(text: str) -> Script:
    """The calls in `text`; incomplete where the text is not bash."""
    source = text.encode("utf-8", "replace")
    root = _tree(source)
    reader = _Reader(source)
    try:
        reader.visit(root, None)
    except RecursionError:  # nested too deeply; what was read so far is kept, as it may be dangerous
        reader.script.is_whole = False
        return reader.script
    reader.script.is_whole = not root.has_error and len(reader.script.calls) < MOST_CALLS
    return reader.script


def parses(text: str) -> bool:
    """Whether `text` is whole and correct by the grammar of bash, and nested no deeper than `read_script` can follow."""
    root = _tree(text.encode("utf-8", "replace"))
    return not root.has_error and not _is_too_deep(root)


def _is_too_deep(root: Node) -> bool:
    cursor = root.walk()
    while cursor.depth <= DEEPEST_TREE:
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return False
    return True


def _tree(source: bytes) -> Node:
    """The syntax tree of `source`; offsets are those of `source`, texts of nodes are not.

    The grammar's scanner hands every code point to the C library's `isalpha`, which is undefined above 255 and ended the process in
    our tests. Letters outside ASCII mean nothing to bash, so the grammar gets a dot for each of their bytes.
    """
    return _parser().parse(NOT_ASCII.sub(b".", source)).root_node


@functools.cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


class _Reader:
    """Walks a syntax tree once, in the order of the text, so that assignments come before their uses.

    Args:
        finds_endless: whether it looks at loops for one without end.
    """

    def __init__(self, source: bytes, *, finds_endless: bool = True) -> None:
        self.words = WordReader(source)
        self.script = Script()
        self.finds_endless = finds_endless
        self.depth = self.passes = 0  # of the loops that are being read, one in the other

    def visit(self, node: Node, piped: Call | None, redirects: tuple[Redirect, ...] = ()) -> Call | None:
        """Read `node`; gives the last call in it, which a pipe would read from."""
        if len(self.script.calls) >= MOST_CALLS:
            return piped
        match node.type:
            case "command" | "declaration_command" | "unset_command":
                return self._command(node, piped, redirects)
            case "test_command":
                self._substitutions(node)
                return piped
            case "variable_assignment":
                self.script.assignments.append(self._assignment(node))
                return None
            case "pipeline":
                stages = node.named_children
                for position, child in enumerate(stages, start=1):
                    piped = self.visit(child, piped, redirects if position == len(stages) else ())
                return piped
            case "redirected_statement":
                return self._redirected(node, piped, redirects)
            case "function_definition":
                self._function(node)
                return None
            case "for_statement":
                return self._for(node, piped, redirects)
            case "while_statement" | "c_style_for_statement":
                if self.finds_endless:
                    self._find_endless(node)
        last, children = piped, node.named_children
        for position, child in enumerate(children, start=1):
            own = () if node.type == "list" and position < len(children) else redirects
            last = self.visit(child, piped, own) or last
        return last

    def _command(self, node: Node, piped: Call | None, redirects: tuple[Redirect, ...]) -> Call | None:
        words: list[Word] = []
        own: list[Redirect] = []
        assignments: list[tuple[str, Word]] = []
        end = -1
        self._substitutions(node)
        if node.type != "command":
            words.append(Word(self.words.text(node.children[0])))
        for child in node.named_children:
            if child.type == "variable_assignment":
                assignments.append(self._assignment(child, substitutes=False))
                if node.type == "declaration_command":
                    words.append(Word(f"{assignments[-1][0]}={assignments[-1][1].text}", assignments[-1][1].is_certain))
            elif child.type in ("file_redirect", "herestring_redirect"):
                own += self._redirect(child)
            else:
                found = self.words.words(child)
                # The grammar takes some neighbours without a space between them (`'a'\b`) for two words.
                if words and found and child.start_byte == end:
                    found[0] = joined(words.pop(), found[0])
                words += found
                end = child.end_byte
        if not words:
            self.script.assignments += assignments
            return None
        if words[0].text in FILLS_VARIABLES:
            for word in words[1:]:
                self.words.variables.pop(word.text, None)
        words += [redirect.target for redirect in own if redirect.operator == "argument"]
        own = [redirect for redirect in own if redirect.operator != "argument"]
        call = Call(tuple(words), (*redirects, *own), piped, tuple(assignments))
        self.script.calls.append(call)
        return call

    def _redirected(self, node: Node, piped: Call | None, redirects: tuple[Redirect, ...]) -> Call | None:
        body = node.child_by_field_name("body")
        found: list[Redirect] = []
        following: list[Node] = []
        extra: list[Word] = []
        for child in node.children_by_field_name("redirect"):
            found += self._redirect(child)
            if child.type != "heredoc_redirect":
                self._substitutions(child)
                continue
            for inner in child.named_children:
                if inner.type == "file_redirect":
                    found += self._redirect(inner)
                elif inner.type in ("pipeline", "list", "command", "redirected_statement"):
                    following.append(inner)
                elif inner.type == "heredoc_body":
                    self._substitutions(inner)
                elif not inner.type.startswith("heredoc"):
                    extra += self.words.words(inner)
        extra += [redirect.target for redirect in found if redirect.operator == "argument"]
        found = [redirect for redirect in found if redirect.operator != "argument"]
        if body is None:
            call = Call((Word(":"),), (*redirects, *found), piped)
            self.script.calls.append(call)
            last: Call | None = call
        else:
            last = self.visit(body, piped, (*redirects, *found))
            if extra and last is not None and last is self.script.calls[-1]:
                last = dataclasses.replace(last, words=(*last.words, *extra))
                self.script.calls[-1] = last
        for inner in following:
            last = self.visit(inner, last)
        return last

    def _redirect(self, node: Node) -> list[Redirect]:
        if node.type == "heredoc_redirect":
            bodies = [child for child in node.named_children if child.type == "heredoc_body"]
            return [Redirect("<<", Word(self.words.text(body))) for body in bodies]
        operator = next((child.type for child in node.children if not child.is_named), ">")
        targets = node.children_by_field_name("destination") or node.named_children[-1:]
        found = [Redirect(operator, self.words.value(target)) for target in targets[:1]]
        words = [word for target in targets[1:] for word in self.words.words(target)]
        # The grammar takes words after the target for targets too: they are arguments of the program.
        return [*found, *(Redirect("argument", word) for word in words)]

    def _for(self, node: Node, piped: Call | None, redirects: tuple[Redirect, ...]) -> Call | None:
        variable, body = node.child_by_field_name("variable"), node.child_by_field_name("body")
        values = [word for child in node.children_by_field_name("value") for word in self.words.words(child)]
        for child in node.children_by_field_name("value"):
            self._substitutions(child, itself=True)
        if variable is None or body is None:
            return piped
        starts_many = any(child.type == "&" for child in body.children) and "wait" not in self.words.text(body)
        self.script.is_endless |= starts_many and MANY_PASSES.search(self.words.text(node)) is not None
        are_known = 0 < len(values) <= MOST_VALUES and self.passes < MOST_PASSES
        known = values if are_known else [Word("", is_certain=False)]
        last: Call | None = None
        self.depth += 1
        for value in known:
            self.passes += 1
            self.words.assign(self.words.text(variable), [value])
            last = self.visit(body, piped, redirects) or last
        self.depth -= 1
        if self.depth == 0:
            self.passes = 0
        return last

    def _function(self, node: Node) -> None:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is None or body is None:
            return
        before = len(self.script.calls)
        self.visit(body, None)
        self.script.functions[self.words.text(name)] = tuple(call.name for call in self.script.calls[before:])

    def _find_endless(self, node: Node) -> None:
        text, body = self.words.text(node), node.child_by_field_name("body")
        if body is None:
            return
        condition = node.child_by_field_name("condition")
        if node.type == "while_statement":
            test = self.words.text(condition).strip(" ;") if condition is not None else ""
            forever = test == "false" if text.startswith("until") else ALWAYS_TRUE.fullmatch(test) is not None
        else:
            forever = condition is None
        if not forever:
            return
        # The loop is without end already: a reader that looked for more of them would read what is nested 2^depth times.
        inside = _Reader(self.words.source, finds_endless=False)
        inside.depth, inside.passes = self.depth, self.passes
        inside.visit(body, None)
        starts_many = any(child.type == "&" for child in body.children)
        pauses = any(call.name in PAUSES for call in inside.script.calls)
        self.script.is_endless |= starts_many or not pauses

    def _assignment(self, node: Node, *, substitutes: bool = True) -> tuple[str, Word]:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if substitutes:
            self._substitutions(node)
        if name is None:
            return "", Word("")
        word = self.words.value(value) if value is not None else Word("")
        if (value is not None and value.type == "array") or name.type != "variable_name":
            word = dataclasses.replace(word, is_certain=False)
        if "+=" in self.words.text(node)[len(self.words.text(name)) :][:2]:
            word = Word(self.words.variables.get(self.words.text(name), "$") + word.text, word.is_certain)
        self.words.assign(self.words.text(name), [word])
        return self.words.text(name), word

    def _substitutions(self, node: Node, *, itself: bool = False) -> None:
        """Read the commands in `$(…)`, `` `…` `` and `<(…)` below `node`."""
        if node.type in EXPRESSIONS and itself:
            self.visit_children(node)
            return
        for child in node.named_children:
            self._substitutions(child, itself=True)

    def visit_children(self, node: Node) -> None:
        last = None
        for child in node.named_children:
            last = self.visit(child, None) or last
