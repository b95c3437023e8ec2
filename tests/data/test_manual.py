"""Manual pages: options without values and examples with a sentence become rows; everything else is left alone."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from overseer_training.data.sources.manual import find_pages, read_page, render

PAGE = """LS(1)                      User Commands                      LS(1)

NAME
       ls - list directory contents

DESCRIPTION
       List information about the FILEs.

       -a, --all
              do not ignore entries starting with .

       --block-size=SIZE
              with -l, scale sizes by SIZE when printing them

       -h     Print sizes in a form that people can read. More text.

       -x     same as -C

EXAMPLES
       The following lists everything below the home directory:

           $ ls -R ~

       other --command

           ls -l
           ls -1
"""


def test_options_and_examples_become_lessons() -> None:
    assert [(lesson.request, lesson.command) for lesson in read_page(PAGE, "ls")] == [
        ("ls: do not ignore entries starting with .", "ls -a"),
        ("ls: print sizes in a form that people can read", "ls -h"),
        ("The following lists everything below the home directory", "ls -R ~"),
    ]


def test_an_empty_page_teaches_nothing() -> None:
    assert read_page("", "ls") == []


@pytest.mark.skipif(shutil.which("man") is None, reason="this machine has no man")
def test_a_page_is_rendered_with_a_paragraph_a_line(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "x.1"
    words = " ".join(f"word{number}" for number in range(60))
    page.write_text(f'.TH X 1\n.SH NAME\nx \\- a thing\n.SH OPTIONS\n.TP\n.BR \\-a ", " \\-\\-all\n{words}\n')
    text = render(page)
    assert words in text and "-a, --all" in text


def test_pages_are_those_of_installed_programs() -> None:
    assert all(shutil.which(name) and path.exists() for name, path in find_pages().items())
