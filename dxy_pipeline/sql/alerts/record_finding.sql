-- What a look at the whole history found of one check, in place of what the look before did; its count stays known.
INSERT INTO dxy.history_finding AS f
    (asset, name, severity, evaluated, description, violations, known_violations, sample_rows, found_at)
VALUES (%(asset)s, %(name)s, %(severity)s, %(evaluated)s, %(description)s, %(violations)s, 0, %(rows)s, %(now)s)
ON CONFLICT (asset, name) DO UPDATE SET
    severity = excluded.severity, evaluated = excluded.evaluated, description = excluded.description,
    violations = excluded.violations, known_violations = f.violations, sample_rows = excluded.sample_rows,
    found_at = excluded.found_at;
