"""The Dagster UI in a real browser, against the services of `dxy up`."""
