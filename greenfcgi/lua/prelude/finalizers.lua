-- Finalizers (__gc) of scripts. What Lua itself calls is always a function of the server's, which calls the script's in
-- a protected call; nothing that a script can reach decides it. For
-- - an error in one is thrown at whatever has just allocated memory (5.1 to 5.3, LuaJIT 2.0). That may be the server,
--   outside any protected call, and would end the process;
-- - a collection within one corrupts the heap (5.2), keeps the state from its end (5.3), or collects within itself as deep
--   as there are finalizers (LuaJIT 2.1);
-- - those that make objects with others need never end, and no hook is called within them.
-- Here is how an object gets one. How it is called is in finalizing.lua, which is compiled for the first of them.
--
-- 5.2 and later: an object whose metatable has __gc gets a sentinel, a table of the server's own, which an ephemeron table
-- holds as long as the object is reachable, and which is finalized in its place. The metatable stays the script's, and
-- what it has as __gc is looked up when the time has come, as Lua does.
-- 5.1 and LuaJIT: only userdata can have a finalizer, and those that scripts make come from newproxy. Each gets such a
-- sentinel, held by its environment. Its metatable never has __gc: what is assigned to it is kept beside it.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local error, rawget, rawset, setmetatable, type = lua.error, lua.rawget, lua.rawset, lua.setmetatable, lua.type

local function is_within()
    local watched = server.watch_finalizers(nil)
    server.watch_finalizers(watched)
    return watched ~= nil
end

-- 5.4 and later collect nothing within finalizers.
if lua.version < "Lua 5.4" then
    local native_collectgarbage = collectgarbage

    function collectgarbage(option, ...)
        if option == nil then option = "collect" end
        -- The generational mode of 5.2 frees what is in use.
        if is_within() or lua.version == "Lua 5.2" and (option == "generational" or option == "incremental") then
            local answer = server.finalizing.NOTHING[option]
            if answer ~= nil then return answer end
        end
        return server.errors.call("collectgarbage", native_collectgarbage, option, ...)
    end
end

if newproxy then
    function newproxy(...) return server.finalizing.newproxy(...) end

    function _G.rawset(object, key, value)
        local functions = key == "__gc" and rawget(server, "finalizing")
        if functions and functions.assigned(object, value) then return object end
        return rawset(object, key, value)
    end
    return
end

-- 5.2 to 5.4 may free the metatable that a table of weak keys and values, or what looked like one, gets in the place of
-- another while a collection is under way.
local kept = setmetatable({}, { __mode = "k" })

local NO_TABLE = "bad argument #2 to 'setmetatable' (nil or table expected"

function _G.setmetatable(object, meta)
    if type(object) ~= "table" then
        error("bad argument #1 to 'setmetatable' (table expected, got " .. type(object) .. ")", 2)
    end
    if meta ~= nil and type(meta) ~= "table" then
        error(NO_TABLE .. (lua.version < "Lua 5.4" and ")" or ", got " .. type(meta) .. ")"), 2)
    end
    local before = lua.metatable_of(object)
    if before and rawget(before, "__metatable") ~= nil then error("cannot change a protected metatable", 2) end
    if before and meta then kept[object] = meta end
    local finalizer = meta and rawget(meta, "__gc")
    if finalizer == nil then return setmetatable(object, meta) end
    -- Lua finalizes an object whose metatable has __gc at this moment.
    rawset(meta, "__gc", nil)
    setmetatable(object, meta)
    rawset(meta, "__gc", finalizer)
    server.finalizing.mark(object)
    return object
end
-- For debug.setmetatable.
server.debug.set_of_table = _G.setmetatable
