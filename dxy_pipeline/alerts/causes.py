"""Root causes: which failing checks have one and the same reason. Pure: findings in, causes out.

A dead EURUSD feed fails freshness of the pair, of DXY 1m, 5m and 1h, the last five minutes and the gap ledger: one
cause, not eight. The rules go from the root outwards (scheduler, source, feed, bad input, late data, stored minutes,
roll-ups); each takes the symptoms it explains, and what nobody explains is a cause by itself, so nothing is lost.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from dxy_pipeline.alerts.case import AFTERMATH, Case, Cause, Finding, Row
from dxy_pipeline.core.index import SYMBOLS

_PAIRS_SILENT = ("fx_1m.freshness", "fx_1m.components_present", "fx_1m.staleness")
_DXY_SILENT = ("dxy_1m.freshness", "dxy_1m.recent_bars", "dxy_5m.freshness", "dxy_1h.freshness")
_MISSING = ("dxy_1m.count_match", "dxy_5m.reconciliation", "dxy_1h.reconciliation")
_ROLLUPS = tuple(f"{asset}.{name}" for asset in ("dxy_5m", "dxy_1h") for name in
                 ("reconciliation", "price_band", "prices_valid"))  # fmt: skip
_ALONE = {
    "fx_1m.well_formed": ("malformed bars", "a writer stores FX bars that no derivation may see"),
    "dxy_1m.schema_contract": ("schema", "the schema is not as deployed"),
    "dxy_1m.orphans_in_derived": ("orphans", "a legacy writer puts DXY 1m into derived_data_bars"),
    "dxy_1m.completeness": ("history", "too little DXY history"),
    "dxy_1m.migration_count_match": ("migration", "legacy bars without their equal in data_bars"),
}


def root_causes(findings: Iterable[Finding], older: Iterable[Finding] = ()) -> list[Cause]:
    """Return one cause per reason, every failing check in at least one of them; empty when all checks pass.

    `older`: what fails in the history before the window of `findings`. The two explain nothing of each other, but the
    same cause in both is one.
    """
    causes = {cause.key: cause for cause in _causes(findings, _silence, _gaps)}
    # Asked of all that is stored each minute, completeness explains the holes that the look at the history found.
    lost = [f for f in findings if f"{f.asset_key}.{f.name}" == "dxy_1m.completeness"]
    for cause in _causes([*older, *lost], _old_gaps):
        same = causes.setdefault(cause.key, cause)
        if same is not cause:
            same.checks = {**cause.checks, **same.checks} | {
                c: "ERROR" for c, s in cause.checks.items() if s == "ERROR"
            }
            same.spans += cause.spans
    return list(causes.values())


def _causes(findings: Iterable[Finding], *first: Callable[[Case], None]) -> list[Cause]:
    findings = list(findings)
    case = Case(f for f in findings if f.evaluated)
    for rule in first:
        rule(case)
    _bad_input(case)
    _stored_minutes(case)
    _rollups(case)
    for check, (key, summary) in _ALONE.items():
        if case.fails(check):
            case.blame(key, f"{summary}: {_words(case.failing[check])}", [check])
    for check, finding in case.failing.items():
        if check not in case.taken:
            case.blame(f"check:{check}", _words(finding), [check])
    blind = [f for f in findings if not f.evaluated]
    if blind:
        cause = case.causes.setdefault("monitoring", Cause("monitoring", f"{len(blind)} checks cannot be evaluated"))
        cause.checks.update({f"{f.asset_key}.{f.name}": str(f.severity) for f in blind})
    return list(case.causes.values())


def _silence(case: Case) -> None:
    """Nothing arrives: the scheduler is dead, the source does not answer, a feed is down, or only DXY is missing."""
    dead = case.rows("fx_1m.scheduler")
    parts = ", ".join(f"{row['part']} since {_at(row['last_seen'])}" for row in dead)
    if dead and all(row["part"] == "daily checks" for row in dead):
        case.blame("daily checks", f"the whole history has not been looked at: {parts}", ["fx_1m.scheduler"])
    if case.fails("fx_1m.scheduler"):
        missing = [check for check in _MISSING if all(r.get("fault") == "missing" for r in case.rows(check))]
        explained = [*_PAIRS_SILENT, *_DXY_SILENT, "fx_1m.source_state", "dxy_1m.late_data", *missing]
        case.blame("scheduler", f"the scheduler is dead: {parts}", ["fx_1m.scheduler", *explained])
    elif case.fails("fx_1m.source_state"):
        row = case.rows("fx_1m.source_state")[0]
        summary = f"source {row['feed']} {row['state']}: {row['detail']}"
        case.blame("source", summary, ["fx_1m.source_state", *_PAIRS_SILENT, *_DXY_SILENT], live=True)
    else:
        _silent_feeds(case)


def _silent_feeds(case: Case) -> None:
    pairs = {str(row["canonical_symbol"]) for check in _PAIRS_SILENT for row in case.rows(check)}
    if not pairs:  # the first minutes: no pair is stale yet, but the newest DXY minutes all lack the same one
        lacking = [str(row.get("components") or "").split(", ") for row in case.rows("dxy_1m.recent_bars")]
        pairs = set(SYMBOLS).intersection(*lacking) if lacking else set()
    latest = {r["canonical_symbol"]: r.get("latest") for check in _PAIRS_SILENT for r in case.rows(check)}
    if pairs == set(SYMBOLS):
        case.blame("feed", "no FX feed: all six pairs are silent", [*_PAIRS_SILENT, *_DXY_SILENT], live=True)
        return
    for pair in sorted(pairs):
        since = f" since {_at(latest[pair])}" if latest.get(pair) else ""
        mine = [c for c in _PAIRS_SILENT if any(row["canonical_symbol"] == pair for row in case.rows(c))]
        case.blame(f"feed:{pair}", f"{pair} feed is silent{since}", [*mine, *_DXY_SILENT], live=True)
    if not pairs:
        _silent_index(case)


def _silent_index(case: Case) -> None:
    """The pairs arrive and the index does not, or only a roll-up does not: that one lacked minutes for a bar."""
    silent = [check for check in _DXY_SILENT if case.fails(check)]
    if silent and set(silent) <= AFTERMATH and not any(case.rows(check) for check in _MISSING):
        summary = f"{silent[0].partition('.')[0]} had too few minutes for a bar: {_words(case.failing[silent[0]])}"
        cause = case.blame("roll-ups stale", summary, silent)
        for row in (row for check in silent for row in case.rows(check) if row["latest"]):
            cause.spans.append((row["latest"], row["latest"] + timedelta(minutes=row["open_minutes_since"])))
    elif silent:
        missing = [c for c in _MISSING if case.rows(c) and all(r.get("fault") == "missing" for r in case.rows(c))]
        summary = f"DXY is not derived although the pairs arrive: {_words(case.failing[silent[0]])}"
        case.blame("derivation", summary, [*_DXY_SILENT, *missing, "dxy_1m.late_data"], live=True)


def _gaps(case: Case) -> None:
    """Each gap belongs to the feed that left it."""
    for check in ("fx_1m.gaps", "dxy_1m.gaps"):
        for row in case.rows(check):
            span = (row["first_ts"], row["last_ts"])
            for key in _gap_keys(row):
                name = key.removeprefix("feed:") if key.startswith("feed:") else "DXY" if key == "derivation" else "FX"
                summary = f"{name} has a gap of {row['minutes']} minutes from {_at(span[0])}: {row['class']}"
                case.blame(key, summary, [check]).spans.append(span)


def _old_gaps(case: Case) -> None:
    """Holes in the history are one cause, not a feed that is down; those of a history that was lost belong to the loss."""
    gaps = ("fx_1m.gaps", "dxy_1m.gaps")
    rows = [row for check in gaps for row in case.rows(check)]
    if case.fails("dxy_1m.completeness"):
        summary = f"{_ALONE['dxy_1m.completeness'][1]}: {_words(case.failing['dxy_1m.completeness'])}"
        case.blame("history", summary, ["dxy_1m.completeness", *gaps])
    elif rows:
        longest = max(rows, key=lambda row: row["minutes"])
        summary = (
            f"the history has {len(rows)} new hole{'s' if len(rows) > 1 else ''}, the longest {longest['minutes']}"
            f" minutes of {longest['canonical_symbol']} from {_at(longest['first_ts'])}"
        )
        case.blame("gaps", summary, gaps).spans += [(row["first_ts"], row["last_ts"]) for row in rows]


def _gap_keys(row: Row) -> list[str]:
    if row["class"] == "not derived":
        return ["derivation"]
    if row["class"] == "feed down":
        return ["feed"]
    pairs = str(row.get("components") or row["canonical_symbol"]).split(", ")
    return [f"feed:{pair}" for pair in pairs]


def _bad_input(case: Case) -> None:
    """FX bars that arrive and are wrong: frozen, broken, or a spike; with what follows from them in DXY."""
    for row in case.rows("fx_1m.flat_line"):
        pair = row["canonical_symbol"]
        case.blame(f"flat:{pair}", f"{pair} stands still at {row['close']} since {_at(row['first_ts'])}",
                   ["fx_1m.flat_line"])  # fmt: skip
    for row in case.rows("fx_1m.prices_valid"):
        pair = row["canonical_symbol"]
        follows = [c for c in ("dxy_1m.count_match", "dxy_1m.drift") if case.near(c, "fx_1m.prices_valid")]
        summary = f"{pair} has a broken bar at {_at(row['ts_utc'])}"
        case.blame(f"bad bar:{pair}", summary, ["fx_1m.prices_valid", *follows])
    spikes = {row["canonical_symbol"] for row in case.rows("fx_1m.outliers")}
    hand_made = any(case.fails(c) and case.near(c, "dxy_1m.outliers") for c in ("dxy_1m.drift", "dxy_1m.count_match"))
    for check in ("fx_1m.outliers", "dxy_1m.outliers"):
        for row in case.rows(check):
            pair = row.get("component") or row["canonical_symbol"]
            if check == "dxy_1m.outliers" and pair not in spikes and hand_made:
                continue
            bands = [f"{a}.price_band" for a in ("dxy_1m", "dxy_5m", "dxy_1h") if case.near(f"{a}.price_band", check)]
            case.blame(f"spike:{pair}", f"{pair} jumps at {_at(row['ts_utc'])} by {row['move']:+.2%}", [check, *bands])


def _stored_minutes(case: Case) -> None:
    """DXY minutes that are not what the pairs give: not derived again after a change, or written by somebody else."""
    if case.fails("dxy_1m.late_data"):
        row = case.rows("dxy_1m.late_data")[0]
        late = [c for c in ("dxy_1m.drift", *_MISSING) if case.near(c, "dxy_1m.late_data")]
        summary = f"changed minutes of {row['day']} wait since {_at(row['waiting_since'])} to be derived again"
        case.blame("late data", summary, ["dxy_1m.late_data", *late])
    wrong = [c for c in ("source_synthetic", "prices_valid", "drift", "count_match", "price_band")
             if case.fails(f"dxy_1m.{c}")]  # fmt: skip
    if wrong:
        checks = [f"dxy_1m.{name}" for name in wrong]
        follows = [c for c in (*_ROLLUPS, "dxy_1m.outliers", "dxy_1m.migration_count_match") if case.fails(c)]
        summary = f"stored DXY minutes are wrong ({wrong[0]}): {_words(case.failing[checks[0]])}"
        case.blame("dxy minutes", summary, [*checks, *follows])


def _rollups(case: Case) -> None:
    """Roll-ups that are not the roll-up of the stored minutes."""
    for double in ("dxy_5m.double_counting", "dxy_1h.double_counting"):
        if case.fails(double):
            case.blame("double counting", f"roll-ups count minutes twice: {_words(case.failing[double])}",
                       [double, *_ROLLUPS])  # fmt: skip
    wrong = [check for check in _ROLLUPS if case.fails(check)]
    if wrong:
        case.blame("roll-ups", f"stored roll-ups are wrong: {_words(case.failing[wrong[0]])}", wrong)


def _words(finding: Finding) -> str:
    return finding.description.removeprefix(f"{finding.severity}: ")


def _at(ts: Any) -> str:
    return f"{ts:%Y-%m-%d %H:%M} UTC" if isinstance(ts, datetime) else "an unknown time"
