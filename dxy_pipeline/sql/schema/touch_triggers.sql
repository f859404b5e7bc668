-- Statement triggers on data_bars (SHARE ROW EXCLUSIVE for an instant; readers are not held up).
CREATE OR REPLACE TRIGGER dxy_touch_insert AFTER INSERT ON public.data_bars
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_touched();
CREATE OR REPLACE TRIGGER dxy_touch_update AFTER UPDATE ON public.data_bars
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_touched();
CREATE OR REPLACE TRIGGER dxy_touch_delete AFTER DELETE ON public.data_bars
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_touched();
