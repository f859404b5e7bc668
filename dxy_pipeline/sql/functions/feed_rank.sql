-- Who wins a key of FX: massive_api > file ingest > ECB > simulated. What the desk ingested itself counts as a file.
CREATE OR REPLACE FUNCTION dxy.feed_rank(p_source text, p_raw jsonb)
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN p_source IN ('massive_api', 'massive') THEN 4
    WHEN p_raw ->> 'feed' = 'ecb' THEN 2
    WHEN p_raw ->> 'feed' = 'simulated' THEN 1
    ELSE 3
END;
