-- Checks of which a look at the whole history found nothing any more.
DELETE FROM dxy.history_finding AS f
USING unnest(%(assets)s::text[], %(names)s::text[]) AS c (asset, name)
WHERE f.asset = c.asset AND f.name = c.name;
