"""detrend and rolling_mean: series along any axis, with samples missing; for any framework."""
