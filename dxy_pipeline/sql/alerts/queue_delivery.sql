-- One message for each target, once: a second queueing of the same event is nothing.
INSERT INTO dxy.alert_delivery (incident_id, event, target, title, body, queued_at, next_try_at)
SELECT %(id)s, %(event)s, t.label, %(title)s, %(body)s, %(now)s, %(now)s
FROM unnest(%(labels)s::text[]) AS t (label)
ON CONFLICT DO NOTHING;
