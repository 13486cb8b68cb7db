-- Cookies (RFC 6265bis): require "greenfcgi.cookie".
--
-- arguments: lua, server: see boot.lua
--            functions of the server (see cookie.py): sign(key_file, name, value); verify(key_file, name, text): nil where it
--            was not signed here. Both: nil and a message where there is no key. is_https(): 1 or 0

local lua, server, functions = ...

local count = server.count
local byte, find, floor, format, gmatch, gsub, lower, match, next, sub, tostring, type =
    lua.byte, lua.find, lua.floor, lua.format, lua.gmatch, lua.gsub, lua.lower, lua.match, lua.next, lua.sub, lua.tostring,
    lua.type
local unescape = server.opening("fields").unescape

-- Of a name and its value, which is what browsers keep; more is dropped without a word.
local MAX_SIZE = 4096
-- Of each attribute.
local MAX_ATTRIBUTE = 1024
local ATTRIBUTES = {
    path = true, domain = true, max_age = true, expires = true, httponly = true, secure = true, samesite = true,
    partitioned = true, signed = true,
}
-- 5.1 ends a pattern at a zero byte.
local CONTROL = lua.version == "Lua 5.1" and "[%c%z\127]" or "[%c\0\127]"
local SAME_SITE = { lax = "Lax", strict = "Strict", none = "None" }

local M = {}

local function blame(...) server.errors.blame(format(...)) end

local function hex(c)
    count(1)
    return format("%%%02X", byte(c))
end

-- Any bytes as what the value of a cookie may have.
local function encoded(value) return (gsub(value, "[^%w!#$&'()*+%-./:<=>?@%[%]^_`{|}~]", hex)) end

-- What `encoded` has made; what somebody else has, in which a "%" has no two digits, as it is.
local function decoded(value)
    if not find(value, "%", 1, true) or find(gsub(value, "%%%x%x", ""), "%", 1, true) then return value end
    return unescape(value)
end

local function key_file()
    local name = server.settings.values.key_file
    if name == nil then return "" end
    if type(name) ~= "string" or find(name, CONTROL) then
        blame("[app] key_file: found %s, expected the name of a file", type(name) == "string" and "a control character"
            or type(name))
    end
    return name
end

-- Raises at the script's line where there is no key.
local function must(value, problem)
    if value == nil and problem then blame("%s", problem) end
    return value
end

-- Reading

local function header(env, name)
    if type(env) ~= "table" then blame("bad argument #1 to '%s' (table expected, got %s)", name, type(env)) end
    local text = env.HTTP_COOKIE
    return type(text) == "string" and text or ""
end

local function each(text)
    local next_part = gmatch(text, "[^;]+")
    return function()
        for part in next_part do
            count(1)
            local name, value = match(part, "^%s*([^=%s]+)%s*=%s*(.*)$")
            -- Not by "(.-)%s*$": the time that takes grows with the square of the spaces.
            if name then return name, find(value, "%s", -1) and (match(value, "^.*%S") or "") or value end
        end
    end
end

local function checked_name(name, position, what)
    if type(name) ~= "string" then
        blame("bad argument #%d to '%s' (string expected, got %s)", position, what, type(name))
    end
    return name
end

-- The value of a cookie; of several of this name the first, which is the one of the longest path. Nil where there is none.
-- options: raw: as the client has sent it; signed: the value of one that was set with `signed`, nil where it is forged
function M.get(env, name, options)
    local text = header(env, "get")
    checked_name(name, 2, "get")
    if options ~= nil and type(options) ~= "table" then
        blame("bad argument #3 to 'get' (table expected, got %s)", type(options))
    end
    if not find(text, name, 1, true) then return nil end
    for found, value in each(text) do
        if found == name then
            if options and options.raw then return value end
            value = decoded(value)
            if options and options.signed then return (must(functions.verify(key_file(), name, value))) end
            return value
        end
    end
    return nil
end

-- All of them: a table of values by their names.
function M.all(env)
    local found = {}
    for name, value in each(header(env, "all")) do
        if found[name] == nil then found[name] = decoded(value) end
    end
    return found
end

-- Signatures

function M.sign(name, value)
    checked_name(name, 1, "sign")
    if type(value) ~= "string" then blame("bad argument #2 to 'sign' (string expected, got %s)", type(value)) end
    return (must(functions.sign(key_file(), name, value)))
end

function M.verify(name, text)
    checked_name(name, 1, "verify")
    if type(text) ~= "string" then return nil end
    return (must(functions.verify(key_file(), name, text)))
end

-- Writing

local function wrong(what, name, value, expected)
    local shown = type(value) == "string" and format("'%s'", (gsub(sub(value, 1, 40), "[%c\127]", "?"))) or tostring(value)
    blame("bad attribute '%s' of argument #4 to '%s' (found %s, expected %s)", name, what, shown, expected)
end

local function text_attribute(what, attributes, name, pattern, expected)
    local value = attributes[name]
    if value == nil then return nil end
    if type(value) ~= "string" or not find(value, pattern) or #value > MAX_ATTRIBUTE then
        wrong(what, name, value, expected)
    end
    return value
end

