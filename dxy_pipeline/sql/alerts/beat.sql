-- A watcher's sign of life; it never goes back.
INSERT INTO dxy.heartbeat AS h (name, beat_at, detail) VALUES (%(name)s, %(now)s, %(detail)s)
ON CONFLICT (name) DO UPDATE SET beat_at = greatest(h.beat_at, excluded.beat_at), detail = excluded.detail;
