SELECT c.state FROM dxy.migration_control AS c;
