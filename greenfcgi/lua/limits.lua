-- Errors that end a script whatever it does: pcall, xpcall and coroutine.resume pass them on instead of catching them.
--
-- "not enough memory": Lua 5.1 and LuaJIT fail at every further allocation once the limit has been reached, and LuaJIT
-- crashes when the next one fails while it makes an error message. So the server is told at the first chance; it
-- gives the state some memory to end with, and throws it away.
-- "the client has gone": nothing waits any more from then on, so a loop that catches it would hold up everybody.
--
-- arguments: exhausted(): a function of the server
-- returns: is_memory(problem): it is the first of these errors

local exhausted = ...

local error, find, type = error, string.find, type
local native_pcall, native_resume, native_xpcall = pcall, coroutine.resume, xpcall

local NO_MEMORY = "not enough memory"
local GONE = "the client has gone"

-- There may be a place in front: coroutine.wrap puts one there, and Lua 5.3, which has a longer text for buffers.
local function is_memory(problem)
    return type(problem) == "string" and find(problem, NO_MEMORY, 1, true)
end

local function is_gone(problem)
    return type(problem) == "string" and find(problem, GONE, 1, true)
end

local function pass(ok, problem, ...)
    if not ok and is_memory(problem) then
        exhausted()
        error(NO_MEMORY, 0)
    elseif not ok and is_gone(problem) then
        error(GONE, 0)
    end
    return ok, problem, ...
end

function pcall(f, ...) return pass(native_pcall(f, ...)) end

function xpcall(f, handler, ...)
    return pass(native_xpcall(f, function(problem)
        if is_memory(problem) or is_gone(problem) then return problem end
        return handler(problem)
    end, ...))
end

function coroutine.resume(...) return pass(native_resume(...)) end

return is_memory
