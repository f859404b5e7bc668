INSERT INTO dxy.function_digest AS d (name, sha256) VALUES (%(name)s, %(sha256)s)
ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, deployed_at = now();
