-- The index from six closes, in index points: float8 arithmetic, not rounded here. NULL in, NULL out.
-- Rendered from core/index.py, the one place of base and weights.
CREATE OR REPLACE FUNCTION dxy.index_price(${price_arguments})
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ${formula_base} * exp(${log_sum});
