"""Which scripts there are, what their files were when they were read, and the pool of what runs them. Knows no Lua."""
