-- The first chunk of a new state: puts the parts together, and returns what the server calls.
--
-- arguments: parts: what a state is made of, compiled, by their names
--            server: functions of the server by their names (see bridge.py)
--            settings: directory, path, cpath, handler, http_status, content_type, headers (lines joined by "\n"),
--            buffering, jit, config (Lua source of a table), allow, modules, at_start (names joined by "\n"); chance1 to
--            chance4: whole numbers that nobody can guess, below 2^32
-- returns: load(path, source, is_startup), run(params), hook(name, only_ask), collect(), settle(); for developers:
--          report()

local parts, server, settings = ...

local byte, find, gmatch, sub = string.byte, string.find, string.gmatch, string.sub
local assert, error, pcall, rawget, setmetatable, type, xpcall = assert, error, pcall, rawget, setmetatable, type, xpcall
local globals = _G
local collectgarbage, resume, yield, newproxy = collectgarbage, coroutine.resume, coroutine.yield, newproxy
local loadstring = loadstring or load

local function compiled(code, name)
    return assert(loadstring(code, name or "=greenfcgi"))
end

local function load_part(name, chunk) return compiled(parts[name], chunk) end

local library = debug
local allowed = {}
for name in gmatch(settings.allow, "[^\n]+") do allowed[name] = true end
if parts.quirks then load_part("quirks")() end
local as_function = load_part("guard")(settings.jit, allowed)
local is_final, raise_timeout, raise_disconnected, raise_no_memory, final_error, start_hook, stop_hook, look_at_clock, corrected,
    watch_finalizers, new_thread, swap_output
if jit then load_part("luajit", "=[C]")(library, jit.version_num, function() look_at_clock() end) end
local on_out_of_memory, slow = as_function(server.on_out_of_memory), as_function(server.slow)

-- When memory runs out in a handler of errors, LuaJIT writes the message to where the last call of a C function has left
-- the top of the stack, which may be a frame in use. Another error that is caught makes it forget that it is in a handler.
local leave_handler = jit and function() pcall(error) end

-- What the parts need of Lua that are compiled later, when a script may have changed what it has.
local lua = {
    clock = os.clock, error = error, ipairs = ipairs, next = next, rawget = rawget, rawset = rawset, select = select,
    setmetatable = setmetatable, tonumber = tonumber, tostring = tostring, type = type, version = _VERSION,
    byte = string.byte, find = string.find, format = string.format, gmatch = string.gmatch, gsub = string.gsub,
    match = string.match, sub = string.sub, concat = table.concat, unpack = unpack or table.unpack, floor = math.floor,
    getinfo = library.getinfo, metatable_of = library.getmetatable, traceback = library.traceback, pairs = pairs,
    char = string.char, huge = math.huge, math_type = math.type,
}

-- A part that few scripts need, compiled now. The server gets how much memory is in use, since it cannot ask where a
-- finalizer runs while the state is closed.
local more
local function later(name, ...) return compiled(more(name, (collectgarbage("count"))))(lua, ...) end

-- A value as text.
local show_value
local function shown(value)
    if not show_value then show_value = later("show") end
    return show_value(value)
end

local error_functions
local function errors()
    if not error_functions then error_functions = later("errors", is_final, pcall, shown) end
    return error_functions
end

local observe, follow, capture_frames, forget, report, watch_globals
if parts.inspect then
    observe, follow, capture_frames, forget, report, watch_globals =
        load_part("inspect")(library, shown, as_function(server.hint))
end
is_final, raise_timeout, raise_disconnected, raise_no_memory, final_error, start_hook, stop_hook, look_at_clock, corrected,
    watch_finalizers, new_thread =
    load_part("limits")(library, on_out_of_memory, as_function(server.tick), slow, errors, leave_handler, observe)
-- Lua 5.1 loads nothing where the C stack is used up, which is an error like others.
if parts.errors then error_functions = load_part("errors")(lua, is_final, pcall, shown) end
local load_text, compile, takes_strings = load_part("load")(allowed)

-- A function that returns text, which the state may have no memory for (false), or that may have waited until the
-- script's time was over (true).
local function with_room(f)
    f = as_function(f)
    return function(...)
        local result, problem, number = f(...)
        if result == false then
            raise_no_memory()
        elseif result == true then
            raise_timeout()
        end
        return result, problem, number
    end
end

