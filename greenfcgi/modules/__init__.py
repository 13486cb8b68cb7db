"""What scripts may require, or use where it is allowed, beside what Lua itself has."""
