-- Sorts after the desk's own touch trigger, so that an un-deleted row gets its old updated_at back.
CREATE OR REPLACE TRIGGER zzz_dxy_keep_updated_at BEFORE UPDATE ON public.derived_data_bars
    FOR EACH ROW WHEN (old.dxy_retired_by IS NOT NULL AND old.deleted_at IS NOT NULL AND new.dxy_retired_by IS NULL AND new.deleted_at IS NULL)
    EXECUTE FUNCTION dxy.keep_updated_at();
ALTER TABLE public.derived_data_bars ENABLE ALWAYS TRIGGER zzz_dxy_keep_updated_at;