-- A function that may wait: it returns nil, or text when the client has gone meanwhile. When it has waited for so long
-- that somebody wants to know, it returns a number, and is to be called again with that.
local function waiting(f)
    f = with_room(f)
    return function(...)
        local result = f(...)
        while type(result) == "number" do
            slow(errors().way(2))
            result = f(result)
        end
        if result then raise_disconnected() end
    end
end

local host = {
    log = as_function(server.log), send = waiting(server.send), read = with_room(server.read), sleep = waiting(server.sleep),
}
more = with_room(server.more)

local entropy = with_room(server.entropy)
local settle, end_lines = load_part("standins")(lua, later, errors, library, load_text, compile, takes_strings,
    settings.directory, settings.path, settings.cpath, as_function, with_room, server.source, server.check, server.native,
    server.grant, host.log, entropy)
load_part("random")(later, errors, entropy, settings.chance1, settings.chance2, settings.chance3, settings.chance4)
if follow then follow() end

-- Modules of the server's: each is compiled, and gets its functions, when a script first requires it.
local shared = { allowed = allowed, debug = library, errors = errors, raise_disconnected = raise_disconnected, slow = slow }
local open_module, call_module = with_room(server.open_module), with_room(server.call)

local function open(name)
    local source, names, number = open_module(name)
    if not source then error(names, 0) end
    local functions = {}
    for each in gmatch(names, "[^\n]+") do
        local own = number
        functions[each] = function(...) return call_module(own, ...) end
        number = number + 1
    end
    return compiled(source)(lua, shared, functions, name)
end

for name in gmatch(settings.modules, "[^\n]+") do
    -- Some Luas come with one of this name.
    package.loaded[name] = nil
    package.preload[name] = open
end
for name in gmatch(settings.at_start, "[^\n]+") do open(name) end

