-- The first chunk of a new state: puts the parts together, and returns what the server calls.
--
-- Every state holds what is here and in the parts that are put together here, so each byte counts two hundred times where
-- two hundred requests wait. Hence what few scripts use is in parts that are compiled when they are first asked for, and
-- what is always there refers to little: a variable of an outer function takes 64 bytes in each state, a field of a table
-- that is there anyway 8, and a `<const>` nothing, since it is replaced before the source is compiled (see sources.py).
--
-- Two tables hold what the parts share:
-- `lua` has Lua's own functions, as they were before any script, by their names;
-- `server` has the functions below and those that the parts give it; and the other parts by their names, each of which is
-- a chunk that gets these two tables, and what it returns. So `server.errors.blame(problem)` compiles errors.lua, once.
--
-- arguments: parts: what a state is made of, compiled, by their names
--            call(name, ...): calls a function of the server (see bridge.py)
--            settings: directory, path, cpath, handler; code, http_status, head (the status, its line, and the header block,
--            of a response without a word of the script's); once (headers that come once, with a space around each);
--            buffering; jit: LuaJIT may compile scripts; interprets: it may compile, but no scripts; config (Lua source of a
--            table); allow, users_modules, at_start (names joined by "\n"); and by 1 to 4 whole numbers that nobody
--            can guess, below 2^32
-- returns: load(path, source, is_startup), run(params), hook(name, only_ask), collect(), settle(is_end, is_load); for developers:
--          report()

local parts, call, settings = ...

local globals, library, native_load, native_collect, assert = _G, debug, loadstring or load, collectgarbage, assert

-- Scripts are interpreted, unless lua.jit says otherwise, so that the count hook ends them. So is what the server has
-- between them and Lua: that is short work, and each entry into machine code, and each exit, costs more than it gains. What
-- loops over many bytes says by `server.hot` that LuaJIT may compile it, and looks at the clock by itself (`server.count`).
local interpret, jit_on
if settings.interprets then
    local pcall, jit_off = pcall, jit.off
    jit_on = jit.on
    jit_off(true, true)
    -- Returns what is to be called in its place: LuaJIT refuses to be switched within a finalizer, so it is when that is called.
    function interpret(chunk)
        if pcall(jit_off, chunk, true) then return chunk end
        return function(...)
            pcall(jit_off, chunk, true)
            return chunk(...)
        end
    end
end

local function compiled(code, name)
    local chunk = assert(native_load(code, name or "=greenfcgi"))
    return interpret and interpret(chunk) or chunk
end

local function load_part(name, chunk) return compiled(parts[name], chunk) end

local allowed = {}
for name in string.gmatch(settings.allow, "[^\n]+") do allowed[name] = true end
if parts.quirks then load_part("quirks")() end

local lua = {
    clock = os.clock, error = error, ipairs = ipairs, next = next, pairs = pairs, pcall = pcall, rawget = rawget,
    rawset = rawset, select = select, setmetatable = setmetatable, tonumber = tonumber, tostring = tostring, type = type,
    xpcall = xpcall, newproxy = newproxy, load = load, loadstring = loadstring, warn = warn, version = _VERSION,
    byte = string.byte, char = string.char, find = string.find, format = string.format, gmatch = string.gmatch,
    gsub = string.gsub, lower = string.lower, match = string.match, sub = string.sub, concat = table.concat,
    unpack = unpack or table.unpack, floor = math.floor, huge = math.huge, math_type = math.type,
    tointeger = math.tointeger, maxinteger = math.maxinteger, create = coroutine.create, resume = coroutine.resume,
    yield = coroutine.yield, status = coroutine.status, thread_close = coroutine.close, getinfo = library.getinfo,
    getupvalue = library.getupvalue, setupvalue = library.setupvalue, upvalueid = library.upvalueid,
    upvaluejoin = library.upvaluejoin, metatable_of = library.getmetatable, traceback = library.traceback,
    dump = string.dump, remove = os.remove, rename = os.rename, searchpath = package.searchpath, is_jit = jit ~= nil,
    loadlib = package.loadlib, interpret = interpret,
    io = {
        open = io.open, lines = io.lines, input = io.input, output = io.output, tmpfile = io.tmpfile, type = io.type,
        write = io.write, close = io.close,
    },
}
-- Not above, where it would be a place more than some Luas have use for.
lua.sort = table.sort
call = load_part("guard")(lua, settings, allowed)(call)

local server = {
    call = call, allowed = allowed, settings = settings, package = package, loaded = package.loaded,
    compile_own = compiled,
    debug = {
        sethook = library.sethook, setmetatable = library.setmetatable, getfenv = library.getfenv,
        setfenv = library.setfenv, getlocal = parts.inspect and library.getlocal,
    },
}

-- Call a function of the server that returns text, which the state may have no memory for (false), or that may have waited
-- until the script's time was over (true).
local function answered(result, ...)
    if result == false then
        server.raise_no_memory()
    elseif result == true then
        server.raise_timeout()
    end
    return result, ...
end

local function ask(name, ...) return answered(call(name, ...)) end
server.ask = ask

-- The chunk that calls this, which runs for the first time, and all functions in it may be compiled.
function server.hot()
    if interpret then lua.pcall(jit_on, lua.getinfo(2, "f").func, true) end
end

setmetatable(server, { __index = function(_, name)
    -- The server gets how much memory is in use, since it cannot ask where a finalizer runs while the state is closed.
    local part = compiled(ask("more", name, (native_collect("count"))))(lua, server)
    server[name] = part
    return part
end })

-- When memory runs out in a handler of errors, LuaJIT writes the message to where the last call of a C function has left
-- the top of the stack, which may be a frame in use. Another error that is caught makes it forget that it is in a handler.
server.leave_handler = lua.is_jit and function() lua.pcall(lua.error) end

local observe, follow, capture_frames, forget, report, watch_globals
if parts.inspect then
    observe, follow, capture_frames, forget, report, watch_globals = load_part("inspect")(lua, server)
end
server.observe = observe or false
local is_final, final_error, start_hook, stop_hook = load_part("limits")(lua, server)
if lua.is_jit then load_part("luajit", "=[C]")(lua, server, jit.version_num) end
-- Lua 5.1 loads nothing where the C stack is used up, which is an error like others.
if parts.errors then server.errors = load_part("errors")(lua, server) end
load_part("standins")(lua, server)
load_part("random")(lua, server)
if follow then follow() end

-- Modules of the server's: each is compiled, and gets its functions, when a script first requires it.
local function open(name) return server.opening(name) end

lua.setmetatable(package.preload, {
    __index = function(_, name) return lua.type(name) == "string" and call("has_module", name) and open or nil end,
    __metatable = false,
})
-- Some Luas come with one of this name.
for name in lua.gmatch(settings.users_modules, "[^\n]+") do package.loaded[name] = nil end
for name in lua.gmatch(settings.at_start, "[^\n]+") do open(name) end

-- Those that stay as long as the state.
server.settings = {
    values = compiled("return " .. settings.config)(), directory = settings.directory, cpath = settings.cpath,
    code = settings.code, http_status = settings.http_status, head = settings.head, once = settings.once,
    buffering = settings.buffering,
}
local begin, finish, abandon = load_part("con")(lua, server)
-- Last, so that the server's own code calls what Lua has.
load_part("bounds", "=[C]")(server)
load_part("finalizers")(lua, server)
local environment = load_part("environment")(lua, server)
-- That which does nothing where it would do harm.
lua.collectgarbage = collectgarbage
local handler = settings.handler
parts, settings = nil, nil -- luacheck: ignore 311

-- Before each call, and outside any protected one, lupa looks for debug.traceback among the globals. It finds false there,
-- whatever a script has done to them: a metatable of the script's is not asked. Scripts have their own while they run.
local script_debug = debug
debug = false
local get_environment, set_environment, set_metatable = getfenv, setfenv, library.setmetatable

local is_running = false

-- Returns whether it was not so before.
local function enter()
    if is_running then return false end
    is_running = true
    lua.rawset(globals, "debug", script_debug)
    return true
end

local function leave()
    is_running = false
    script_debug = lua.rawget(globals, "debug")
    if script_debug ~= nil then
        lua.rawset(globals, "debug", false)
    elseif not lua.pcall(lua.rawset, globals, "debug", false) then
        -- A new field, and no memory for it.
        set_metatable(globals, nil)
    end
    -- setfenv(0, t) replaces the table of globals, up to Lua 5.1.
    if set_environment and get_environment(0) ~= globals then set_environment(0, globals) end
end

-- For finalizers.
server.enter, server.leave = enter, leave

-- Errors: what was raised as text, whatever it was, and the way to it without the server's own frames.
local f, a, b, trace

local function describe_error(problem)
    if is_final(problem) then return problem end
    if server.leave_handler then server.leave_handler() end
    local message = server.errors.explained(problem)
    trace = server.errors.way(2)
    if capture_frames then capture_frames(2, problem) end
    message = server.corrected(message, nil, 2)
    return message
end

local function entry() return f(a, b) end

-- Run a function with two arguments. Returns nil and its result; or the kind of its error ("error", "late", "gone", "memory"),
-- the message, and the traceback.
local function guarded_call(called, first, second)
    f, a, b, trace = called, first, second, nil
    enter()
    start_hook()
    local ok, message = lua.xpcall(entry, describe_error)
    stop_hook()
    leave()
    f, a, b = nil, nil, nil
    -- What is left of unfinished lines.
    local streams = lua.rawget(server, "streams")
    if streams then streams.settle() end
    -- No handler is called when memory has run out.
    if not ok then is_final(message) end
    local kind, text, where = final_error()
    if kind then return kind, text, where end
    if not ok then return "error", message or "error in error handling", trace or "" end
    return nil, message
end

-- Run a file in this state. The script itself, which comes last, must define the handler; then its init runs.
local function load_script(name, text, is_startup)
    local chunk, problem = server.texts.compile(text, name)
    if not chunk then return "error", problem, "" end
    local own_name = module and lua.find(text, "module%s*%(%.%.%.") and server.apps.module_name(name) or nil
    local kind, message, way = guarded_call(chunk, own_name)
    if kind then return kind, message, way end
    if is_startup then return nil end
    if lua.type(lua.rawget(globals, handler)) ~= "function" then
        kind, message, way = guarded_call(server.apps.adopt, message, chunk)
        if kind then return kind, message, way end
        if not message then return "error", name .. ": defines no function " .. handler .. "(env, con)", "" end
        lua.rawset(globals, handler, message)
    end
    local init = lua.rawget(globals, "init")
    if lua.type(init) == "function" then
        kind, message, way = guarded_call(init, server.services.hook_con)
        if kind then return kind, message, way end
    end
    if watch_globals then watch_globals() end
    server.texts = nil
end

-- Run one request. Returns status, header block and body; or the kind, the message and the traceback of an error, and
-- with "short" the message and the rest of the body instead.
local function run(params)
    local main = lua.rawget(globals, handler)
    local env = environment(params)
    local con = begin(env.REQUEST_METHOD == "HEAD", env.FCGI_ROLE == "AUTHORIZER")
    if forget then forget() end
    local kind, message, way = guarded_call(main, env, con)
    -- There may have been no memory to look at what was raised.
    local bad_requests = kind == "error" and trace and lua.rawget(server, "bad_requests")
    if kind and not (bad_requests and bad_requests.answer(con, guarded_call)) then
        abandon()
        return kind, message, way
    end
    return finish(guarded_call)
end

-- Run one of the hooks, where the script has it. Returns nil, or the kind, the message and the traceback of its error.
-- With only_ask, says whether the script has it.
local function hook(name, only_ask)
    local found = lua.rawget(globals, name)
    if only_ask then return lua.type(found) == "function" end
    if lua.type(found) ~= "function" then return nil end
    local kind, message, way = guarded_call(found, server.services.hook_con)
    -- What else it returns must not reach the server.
    if kind then return kind, message, way end
end

-- Free what is garbage. Finalizers run here, and what they raise must not reach the server.
local function collect() lua.pcall(native_collect) end

-- A run is over, or with is_end the state goes; with is_load the script has been loaded. Returns how many files are open, and
-- how many of these nobody can close.
local function settle(is_end, is_load)
    local files, sockets = lua.rawget(server, "files"), lua.rawget(server, "sockets")
    local held, lost = 0, 0
    if files then held, lost = files.settle(is_end, is_load) end
    if sockets then held = held + sockets.settle(is_end) end
    return held, lost
end

return load_script, run, hook, collect, settle, report
