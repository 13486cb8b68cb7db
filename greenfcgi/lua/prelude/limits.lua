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
-- arguments: library: the debug library, whole
--            functions of the server: on_out_of_memory(), tick() (see budget.py),
--            slow(traceback)
--            errors(): the functions of errors.lua
--            on LuaJIT: leave_handler(), to be called in handlers of errors; else nil
--            for developers: observe(create, resume), which returns what takes the place of these two
-- returns: is_final(problem): it is one of these errors
--          raise_timeout(), raise_disconnected(), raise_no_memory(): raise them
--          final_error(): nil, or once one has been raised "late", "gone" or "memory", its message, and the way to where the
--          script was
--          start_hook(), stop_hook(): to be called before and after each run of the script
--          look_at_clock(): to be called after what may have taken long, as the count hook is
--          corrected(problem, thread, level): see errors.lua
--          watch_finalizers(look): while a finalizer is under way, look() says instead of the server whether the time is
--          over; nil: it has ended. Returns what was set before
--          new_thread(f): a coroutine, with a hook
--
-- Errors that are caught are those that the script would get from Lua itself: `corrected` sees to it.

local library, on_out_of_memory, tick, slow, errors, leave_handler, observe = ...

local byte, error, find, select, type = string.byte, error, string.find, select, type
local create, native_pcall, native_resume, native_xpcall = coroutine.create, pcall, coroutine.resume, xpcall
local clock, close, status = os.clock, coroutine.close, coroutine.status
local getinfo, sethook = library.getinfo, library.sethook

local NO_MEMORY = "not enough memory"
local TEXTS = {
    late = "the request has run longer than its time", gone = "the client has gone", memory = NO_MEMORY,
}
-- Lua 5.3 has another text for buffers, with a place in front.
local IN_BUFFER = _VERSION == "Lua 5.3" and "^[^\n]-:?%d*:? ?not enough memory for buffer allocation$"
local INSTRUCTIONS, FEW = 1000, 1
-- What tick returns, see budget.py.
local LATE, SLOW, HOOK_SOON = 1, 2, 3

local ending, where

local function raise(kind, level)
    if not ending then
        ending = kind
        where = level and errors().way(level + 1) or ""
    end
    error(TEXTS[ending], 0)
end

local function raise_timeout() raise("late", 3) end

local function raise_disconnected() raise("gone") end

local function note_memory()
    ending, where = ending or "memory", where or ""
    on_out_of_memory()
end

local function raise_no_memory()
    note_memory()
    raise("memory")
end

local function is_final(problem)
    if ending then return true end
    if problem ~= NO_MEMORY and not (IN_BUFFER and type(problem) == "string" and find(problem, IN_BUFFER)) then
        return false
    end
    note_memory()
    return true
end

local hook
-- A script runs; a finalizer does.
local is_armed, look_instead = false, nil

local function watch_finalizers(look)
    local before = look_instead
    look_instead = look
    return before
end

-- The server's own functions are not interrupted: the script is, when they return, or after so many seconds of CPU time.
local MAX_OWN = 0.05
local own_since

local function is_own(info)
    local source = info and info.source
    return source == "=greenfcgi" or source == "=?" or source == "@greenfcgi" or source == "=[C]" and info.what ~= "C"
end

function hook()
    local found
    if look_instead then
        found = look_instead() and LATE or nil
    else
        found = tick()
    end
    if found == nil then return end
    if found == LATE then
        if is_own(getinfo(2, "S")) then
            local now = clock()
            own_since = own_since or now
            if now - own_since < MAX_OWN then
                sethook(hook, "", FEW)
                return
            end
        end
        own_since = nil
        -- As usual again: after each instruction, it would also come between the script's end and `stop_hook`, outside any
        -- protected call.
        sethook(hook, "", INSTRUCTIONS)
        raise_timeout()
    end
    if found == SLOW then
        slow(errors().way(2))
    else
        sethook(hook, "", found == HOOK_SOON and FEW or INSTRUCTIONS)
    end
end

local function final_error()
    if not ending then return nil end
    local kind, trace = ending, where
    if kind == "gone" then ending, where = nil, nil end
    -- There is none where memory ran out while it was written down.
    return kind, TEXTS[kind], trace or ""
end

-- What a message of the server's own code begins with: "greenfcgi", "?", "[C]".
local G, QUESTION_MARK, BRACKET = 103, 63, 91

