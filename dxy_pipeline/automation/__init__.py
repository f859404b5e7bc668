"""When things run: jobs, schedules, sensors, and what cleans up behind them."""