local function flag(what, attributes, name, default)
    local value = attributes[name]
    if value == nil then return default end
    if type(value) ~= "boolean" then wrong(what, name, value, "true or false") end
    return value
end

local function expiry(what, value)
    if value == nil then return nil end
    if type(value) == "string" and #value <= 64 and not find(value, "[%c;\127]") then return value end
    if type(value) ~= "number" or not (value > -62135596800 and value < 253402300800) then
        wrong(what, "expires", value, "seconds since 1970, or a date of HTTP")
    end
    return server.opening("greenfcgi.http_date").format(value)
end

-- Returns whether the cookie is secure, and where its SameSite and its prefix ask for something.
local function is_secure(what, name, attributes, same_site, partitioned)
    local prefix = lower(match(name, "^(__%a+%-)") or "")
    local is_host, needs = prefix == "__host-", nil
    if is_host or prefix == "__secure-" then
        needs = "its prefix"
    elseif same_site == "None" then
        needs = "SameSite=None"
    elseif partitioned then
        needs = "Partitioned"
    end
    if is_host and (attributes.domain ~= nil or attributes.path ~= nil and attributes.path ~= "/") then
        blame("cookie '%s': with its prefix it has the path / and no domain", name)
    end
    local secure = flag(what, attributes, "secure", needs ~= nil or functions.is_https() == 1)
    if needs and not secure then blame("cookie '%s': %s needs secure", name, needs) end
    return secure
end

local function line(what, name, value, attributes)
    if type(name) ~= "string" or not find(name, "^[%w!#$%%&'*+%-.^_`|~]+$") then
        blame("bad argument #2 to '%s' (found %s, expected a name of letters, digits and !#$%%&'*+-.^_`|~)", what,
            type(name) == "string" and format("'%s'", (gsub(sub(name, 1, 40), "[%c\127]", "?"))) or type(name))
    end
    if attributes == nil then attributes = {} end
    if type(attributes) ~= "table" then
        blame("bad argument #4 to '%s' (table expected, got %s)", what, type(attributes))
    end
    for each_name in next, attributes do
        if not ATTRIBUTES[each_name] then
            blame("unknown attribute '%s'; known are domain, expires, httponly, max_age, partitioned, path, samesite, secure, "
                .. "signed", tostring(each_name))
        end
    end
    if flag(what, attributes, "signed", false) then value = must(functions.sign(key_file(), name, value)) end
    local text = name .. "=" .. encoded(value)
    if #text > MAX_SIZE then
        blame("cookie '%s': found %d bytes, expected at most %d: browsers drop longer ones", name, #text, MAX_SIZE)
    end
    local same_site = attributes.samesite
    if same_site == nil then
        same_site = "Lax"
    elseif same_site ~= false then
        local known = type(same_site) == "string" and SAME_SITE[lower(same_site)]
        if not known then wrong(what, "samesite", same_site, '"Lax", "Strict", "None" or false') end
        same_site = known
    end
    local partitioned = flag(what, attributes, "partitioned", false)
    local secure = is_secure(what, name, attributes, same_site, partitioned)
    local domain = text_attribute(what, attributes, "domain", "^%.?[%w%-.]+$", "a name of a host")
    if domain then text = text .. "; Domain=" .. domain end
    local path = text_attribute(what, attributes, "path", "^/[^%c;\127]*$", "a path that begins with /")
    text = text .. "; Path=" .. (path or "/")
    local max_age = attributes.max_age
    if max_age ~= nil then
        if type(max_age) ~= "number" or not (max_age > -2 ^ 53 and max_age < 2 ^ 53) then
            wrong(what, "max_age", max_age, "seconds")
        end
        text = format("%s; Max-Age=%.0f", text, floor(max_age))
    end
    local expires = expiry(what, attributes.expires)
    if expires then text = text .. "; Expires=" .. expires end
    if secure then text = text .. "; Secure" end
    if flag(what, attributes, "httponly", true) then text = text .. "; HttpOnly" end
    if same_site then text = text .. "; SameSite=" .. same_site end
    if partitioned then text = text .. "; Partitioned" end
    return text
end

local function checked_con(con, what)
    if type(con) ~= "table" then blame("bad argument #1 to '%s' (con expected, got %s)", what, type(con)) end
end

function M.set(con, name, value, attributes)
    checked_con(con, "set")
    if type(value) == "number" then value = tostring(value) end
    if type(value) ~= "string" then blame("bad argument #3 to 'set' (string expected, got %s)", type(value)) end
    server.response.header(con, "Set-Cookie", line("set", name, value, attributes))
end

-- With the path and the domain that it was set with.
function M.delete(con, name, attributes)
    checked_con(con, "delete")
    local own = { max_age = 0, expires = 0 }
    if type(attributes) == "table" then
        for key, value in next, attributes do
            if key ~= "max_age" and key ~= "expires" and key ~= "signed" then own[key] = value end
        end
    elseif attributes ~= nil then
        own = attributes
    end
    server.response.header(con, "Set-Cookie", line("delete", name, "", own))
end

-- For session.lua, which sets its cookie when con may be over.
server.cookie_line, server.cookie_key_file = line, key_file

return M
