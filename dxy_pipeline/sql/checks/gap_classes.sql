-- Every minute of the window for the asset's symbols, classed: what the gaps check shows beside its violations.
WITH ledger AS (
    SELECT g.class, g.confirmed, g.minutes FROM dxy.gap_ledger(%(symbols)s, %(start)s, %(end)s, %(now)s,
        make_interval(mins => %(pending_minutes)s), make_interval(hours => %(confirm_hours)s)) AS g
)
SELECT cardinality(%(symbols)s::text[]) * dxy.open_minutes(%(start)s, %(end)s) AS "open minutes expected",
    (extract(epoch FROM %(end)s::timestamptz - %(start)s::timestamptz) / 60)::bigint - dxy.open_minutes(%(start)s, %(end)s)
        AS "minutes shut",
    coalesce(sum(l.minutes) FILTER (WHERE l.class = 'pending'), 0)::bigint AS "minutes pending",
    coalesce(sum(l.minutes) FILTER (WHERE l.class = 'component missing'), 0)::bigint AS "minutes component missing",
    coalesce(sum(l.minutes) FILTER (WHERE l.class = 'feed down'), 0)::bigint AS "minutes feed down",
    coalesce(sum(l.minutes) FILTER (WHERE l.class = 'not derived'), 0)::bigint AS "minutes not derived",
    coalesce(sum(l.minutes) FILTER (WHERE l.confirmed), 0)::bigint AS "minutes confirmed missing"
FROM ledger AS l
