"""Pure rules of the domain: index formula, bar contract, FX week, clocks. No Dagster, no SQL, no files, no network."""
