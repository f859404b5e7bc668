"""The one-off job that moves DXY 1m rows from derived_data_bars to data_bars: reversible, and proved by content.

`engine.Migration` is what the command line and Dagster drive; each phase is a module. Reading the modules in the order
of the phases (plan, prepare, dual_write, backfill, verify, cutover, health, retire, rollback) tells the whole story.
"""
