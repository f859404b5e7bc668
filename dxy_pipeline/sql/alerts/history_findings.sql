-- What failed when the whole history was last looked at.
SELECT f.asset, f.name, f.severity, f.evaluated, f.description, f.violations, f.known_violations, f.sample_rows, f.found_at
FROM dxy.history_finding AS f ORDER BY f.asset, f.name;
