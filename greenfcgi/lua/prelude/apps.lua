-- Scripts that are applications of WSAPI. Compiled for a script that defines no handler, or calls `module(...)`.
--
-- returns: a table: adopt(result, chunk): the handler of a script that has returned an application, or defined one; nil where
--          it has not
--          module_name(path): what `module(...)` of a script gets

local lua, server = ...

local rawget, type = lua.rawget, lua.type
local globals = _G

local function wsapi(app) return server.opening("greenfcgi.wsapi").main(app) end

local function is_application(value)
    return type(value) == "function" or type(value) == "table" and type(value.run) == "function"
end

local function adopt(result, chunk)
    if is_application(result) then return wsapi(result) end
    local run = rawget(globals, "run")
    if type(run) == "function" then return wsapi(run) end
    -- What `module` has made of the script's environment.
    local environment, name
    if server.debug.getfenv then
        environment = server.debug.getfenv(chunk)
    else
        name, environment = lua.getupvalue(chunk, 1)
        if name ~= "_ENV" then return nil end
    end
    if environment and environment ~= globals and is_application(environment) then return wsapi(environment) end
end

local function module_name(path) return lua.match(path, "([^/]+)%.[^./]*$") or path end

return { adopt = adopt, module_name = module_name }
