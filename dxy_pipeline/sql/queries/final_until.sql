-- The watermark: every derived bar before it is final unless an input changes again. Nothing is pending before it.
SELECT least(
    (SELECT min(t.first_ts) FROM dxy.touched_range AS t),
    date_trunc('minute', %(now)s::timestamptz - make_interval(secs =>
        (SELECT s.value::numeric FROM dxy.setting AS s WHERE s.key = 'settle_seconds')::double precision))
) AS final_until;
