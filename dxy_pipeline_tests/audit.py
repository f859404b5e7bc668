"""`make audit`: the locked packages against the public advisories. Fails on a known vulnerability.

Where the advisory service cannot be reached (a closed network) nothing can be said: that is printed, with the number of
packages left unaudited, and does not fail.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"


def main() -> int:
    """Run pip-audit on the lock; return 1 when a package has a known vulnerability, 2 when pip-audit itself failed."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-f", "json", "-r", str(LOCK)], capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        unreachable = "ConnectionError" in done.stderr or "Max retries" in done.stderr
        print("audit: the advisory service cannot be reached; nothing was audited" if unreachable else done.stderr)
        return 0 if unreachable else 2
    return judge(packages)


def judge(packages: list[dict[str, Any]]) -> int:
    """Print what was found; return 1 when a package has a known vulnerability, else 0."""
    for package in packages:
        for found in package.get("vulns", []):
            mended = ", ".join(found.get("fix_versions", [])) or "no release"
            print(f"audit: {package['name']} {package['version']}: {found['id']}, mended in {mended}")
    skipped = sum("skip_reason" in package for package in packages)
    print(f"audit: {len(packages) - skipped} packages audited, {skipped} unknown to the advisory service")
    return int(any(package.get("vulns") for package in packages))


if __name__ == "__main__":
    sys.exit(main())