local lines = {}
for line in gmatch(settings.headers, "[^\n]+") do lines[#lines + 1] = line end
local begin, finish, abandon, written, hook_methods
begin, finish, abandon, written, swap_output, hook_methods = load_part("con")(host, {
    http_status = settings.http_status, content_type = settings.content_type, headers = lines,
    buffering = settings.buffering, config = compiled("return " .. settings.config)(),
}, later, errors)
-- Last, so that the server's own code calls what Lua has.
load_part("bounds", "=[C]")(look_at_clock)
load_part("finalizers")(library, errors, function()
    return later("finalizing", library, pcall, new_thread, resume, yield, jit ~= nil, newproxy, is_final, raise_timeout,
        watch_finalizers, swap_output)
end, function()
    local watched = watch_finalizers(nil)
    watch_finalizers(watched)
    return watched ~= nil
end)
-- That which does nothing where it would do harm.
lua.collectgarbage = _G.collectgarbage
local handler = settings.handler
-- The rest of this stays as long as the state; these are done with.
parts, server, settings = nil, nil, nil -- luacheck: ignore 311
local hook_con = setmetatable({}, { __index = hook_methods })

-- Headers that make no list: of several, the first counts (RFC 9110, section 5.3).
local FIRST = " AGE AUTHORIZATION CONTENT_LENGTH CONTENT_TYPE DATE FROM HOST IF_MODIFIED_SINCE IF_RANGE IF_UNMODIFIED_SINCE "
    .. "MAX_FORWARDS PROXY_AUTHORIZATION RANGE REFERER USER_AGENT "

-- The value of a variable that has come again. Web servers send one for each header of the client's; of any other name
-- the last one counts, so that a configuration can replace what a file that it includes has set.
local HEADER = byte("H")
local function joined(name, before, value)
    if sub(name, 1, 5) ~= "HTTP_" then return value end
    if find(FIRST, " " .. sub(name, 6) .. " ", 1, true) then return before end
    return before .. (name == "HTTP_COOKIE" and "; " or ", ") .. value
end

-- The environment of a request: the name-value pairs of a PARAMS stream (FastCGI 1.0, section 3.4), whose lengths
-- have been checked. What RFC 3875 says is always there is "" where a web server leaves it out. HTTP_PROXY is dropped,
-- since it is set by the client and taken for a setting by HTTP libraries (CVE-2016-5385).
local function environment(data)
    -- The names make room for a usual request at once; a table that grows is copied each time it doubles.
    local env = {
        LUAFCGID_VERSION = 1, CONTENT_LENGTH = nil, CONTENT_TYPE = nil, DOCUMENT_ROOT = nil, DOCUMENT_URI = nil,
        GATEWAY_INTERFACE = "", HTTP_ACCEPT = nil, HTTP_ACCEPT_ENCODING = nil, HTTP_ACCEPT_LANGUAGE = nil,
        HTTP_CONNECTION = nil, HTTP_COOKIE = nil, HTTP_HOST = nil, HTTP_REFERER = nil, HTTP_USER_AGENT = nil,
        PATH_INFO = nil, QUERY_STRING = "", REDIRECT_STATUS = nil, REMOTE_ADDR = "", REMOTE_PORT = nil,
        REQUEST_METHOD = "", REQUEST_SCHEME = nil, REQUEST_URI = nil, SCRIPT_FILENAME = nil, SCRIPT_NAME = "",
        SERVER_ADDR = nil, SERVER_NAME = "", SERVER_PORT = "", SERVER_PROTOCOL = "", SERVER_SOFTWARE = "",
    }
    local at, last = 1, #data
    while at <= last do
        local name_length, value_length, first = byte(data, at, at + 2)
        at = at + 2
        if name_length > 127 or value_length > 127 then
            local a, b, c
            if name_length > 127 then
                a, b, c, value_length = byte(data, at - 1, at + 2)
                name_length = (((name_length - 128) * 256 + a) * 256 + b) * 256 + c
                at = at + 3
            end
            if value_length > 127 then
                a, b, c = byte(data, at, at + 2)
                value_length = (((value_length - 128) * 256 + a) * 256 + b) * 256 + c
                at = at + 3
            end
            first = byte(data, at)
        end
        local middle = at + name_length
        local name, value = sub(data, at, middle - 1), sub(data, middle, middle + value_length - 1)
        if first == HEADER and env[name] then value = joined(name, env[name], value) end
        env[name] = value
        at = middle + value_length
    end
    env.HTTP_PROXY = nil
    return env
end

-- Errors: what was raised as text, whatever it was, and the way to it without the server's own frames.
local trace

local function describe_error(problem)
    if is_final(problem) then return problem end
    if leave_handler then leave_handler() end
    local message = errors().explained(problem)
    trace = errors().way(2)
    if capture_frames then capture_frames(2, problem, written) end
    message = corrected(message, nil, 2)
    return message
end

local call, first, second
local function entry() return call(first, second) end

-- Run a function with two arguments. Returns nil, or the kind of its error ("error", "late", "gone", "memory"), the
-- message, and the traceback.
local function guarded_call(f, a, b)
    call, first, second, trace = f, a, b, nil
    start_hook()
    local ok, message = xpcall(entry, describe_error)
    stop_hook()
    call, first, second = nil, nil, nil
    end_lines()
    -- No handler is called when memory has run out.
    if not ok then is_final(message) end
    local kind, text, where = final_error()
    if kind then return kind, text, where end
    if not ok then return "error", message or "error in error handling", trace or "" end
end

-- Run a file in this state. The script itself, which comes last, must define the handler; then its init runs.
local function load_script(name, text, is_startup)
    local chunk, problem = compile(text, name)
    if not chunk then return "error", problem, "" end
    local kind, message, way = guarded_call(chunk)
    if kind then return kind, message, way end
    if is_startup then return nil end
    if type(rawget(globals, handler)) ~= "function" then
        return "error", name .. ": defines no function " .. handler .. "(env, con)", ""
    end
    local init = rawget(globals, "init")
    if type(init) == "function" then
        kind, message, way = guarded_call(init, hook_con)
        if kind then return kind, message, way end
    end
    if watch_globals then watch_globals() end
end

-- Run one request. Returns status, header block and body; or the kind, the message and the traceback of an error, and
-- with "short" the message and the rest of the body instead.
local function run(params)
    local main = rawget(globals, handler)
    local env = environment(params)
    local con = begin(env.REQUEST_METHOD == "HEAD", env.FCGI_ROLE == "AUTHORIZER")
    if forget then forget() end
    local kind, message, way = guarded_call(main, env, con)
    if kind then
        abandon()
        return kind, message, way
    end
    return finish()
end

-- Run one of the hooks, where the script has it. Returns nil, or the kind, the message and the traceback of its error.
-- With only_ask, says whether the script has it.
local function hook(name, only_ask)
    local f = rawget(globals, name)
    if only_ask then return type(f) == "function" end
    if type(f) == "function" then return guarded_call(f, hook_con) end
end

-- Free what is garbage. Finalizers run here, and what they raise must not reach the server.
local function collect() pcall(collectgarbage) end

return load_script, run, hook, collect, settle, report
