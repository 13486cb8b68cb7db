-- How finalizers of scripts are called: compiled for the first of them. See finalizers.lua.
--
-- returns: a table: NOTHING: what collectgarbage returns where it does nothing, by the options that collect or change how
--          mark(object): from 5.2 on, a table is to be finalized
--          newproxy; assigned(object, value): on 5.1 and LuaJIT, this was the metatable of a proxy, whose __gc is set now

local lua, server = ...

local rawget, rawset, setmetatable, tostring, type = lua.rawget, lua.rawset, lua.setmetatable, lua.tostring, lua.type
local clock, concat, error, pcall, resume, yield = lua.clock, lua.concat, lua.error, lua.pcall, lua.resume, lua.yield
local getmetatable, getfenv, setfenv = lua.metatable_of, server.debug.getfenv, server.debug.setfenv
local native_newproxy, is_final, watch_finalizers = lua.newproxy, server.is_final, server.watch_finalizers
local swap, new_thread = server.response.swap, server.calls.new_thread

-- When finalizers have used so much of some seconds of CPU time, the script's time is over: others wait for them. What it
-- has then ended with ends its finalizers, too.
local WINDOW, MAX_SPENT = 5, 1
local since, spent = clock(), 0
-- When the outermost that is under way began.
local began

-- Asked in place of the server, which would give others their turn: it may be the one that has called the collector.
local function is_over() return spent + (clock() - began) > MAX_SPENT end

-- What a finalizer writes is kept apart: it may have been called in the midst of something that is being written.
local function write_apart(f, object)
    local fresh = {}
    local pieces, number, bytes, parts, last = swap(fresh, 0, 0)
    local ok, problem = pcall(f, object)
    local texts, count, _, blocks, filled = swap(pieces, number, bytes, parts, last)
    if texts and (count > 0 or blocks) then
        blocks, filled = blocks or {}, blocks and filled or 0
        blocks[filled + 1] = concat(texts, "", 1, count)
        swap(nil, nil, nil, nil, nil, concat(blocks, "", 1, filled + 1))
    end
    if not ok then error(problem, 0) end
end

local function run(f, value) return pcall(write_apart, f, value) end

if not lua.is_jit then
    -- Lua calls no hook in what has called the collector, but it does in another coroutine.
    local finalizer, object

    -- As everywhere in a finalizer, nothing can yield in a __tostring.
    local caller = setmetatable({}, { __tostring = function()
        local f, value = finalizer, object
        finalizer, object = nil, nil
        write_apart(f, value)
        return ""
    end })

    local function body()
        while true do yield(pcall(tostring, caller)) end
    end

    -- Waits for the next finalizer.
    local idle

    local function used(thread, ok, ...)
        if not ok then
            finalizer, object = nil, nil
            return false, ...
        end
        idle = thread
        return ...
    end

    function run(f, value)
        local thread = idle
        if not thread then
            local ok
            ok, thread = pcall(new_thread, body)
            if not ok then return false, thread end
        end
        idle = nil
        finalizer, object = f, value
        return used(thread, resume(thread))
    end
end

local function finalize(finalizer, object)
    if is_final(false) then return end
    local is_outermost = not watch_finalizers(is_over)
    local is_outside = server.enter()
    if is_outermost then
        began = clock()
        if began - since > WINDOW then since, spent = began, 0 end
    end
    local ok, problem = run(finalizer, object)
    -- Without memory, others would fail, too.
    if not ok then is_final(problem) end
    if is_outside then server.leave() end
    if is_outermost then
        watch_finalizers(nil)
        spent = spent + (clock() - began)
        if spent > MAX_SPENT then pcall(server.raise_timeout) end
    end
end

local NOTHING = {
    collect = 0, step = false, stop = 0, restart = 0, setpause = 0, setstepmul = 0, generational = 0, incremental = 0,
}

if native_newproxy then
    -- The metatable of the metatable of a proxy: it keeps __gc out of it.
    local function assign(meta, key, value)
        if key == "__gc" then
            getmetatable(meta).finalizer = value
        else
            rawset(meta, key, value)
        end
    end

    local function look_up(meta, key)
        if key == "__gc" then return getmetatable(meta).finalizer end
    end

    local sentinel = native_newproxy(true)
    getmetatable(sentinel).__gc = function(held)
        local object = getfenv(held)[1]
        -- There is none for the first sentinel, which only lends its metatable to the others.
        local meta = object and getmetatable(object)
        local finalizer = meta and getmetatable(meta).finalizer
        if finalizer ~= nil then finalize(finalizer, object) end
    end

    local function newproxy(...)
        local model = ...
        local proxy = native_newproxy(...)
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

    local function assigned(object, value)
        local trap = type(object) == "table" and getmetatable(object)
        if not trap or rawget(trap, "__newindex") ~= assign then return false end
        trap.finalizer = value
        return true
    end

    return { NOTHING = NOTHING, newproxy = newproxy, assigned = assigned }
end

local sentinels = setmetatable({}, { __mode = "k" })
local sentinel_meta = {
    __gc = function(sentinel)
        local object = sentinel[1]
        -- From now on, setmetatable marks the object again.
        sentinels[object] = nil
        local meta = getmetatable(object)
        local finalizer = meta and rawget(meta, "__gc")
        if type(finalizer) == "function" then finalize(finalizer, object) end
    end,
}

local function mark(object)
    if not sentinels[object] then sentinels[object] = setmetatable({ object }, sentinel_meta) end
end

return { NOTHING = NOTHING, mark = mark }
