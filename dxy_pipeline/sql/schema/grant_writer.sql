-- dxy_writer: what the pipeline itself runs as: FX bars in, derivations by function, its own log and reject table.
GRANT INSERT, UPDATE, DELETE ON public.data_bars TO dxy_writer;
GRANT INSERT ON dxy.rejected_bar TO dxy_writer;
GRANT INSERT, UPDATE ON dxy.feed_progress TO dxy_writer;
GRANT DELETE ON dxy.touched_range TO dxy_writer;
GRANT EXECUTE ON FUNCTION public.calc_dxy_range_1m(timestamptz, timestamptz, integer) TO dxy_writer;
GRANT EXECUTE ON FUNCTION public.calc_dxy_rollup_range(text, timestamptz, timestamptz, integer, timestamptz) TO dxy_writer;
GRANT EXECUTE ON FUNCTION dxy.lock_days(timestamptz, timestamptz) TO dxy_writer;
GRANT EXECUTE ON FUNCTION dxy.feed_rank(text, jsonb) TO dxy_writer;
GRANT INSERT, UPDATE ON dxy.incident, dxy.alert_delivery, dxy.heartbeat TO dxy_writer;
GRANT DELETE ON dxy.incident TO dxy_writer;
GRANT INSERT, UPDATE, DELETE ON dxy.history_finding TO dxy_writer;
