-- What LuaJIT, unlike other Luas, leaves without a bound, so that a script could end the process. Runs on LuaJIT only.
--
-- arguments: library: the debug library, whole; version: jit.version_num; look_at_clock(): as in limits.lua

local library, version, look_at_clock = ...

local error, ipairs, rawequal, type = error, ipairs, rawequal, type
local native_format, native_gsub, native_resume = string.format, string.gsub, coroutine.resume
local getinfo = library.getinfo

-- gsub holds 8 KB of the C stack while it calls a function, and a coroutine some of it while it runs. A template that
-- includes itself, or coroutines inside coroutines, would use it up; both count towards one bound.
local DEEPEST = 200
-- Levels in use, and how many of them lie below the coroutine that runs.
local depth, base = 0, 0
-- Bytes of text after which the clock is checked.
local LONG = 32768

-- gsub calls that ended with an error have not been counted back: what is under way is found by looking.
local function recount()
    local level = 2
    depth = base
    while true do
        local frame = getinfo(level, "f")
        if not frame then return end
        if frame.func == native_gsub or frame.func == native_format then depth = depth + 1 end
        level = level + 1
    end
end

function string.gsub(text, pattern, replacement, most)
    local kind = type(replacement)
    if kind ~= "function" and kind ~= "table" then
        local result, count = native_gsub(text, pattern, replacement, most)
        if #result > LONG or count > LONG then look_at_clock() end
        return result, count
    end
    if depth >= DEEPEST then
        recount()
        if depth >= DEEPEST then error("C stack overflow: gsub inside gsub, too deep", 2) end
    end
    depth = depth + 1
    local result, count = native_gsub(text, pattern, replacement, most)
    depth = depth - 1
    if #result > LONG or count > LONG then look_at_clock() end
    return result, count
end

local function left(outer_base, outer_depth, ...)
    base, depth = outer_base, outer_depth
    return ...
end

local function resume(...)
    if depth > base then recount() end
    if depth >= DEEPEST then return false, "C stack overflow: too many coroutines inside coroutines" end
    local outer_base, outer_depth = base, depth
    depth = depth + 1
    base = depth
    return left(outer_base, outer_depth, native_resume(...))
end

coroutine.resume = resume

-- When LuaJIT runs out of memory, it writes the message to where the last call of a C function has left the top of the
-- stack. The functions of strings that are written in assembly do not set it, so that the message can fall on a frame
-- that is still in use, and the process ends. A call of a C function just before them puts the top above.
local function bound_to_a_c_function()
    local native_sub, native_char = string.sub, string.char
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
            if #result > LONG then look_at_clock() end
            return result
        end
    end
    -- tostring has another way, in C, where numbers have a metatable.
    library.setmetatable(0, { __metatable = false })
end

if version >= 20100 then
    bound_to_a_c_function()
else
    -- 2.0 holds as much of the C stack while format calls a __tostring.
    local function counted(...)
        depth = depth - 1
        return ...
    end
    function string.format(...)
        if depth >= DEEPEST then
            recount()
            if depth >= DEEPEST then error("C stack overflow: format inside format, too deep", 2) end
        end
        depth = depth + 1
        return counted(native_format(...))
    end
end
