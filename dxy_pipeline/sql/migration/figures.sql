-- Count and content of the three tables: text of each row, since it must be the same on another server version.
SELECT (SELECT jsonb_build_object('rows', count(*), 'content', sum(('x' || left(md5(t::text), 15))::bit(60)::bigint)) FROM public.data_bars AS t) AS data_bars,
    (SELECT jsonb_build_object('rows', count(*), 'content', sum(('x' || left(md5(t::text), 15))::bit(60)::bigint)) FROM public.derived_data_bars AS t) AS derived_data_bars,
    (SELECT jsonb_build_object('rows', count(*), 'content', sum(('x' || left(md5(t::text), 15))::bit(60)::bigint)) FROM public.core_asset_registry_all AS t) AS core_asset_registry_all;
