"""Configurations of others, made into a config.toml: `greenfcgi --import FILE`. It begins in `command`."""
