-- Days that changed since a verification: rows of transactions that it cannot have seen, whenever they committed.
SELECT DISTINCT m.day FROM dxy.migration_dirty AS m WHERE m.xid >= %(horizon)s::text::xid8 ORDER BY 1;