-- No tail calls here and where it is called: they would take away frames that are counted.
local function corrected(problem, thread, level)
    if type(problem) ~= "string" then return problem end
    local first = byte(problem)
    if first ~= G and first ~= QUESTION_MARK and first ~= BRACKET then return problem end
    if leave_handler then leave_handler() end
    -- There may be no memory for them.
    local ok, functions = native_pcall(errors)
    if not ok then return problem end
    if not thread then level = level + 1 end
    problem = functions.corrected(problem, thread, level)
    return problem
end

-- Each coroutine of a PUC Lua counts its own instructions, so that many short ones would never be looked at; and an error
-- that is caught at a great depth takes as long as many instructions. So at every hundredth of either the clock is checked.
local OFTEN, counted = 100, 0

local function look_at_clock()
    if is_armed or look_instead then hook() end
end

local function count_one(weight)
    counted = counted + weight
    if counted >= OFTEN then
        counted = 0
        look_at_clock()
    end
end

local function pass(ok, ...)
    if not ok then
        if is_final((...)) then error(TEXTS[ending], 0) end
        count_one(5)
    end
    if ending then error(TEXTS[ending], 0) end
    return ok, ...
end

local function handler(problem)
    if not is_final(problem) then problem = corrected(problem, nil, 2) end
    return problem
end

if _VERSION == "Lua 5.1" and not jit then
    -- Its xpcall takes no arguments.
    local native_error, unpack = error, unpack
    local function failed(ok, ...)
        if ok or is_final((...)) then return pass(ok, ...) end
        local problem = corrected((...), nil, 1)
        return false, problem
    end
    function pcall(...)
        local count = select("#", ...)
        local f, a, b = ...
        -- Its second argument counts the calls from here.
        if f == native_error or count == 0 then return failed(native_pcall(...)) end
        if count == 1 then return pass(native_xpcall(f, handler)) end
        if count == 2 then return pass(native_xpcall(function() return f(a) end, handler)) end
        if count == 3 then return pass(native_xpcall(function() return f(a, b) end, handler)) end
        local arguments = { ... }
        return pass(native_xpcall(function() return f(unpack(arguments, 2, count)) end, handler))
    end
else
    function pcall(f, ...) return pass(native_xpcall(f, handler, ...)) end
end

function xpcall(f, script_handler, ...)
    local is_handled = false
    return pass(native_xpcall(f, function(problem)
        if is_final(problem) then return problem end
        if leave_handler then
            if is_handled then return "error in error handling" end
            is_handled = true
            leave_handler()
        end
        return script_handler(corrected(problem, nil, 2))
    end, ...))
end

-- A hook belongs to one coroutine, except on LuaJIT.
local function new_thread(f)
    local thread = create(f)
    if not jit then
        sethook(thread, hook, "", INSTRUCTIONS)
        count_one(1)
    end
    return thread
end

local function resumed(thread, ok, ...)
    if ok or is_final((...)) then return pass(ok, ...) end
    return false, corrected((...), thread, 0)
end

local function resume(thread, ...) return resumed(thread, native_resume(thread, ...)) end

local begin = new_thread
if observe then begin, resume = observe(begin, resume) end
coroutine.create, coroutine.resume = begin, resume

local function unwrap(thread, ok, ...)
    if ok then return ... end
    local problem = ...
    -- One that has failed, and not one that runs.
    if close and status(thread) == "dead" then close(thread) end
    if type(problem) ~= "string" or is_final(problem) then error(problem, 0) end
    -- There may be no memory for them.
    local loaded, functions = native_pcall(errors)
    if loaded then functions.blame(problem) end
    error(problem, 0)
end

function coroutine.wrap(f)
    local thread = begin(f)
    return function(...) return unwrap(thread, resume(thread, ...)) end
end

if close then
    function coroutine.close(thread)
        count_one(1)
        return pass(close(thread))
    end
end

-- Only what belongs to the script is counted, and each run from nothing: most end before the hook is called.
local function start_hook()
    -- An error around a finalizer may have left it.
    is_armed, look_instead, own_since = true, nil, nil
    sethook(hook, "", INSTRUCTIONS)
end

local function stop_hook()
    sethook()
    is_armed = false
end

return is_final, raise_timeout, raise_disconnected, raise_no_memory, final_error, start_hook, stop_hook, look_at_clock,
    corrected, watch_finalizers, new_thread
