-- Errors that end a script whatever it does: pcall, xpcall and coroutine.resume pass them on instead of catching them.
--
-- There is one so far, "not enough memory". Lua 5.1 and LuaJIT fail at every further allocation once the limit has
-- been reached, and LuaJIT crashes when the next one fails while it makes an error message. So the server is told
-- at the first chance; it gives the state some memory to end with, and throws it away.
--
-- arguments: exhausted(): a function of the server
-- returns: is_final(problem): it is one of these

local exhausted = ...

local error, find, type = error, string.find, type
local native_pcall, native_resume, native_xpcall = pcall, coroutine.resume, xpcall

local NO_MEMORY = "not enough memory"

-- Lua 5.3 has a longer text for buffers, with a place in front.
local function is_final(problem)
    return problem == NO_MEMORY or type(problem) == "string" and find(problem, NO_MEMORY, 1, true)
end

local function pass(ok, problem, ...)
    if not ok and is_final(problem) then
        exhausted()
        error(NO_MEMORY, 0)
    end
    return ok, problem, ...
end

function pcall(f, ...) return pass(native_pcall(f, ...)) end

function xpcall(f, handler, ...)
    return pass(native_xpcall(f, function(problem)
        if is_final(problem) then return problem end
        return handler(problem)
    end, ...))
end

function coroutine.resume(...) return pass(native_resume(...)) end

return is_final
