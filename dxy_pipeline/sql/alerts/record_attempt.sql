-- How an attempt went; one that failed is due again as it was claimed.
UPDATE dxy.alert_delivery AS d
SET delivered_at = CASE WHEN %(error)s::text IS NULL THEN %(now)s::timestamptz END, last_error = %(error)s
WHERE d.incident_id = %(incident_id)s AND d.event = %(event)s AND d.target = %(target)s;
