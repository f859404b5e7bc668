"""Checks of the stored bars: which there are, how they are run, how Dagster shows them, and the look of each minute."""
