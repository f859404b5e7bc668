-- Triggers of the dual write, on both tables. ENABLE ALWAYS: session_replication_role = replica would pass by.
CREATE OR REPLACE TRIGGER aaa_dxy_lock_day BEFORE INSERT ON public.${table}
    FOR EACH ROW WHEN (new.canonical_symbol = 'DXY' AND new.timeframe = '1m'
        AND current_setting('dxy.mirror', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION dxy.lock_day_of_row();
CREATE OR REPLACE TRIGGER dxy_mirror_insert AFTER INSERT ON public.${table} REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT WHEN (current_setting('dxy.mirror', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION dxy.${function}(${mode});
CREATE OR REPLACE TRIGGER dxy_mirror_update AFTER UPDATE ON public.${table}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT WHEN (current_setting('dxy.mirror', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION dxy.${function}(${mode});
CREATE OR REPLACE TRIGGER dxy_mirror_delete AFTER DELETE ON public.${table} REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT WHEN (current_setting('dxy.mirror', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION dxy.${function}(${mode});
CREATE OR REPLACE TRIGGER dxy_mirror_truncate BEFORE TRUNCATE ON public.${table}
    FOR EACH STATEMENT EXECUTE FUNCTION dxy.refuse_truncate();
ALTER TABLE public.${table} ENABLE ALWAYS TRIGGER aaa_dxy_lock_day;
ALTER TABLE public.${table} ENABLE ALWAYS TRIGGER dxy_mirror_insert;
ALTER TABLE public.${table} ENABLE ALWAYS TRIGGER dxy_mirror_update;
ALTER TABLE public.${table} ENABLE ALWAYS TRIGGER dxy_mirror_delete;
ALTER TABLE public.${table} ENABLE ALWAYS TRIGGER dxy_mirror_truncate;
