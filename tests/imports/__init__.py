"""Configurations of others as a config.toml."""
