-- Moves an incident to its next state.
UPDATE dxy.incident AS i
SET state = %(state)s,
    fired_at = CASE WHEN %(state)s = 'firing' THEN %(now)s ELSE i.fired_at END,
    resolved_at = CASE WHEN %(state)s = 'firing' THEN NULL ELSE %(now)s::timestamptz END
WHERE i.id = %(id)s;
