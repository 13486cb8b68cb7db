-- The first chunk of a new state: puts the parts together, and returns what the server calls.
--
-- arguments: parts: guard, files, con, luafcgid (Lua source)
--            functions of the server: log, send, read, sleep, source
--            settings: directory, path, cpath, handler, http_status, content_type, headers (lines joined by "\n"),
--            buffering, jit, config (Lua source of a table)
-- returns: load(path, source, is_startup), run(params, head_only), hook(name)

local guard, files, con, luafcgid,
    log, send, read, sleep, source,
    directory, path, cpath, handler, http_status, content_type, headers, buffering, jit_on, config = ...

local byte, find, gmatch, gsub, sub = string.byte, string.find, string.gmatch, string.gsub, string.sub
local pcall, rawget, setmetatable, tostring, type, xpcall = pcall, rawget, setmetatable, tostring, type, xpcall
local globals = _G
local loadstring = loadstring or load
local traceback = debug.traceback

local function part(text)
    return assert(loadstring(text, "=greenfcgi"))
end

local as_function = part(guard)(jit_on)
local host = {
    log = as_function(log), send = as_function(send), read = as_function(read), sleep = as_function(sleep),
    source = as_function(source),
}
local compile = part(files)(host, directory, path, cpath)
package.loaded.luafcgid = nil
package.preload.luafcgid = function() return part(luafcgid)() end

local lines = {}
for line in gmatch(headers, "[^\n]+") do lines[#lines + 1] = line end
local begin, finish, abandon, hook_methods = part(con)(host, {
    http_status = http_status, content_type = content_type, headers = lines, buffering = buffering,
    config = part("return " .. config)(),
})
local hook_con = setmetatable({}, { __index = hook_methods })

-- The environment of a request: the name-value pairs of a PARAMS stream (FastCGI 1.0, section 3.4), whose lengths
-- have been checked. Cookies of several headers are joined; HTTP_PROXY is dropped, since it is set by the client
-- and taken for a setting by HTTP libraries (CVE-2016-5385).
local function environment(data)
    local env = { LUAFCGID_VERSION = 1 }
    local at, last = 1, #data
    while at <= last do
        local name_length, value_length = byte(data, at, at + 1)
        local a, b, c
        if name_length > 127 then
            a, b, c, value_length = byte(data, at + 1, at + 4)
            name_length = (((name_length - 128) * 256 + a) * 256 + b) * 256 + c
            at = at + 3
        end
        if value_length > 127 then
            a, b, c = byte(data, at + 2, at + 4)
            value_length = (((value_length - 128) * 256 + a) * 256 + b) * 256 + c
            at = at + 3
        end
        local middle = at + 2 + name_length
        local name, value = sub(data, at + 2, middle - 1), sub(data, middle, middle + value_length - 1)
        if name == "HTTP_COOKIE" and env.HTTP_COOKIE then value = env.HTTP_COOKIE .. "; " .. value end
        env[name] = value
        at = middle + value_length
    end
    env.HTTP_PROXY = nil
    return env
end

-- Errors: what was raised as text, whatever it was, and the way to it without the server's own frames.
local trace

local function explain(problem)
    local message = problem
    if type(problem) ~= "string" then
        local ok, text = pcall(tostring, problem)
        message = ok and type(text) == "string" and not find(text, "^%a+: 0?x?%x+$") and text
            or "(error object is a " .. type(problem) .. " value)"
    end
    -- The server's own chunks are called "greenfcgi", or "?" where a Lua forgets that with the line numbers.
    trace = gsub(gsub(traceback("", 2), "\n%s*greenfcgi:[^\n]*", ""), "\n%s*%?:[^\n]*", "")
    repeat
        local before = trace
        trace = gsub(gsub(trace, "\n%s*%[C%]: [^\n]*$", ""), "\n%s*%([^\n]*tail call[^\n]*$", "")
    until trace == before
    return message
end

local call, first, second
local function entry() return call(first, second) end

-- Run a function with two arguments. Returns nil, or the message and the traceback of its error.
local function protected(f, a, b)
    call, first, second, trace = f, a, b, nil
    local ok, message = xpcall(entry, explain)
    call, first, second = nil, nil, nil
    if ok then return nil end
    return message or "error in error handling", trace or ""
end

-- Run a file in this state. The script itself, which comes last, must define the handler; then its init runs.
local function load_script(name, text, is_startup)
    local chunk, problem = compile(text, name)
    if not chunk then return problem, "" end
    local message, way = protected(chunk)
    if message or is_startup then return message, way end
    if type(rawget(globals, handler)) ~= "function" then
        return name .. ": defines no function " .. handler .. "(env, con)", ""
    end
    local init = rawget(globals, "init")
    if type(init) == "function" then return protected(init, hook_con) end
end

-- Run one request. Returns status, header block and body; or nil, the message and the traceback of an error.
local function run(params, head_only)
    local main = rawget(globals, handler)
    local con = begin(head_only)
    local message, way = protected(main, environment(params), con)
    if message then
        abandon()
        return nil, message, way
    end
    return finish()
end

-- Run one of the hooks, where the script has it. Returns nil, or the message and the traceback of its error.
local function hook(name)
    local f = rawget(globals, name)
    if type(f) == "function" then return protected(f, hook_con) end
end

return load_script, run, hook
