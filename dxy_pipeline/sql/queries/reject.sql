INSERT INTO dxy.rejected_bar (source_name, location, canonical_symbol, ts_text, reason, payload)
VALUES (%(source_name)s, %(location)s, %(symbol)s, %(ts)s, %(reason)s, %(payload)s);
