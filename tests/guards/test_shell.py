"""A command is read as the shell would: quotes, variables, braces, pipes, loops, substitutions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer_training.guards.shell import parses, read_script
from overseer_training.guards.words import HOME
from overseer_training.guards.wrappers import printed_by, unwrap


def calls(text: str) -> list[str]:
    return [" ".join(word.text for word in call.words) for call in read_script(text).calls]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r''m -r\\f \"/\"", ["rm -rf /"]),
        ("'r'\\m /", ["rm /"]),
        ("$'\\x72\\u006d' $'\\055r'", ["rm -r"]),
        ("a=rm; b=/; $a -rf $b", ["rm -rf /"]),
        ("c='rm -rf /'; $c", ["rm -rf /"]),
        ("IFS=_; c=rm_-rf; $c", ["rm -rf"]),
        ("rm${IFS}-rf", ["rm -rf"]),
        ("echo /{etc,usr}", ["echo /etc /usr"]),
        ("for d in a b; do rm $d; done", ["rm a", "rm b"]),
        ("cd ~; ls ~root ~ada/x", [f"cd {HOME}", "ls /root /home/ada/x"]),
        ("echo $(rm x) `rm y`", ["rm x", "rm y", "echo $(rm x) `rm y`"]),
        ("cat <<E\n$(rm x)\nE", ["rm x", "cat"]),
        ('[ -n "$(rm x)" ]', ["rm x"]),
        ("diff <(rm x) y", ["rm x", "diff <(rm x) y"]),
        ("rm \\\n -rf", ["rm -rf"]),
        ("if a; then b; else c & fi", ["a", "b", "c"]),
        ("sh <<'E' -s\nrm x\nE", ["sh -s"]),
    ],
)
def test_the_words_are_those_that_the_shell_would_run(text: str, expected: list[str]) -> None:
    assert calls(text) == expected


def test_what_only_the_running_shell_knows_is_uncertain() -> None:
    words = read_script('rm "$x" ${y:-/} $(z) plain').calls[-1].words
    assert [word.is_certain for word in words] == [True, False, False, False, True]


def test_a_variable_that_is_read_from_elsewhere_is_forgotten() -> None:
    assert not read_script("c=ls; read c; $c").calls[-1].words[0].is_certain


def test_pipes_redirections_and_settings_are_kept() -> None:
    first, second = read_script("A=1 a <in | b >>out 2>&1").calls
    assert second.source is first
    assert [(r.operator, r.target.text) for r in (*first.redirects, *second.redirects)][:2] == [
        ("<", "in"),
        (">>", "out"),
    ]
    assert [(name, value.text) for name, value in first.assignments] == [("A", "1")]


@pytest.mark.parametrize(
    ("text", "endless"),
    [
        ("while true; do mkdir x; done", True),
        ("for ((;;)); do a; done", True),
        ("while :; do a & done", True),
        ("while true; do date; sleep 60; done", False),
        ("until a; do b; done", False),
        ("for i in $(seq 1 99999); do a & done", True),
        ("for i in $(seq 1 3); do a & done", False),
    ],
)
def test_loops_without_end_or_pause_are_found(text: str, endless: bool) -> None:
    assert read_script(text).is_endless is endless


def test_braces_of_more_words_than_anybody_types_are_left_alone_at_once() -> None:
    """Thirty pairs were expanded to 2^30 words before they were counted."""
    few, many = "{a,b}" * 6, "{a,b}" * 30
    assert len(read_script(f"echo {few}").calls[0].words) == 1 + 2**6
    assert calls(f"echo {many}") == [f"echo {many}"]


def test_loops_within_loops_are_read_a_few_times_each() -> None:
    """Each level doubled the work: 25 took hours."""
    loops = "while :; do " * 25 + "{}" + "; done" * 25
    assert read_script(loops.format("x")).is_endless
    assert not read_script(loops.format("sleep 9")).is_endless


def test_what_is_nested_too_deeply_is_not_whole_and_does_not_parse() -> None:
    """Was a RecursionError."""
    deep = "rm -rf /; echo " + "$(echo " * 400 + "x" + ")" * 400
    script = read_script(deep)
    assert not script.is_whole and not parses(deep)
    assert [call.name for call in script.calls][:1] == ["rm"]


def test_a_plain_name_with_quotes_inside_is_disguised() -> None:
    disguised = [
        read_script(text).calls[0].words[0].is_disguised
        for text in ("r'm' x", "r\\m x", "'my program' x", "\\ls", "ls")
    ]
    assert disguised == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("sudo -u ada -- ls -l", "ls -l"),
        ("env -i A=1 nice -n 5 ls", "nice -n 5 ls"),
        ("timeout -k 5 10 ls", "ls"),
        ("env -S 'ls -l' x", "ls -l x"),
        ("xargs -0 -n 1 ls", "ls"),
        ("coproc C { ls; }", "ls"),
        ("command -v ls", None),
        ("ls -l", None),
    ],
)
def test_wrappers_are_taken_off(text: str, inner: str | None) -> None:
    found = unwrap(read_script(text).calls[0])
    assert (None if found is None else " ".join(word.text for word in found.words)) == inner


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("echo -n a b", "a b"),
        ("printf '%s-%s' a b", "a-b"),
        ("printf '\\162\\155'", "rm"),
        ("printf '%b' '\\x72'", "r"),
        ("echo $x", None),
        ("cat x", None),
    ],
)
def test_what_echo_and_printf_print_is_known(text: str, printed: str | None) -> None:
    assert printed_by(read_script(text).calls[0]) == printed


def test_a_text_that_is_no_bash_does_not_parse() -> None:
    assert parses("a && b") and not parses("a && && b") and not parses("echo 'a")


@given(st.text(max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    read_script(text)


def test_loops_in_loops_are_read_a_bounded_number_of_times() -> None:
    """Eight values in each of eight loops were 16 million passes."""
    nested = "[ -n x ]"
    for depth in range(8):
        nested = f"for v{depth} in a b c d e f g h; do {nested}; done"
    assert read_script(nested + "; rm -rf /").calls[-1].texts == ("-rf", "/")
    late = "for a in 1 2 3 4 5; do for b in a b c d e f g h; do for d in /tmp/x /home; do rm -rf $d; done; done; done"
    assert any(call.texts == ("-rf", "/home") for call in read_script(late).calls)
    two = "for a in x y; do for b in 1 2; do echo $a$b; done; done"
    assert [call.texts for call in read_script(two).calls] == [("x1",), ("x2",), ("y1",), ("y2",)]
