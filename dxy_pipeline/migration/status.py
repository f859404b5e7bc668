"""status, checklist and audit: where the migration stands, and the seed's criteria each judged or signed."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import health, ledger, objects, states
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.criteria import CRITERIA
from dxy_pipeline.migration.facts import Facts
from dxy_pipeline.migration.rollback import NOT_RESTORED
from dxy_pipeline.migration.states import State

OPEN: Final = "open"


def status(conn: psycopg.Connection[Any], now: datetime) -> dict[str, Any]:
    """One mapping that says everything an operator asks first."""
    ledger.require(conn)
    control = ledger.control(conn)
    rows = query(conn, "SELECT u.* FROM dxy.migration_unit AS u WHERE u.migration_id = %s", control.migration_id)
    done = [r for r in rows if r["state"] == "done"]
    report: dict[str, Any] = {
        "state": control.state.value,
        "next": "rollback, which was cut off" if control.direction == "rollback" else states.NEXT[control.state],
        "migration": control.migration_id,
        "readers use": "derived_data_bars" if control.read_from == "legacy" else "data_bars",
        "paused": control.paused,
        "days": {s: sum(r["state"] == s for r in rows) for s in ("done", "pending", "failed")},
        "eta": _eta(done, len(rows) - len(done)),
        "accounting": {
            name: sum(r[name] for r in rows)
            for name in ("scanned", "inserted", "identical", "reconciled", "superseded", "unverifiable", "conflict")
        },
        "rows": ledger.counts(conn),
    }
    if control.state in states.DUAL:
        report["triggers missing"] = objects.missing_triggers(conn, muted=control.muted)
    if verified := query(
        conn,
        "SELECT v.id, v.ok, v.verified_at FROM dxy.migration_verification AS v"
        " WHERE v.migration_id = %s ORDER BY 1 DESC LIMIT 1",
        control.migration_id,
    ):
        report["last verification"] = verified[0]
        report["repaired since"] = control.repaired_after
    if control.cut_over_at:
        window = health.window(conn, control, now)
        report["health window"] = {"reached": window.reached, "needed": window.needed, "missing": window.missing}
    if control.state is State.ROLLED_BACK:
        report["not restored"] = NOT_RESTORED
    (lease,) = query(conn, "SELECT l.holder, l.progress FROM dxy.migration_lease AS l")
    report["runner"] = lease["holder"] or "none"
    if lease["holder"] and lease["progress"]:
        report["progress"] = lease["progress"]
        report["eta"] = lease["progress"]["to go"]
    return report


def checklist(conn: psycopg.Connection[Any], now: datetime) -> list[dict[str, Any]]:
    """Each item of the seed's lists: its part, whether it holds, the figure, and who judged it."""
    ledger.require(conn)
    control = ledger.control(conn)
    facts = Facts.gather(conn, control, now)
    signed = {r["item"]: r for r in query(conn, "SELECT s.* FROM dxy.migration_signoff AS s WHERE s.migration_id = %s"
                                          " ORDER BY s.id", control.migration_id)}  # fmt: skip
    found = []
    for item in CRITERIA:
        if item.judge is not None:
            ok, figure = item.judge(facts)
            verdict, by = ("yes" if ok else "no"), "machine"
        elif item.name in signed:
            sign_off = signed[item.name]
            verdict, figure, by = "yes", sign_off["note"] or "signed", sign_off["operator"]
        else:
            verdict, figure, by = OPEN, f'dxy migrate sign "{item.name}" --operator NAME', "nobody yet"
        found.append({"part": item.part, "item": item.name, "holds": verdict, "figure": figure, "judged by": by})
    return found


def sign(ctx: Context, item: str, operator: str, note: str) -> dict[str, Any]:
    """Enter an operator's signature and audit it; an earlier one stays beside it, the newest counts.

    Raises UserError for an unknown item, one a machine judges, or no name.
    """
    signable(item, operator)
    with ctx.conn.transaction():
        ctx.conn.execute(
            "INSERT INTO dxy.migration_signoff (migration_id, item, operator, note, signed_at) VALUES (%s, %s, %s, %s, %s)",
            (ctx.control().migration_id, item, operator, note, ctx.clock.now()),
        )
        ctx.audit("sign", {"item": item, "operator": operator, "note": note})
    return {"item": item, "signed by": operator}


def signable(item: str, operator: str) -> None:
    """Raise UserError unless this operator can sign that item."""
    known = {c.name: c for c in CRITERIA}
    if item not in known:
        raise UserError(f"the checklist has no item {item!r}", hint="see `dxy migrate checklist`")
    if known[item].judge is not None:
        raise UserError(f"{item!r} is judged by machine", hint="make it true instead; see `dxy migrate checklist`")
    if not operator.strip():
        raise UserError("a signature needs a name", hint="--operator NAME")


def units(conn: psycopg.Connection[Any], days: Sequence[date] | None = None) -> list[dict[str, Any]]:
    """The days of the current migration with their accounting."""
    return query(
        conn,
        "SELECT u.* FROM dxy.migration_unit AS u JOIN dxy.migration_control AS c ON c.migration_id = u.migration_id"
        " WHERE %s::date[] IS NULL OR u.day = ANY (%s::date[]) ORDER BY u.day",
        None if days is None else list(days),
        None if days is None else list(days),
    )


def audit(conn: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """The audit, oldest first."""
    ledger.require(conn)
    return query(conn, "SELECT a.* FROM dxy.migration_audit AS a ORDER BY a.id")


def query(conn: psycopg.Connection[Any], text: str, *values: Any) -> list[dict[str, Any]]:
    """Rows of a short query as mappings."""
    with conn.cursor(row_factory=dict_row) as cur:
        return cur.execute(ledger.trusted(text), values).fetchall()


def _eta(done: list[dict[str, Any]], left: int) -> str:
    times = sorted(r["finished_at"] for r in done if r["finished_at"])
    if not left:
        return "nothing left"
    if len(times) < 2:
        return "not known yet"
    return str(timedelta(seconds=round((times[-1] - times[0]).total_seconds() / (len(times) - 1) * left)))
