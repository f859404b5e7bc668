-- A root cause was seen: opens its incident as pending, or brings the open one up to date (the worst stays).
INSERT INTO dxy.incident AS i (cause, state, severity, summary, checks, follows_market, opened_at, last_seen_at)
VALUES (%(cause)s, 'pending', %(severity)s, %(summary)s, %(checks)s, %(live)s, %(now)s, %(now)s)
ON CONFLICT (cause) WHERE resolved_at IS NULL DO UPDATE SET
    severity = CASE WHEN 'ERROR' IN (i.severity, excluded.severity) THEN 'ERROR' ELSE 'WARN' END,
    summary = excluded.summary,
    checks = ARRAY(SELECT DISTINCT c.name FROM unnest(i.checks || excluded.checks) AS c (name) ORDER BY c.name),
    follows_market = i.follows_market OR excluded.follows_market,
    last_seen_at = greatest(i.last_seen_at, excluded.last_seen_at)
RETURNING i.id, i.cause, i.state, i.severity, i.summary, i.checks, i.follows_market, i.opened_at, i.last_seen_at, i.fired_at;
