"""Find idioms that the documentation and the package avoid, and print where they are.

    python -m tools.check_english            # the package, docs/, README.md and CHANGELOG.md
    python -m tools.check_english docs/*.md  # these files only

Exits with status 1 if there are any.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_COUNTED = "steps?|frames?|calls?|seconds?|keyframes?|tokens?|iterations?|predictions?|records?|GPUs|ms|MB|GB|s"
_PER = "frame|step|call|second|clip|site|keyframe|stage|batch|job|worker|token|latent|level|pair"

IDIOMS = {
    "'a' for 'per'": rf"\b({_COUNTED}) a ({_PER})\b",
    "'is no'": r"(?<!\bthere) (is|are) no\b(?! (longer|more than))",
    "'knows no'": r"\bknows? (no|nothing)\b",
    "'somebody'": r"\b(some|no|any|every)body\b",
    "'anew'": r"\banew\b",
    "'be that'": r"\bbe that\b",
}
"""What to look for, by name; a space matches any white space and the start of a comment's next line."""

_PATTERNS = {name: re.compile(idiom.replace(" ", r"\s(?:\s|#)*"), re.IGNORECASE) for name, idiom in IDIOMS.items()}


@dataclass(frozen=True)
class Finding:
    """One idiom in one place."""

    path: Path
    line: int
    idiom: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.idiom}: {self.text}"


def find(path: Path) -> Iterator[Finding]:
    """The idioms in a file."""
    text = path.read_text(encoding="utf-8")
    for name, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.end()) + 1
            yield Finding(path, line, name, " ".join(match[0].split()))


def default_files() -> list[Path]:
    """The package and the documentation."""
    return [
        *sorted((ROOT / "tokenflow").rglob("*.py")),
        *sorted((ROOT / "docs").rglob("*.md")),
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
    ]


def main() -> None:
    """Print every finding and their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    findings = [finding for path in arguments.files or default_files() for finding in find(path)]
    for finding in findings:
        print(finding)
    print(f"{len(findings)} found")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
