-- The status and the headers of a reply, as applications give them. What the adapters of wsapi.lua and lapis.lua share.
--
-- arguments: lua, server: see boot.lua
-- returns: a table: fail(problem): raises it. An application has returned by then: there is no line of its own to name
--          status(con, status): a number such as 200, or text such as "200 OK"
--          headers(con, headers): a table of texts, numbers, and lists of these, by name. Returns whether one of them is
--          Content-Length

local lua, server = ...

local find, match, next, tonumber, tostring, type =
    lua.find, lua.match, lua.next, lua.tonumber, lua.tostring, lua.type

local function fail(problem) lua.error("application: " .. problem, 0) end

local function status(con, value)
    if type(value) == "number" then return con:status(value) end
    local code, reason
    if type(value) == "string" then code, reason = match(value, "^%s*(%d%d%d)%s*(.-)%s*$") end
    if not code then
        fail("status: found " .. (type(value) == "string" and "'" .. value .. "'" or type(value))
            .. ", expected a number such as 200, or text such as '200 OK'")
    end
    con:status(tonumber(code), reason ~= "" and reason or nil)
end

local function header(con, name, value, is_in_list)
    local kind = type(value)
    if kind == "string" or kind == "number" then
        con:header(name, value)
    elseif kind == "table" and not is_in_list then
        for i = 1, #value do header(con, name, value[i], true) end
    else
        fail("header '" .. tostring(name) .. "': found " .. kind .. ", expected text, a number or a list of these")
    end
end

local function headers(con, values)
    if type(values) ~= "table" then fail("headers: found " .. type(values) .. ", expected a table") end
    local has_length = false
    for name, value in next, values do
        header(con, name, value)
        if #name == 14 and find(name, "^[Cc]ontent%-[Ll]ength$") then has_length = true end
    end
    return has_length
end

local M = { fail = fail, status = status, headers = headers }
server.reply_head = M
return M
