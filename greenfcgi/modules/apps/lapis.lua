-- The module that scripts get by require "greenfcgi.lapis": runs applications of Lapis, without nginx.
--
-- Lapis is a library that users install. Its application gets here what it has from nginx elsewhere: a request, made of the
-- environment, and a response that is filled and sent when it has been dispatched.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local error, gmatch, gsub, lower, match, next, pcall, rawget, setmetatable, tostring, type =
    lua.error, lua.gmatch, lua.gsub, lua.lower, lua.match, lua.next, server.pcall, lua.rawget, lua.setmetatable, lua.tostring,
    lua.type
local find, sub = lua.find, lua.sub
local globals, require, loaded = _G, require, server.loaded
local getenv, open = os.getenv, io.open

local reply_head = rawget(server, "reply_head") or server.opening("reply_head")
local put_status, put_headers, fail = reply_head.status, reply_head.headers, reply_head.fail
local fields = server.opening("fields")
local decode = fields.decode

-- The request, as Lapis has it

-- A query string, or a form. What comes twice is the last of them; a name without a value is true.
local function parameters(text)
    local params = {}
    for pair in gmatch(text, "[^&]+") do
        server.count(1)
        local equals = find(pair, "=", 1, true)
        if not equals then
            params[decode(pair)] = true
        elseif equals > 1 then
            params[decode(sub(pair, 1, equals - 1))] = decode(sub(pair, equals + 1))
        end
    end
    return params
end

