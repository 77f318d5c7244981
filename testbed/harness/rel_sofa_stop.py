# SPDX-License-Identifier: Apache-2.0
"""L7: what an orderly stop of a SOFARPC provider over SOFARegistry costs, without Remora and behind it.

SOFARPC ends its threads and closes its port while the registry still tells of it, so calls are refused ("thread pool busy") or dropped.
Behind Remora the refused ones go to another instance; those that the application had when its process ended are lost.
"""

from .cells_sofa_faults import provider_gone

TIMES = 5
RATE = 500


def stopped(settings, network, name, line):
    rows, problems = [], []
    settings.rate, before = settings.rate or RATE, settings.rate
    lost = {}
    for door in ("bare", "sofaregistry"):
        reports = []
        for turn in range(TIMES):
            provider_gone(settings, network, f"{name}-{door}-{turn}", line, door, "sofaregistry", True, reports)
        kinds = {}
        for report in reports:
            for kind, number in report.get("kinds", {}).items():
                kinds[kind] = kinds.get(kind, 0) + number
        lost[door] = sum(kinds.values())
        each = " ".join(str(report["failed"]) for report in reports)
        rows.append({"case": f"{line}, {TIMES} stops of one of two, " + ("no Remora" if door == "bare" else "Remora beside each"), "calls": sum(r["calls"] for r in reports), "failed": kinds,
                     "note": f"{settings.rate} calls a second; failed at each stop: {each}"})
    settings.rate = before
    if lost["sofaregistry"] * 10 > lost["bare"]:
        problems.append(f"{lost['sofaregistry']} calls lost behind Remora, {lost['bare']} without")
    return {"id": "L7", "title": f"orderly stops of SOFARPC {line} over SOFARegistry", "bar": "a tenth at most of what is lost without Remora",
            "runs": rows, "problems": problems}


def cells(settings):
    return [(f"L7-{line}", lambda network, line=line: stopped(settings, network, f"L7-{line}", line)) for line in ("s5.6", "s5.13")]
