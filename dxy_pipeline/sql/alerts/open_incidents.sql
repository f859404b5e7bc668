-- Pending and firing incidents.
SELECT i.id, i.cause, i.state, i.severity, i.summary, i.checks, i.follows_market, i.missed, i.opened_at, i.last_seen_at,
    i.fired_at
FROM dxy.incident AS i WHERE i.resolved_at IS NULL ORDER BY i.id;
