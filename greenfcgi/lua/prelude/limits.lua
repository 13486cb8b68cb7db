-- What ends a script whatever it does: its time is over, its memory has run out, its client has gone. pcall, xpcall and
-- the functions of coroutines pass these errors on instead of catching them.
--
-- "not enough memory": Lua 5.1 and LuaJIT fail at every further allocation once the limit has been reached, and LuaJIT
-- crashes when the next one fails while it makes an error message. So the server learns of it at the first chance; it
-- gives the state some memory to end with, and throws it away.
-- "the client has gone": nothing waits any more from then on, so a loop that catches it would hold up everybody.
-- "its time is over": the count hook asks the server after each thousand instructions, which gives others their turn
-- there. No hook is called in finalizers, in C functions, and in what LuaJIT has compiled.
--
-- Which of these it is, is known by a flag and not by the text of the error: a script may raise a text that a client has
-- chosen. Only the first sign of memory that has run out is a text, which Lua raises by itself.
--
-- arguments: lua, server: see boot.lua
-- returns: is_final(problem): it is one of these errors
--          final_error(): nil, or once one has been raised "late", "gone" or "memory", its message, and the way to where the
--          script was
--          start_hook(), stop_hook(): to be called before and after each run of the script
-- server gets: is_final
--          raise_timeout(), raise_disconnected(), raise_no_memory(): raise one
--          look_at_clock(): to be called after what may have taken long, as the count hook is
--          corrected(problem, thread, level): see errors.lua. Errors that are caught are those that the script would get
--          from Lua itself
--          watch_finalizers(look): while a finalizer is under way, look() says instead of the server whether the time is
--          over; nil: it has ended. Returns what was set before
--          pass(ok, ...): the results of a call of the script's, which is protected against all but what ends it
--          count(weight): one of many short things that together take long has been done
--          hook: of each coroutine; pcall: as scripts have it; own(name): the part of this name, for pcall
-- Defines pcall; xpcall and coroutines are in calls.lua, what the hook seldom does in overtime.lua.

local lua, server = ...

local NO_MEMORY <const> = "not enough memory"
local INSTRUCTIONS <const> = 1000
local FEW <const> = 1
-- What tick returns, see budget.py.
local LATE <const> = 1
local HOOK_SOON <const> = 3
local HOOK_AS_USUAL <const> = 4

local TEXTS = {
    late = "the request has run longer than its time", gone = "the client has gone", memory = NO_MEMORY,
}
-- Lua 5.3 has another text for buffers, with a place in front.
local in_buffer = lua.version == "Lua 5.3" and "^[^\n]-:?%d*:? ?not enough memory for buffer allocation$"

local ending, where

local function raise(kind, level)
    if not ending then
        ending = kind
        where = level and server.errors.way(level + 1) or ""
    end
    lua.error(TEXTS[ending], 0)
end

function server.raise_timeout() raise("late", 3) end

function server.raise_disconnected() raise("gone") end

local function note_memory()
    ending, where = ending or "memory", where or ""
    server.call("on_out_of_memory")
end

function server.raise_no_memory()
    note_memory()
    raise("memory")
end

local function is_final(problem)
    if ending then return true end
    if problem ~= NO_MEMORY and not (in_buffer and lua.type(problem) == "string" and lua.find(problem, in_buffer)) then
        return false
    end
    note_memory()
    return true
end
server.is_final = is_final

-- A script runs; a finalizer does.
local is_armed, look_instead = false, nil
local call, sethook = server.call, server.debug.sethook

function server.watch_finalizers(look)
    local before = look_instead
    look_instead = look
    return before
end

local function hook()
    local found
    if look_instead then
        found = look_instead() and LATE or nil
    else
        found = call("tick")
    end
    if found == HOOK_AS_USUAL or found == HOOK_SOON then
        sethook(server.hook, "", found == HOOK_SOON and FEW or INSTRUCTIONS)
    elseif found then
        -- Too deep in calls it cannot be had.
        local ok, act = lua.pcall(server.own, "overtime")
        if ok then
            act(found == LATE)
        elseif found == LATE then
            raise("late")
        end
    end
end
server.hook = hook

function server.look_at_clock()
    if is_armed or look_instead then hook() end
end

local function final_error()
    if not ending then return nil end
    local kind, trace = ending, where
    if kind == "gone" then ending, where = nil, nil end
    -- There is none where memory ran out while it was written down.
    return kind, TEXTS[kind], trace or ""
end

-- No tail calls here and where it is called: they would take away frames that are counted.
local function corrected(problem, thread, level)
    if lua.type(problem) ~= "string" then return problem end
    local first = lua.byte(problem)
    -- What a message of the server's own code begins with: "greenfcgi", "?", "[C]".
    if first ~= 103 and first ~= 63 and first ~= 91 then return problem end
    if server.leave_handler then server.leave_handler() end
    -- There may be no memory for them.
    local ok, functions = lua.pcall(server.own, "errors")
    if not ok then return problem end
    if not thread then level = level + 1 end
    problem = functions.corrected(problem, thread, level)
    return problem
end
server.corrected = corrected

function server.own(name) return server[name] end

-- Each coroutine of a PUC Lua counts its own instructions, so that many short ones would never be looked at; and an error
-- that is caught at a great depth takes as long as many instructions. So at every hundredth of either the clock is checked.
local counted = 0

local function count(weight)
    counted = counted + weight
    if counted >= 100 then
        counted = 0
        server.look_at_clock()
    end
end
server.count = count

local function pass(ok, ...)
    if not ok then
        if is_final((...)) then lua.error(TEXTS[ending], 0) end
        count(5)
    end
    if ending then lua.error(TEXTS[ending], 0) end
    return ok, ...
end
server.pass = pass

local native_xpcall = lua.xpcall

local function handler(problem)
    if not is_final(problem) then problem = corrected(problem, nil, 2) end
    return problem
end

if lua.version == "Lua 5.1" and not lua.is_jit then
    -- Its xpcall takes no arguments.
    local function failed(ok, ...)
        if ok or is_final((...)) then return pass(ok, ...) end
        local problem = corrected((...), nil, 1)
        return false, problem
    end
    function pcall(...)
        local number = lua.select("#", ...)
        local f, a, b = ...
        -- Its second argument counts the calls from here.
        if f == lua.error or number == 0 then return failed(lua.pcall(...)) end
        if number == 1 then return pass(native_xpcall(f, handler)) end
        if number == 2 then return pass(native_xpcall(function() return f(a) end, handler)) end
        if number == 3 then return pass(native_xpcall(function() return f(a, b) end, handler)) end
        local arguments = { ... }
        return pass(native_xpcall(function() return f(lua.unpack(arguments, 2, number)) end, handler))
    end
else
    function pcall(f, ...) return pass(native_xpcall(f, handler, ...)) end
end

server.pcall = pcall

-- Only what belongs to the script is counted, and each run from nothing: most end before the hook is called.
local function start_hook()
    -- An error around a finalizer may have left it.
    is_armed, look_instead, server.late_since = true, nil, false
    sethook(hook, "", INSTRUCTIONS)
end

local function stop_hook()
    sethook()
    is_armed = false
end

return is_final, final_error, start_hook, stop_hook
