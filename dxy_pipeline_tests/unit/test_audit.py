"""The audit's verdict: a vulnerable package fails it, packages nobody knows are said and do not."""

import pytest

from dxy_pipeline_tests.audit import judge


def test_a_known_vulnerability_fails(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"name": "left", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
    assert judge([bad, {"name": "right", "version": "2", "vulns": []}]) == 1
    assert "left 1.0: PYSEC-1, mended in 1.1" in capsys.readouterr().out


def test_unknown_packages_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge([{"name": "left", "skip_reason": "not found"}, {"name": "right", "version": "2", "vulns": []}]) == 0
    assert "1 packages audited, 1 unknown" in capsys.readouterr().out