local function last_of(value) return type(value) == "table" and value[1] ~= nil and value[#value] or value end

-- The content of a file is read when it is asked for.
local upload_meta = {
    __index = function(upload, name)
        if name ~= "content" then return nil end
        local file, problem = open(upload.path, "rb")
        if not file then error("cannot read the uploaded file: " .. problem, 0) end
        local content = file:read("*a")
        file:close()
        upload.content = content
        return content
    end,
}

local form

local function multipart(req)
    form = form or server.opening("greenfcgi.form")
    -- With names as they are, as in a form without files.
    local params, files = form.read(req.env, req.con, { brackets = false })
    if not params then error(files, 0) end
    for name, value in next, params do params[name] = last_of(value) end
    for name, value in next, files do
        local file = last_of(value)
        params[name] = setmetatable({
            name = name, filename = file.name, ["content-type"] = file.type, size = file.size, path = file.path,
            move = file.move and function(_, path) return file:move(path) end,
        }, upload_meta)
    end
    return params
end

local function host_of(env)
    local host = env.HTTP_HOST or env.SERVER_NAME
    return match(host, "^(.-):%d+$") or host, match(host, ":(%d+)$")
end

-- What of a request is made when it is first asked for.
local lazy = {}

function lazy.headers(req)
    local headers = {}
    for name, value in next, req.env do
        local rest = match(name, "^HTTP_(.+)$") or (name == "CONTENT_TYPE" or name == "CONTENT_LENGTH") and name
        if rest and value ~= "" then headers[gsub(lower(rest), "_", "-")] = value end
    end
    return setmetatable(headers, {
        __index = function(all, name)
            return type(name) == "string" and rawget(all, (gsub(lower(name), "_", "-"))) or nil
        end,
    })
end

function lazy.params_get(req)
    local query = req.env.QUERY_STRING
    return query == "" and {} or parameters(query)
end

function lazy.params_post(req)
    local kind = req.env.CONTENT_TYPE
    if not kind or kind == "" then return {} end
    kind = lower(kind)
    if find(kind, "application/x-www-form-urlencoded", 1, true) then return parameters(req:read_body_as_string()) end
    if find(kind, "multipart/form-data", 1, true) then return multipart(req) end
    return {}
end

-- Where the application is, as the request has it: "" for all URLs, or "/shop". Its links begin with it.
local prefix = ""

-- The path as the client has sent it, without the prefix. Where the web server has found the script in another way, there
-- is none.
local function own_path(req)
    local path, script = match(req.request_uri, "^[^?]*"), req.env.SCRIPT_NAME
    local rest = script ~= "" and sub(path, 1, #script) == script and sub(path, #script + 1)
    if rest == "" or rest and lua.byte(rest) == 47 then
        prefix = script
        return rest == "" and "/" or rest
    end
    prefix = ""
    return path
end

function lazy.parsed_url(req)
    local env = req.env
    local host, port = host_of(env)
    return {
        scheme = req.scheme, host = host, port = port, path = own_path(req),
        query = env.QUERY_STRING ~= "" and env.QUERY_STRING or nil,
    }
end

function lazy.scheme(req)
    local https = req.env.HTTPS
    return https and https ~= "" and https ~= "off" and "https" or req.env.REQUEST_SCHEME or "http"
end

-- As the client has sent it.
function lazy.request_uri(req)
    local env = req.env
    local uri = env.REQUEST_URI
    if not uri or uri == "" then
        uri = env.SCRIPT_NAME .. (env.PATH_INFO or "")
        if env.QUERY_STRING ~= "" then uri = uri .. "?" .. env.QUERY_STRING end
    end
    uri = gsub(uri, "^%a+://[^/?]*", "")
    return lua.byte(uri) == 47 and uri or "/" .. uri
end

function lazy.built_url(req) return require("lapis.util").build_url(req.parsed_url) end
function lazy.relpath(req) return req.parsed_url.path end
function lazy.cmd_url(req) return req.request_uri end
function lazy.cmd_mth(req) return req.method end
function lazy.port(req) return req.env.SERVER_PORT end
function lazy.server_addr(req) return req.env.SERVER_ADDR end
function lazy.srv(req) return req.env.SERVER_ADDR end
function lazy.remote_addr(req) return req.env.REMOTE_ADDR end
function lazy.referer(req) return req.env.HTTP_REFERER or "" end

local request_methods = {}

function request_methods.read_body_as_string(req)
    local body = rawget(req, "body")
    if not body then
        body = req.con:gets()
        req.body = body
    end
    return body
end

local request_meta = {
    __index = function(req, name)
        local make = lazy[name]
        if not make then return request_methods[name] end
        local value = make(req)
        req[name] = value
        return value
    end,
}

-- The response

local response_methods = {}
local response_meta = { __index = response_methods }

function response_methods.add_header(res, name, value) fields.add(res.headers, name, value) end

-- What Lapis is made ready with

local function installed(name)
    local ok, found = pcall(require, name)
    if ok then return found end
    if not find(tostring(found), "module '" .. name .. "' not found", 1, true) then error(found, 0) end
    fail("Lapis is not there (luarocks install lapis; see lua.path and lua.cpath): " .. tostring(found))
end

local is_developing = server.observe ~= false

-- LAPIS_ENVIRONMENT and a module lapis_environment go before.
local function choose_environment()
    if getenv("LAPIS_ENVIRONMENT") or type(server.modules.search("lapis_environment")) == "function" then return end
    local ok, environment = pcall(require, "lapis.environment")
    if ok and environment.set_default_environment then
        environment.set_default_environment(is_developing and "development" or "production")
    end
end

-- Lapis writes a line for each request and each query, in colours. The server has a log of requests.
local function settle_logs(config)
    local defaults = config.default_config
    if type(defaults) == "table" and type(defaults.logging) == "table" then defaults.logging.requests = false end
    local logging = require("lapis.logging")
    if not logging.set_print then return end
    logging.set_print(function(...)
        local texts = { ... }
        for i = 1, lua.select("#", ...) do texts[i] = gsub(tostring(texts[i]), "\27%[[%d;]*m", "") .. "" end
        server.call("log", "info", lua.concat(texts, " "))
    end)
end

local function look_at_secret(config)
    local values = config.get()
    if not is_developing and values.secret == "please-change-me" then
        server.call("log", "warning", "Lapis: config.lua sets no secret of its own, so anybody can forge sessions")
    end
end

-- What applications want done behind the reply. Lapis keeps it with nginx.
local after = {}

local function keep_callbacks()
    local ok, context = pcall(require, "lapis.nginx.context")
    if not ok then return end
    function context.after_dispatch(callback) after[#after + 1] = callback end
end

local function run_callbacks()
    local callbacks = after
    after = {}
    for i = 1, #callbacks do callbacks[i]() end
end

-- What the application has not its own way with

-- The message of an error in the application, and the way to it.
local failure, traceback

local function fail_in_server(_, message, trace)
    failure, traceback = message, trace
    return { skip_render = true, layout = false }
end

local function handle_error(request, message, trace)
    if type(message) ~= "string" or not find(message, "don't know how to respond to %u+$") then
        return fail_in_server(request, message, trace)
    end
    return { status = 405, layout = false, content_type = "text/plain", "Method Not Allowed\n" }
end

local function handle_404()
    return { status = 404, layout = false, content_type = "text/plain", "Not Found\n" }
end

local function redirect_to_no_slash(request)
    local url = request.req.parsed_url
    local path = match(url.path, "^(.*[^/])/+$")
    if not path then return request.app.handle_404(request) end
    return { redirect_to = request:build_url(prefix .. path, { query = url.query }), status = 301 }
end

local function take_over(app)
    local own = require("lapis.application").Application
    if app.handle_error == own.handle_error then app.handle_error = handle_error end
    if app.handle_404 == own.handle_404 then app.handle_404 = handle_404 end
    if app.default_route == own.default_route then app.default_route = redirect_to_no_slash end
    local router = app.router
    local url_for = router.url_for
    function router.url_for(...) return prefix .. url_for(...) end
end

-- A connection to a database may be in the midst of something, or lost: the next request gets another.
local function disconnect()
    local db = loaded["lapis.db.postgres"]
    if type(db) == "table" and type(db.disconnect) == "function" then pcall(db.disconnect) end
end

local function send(res, con)
    if res.status then put_status(con, res.status) end
    put_headers(con, res.headers)
    if type(res.content) == "string" then con:puts(res.content) end
end

-- Where an error was that is raised again, once Lapis is through.
local also = rawget(server, "on_error")

function server.on_error(problem)
    local way = also and also(problem)
    if failure == nil or problem ~= failure then return way end
    return type(traceback) == "string" and match(traceback, "\nstack traceback:.*") or way
end

local M = {}

-- A handler main(env, con) for an application: a module, its name, or a class or an instance of Lapis's Application.
-- options.config: the name of the module with its settings; without one, Lapis looks for "config".
function M.main(app, options)
    if rawget(globals, "ngx") ~= nil then fail("a global ngx is there: Lapis takes it for nginx's") end
    if options and options.config then loaded["lapis.config_module_name"] = options.config end
    local config = installed("lapis.config")
    choose_environment()
    settle_logs(config)
    look_at_secret(config)
    keep_callbacks()
    local application = require("lapis").load_app(app)
    take_over(application)
    return function(env, con)
        failure, traceback = nil, nil
        local req = setmetatable({ env = env, con = con, method = env.REQUEST_METHOD }, request_meta)
        local res = setmetatable({ req = req, headers = {} }, response_meta)
        local is_done = application:dispatch(req, res)
        if is_done == false then disconnect() end
        if failure ~= nil then error(failure, 0) end
        send(res, con)
        if after[1] then run_callbacks() end
    end
end

return M
