"""Help texts: each usual form of a table and a synopsis is read; what is neither is left alone."""

from __future__ import annotations

import pytest

from overseer_training.data.sources.help_text import Option, read_help

GNU = """Usage: /usr/bin/size [OPTION]... [FILE]...
  or:  size --files0-from=F
Print sizes.

Mandatory arguments to long options are mandatory for short options too.
  -b, --bytes            print the size in bytes
      --only-if-there-is-a-long-name
                         print nothing else;
                           more of it
  -n, --lines=[-]NUM     print the first NUM lines
    file ...             files to read
      --color[=WHEN]     color the output; WHEN is 'always'
"""
BUSYBOX = "BusyBox v1.36\n\nUsage: size [-bn] [FILE]...\n\nPrint sizes\n\n\t-b\tPrint bytes\n\t-n N\tPrint N lines\n"
GO = 'usage: size [flags] file\n  -b\tprint bytes\n  -width int\n    \twrap after int columns (default 80)\n  -name string\n    \ta name (default "x")\n'
ARGPARSE = """usage: size [-h] [-b] [-n N] [--format {json,csv}]
            file [file ...]

options:
  -b, --bytes           print bytes
  -n N, --lines N       print the first N lines
  --format {json,csv}   output format
"""
CLICK = """Usage: size [OPTIONS] [FILENAME]...

Options:
  -b, --bytes               Print bytes.
  -n, --lines INTEGER       Print that many lines.  [default: 10]
  --format [json|csv]       Output format.
"""
CLAP = """size 1.0

Usage: size [OPTIONS] <FILE>

Options:
  -b, --bytes            Print bytes
  -n, --lines <N>        Print the first <N> lines [default: 10]
      --format <FORMAT>  Print as FORMAT [possible values: json, csv]
  -l, --long
          Print everything there is

          A second paragraph
"""


def short(option: Option) -> tuple[str, str, str]:
    return " ".join(option.flags), option.value + "".join(f" {choice}" for choice in option.choices), option.text


@pytest.mark.parametrize(
    ("text", "table"),
    [
        (
            GNU,
            [
                ("-b --bytes", "", "print the size in bytes"),
                ("--only-if-there-is-a-long-name", "", "print nothing else; more of it"),
                ("-n --lines", "NUM", "print the first NUM lines"),
                ("--color", "", "color the output; WHEN is 'always'"),
            ],
        ),
        (BUSYBOX, [("-b", "", "Print bytes"), ("-n", "N", "Print N lines")]),
        (
            GO,
            [
                ("-b", "", "print bytes"),
                ("-width", "int", "wrap after int columns (default 80)"),
                ("-name", "string", 'a name (default "x")'),
            ],
        ),
        (
            ARGPARSE,
            [
                ("-b --bytes", "", "print bytes"),
                ("-n --lines", "N", "print the first N lines"),
                ("--format", "choice json csv", "output format"),
            ],
        ),
        (
            CLICK,
            [
                ("-b --bytes", "", "Print bytes."),
                ("-n --lines", "INTEGER", "Print that many lines. [default: 10]"),
                ("--format", "choice json csv", "Output format."),
            ],
        ),
        (
            CLAP,
            [
                ("-b --bytes", "", "Print bytes"),
                ("-n --lines", "N", "Print the first <N> lines [default: 10]"),
                ("--format", "FORMAT json csv", "Print as FORMAT [possible values: json, csv]"),
                ("-l --long", "", "Print everything there is"),
            ],
        ),
    ],
    ids=["gnu", "busybox", "go", "argparse", "click", "clap"],
)
def test_every_usual_form_is_read(text: str, table: list[tuple[str, str, str]]) -> None:
    found = read_help(text, "size")
    assert found.operand == "file"
    assert [short(option) for option in found.options] == table


@pytest.mark.parametrize(
    ("synopsis", "operand"),
    [
        ("Usage: x [OPTION]... [FILE]...", "file"),
        ("Usage: x <option(s)> elf-file(s)", "file"),
        ("Usage:\n x [options] <file>...\n\nShows it.", "file"),
        ("usage: x [-ab] [-c file] [--] [directory ...]", "folder"),
        ("Usage: x [OPTION]... DIRECTORY...", "folder"),
        ("Usage: x [OPTION]... [FILE | DIRECTORY]", "file"),
        ("Usage: x [flags and input files in any order]", "file"),
        ("Usage: x [OPTIONS...] [INPUT... | -] [-o OUTPUT]", "file"),
        ("Usage: x [OPTION]... [ FILE | ARG1 ARG2 ]", "other"),
        ("Usage: x [option(s)] [file(s)]\n List the symbols in files.\n Options are:\n", "file"),
        ("Usage: x [options]", "none"),
        ("Usage: x [OPTION]... [+FORMAT]\n  or:  x [-u] DATE", "none"),
        ("Usage: x [OPTION]... SOURCE DEST", "other"),
        ("Usage: x [OPTION]... PATTERN [FILE]...", "other"),
        ("Usage: x [options] COMMAND", "other"),
        ("Usage: x -f FILE", "other"),
        ("Usage: x FILE OUTFILE", "other"),
        ("Usage: another [OPTION]... [FILE]...", "other"),
        ("x: unrecognized option '--help'", "other"),
        ("", "other"),
    ],
)
def test_what_a_program_needs_is_read_from_its_synopsis(synopsis: str, operand: str) -> None:
    assert read_help(synopsis, "x").operand == operand


def test_lines_that_only_begin_like_an_option_are_none() -> None:
    text = "Usage: x [FILE]\n  -- a dash\n  -a with words after it  text\n  - b - c\n -z\n\n --also\n"
    assert read_help(text, "x").options == ()
