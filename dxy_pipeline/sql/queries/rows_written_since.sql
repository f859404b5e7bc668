SELECT (SELECT count(*) FROM public.data_bars AS d WHERE greatest(d.created_at, d.updated_at) >= %(started)s)
    + (SELECT count(*) FROM public.derived_data_bars AS d WHERE greatest(d.created_at, d.updated_at) >= %(started)s);
