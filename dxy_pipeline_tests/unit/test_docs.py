"""The guides are true: every setting is in the table, every command exists, every link and file leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dxy_pipeline import settings

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs").rglob("*.md"))
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def test_every_setting_is_described() -> None:
    source = Path(settings.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'"""([A-Z][A-Z_]+):', source))
    assert len(names) > 15
    described = set(re.findall(r"`([A-Z][A-Z_]+)`", OPERATIONS))
    assert names - described == set()
    assert {name for name in described if name.startswith("DXY_")} - names == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_links_lead_somewhere(guide: Path) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", guide.read_text(encoding="utf-8")):
        assert (guide.parent / link).exists(), link


def test_every_command_in_the_guides_exists() -> None:
    found = {
        tuple(
            words.split()[:2]
            if words.split()[0] in {"db", "checks", "alerts", "migrate", "load"}
            else words.split()[:1]
        )
        for guide in GUIDES
        for words in re.findall(r"\bdxy ([a-z-]+(?: [a-z-]+)?)[^`]*`", guide.read_text(encoding="utf-8"))
    }
    found -= {("minutes",)}  # `dxy minutes` is the name of an incident's cause in monitoring.md
    assert ("status",) in found or ("db", "plan") in found
    for words in sorted(found):
        command = [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", *words, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"dxy {' '.join(words)}: {done.stderr}"


def test_files_named_in_operations_exist() -> None:
    for path in re.findall(r"`(deploy/[\w./-]+)`", OPERATIONS):
        assert (ROOT / path).exists(), path
