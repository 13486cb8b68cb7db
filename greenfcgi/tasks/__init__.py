"""Scripts that run by the clock: `[[tasks]]` in config.toml."""
