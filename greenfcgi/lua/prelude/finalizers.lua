-- Finalizers (__gc) of scripts, on the Luas where an error in one is thrown at whatever has just allocated memory. That
-- may be the server, outside any protected call, and would end the process. So what Lua itself calls is always a
-- function of the server's, which calls the script's in a protected call; nothing that a script can reach decides it.
--
-- 5.2 and 5.3: an object whose metatable has __gc gets a sentinel, a table of the server's own, which an ephemeron table
-- holds as long as the object is reachable, and which is finalized in its place. The metatable stays the script's, and
-- what it has as __gc is looked up when the time has come, as Lua does.
-- 5.1 and LuaJIT: only userdata can have a finalizer, and those that scripts make come from newproxy. Each gets such a
-- sentinel, held by its environment. Its metatable never has __gc: what is assigned to it is kept beside it.
--
-- Not for LuaJIT 2.1, which ignores such an error, nor 5.4 and 5.5, which make a warning of it and collect nothing within
-- finalizers.
--
-- arguments: library: the debug library, whole; pcall: Lua's own; errors(): the functions of errors.lua
--            is_final(problem), late(): as in limits.lua

local library, pcall, errors, is_final, late = ...

local error, next, rawget, rawset, setmetatable, type = error, next, rawget, rawset, setmetatable, type
local find = string.find
local native_collectgarbage, native_newproxy = collectgarbage, newproxy
local getmetatable, getfenv, setfenv = library.getmetatable, library.getfenv, library.setfenv

-- How many finalizers are under way. Within one, a collection corrupts the heap (5.2), or keeps the state from its end
-- (5.3).
local depth = 0

-- No hook is called within finalizers, and those that make objects with others need never end (5.3): when they have used
-- so much of some seconds of CPU time, the script's time is over. What it has then ended with ends its finalizers, too.
local clock = os.clock
local WINDOW, MAX_SPENT = 5, 1
local since, spent = clock(), 0

local function finalize(finalizer, object)
    if is_final(false) then return end
    local began = clock()
    if began - since > WINDOW then since, spent = began, 0 end
    depth = depth + 1
    local ok, problem = pcall(finalizer, object)
    -- Without memory, others would fail, too.
    if not ok then is_final(problem) end
    depth = depth - 1
    spent = spent + (clock() - began)
    if spent > MAX_SPENT then pcall(late) end
end

-- What the options that collect, or change how, return where they do nothing.
local NOTHING = {
    collect = 0, step = false, stop = 0, restart = 0, setpause = 0, setstepmul = 0, generational = 0, incremental = 0,
}
local IS_5_2 = _VERSION == "Lua 5.2"

function collectgarbage(option, ...)
    if option == nil then option = "collect" end
    -- The generational mode of 5.2 frees what is in use.
    if depth > 0 or IS_5_2 and (option == "generational" or option == "incremental") then
        local answer = NOTHING[option]
        if answer ~= nil then return answer end
    end
    return errors().call("collectgarbage", native_collectgarbage, option, ...)
end

-- The metatable of files has a finalizer, too. What scripts get of it is a copy without one, with the same methods.
local file_meta = getmetatable(io.stdout)
local methods = {}
for name, value in next, file_meta do
    if type(name) == "string" and not find(name, "^__") then methods[name] = value end
end
file_meta.__index = methods
file_meta.__metatable = { __index = methods, __name = file_meta.__name, __tostring = file_meta.__tostring }

if native_newproxy then
    local native_rawset = rawset

    -- The metatable of the metatable of a proxy: it keeps __gc out of it.
    local function assign(meta, key, value)
        if key == "__gc" then
            getmetatable(meta).finalizer = value
        else
            native_rawset(meta, key, value)
        end
    end

    local function look_up(meta, key)
        if key == "__gc" then return getmetatable(meta).finalizer end
    end

    local function is_of_proxies(meta)
        local trap = getmetatable(meta)
        return trap ~= nil and rawget(trap, "__newindex") == assign
    end

    local sentinel = native_newproxy(true)
    getmetatable(sentinel).__gc = function(held)
        local object = getfenv(held)[1]
        -- There is none for the first sentinel, which only lends its metatable to the others.
        local meta = object and getmetatable(object)
        local finalizer = meta and getmetatable(meta).finalizer
        if finalizer ~= nil then finalize(finalizer, object) end
    end

    function newproxy(model)
        local proxy = native_newproxy(model)
        local meta = getmetatable(proxy)
        if meta then
            if model == true then
                setmetatable(meta, { __newindex = assign, __index = look_up, __metatable = false })
            end
            local held = native_newproxy(sentinel)
            setfenv(held, { proxy })
            setfenv(proxy, { held })
        end
        return proxy
    end

    function _G.rawset(object, key, value)
        if key == "__gc" and type(object) == "table" and is_of_proxies(object) then
            assign(object, key, value)
            return object
        end
        return native_rawset(object, key, value)
    end
    return
end

local sentinels = setmetatable({}, { __mode = "k" })
local sentinel_meta = {
    __gc = function(sentinel)
        local object = sentinel[1]
        -- From now on, setmetatable marks the object anew.
        sentinels[object] = nil
        local meta = getmetatable(object)
        local finalizer = meta and rawget(meta, "__gc")
        if type(finalizer) == "function" then finalize(finalizer, object) end
    end,
}

-- 5.2 and 5.3 may free the metatable that a table of weak keys and values, or what looked like one, gets in the place of
-- another while a collection is under way.
local kept = setmetatable({}, { __mode = "k" })

function _G.setmetatable(object, meta)
    if type(object) ~= "table" then
        error("bad argument #1 to 'setmetatable' (table expected, got " .. type(object) .. ")", 2)
    end
    if meta ~= nil and type(meta) ~= "table" then
        error("bad argument #2 to 'setmetatable' (nil or table expected)", 2)
    end
    local before = getmetatable(object)
    if before and rawget(before, "__metatable") ~= nil then error("cannot change a protected metatable", 2) end
    if before and meta then kept[object] = meta end
    local finalizer = meta and rawget(meta, "__gc")
    if finalizer == nil then return setmetatable(object, meta) end
    -- Lua finalizes an object whose metatable has __gc at this moment.
    rawset(meta, "__gc", nil)
    setmetatable(object, meta)
    rawset(meta, "__gc", finalizer)
    if not sentinels[object] then sentinels[object] = setmetatable({ object }, sentinel_meta) end
    return object
end
