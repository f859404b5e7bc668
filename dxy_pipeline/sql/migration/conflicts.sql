SELECT c.ts_utc, c.legacy_price, c.target_price, c.recomputed_price, c.decision FROM dxy.migration_conflict AS c
WHERE c.migration_id = %(migration_id)s ORDER BY 1;
