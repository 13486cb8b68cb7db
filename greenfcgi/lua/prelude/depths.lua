-- How deep calls of LuaJIT's are inside each other that hold much of the C stack: see luajit.lua. Compiled for the first
-- coroutine, or when they are too deep.
--
-- returns: a table: recount(); resume(...): Lua's own, counted

local lua, server = ...

local DEEPEST <const> = 200

-- gsub calls that ended with an error have not been counted back: what is under way is found by looking.
local function recount()
    local level = 2
    local depth = server.base
    while true do
        local frame = lua.getinfo(level, "f")
        if not frame then break end
        if frame.func == lua.gsub or frame.func == lua.format then depth = depth + 1 end
        level = level + 1
    end
    server.depth = depth
end

local function left(outer_base, outer_depth, ...)
    server.base, server.depth = outer_base, outer_depth
    return ...
end

local function resume(...)
    if server.depth > server.base then recount() end
    if server.depth >= DEEPEST then return false, "C stack overflow: too many coroutines inside coroutines" end
    local outer_base, outer_depth = server.base, server.depth
    server.depth = outer_depth + 1
    server.base = outer_depth + 1
    return left(outer_base, outer_depth, lua.resume(...))
end

return { recount = recount, resume = resume }
