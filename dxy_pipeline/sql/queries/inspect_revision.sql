SELECT v.version_num FROM dxy.dxy_alembic_version AS v;
