SELECT 1 FROM dxy.setting AS s WHERE s.key = 'tables_made_by_us';
