-- Legacy stays closed, as the CHECK of the retirement kept it, while a rollback brings its rows back: whatever data_bars took
-- since has to reach legacy before legacy's own writes may reach data_bars.
CREATE OR REPLACE TRIGGER aaa_dxy_closed BEFORE INSERT OR UPDATE ON public.derived_data_bars
    FOR EACH ROW WHEN (new.canonical_symbol = 'DXY' AND new.timeframe = '1m' AND new.deleted_at IS NULL
        AND current_setting('dxy.mirror', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION dxy.refuse_closed();
ALTER TABLE public.derived_data_bars ENABLE ALWAYS TRIGGER aaa_dxy_closed;
