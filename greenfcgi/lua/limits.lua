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
-- arguments: library: the debug library, whole
--            functions of the server: exhausted(), tick() (true: late, false: slow, 1: call
--            sooner, 0: as usual), slow(traceback)
--            way(level): the traceback of what called the function at that level
-- returns: is_memory(problem), is_late(problem): it is the error of memory, or of time
--          late(): raises the error of time
--          over(): once that has been raised: its message, and the way to where the script was; nothing interrupts
--          what runs from then on

local library, exhausted, tick, slow, way = ...

local error, find, type = error, string.find, type
local create, native_pcall, native_resume, native_xpcall = coroutine.create, pcall, coroutine.resume, xpcall
local close = coroutine.close
local sethook = library.sethook

local NO_MEMORY = "not enough memory"
local GONE = "the client has gone"
local LATE = "the request has run longer than its time"
local INSTRUCTIONS, FEW = 1000, 1

local is_over, where = false, nil

-- There may be a place in front: coroutine.wrap puts one there, and Lua 5.3, which has a longer text for buffers.
local function is_memory(problem)
    return type(problem) == "string" and find(problem, NO_MEMORY, 1, true)
end

local function is_late(problem)
    return type(problem) == "string" and find(problem, LATE, 1, true)
end

local function final(problem)
    if type(problem) ~= "string" then return nil end
    return find(problem, NO_MEMORY, 1, true) and NO_MEMORY or find(problem, GONE, 1, true) and GONE
        or find(problem, LATE, 1, true) and LATE
end

local function late()
    if not is_over then
        is_over = true
        where = way(3)
    end
    error(LATE, 0)
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
    if not is_over then return nil end
    sethook()
    return LATE, where
end

local function pass(ok, problem, ...)
    if is_over then error(LATE, 0) end
    if not ok then
        local text = final(problem)
        if text == NO_MEMORY then exhausted() end
        if text then error(text, 0) end
    end
    return ok, problem, ...
end

function pcall(f, ...) return pass(native_pcall(f, ...)) end

function xpcall(f, handler, ...)
    return pass(native_xpcall(f, function(problem)
        if final(problem) then return problem end
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

sethook(hook, "", INSTRUCTIONS)

return is_memory, is_late, late, over
