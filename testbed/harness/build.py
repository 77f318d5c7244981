# SPDX-License-Identifier: Apache-2.0
"""Builds what a run needs: the Java applications (once per change of their sources), and looks for the proxy's binary."""

import hashlib
import os
import pathlib
import subprocess

from .parts import JAVA, MODULES, REPO


def java(work):
    """`mvn package`, unless the same sources were built before."""
    stamp = work / "java.stamp"
    digest = hashlib.sha256()
    for path in sorted(JAVA.rglob("*")):
        if path.suffix in (".java", ".xml") and "target" not in path.parts:
            digest.update(str(path.relative_to(JAVA)).encode() + path.read_bytes())
    built = all((JAVA / m / "target/lib").is_dir() for m in [*MODULES.values(), "zookeeper", "sofaregistry"])
    if built and stamp.exists() and stamp.read_text() == digest.hexdigest():
        return "built before"
    for attempt in (1, 2, 3):
        done = subprocess.run(["nice", "mvn", "-q", "-B", "-f", str(JAVA), "package"], capture_output=True, text=True)
        if done.returncode == 0:
            break
    else:
        rows = [r for r in done.stdout.splitlines() if "ERROR" in r]
        raise SystemExit("the Java applications could not be built:\n" + "\n".join(rows[:20]))
    work.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest.hexdigest())
    return "built"


def binary():
    """The proxy: REMORA_BIN, else the release build."""
    path = pathlib.Path(os.environ.get("REMORA_BIN", REPO / "target/release/remora"))
    return path.resolve() if path.exists() else None
