"""Errors of YAML in one line, with how to write the text that it misread."""

import json
import re

from yaml import MarkedYAMLError

_SETTING = re.compile(r"\s*(?P<key>[\w.-]+):\s+(?P<value>\S.*?)\s*")
"""A line with a setting and its value."""

_SENTENCE_IN_BRACES = re.compile(r"[{,]\s*(?P<key>(negative_)?prompt):\s+(?P<value>[^,}]+)")

_SPECIAL = re.compile(r"""[\[\]{}&*!|>%@`"',]|: |^[-?] """)
"""What has a meaning in YAML and so makes a text need quotes."""


def explain_yaml(error: MarkedYAMLError, text: str) -> str:
    """The problem, its line, and the value in quotes if that may help.

    Args:
        error: from the parser.
        text: the whole file.
    """
    mark, problem = error.problem_mark, error.problem or "it is not YAML"
    if mark is None:
        return problem
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{_remedy(line)}"


def _remedy(line: str) -> str:
    found = _SENTENCE_IN_BRACES.search(line) or _SETTING.fullmatch(line)
    if found is None or not _SPECIAL.search(found["value"]):
        return ""
    value = re.sub(r"""^(["'])(.*)\1$""", r"\2", found["value"].strip())
    return f"; put the sentence in quotes: {found['key']}: {json.dumps(value, ensure_ascii=False)}"
