-- How an attempt went; a failed one is due again after 1, 2, 4 … at most 30 minutes.
UPDATE dxy.alert_delivery AS d
SET attempts = d.attempts + 1,
    delivered_at = CASE WHEN %(error)s::text IS NULL THEN %(now)s::timestamptz END,
    last_error = %(error)s,
    next_try_at = %(now)s::timestamptz + least(interval '1 minute' * power(2, least(d.attempts, 10)), interval '30 minutes')
WHERE d.incident_id = %(incident_id)s AND d.event = %(event)s AND d.target = %(target)s;
