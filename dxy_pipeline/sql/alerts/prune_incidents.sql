-- Incidents that were over before this time, with their messages.
DELETE FROM dxy.incident AS i WHERE i.resolved_at < %(before)s;
