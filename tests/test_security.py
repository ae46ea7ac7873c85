"""Every line of the threat model names a test that there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_each_threat_names_its_test() -> None:
    lines = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line[:2] == "| "]
    threats = [line for line in lines if "---" not in line and "| Test |" not in line]
    assert len(threats) >= 10
    for line in threats:
        named = re.search(r"`(tests/\S+\.py)::(\w+)`", line)
        assert named, line
        assert f"def {named[2]}(" in (ROOT / named[1]).read_text(), line
