-- Takes the oldest message that is due for one of these targets: due again only later (after 1, 2, 4 … at most 30 minutes),
-- so that no other sender has it meanwhile and no lock is held while it is sent.
-- A target's messages go in order: "resolved" never overtakes "firing".
UPDATE dxy.alert_delivery AS m
SET attempts = m.attempts + 1,
    next_try_at = %(now)s::timestamptz + least(interval '1 minute' * power(2, least(m.attempts, 10)), interval '30 minutes')
FROM (
    SELECT d.incident_id, d.event, d.target, i.severity
    FROM dxy.alert_delivery AS d JOIN dxy.incident AS i ON i.id = d.incident_id
    WHERE d.delivered_at IS NULL AND d.expired_at IS NULL AND d.target = ANY (%(labels)s) AND d.next_try_at <= %(now)s
        AND NOT EXISTS (SELECT FROM dxy.alert_delivery AS e
            WHERE e.incident_id = d.incident_id AND e.target = d.target AND e.event = 'firing' AND d.event = 'resolved'
                AND e.delivered_at IS NULL AND e.expired_at IS NULL)
    ORDER BY d.queued_at, d.event
    LIMIT 1 FOR UPDATE OF d SKIP LOCKED
) AS due
WHERE (m.incident_id, m.event, m.target) = (due.incident_id, due.event, due.target)
RETURNING m.incident_id, m.event, m.target, m.title, m.body, due.severity;
