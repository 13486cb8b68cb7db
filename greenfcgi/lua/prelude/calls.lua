-- xpcall and the functions of coroutines, which pass on what ends a script: see limits.lua. Compiled when the first of them
-- is called.
--
-- returns: a table: xpcall; create, resume, wrap, close of coroutine; new_thread(f): a coroutine, with a hook

local lua, server = ...

local error, type = lua.error, lua.type
local native_create, native_xpcall = lua.create, lua.xpcall
local native_resume = lua.is_jit and server.depths.resume or lua.resume
local is_final, corrected, pass, leave_handler = server.is_final, server.corrected, server.pass, server.leave_handler

local INSTRUCTIONS <const> = 1000
-- Its coroutines are of functions of Lua alone.
local ONLY_LUA = lua.version == "Lua 5.1" and not lua.is_jit

local function xpcall(f, script_handler, ...)
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
local function new_thread(f, name)
    if type(f) ~= "function" or ONLY_LUA and lua.getinfo(f, "S").what == "C" then
        return server.errors.call(name or "create", native_create, f)
    end
    local thread = native_create(f)
    if not lua.is_jit then
        server.debug.sethook(thread, server.hook, "", INSTRUCTIONS)
        server.count(1)
    end
    return thread
end

local function resumed(thread, ok, ...)
    if ok or is_final((...)) then return pass(ok, ...) end
    return false, corrected((...), thread, 0)
end

local function resume(thread, ...)
    if type(thread) ~= "thread" then return server.errors.call("resume", lua.resume, thread) end
    return resumed(thread, native_resume(thread, ...))
end

local create = new_thread
if server.observe then create, resume = server.observe(create, resume) end

local function unwrap(thread, ok, ...)
    if ok then return ... end
    local problem = ...
    -- One that has failed, and not one that runs.
    if lua.thread_close and lua.status(thread) == "dead" then lua.thread_close(thread) end
    if type(problem) ~= "string" or is_final(problem) then error(problem, 0) end
    -- There may be no memory for them.
    local loaded, functions = lua.pcall(server.own, "errors")
    if loaded then functions.blame(problem) end
    error(problem, 0)
end

local function wrap(f)
    local thread = create(f, "wrap")
    return function(...) return unwrap(thread, resume(thread, ...)) end
end

local function close(thread)
    if type(thread) ~= "thread" then return server.errors.call("close", lua.thread_close, thread) end
    server.count(1)
    return pass(lua.thread_close(thread))
end

return { xpcall = xpcall, create = create, resume = resume, wrap = wrap, close = close, new_thread = new_thread }
