-- Legacy writes no longer reach data_bars: the undo of data_bars would chase them for ever. Holds up writers only.
ALTER TABLE public.derived_data_bars DISABLE TRIGGER dxy_mirror_insert;
ALTER TABLE public.derived_data_bars DISABLE TRIGGER dxy_mirror_update;
ALTER TABLE public.derived_data_bars DISABLE TRIGGER dxy_mirror_delete;
