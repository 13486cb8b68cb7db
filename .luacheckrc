-- luacheck (Debian: lua-check), part of the tests.
std = "max"
max_line_length = 130
codes = true

-- What stands between a script and Lua takes the place of Lua's own functions.
files["greenfcgi/lua/prelude"] = { ignore = { "121", "122", "143" }, globals = { "python" } }
files["greenfcgi/modules/programs.lua"] = { ignore = { "122" } }
-- Scripts define functions that the server calls, and keep globals.
files["lua_scripts"] = { globals = { "main", "init", "heartbeat", "shutdown", "count", "began" }, ignore = { "212" } }
files["greenfcgi/deploy/templates/site"] = { globals = { "main", "init" } }
