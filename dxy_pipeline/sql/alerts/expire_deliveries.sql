-- Messages for targets that we do not have and that nobody has tried for a day: DXY_ALERT_URLS was changed meanwhile.
UPDATE dxy.alert_delivery AS d
SET expired_at = %(now)s, last_error = 'expired: no such target in DXY_ALERT_URLS any more'
WHERE d.delivered_at IS NULL AND d.expired_at IS NULL AND NOT d.target = ANY (%(labels)s)
    AND d.next_try_at < %(now)s::timestamptz - interval '1 day'
RETURNING d.target;
