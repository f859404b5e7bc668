-- Statement triggers on data_bars (SHARE ROW EXCLUSIVE for an instant; readers are not held up).
-- ALWAYS: a session with session_replication_role = replica (a restore, some loaders) changes bars like any other.
CREATE OR REPLACE TRIGGER dxy_touch_insert AFTER INSERT ON public.data_bars
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_touched();
CREATE OR REPLACE TRIGGER dxy_touch_update AFTER UPDATE ON public.data_bars
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_touched();
CREATE OR REPLACE TRIGGER dxy_touch_delete AFTER DELETE ON public.data_bars
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_touched();
CREATE OR REPLACE TRIGGER dxy_touch_truncate BEFORE TRUNCATE ON public.data_bars
    FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_truncated();
ALTER TABLE public.data_bars
    ENABLE ALWAYS TRIGGER dxy_touch_insert, ENABLE ALWAYS TRIGGER dxy_touch_update,
    ENABLE ALWAYS TRIGGER dxy_touch_delete, ENABLE ALWAYS TRIGGER dxy_touch_truncate;
