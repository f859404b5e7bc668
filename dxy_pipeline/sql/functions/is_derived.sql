-- Is this DXY 1m row one that our derivation wrote? Then all six inputs were there: the row is its own evidence. A desk's
-- own row says nothing about them. No SET clause, so that it is inlined.
CREATE OR REPLACE FUNCTION dxy.is_derived(p_source text, p_raw jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_source = 'synthetic' AND p_raw ->> 'kind' = 'dxy' AND p_raw ? 'derivation_version' AND NOT p_raw ? 'migrated_from';
