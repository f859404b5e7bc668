-- A day is one row, whatever its number of minutes: five million rows without inputs would else be five million here, too.
CREATE TABLE dxy.unverifiable_day (
    day      date PRIMARY KEY,
    minutes  tstzmultirange NOT NULL CHECK (NOT isempty(minutes)),
    noted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.unverifiable_day IS
    'Migrated DXY minutes of a UTC day whose six inputs were never stored: kept by the derivation until it has derived them once';

INSERT INTO dxy.unverifiable_day (day, minutes, noted_at)
SELECT (m.ts_utc AT TIME ZONE 'UTC')::date,
    range_agg(tstzrange(date_bin('1 minute', m.ts_utc, 'epoch'), date_bin('1 minute', m.ts_utc, 'epoch') + interval '1 minute')),
    max(m.noted_at)
FROM dxy.unverifiable_minute AS m
GROUP BY 1;

-- squawk-ignore ban-drop-table
DROP TABLE dxy.unverifiable_minute;
