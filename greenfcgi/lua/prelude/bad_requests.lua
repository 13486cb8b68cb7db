-- What clients do wrong: a form that is broken, a body that is too long. It is an error value that a script can look at by
-- pcall; where none does, it is the reply, and no failure of the script. Compiled when the first is raised.
--
-- returns: a table: refuse(status, message): raises one, with a status from 400 to 499
--          answer(con, guarded_call): if what nobody has caught is one of these, makes it the response, in place of what the
--          script has written. Returns whether it is: what has been sent stays

local lua, server = ...

local format, setmetatable, type = lua.format, lua.setmetatable, lua.type

local function text_of(problem)
    local message = lua.rawget(problem, "message")
    return type(message) == "string" and message or "bad request"
end

local meta = { __name = "bad request", __tostring = text_of, __metatable = false }

local function refuse(status, message) lua.error(setmetatable({ status = status, message = message }, meta), 0) end

-- What nobody has caught.
local noted
local also = lua.rawget(server, "on_error")

function server.on_error(problem)
    noted = type(problem) == "table" and lua.metatable_of(problem) == meta and problem or nil
    return also and also(problem)
end

local function reply(problem, con)
    local response = server.response
    if not server.response_access.renew(con) then return end
    local status, message = lua.rawget(problem, "status"), text_of(problem)
    -- A script may have changed it.
    if type(status) ~= "number" or status % 1 ~= 0 or status < 400 or status > 499 then status = 400 end
    response.status(con, status)
    response.header(con, "Content-Type", "text/plain; charset=utf-8")
    con:puts(message, "\n")
    server.call("log", "info", format("%d: %s", status, message))
    noted = nil
end

local function answer(con, guarded_call)
    local problem = noted
    return problem ~= nil and not guarded_call(reply, problem, con) and noted == nil
end

return { refuse = refuse, answer = answer }
