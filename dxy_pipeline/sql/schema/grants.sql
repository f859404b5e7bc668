-- Who may do what. Functions of ours run with their owner's rights and nobody executes them by default.
REVOKE ALL ON SCHEMA dxy FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA dxy FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dxy FROM PUBLIC;
