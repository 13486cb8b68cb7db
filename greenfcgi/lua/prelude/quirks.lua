-- What Lua 5.1 does wrong, put right: debug.traceback takes each level below zero for a tail call, also what overflows a C
-- int. Only states of Lua 5.1 have this part.

local select, tonumber, type = select, tonumber, type
local native_traceback = debug.traceback

local function level_of(level, default)
    level = tonumber(level) or default
    return level >= 0 and level < 1e6 and level or 1e6
end

function debug.traceback(...)
    local first, second, third = ...
    if type(first) == "thread" then return native_traceback(first, second, level_of(third, 0)) end
    if select("#", ...) == 0 then first = "" end
    local trace = native_traceback(first, level_of(second, 1) + 1)
    return trace
end
