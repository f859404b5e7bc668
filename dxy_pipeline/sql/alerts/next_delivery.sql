-- The oldest message that is due for one of these targets, kept for this transaction; another sender takes the next.
-- A target's messages go in order: "resolved" never overtakes "firing".
SELECT d.incident_id, d.event, d.target, d.title, d.body, d.attempts, i.severity
FROM dxy.alert_delivery AS d JOIN dxy.incident AS i ON i.id = d.incident_id
WHERE d.delivered_at IS NULL AND d.target = ANY (%(labels)s) AND d.next_try_at <= %(now)s
    AND NOT EXISTS (SELECT FROM dxy.alert_delivery AS e
        WHERE e.incident_id = d.incident_id AND e.target = d.target AND e.event = 'firing' AND d.event = 'resolved'
            AND e.delivered_at IS NULL)
ORDER BY d.queued_at, d.event
LIMIT 1 FOR UPDATE OF d SKIP LOCKED;
