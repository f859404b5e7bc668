-- Open incidents and the latest others, newest first, with what could not be delivered yet.
SELECT i.id, i.cause, i.state, i.severity, i.summary, i.opened_at, i.fired_at, i.resolved_at, i.checks,
    count(d.target) FILTER (WHERE d.delivered_at IS NOT NULL) AS delivered,
    count(d.target) FILTER (WHERE d.delivered_at IS NULL AND d.expired_at IS NULL) AS undelivered,
    count(d.expired_at) AS expired,
    max(d.last_error) FILTER (WHERE d.delivered_at IS NULL) AS last_error
FROM dxy.incident AS i LEFT JOIN dxy.alert_delivery AS d ON d.incident_id = i.id
WHERE i.resolved_at IS NULL OR %(with_closed)s
GROUP BY i.id
ORDER BY i.id DESC
LIMIT %(limit)s;
