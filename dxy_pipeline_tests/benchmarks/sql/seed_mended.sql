-- The plan's own calc_dxy_range_1m with two defects mended and nothing else, or it would not run at all:
-- 1. rows are derived, written and counted by one statement; 2. errors are not swallowed.
CREATE OR REPLACE FUNCTION public.seed_calc_dxy_range_1m(
  p_from_utc timestamptz,
  p_to_utc timestamptz,
  p_derivation_version int DEFAULT 1
)
RETURNS jsonb
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public
AS $$
DECLARE
  v_inserted int := 0;
  v_updated int := 0;
  v_skipped int := 0;
BEGIN
  IF p_from_utc >= p_to_utc THEN
    RAISE EXCEPTION 'Invalid timestamp range: from (%) >= to (%)', p_from_utc, p_to_utc;
  END IF;

  WITH base_timestamps AS (
    SELECT DISTINCT ts_utc
    FROM data_bars
    WHERE timeframe = '1m'
      AND ts_utc >= p_from_utc
      AND ts_utc < p_to_utc
      AND canonical_symbol IN ('EURUSD', 'USDJPY', 'GBPUSD', 'USDCAD', 'USDSEK', 'USDCHF')
  ),
  fx_prices AS (
    SELECT
      b.ts_utc,
      MAX(d.close) FILTER (WHERE d.canonical_symbol = 'EURUSD') as eurusd,
      MAX(d.close) FILTER (WHERE d.canonical_symbol = 'USDJPY') as usdjpy,
      MAX(d.close) FILTER (WHERE d.canonical_symbol = 'GBPUSD') as gbpusd,
      MAX(d.close) FILTER (WHERE d.canonical_symbol = 'USDCAD') as usdcad,
      MAX(d.close) FILTER (WHERE d.canonical_symbol = 'USDSEK') as usdsek,
      MAX(d.close) FILTER (WHERE d.canonical_symbol = 'USDCHF') as usdchf
    FROM base_timestamps b
    JOIN data_bars d ON d.ts_utc = b.ts_utc
      AND d.timeframe = '1m'
      AND d.canonical_symbol IN ('EURUSD', 'USDJPY', 'GBPUSD', 'USDCAD', 'USDSEK', 'USDCHF')
    GROUP BY b.ts_utc
  ),
  valid_tuples AS (
    SELECT *
    FROM fx_prices
    WHERE eurusd > 0 AND eurusd IS NOT NULL
      AND usdjpy > 0 AND usdjpy IS NOT NULL
      AND gbpusd > 0 AND gbpusd IS NOT NULL
      AND usdcad > 0 AND usdcad IS NOT NULL
      AND usdsek > 0 AND usdsek IS NOT NULL
      AND usdchf > 0 AND usdchf IS NOT NULL
  ),
  dxy_bars AS (
    SELECT
      ts_utc,
      (
        50.14348112
        * exp(-0.576 * ln(eurusd))
        * exp( 0.136 * ln(usdjpy))
        * exp(-0.119 * ln(gbpusd))
        * exp( 0.091 * ln(usdcad))
        * exp( 0.042 * ln(usdsek))
        * exp( 0.036 * ln(usdchf))
      )::DECIMAL(20,8) as dxy_price
    FROM valid_tuples
  ),
  upserted AS (
    INSERT INTO data_bars (
      canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, source,
      ingested_at, raw, created_at, updated_at
    )
    SELECT
      'DXY', '1m', ts_utc, dxy_price, dxy_price, dxy_price, dxy_price, 0, NULL, 0, false, 'synthetic',
      NOW(),
      jsonb_build_object(
        'kind', 'dxy',
        'derivation_version', p_derivation_version,
        'components', jsonb_build_array('EURUSD', 'USDJPY', 'GBPUSD', 'USDCAD', 'USDSEK', 'USDCHF'),
        'formula_base', 50.14348112
      ),
      NOW(),
      NOW()
    FROM dxy_bars
    ON CONFLICT (canonical_symbol, timeframe, ts_utc)
    DO UPDATE SET
      open = EXCLUDED.open,
      high = EXCLUDED.high,
      low = EXCLUDED.low,
      close = EXCLUDED.close,
      source = EXCLUDED.source,
      raw = EXCLUDED.raw,
      updated_at = NOW()
    RETURNING (xmax = 0) as is_insert
  )
  SELECT
    (SELECT COUNT(*) FROM upserted WHERE is_insert),
    (SELECT COUNT(*) FROM upserted WHERE NOT is_insert),
    (SELECT COUNT(*) FROM (SELECT ts_utc FROM base_timestamps EXCEPT SELECT ts_utc FROM valid_tuples) x)
  INTO v_inserted, v_updated, v_skipped;

  RETURN jsonb_build_object(
    'success', true,
    'inserted', v_inserted,
    'updated', v_updated,
    'skipped_incomplete', v_skipped,
    'derivation_version', p_derivation_version,
    'timestamp_range', jsonb_build_object('from', p_from_utc, 'to', p_to_utc)
  );
END;
$$;
