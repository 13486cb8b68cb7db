-- What LuaJIT, unlike other Luas, leaves without a bound, so that a script could end the process. Runs on LuaJIT only.
--
-- arguments: lua, server: see boot.lua; version: jit.version_num

local lua, server, version = ...

local native_char, native_gsub, native_sub, type, rawequal = lua.char, lua.gsub, lua.sub, lua.type, rawequal

-- gsub holds 8 KB of the C stack while it calls a function, and a coroutine some of it while it runs. A template that
-- includes itself, or coroutines inside coroutines, would use it up; both count towards one bound.
local DEEPEST <const> = 200
-- Bytes of text after which the clock is checked.
local LONG <const> = 32768

-- Levels in use, and how many of them lie below the coroutine that runs.
server.depth, server.base = 0, 0

function string.gsub(text, pattern, replacement, most)
    local kind = type(replacement)
    local calls = kind == "function" or kind == "table"
    if calls then
        if server.depth >= DEEPEST then
            server.depths.recount()
            if server.depth >= DEEPEST then lua.error("C stack overflow: gsub inside gsub, too deep", 2) end
        end
        server.depth = server.depth + 1
    end
    local result, count = native_gsub(text, pattern, replacement, most)
    if calls then server.depth = server.depth - 1 end
    if #result > LONG or count > LONG then server.look_at_clock() end
    return result, count
end

-- When LuaJIT runs out of memory, it writes the message to where the last call of a C function has left the top of the
-- stack. The functions of strings that are written in assembly do not set it, so that the message can fall on a frame
-- that is still in use, and the process ends. A call of a C function just before them puts the top above.
if version >= 20100 then
    function string.sub(text, first, last)
        rawequal(text, first)
        return native_sub(text, first, last or -1)
    end
    function string.char(...)
        rawequal(0, 0)
        return native_char(...)
    end
    for _, name in ipairs { "lower", "upper", "reverse" } do
        local native = string[name]
        string[name] = function(text)
            rawequal(text, text)
            local result = native(text)
            if #result > LONG then server.look_at_clock() end
            return result
        end
    end
    lua.native_sub, lua.sub, lua.char, lua.lower = native_sub, string.sub, string.char, string.lower
    -- tostring has another way, in C, where numbers have a metatable.
    server.debug.setmetatable(0, { __metatable = false })
else
    -- 2.0 holds as much of the C stack while format calls a __tostring.
    local function counted(...)
        server.depth = server.depth - 1
        return ...
    end
    function string.format(...)
        if server.depth >= DEEPEST then
            server.depths.recount()
            if server.depth >= DEEPEST then lua.error("C stack overflow: format inside format, too deep", 2) end
        end
        server.depth = server.depth + 1
        return counted(lua.format(...))
    end
end
