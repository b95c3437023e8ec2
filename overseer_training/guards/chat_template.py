"""Checks a chat template, which is a program that came with a model: what it may do, and whether it hides text from a reader.

Takes the template's text; gives problems, one line each. The template is parsed in the sandbox of Jinja, and never run.

Not covered: the sandbox in which it runs later is that of transformers or of the server that serves the model; a text that a template
adds for everybody to see in it, such as a system prompt, is the reader's to judge.

Source: templates that add words for some requests only were described as back doors in published model files.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST_TEMPLATE = 200_000  # characters; chosen, the longest ones that open models have are below 20,000
LOADING = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends)
HIDING = (nodes.Macro, nodes.CallBlock)
MARKS = ("<", "[", "{", "|", "&")  # a text that begins like this is a turn token or a tag, and no word of a request
SEARCHES = {"startswith", "endswith", "find", "index", "count", "rfind", "replace"}


class _Generation(Extension):
    """The block `generation` that transformers adds to Jinja: it marks answers and writes nothing."""

    tags = {"generation"}  # noqa: RUF012 - the base class has it as a plain attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check_chat_template(text: str) -> list[str]:
    """What speaks against using the template `text`."""
    if len(text) > LONGEST_TEMPLATE:
        return [f"the chat template has {len(text)} characters, more than {LONGEST_TEMPLATE}"]
    environment = ImmutableSandboxedEnvironment(extensions=[loopcontrols, _Generation])
    try:
        tree = environment.parse(text)
    except (jinja2.TemplateError, RecursionError) as error:
        return [f"the chat template cannot be parsed ({str(error)[:100]})"]
    try:
        problems = [*_find_invisible(text), *_find_reach(tree), *_find_conditions_on_words(tree)]
    except RecursionError:
        return ["the chat template is nested too deeply to be checked"]
    return list(dict.fromkeys(problems))


def _find_invisible(text: str) -> Iterator[str]:
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cf", "Co", "Cn") or (character < " " and character not in "\n\r\t"):
            line = text.count("\n", 0, place) + 1
            yield f"the chat template has an invisible character (U+{ord(character):04X}) in line {line}"
            return


def _find_reach(tree: nodes.Template) -> Iterator[str]:
    """Ways out of the template: into Python's objects, into other files, and into macros that a reader does not see called."""
    for node in tree.find_all(nodes.Node):
        where = f"in line {node.lineno}"
        if isinstance(node, LOADING):
            yield f"the chat template loads another template {where}"
        elif isinstance(node, HIDING):
            yield f"the chat template has a macro {where}; write its text where it is used"
        elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            yield f"the chat template reaches for {node.attr} {where}"
        elif isinstance(node, nodes.Const) and isinstance(node.value, str) and "__" in node.value:
            yield f"the chat template has a name of Python's inside {where}"
        elif isinstance(node, nodes.Getitem) and _is_made_up(node.arg):
            yield f"the chat template puts together the name of an attribute {where}"
        elif isinstance(node, nodes.Filter) and (
            node.name == "attr" or (node.name == "map" and _maps_by_any_name(node))
        ):
            yield f"the chat template uses the filter {node.name} {where}, which can reach Python's objects"


def _maps_by_any_name(node: nodes.Filter) -> bool:
    """Whether the filter `map` takes more than a field or a filter that is named in place."""
    given = [*node.args, *(keyword.value for keyword in node.kwargs)]
    return any(not isinstance(value, nodes.Const) or value.value == "attr" for value in given)


def _is_made_up(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Concat | nodes.Filter | nodes.Mod):
        return True
    texts = (const for const in node.find_all(nodes.Const) if isinstance(const.value, str))
    return isinstance(node, nodes.Add | nodes.Mul | nodes.Call) and any(True for _ in texts)


def _find_conditions_on_words(tree: nodes.Template) -> Iterator[str]:
    """Places that look for certain words in a message, or replace them: so a template can change some requests only."""
    aliases: set[str] = set()
    bound: list[tuple[nodes.Node, nodes.Node]] = [
        (assign.target, assign.node) for assign in tree.find_all(nodes.Assign)
    ]
    bound += [(loop.target, loop.iter) for loop in tree.find_all(nodes.For)]
    for _ in bound:  # a name may be bound to one that is bound further down
        known = len(aliases)
        for target, value in bound:
            if _is_content(value, aliases):
                names = [target, *target.find_all(nodes.Name)]
                aliases |= {name.name for name in names if isinstance(name, nodes.Name)}
        if len(aliases) == known:
            break
    for line, asked, said in _find_questions(tree):
        if any(_is_content(part, aliases) for part in asked) and any(map(_has_word, said)):
            yield f"the chat template does something else for messages with certain words, in line {line}"


def _find_questions(tree: nodes.Template) -> Iterator[tuple[int, Sequence[nodes.Node], Sequence[nodes.Node]]]:
    """(line, what is asked about, what it is compared with or searched for)."""
    for compare in tree.find_all(nodes.Compare):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        yield compare.lineno, sides, sides
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr in SEARCHES:
            yield call.lineno, [call.node.node], call.args
    for test in tree.find_all(nodes.Test):
        yield test.lineno, [test.node], test.args
    for filtered in tree.find_all(nodes.Filter):
        if filtered.name == "replace" and filtered.node is not None:
            yield filtered.lineno, [filtered.node], filtered.args


def _is_content(node: nodes.Node | None, aliases: set[str]) -> bool:
    """Whether the expression is what a message says, or made of it."""
    if isinstance(node, nodes.Name):
        return node.name in aliases or _names_content(node.name)
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) and _is_content(node.node.node, aliases)
    if isinstance(node, nodes.Getattr):
        return _names_content(node.attr)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return _names_content(node.arg.value)
    if isinstance(node, nodes.Getitem):
        return _is_content(node.node, aliases)
    return node is not None and any(_is_content(part, aliases) for part in node.iter_child_nodes())


def _names_content(name: str) -> bool:
    return "content" in name or name == "text"


def _has_word(node: nodes.Node) -> bool:
    """Whether a text in the expression has letters or digits, and is no turn token or tag."""
    texts = [node, *node.find_all(nodes.Const)]
    return any(
        isinstance(text, nodes.Const)
        and isinstance(text.value, str)
        and any(map(str.isalnum, text.value))
        and not text.value.lstrip().startswith(MARKS)
        for text in texts
    )
