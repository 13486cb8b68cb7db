-- What ends a script whatever it does: its time is over, its memory has run out, its client has gone. pcall, xpcall and
-- the functions of coroutines pass these errors on instead of catching them.
--
-- "not enough memory": Lua 5.1 and LuaJIT fail at every further allocation once the limit has been reached, and LuaJIT
-- crashes when the next one fails while it makes an error message. So the server is told at the first chance; it
-- gives the state some memory to end with, and throws it away.
-- "the client has gone": nothing waits any more from then on, so a loop that catches it would hold up everybody.
-- "its time is over": the count hook asks the server after each thousand instructions, which gives others their turn
-- there. No hook is called in finalizers, in C functions, and in what LuaJIT has compiled.
--
-- Which of these it is, is known by a flag and not by the text of the error: a script may raise a text that a client has
-- chosen. Only the first sign of memory that has run out is a text, which Lua raises by itself.
--
-- arguments: library: the debug library, whole
--            functions of the server: exhausted(), tick() (true: late, false: slow, 1: call
--            sooner, 0: as usual), slow(traceback)
--            way(level): the traceback of what called the function at that level
--            for developers: observe(create, resume), which returns what takes the place of these two
-- returns: is_final(problem): it is one of these errors
--          late(), gone(), no_memory(): raise them
--          over(): nil, or once one has been raised "late", "gone" or "memory", its message, and the way to where the
--          script was
--          arm(), disarm(): to be called before and after each run of the script

local library, exhausted, tick, slow, way, observe = ...

local error, find, type = error, string.find, type
local create, native_pcall, native_resume, native_xpcall = coroutine.create, pcall, coroutine.resume, xpcall
local close = coroutine.close
local sethook = library.sethook

local NO_MEMORY = "not enough memory"
local TEXTS = {
    late = "the request has run longer than its time", gone = "the client has gone", memory = NO_MEMORY,
}
-- Lua 5.3 has another text for buffers, with a place in front.
local IN_BUFFER = _VERSION == "Lua 5.3" and "^[^\n]-:?%d*:? ?not enough memory for buffer allocation$"
local INSTRUCTIONS, FEW = 1000, 1

local ending, where

local function raise(kind, level)
    if not ending then
        ending = kind
        where = level and way(level + 1) or ""
    end
    error(TEXTS[ending], 0)
end

local function late() raise("late", 3) end

local function gone() raise("gone") end

local function note_memory()
    ending, where = ending or "memory", where or ""
    exhausted()
end

local function no_memory()
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
function hook()
    local verdict = tick()
    if verdict == nil then return end
    if verdict == true then late() end
    if verdict == false then
        slow(way(2))
    else
        sethook(hook, "", verdict == 1 and FEW or INSTRUCTIONS)
    end
end

local function over()
    if not ending then return nil end
    local kind, trace = ending, where
    if kind == "gone" then ending, where = nil, nil end
    return kind, TEXTS[kind], trace
end

local function pass(ok, problem, ...)
    if ending or (not ok and is_final(problem)) then error(TEXTS[ending], 0) end
    return ok, problem, ...
end

function pcall(f, ...) return pass(native_pcall(f, ...)) end

function xpcall(f, handler, ...)
    return pass(native_xpcall(f, function(problem)
        if is_final(problem) then return problem end
        return handler(problem)
    end, ...))
end

-- A hook belongs to one coroutine, except on LuaJIT.
local function begin(f)
    local thread = create(f)
    if not jit then sethook(thread, hook, "", INSTRUCTIONS) end
    return thread
end

local function resume(...) return pass(native_resume(...)) end

if observe then begin, resume = observe(begin, resume) end
coroutine.create, coroutine.resume = begin, resume

local function unwrap(thread, ok, ...)
    if ok then return ... end
    if close then close(thread) end
    error((...), 0)
end

function coroutine.wrap(f)
    local thread = begin(f)
    return function(...) return unwrap(thread, resume(thread, ...)) end
end

if close then
    function coroutine.close(thread) return pass(close(thread)) end
end

-- Only what belongs to the script is counted, and each run from nothing: most end before the hook is called.
local function arm() sethook(hook, "", INSTRUCTIONS) end

local function disarm() sethook() end

return is_final, late, gone, no_memory, over, arm, disarm
