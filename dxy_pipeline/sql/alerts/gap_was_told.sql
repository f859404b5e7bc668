-- An incident (of one of these causes; of any when NULL) that fired while these minutes were missing and live: the gap
-- it left needs no message of its own.
SELECT 1 AS told FROM dxy.incident AS i
WHERE (%(causes)s::text[] IS NULL OR i.cause = ANY (%(causes)s)) AND i.fired_at IS NOT NULL
    AND (i.follows_market OR i.cause = 'scheduler')
    AND i.opened_at <= %(last_ts)s::timestamptz + interval '2 hours'
    AND coalesce(i.resolved_at, 'infinity') >= %(first_ts)s
LIMIT 1;
