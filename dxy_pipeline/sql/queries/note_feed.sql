-- Notes how a fetch of the live feed went. fetched_until never goes back, whichever of two runs ends last.
INSERT INTO dxy.feed_progress AS p (feed, fetched_until, state, detail)
VALUES (%(feed)s, %(until)s, %(state)s, %(detail)s)
ON CONFLICT (feed) DO UPDATE SET
    fetched_until = greatest(p.fetched_until, excluded.fetched_until), state = excluded.state, detail = excluded.detail,
    since = CASE WHEN p.state = excluded.state THEN p.since ELSE now() END, noted_at = clock_timestamp();
