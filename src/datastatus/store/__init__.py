"""The only place that knows SQL. Functions take the executor first; the caller owns the transaction."""
