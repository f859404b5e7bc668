-- DXY minutes whose source is anything but synthetic.
SELECT b.ts_utc, b.source FROM ({bars}) AS b WHERE b.source IS DISTINCT FROM 'synthetic' ORDER BY b.ts_utc
