"""Lua states: made, loaded, run, bounded in time and memory, closed. What each begins with is in `prelude/`."""
