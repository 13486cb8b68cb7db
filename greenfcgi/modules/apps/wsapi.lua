-- The module that scripts get by require "greenfcgi.wsapi": runs applications of WSAPI 1.1.
--
-- An application is a function, a table with a function `run`, or the name of a module that is one of these. It gets the
-- environment of the request, and returns a status, headers, and a function that returns the parts of the body.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local format, match, setmetatable, tonumber, tostring, type =
    lua.format, lua.match, lua.setmetatable, lua.tonumber, lua.tostring, lua.type
local require, package = require, package

local reply_head = lua.rawget(server, "reply_head") or server.opening("reply_head")
local put_status, put_headers = reply_head.status, reply_head.headers

local function fail(...) reply_head.fail(format(...)) end

-- wsapi_env.input: the request's body.

local input_methods = {}
local input_meta = { __index = input_methods }

-- Without a number, and with Lua's own names for it, all that is left: "" at the end. Else nil there.
function input_methods.read(self, n)
    local con = self.con
    if n == nil or n == "*a" or n == "a" then return (con:gets()) end
    if type(n) == "string" then n = tonumber(n) end
    if type(n) ~= "number" or n < 0 or n % 1 ~= 0 then
        server.errors.blame("bad argument #1 to 'read' (expected a number of bytes)")
    end
    if n == 0 then return "" end
    return (con:gets(n))
end

-- wsapi_env.error: the error log.

local error_methods = {}
local error_meta = { __index = error_methods }

function error_methods.write(_, ...)
    for i = 1, lua.select("#", ...) do
        local text = tostring((lua.select(i, ...)))
        server.call("log", "error", match(text, "^(.-)\n?$"))
    end
    return true
end

error_methods.flush = function() return true end

local errors = setmetatable({}, error_meta)

-- A variable that no web server has sent.
local environment_meta = { __index = function() return "" end }

-- The folder of the application: where the file of its module is, or the script.
local function folder_of(name)
    local file = name and server.modules.searchpath(name, package.path)
    return file and match(file, "^(.+)/[^/]*$") or server.settings.directory
end

local function as_function(app, what)
    local kind = type(app)
    if kind == "table" and type(app.run) == "function" then return app.run end
    local meta = lua.metatable_of(app)
    if kind == "function" or kind == "table" and meta and meta.__call then return app end
    fail("%s is no application: found %s, expected a function or a table with a function run", what,
        kind == "table" and "a table without run" or kind)
end

-- Each part leaves as it comes, unless the application says how long the body is: then nobody waits for the parts.
local function put_body(con, body, is_streamed)
    local meta = lua.metatable_of(body)
    if type(body) ~= "function" and not (type(body) == "table" and meta and meta.__call) then
        fail("body: found %s, expected a function that returns its next part", type(body))
    end
    while true do
        local part = body()
        if not part then return end
        if type(part) ~= "string" and type(part) ~= "number" then
            fail("body: found %s as its next part, expected text", type(part))
        end
        con:puts(part)
        if is_streamed then con:flush() end
        server.count(1)
    end
end

-- The handler of an application.
local function handler(app, path)
    return function(env, con)
        env.input, env.error, env.con = setmetatable({ con = con }, input_meta), errors, con
        env.APP_PATH = path
        local info = env.PATH_INFO
        if info == nil or info == "" then env.PATH_INFO = "/" end
        setmetatable(env, environment_meta)
        local status, headers, body = app(env)
        put_status(con, status)
        local has_length = headers ~= nil and put_headers(con, headers)
        if body ~= nil then put_body(con, body, not has_length) end
    end
end

local M = {}

-- A handler main(env, con) for an application.
function M.main(app)
    local path
    if type(app) == "string" then
        path = folder_of(app)
        local shared = require("wsapi")
        if type(shared) == "table" then shared.app_path = path end
        app = as_function(require(app), "module '" .. app .. "'")
    else
        app = as_function(app, "what was given")
    end
    return handler(app, path or server.settings.directory)
end

return M
