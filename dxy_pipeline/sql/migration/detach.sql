DROP TRIGGER IF EXISTS aaa_dxy_lock_day ON public.${table};
DROP TRIGGER IF EXISTS aaa_dxy_closed ON public.${table};
DROP TRIGGER IF EXISTS dxy_mirror_insert ON public.${table};
DROP TRIGGER IF EXISTS dxy_mirror_update ON public.${table};
DROP TRIGGER IF EXISTS dxy_mirror_delete ON public.${table};
DROP TRIGGER IF EXISTS dxy_mirror_truncate ON public.${table};
DROP TRIGGER IF EXISTS zzz_dxy_keep_updated_at ON public.${table};
