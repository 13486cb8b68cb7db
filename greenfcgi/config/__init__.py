"""TOML in, a `Config` or one clear line out. Each setting is declared once, in `settings`."""
