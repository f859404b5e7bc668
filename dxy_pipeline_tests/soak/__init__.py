"""The soak: real services on accelerated market time while everything is killed; then every bar is compared.

`python -m dxy_pipeline_tests.soak [--short]`, called by `make soak`; the short profile is integration/test_soak.

- `plan`: the market span, the accelerated clock, what the feed is told to do
- `feed`: the simulated feed with a feed's bad habits; `location`: the code location with that clock and feed
- `stack`: PostgreSQL, webserver and daemon under a supervisor, their memory; `desk`: another writer's late edits
- `faults`: what is done to them; `verdict`: what must hold at the end; `run`: one soak from start to table
"""
