-- Keeps a refused row, once: the same row of the same place is there already when it is read again.
INSERT INTO dxy.rejected_bar (source_name, location, canonical_symbol, ts_text, reason, payload)
VALUES (%(source_name)s, %(location)s, %(symbol)s, %(ts)s, %(reason)s, %(payload)s)
ON CONFLICT DO NOTHING;
