-- URLs (RFC 3986) and query strings: require "greenfcgi.url".
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local count, sorted = server.count, server.opening("sorting")
local byte, concat, find, format, gmatch, gsub, lower, match, next, sub, tonumber, tostring, type =
    lua.byte, lua.concat, lua.find, lua.format, lua.gmatch, lua.gsub, lua.lower, lua.match, lua.next, lua.sub,
    lua.tonumber, lua.tostring, lua.type

local shared = server.opening("fields")
local add, decode, unescape = shared.add, shared.decode, shared.unescape

local MAX_PAIRS = 10000
local PORTS = { http = 80, https = 443, ws = 80, wss = 443, ftp = 21 }
-- What ends up in logs and headers, and no part of a URL may have. 5.1 ends a pattern at a zero byte.
local CONTROL = lua.version == "Lua 5.1" and "[%c%z\127]" or "[%c\0\127]"

local M = {}

local function blame(...) server.errors.blame(format(...)) end

local function checked(value, position, name)
    if type(value) == "string" then return value end
    if type(value) == "number" then return tostring(value) end
    blame("bad argument #%d to '%s' (string expected, got %s)", position, name, type(value))
end

-- Percent encoding

local function hex(c)
    count(1)
    return format("%%%02X", byte(c))
end

-- A text as a part of a path, or of a query: all but letters, digits, "-", ".", "_" and "~" is encoded.
function M.escape(text) return (gsub(checked(text, 1, "escape"), "[^%w%-._~]", hex)) end

-- The text that has been encoded; what is no "%XX" stays. A "+" stays, too: it is a space in queries only.
function M.unescape(text) return (unescape(checked(text, 1, "unescape"))) end

-- Queries

local function form_encoded(text) return (gsub(gsub(text, "[^%w%-._~ ]", hex), " ", "+")) end

-- A query string as a table: a name that comes twice has a list; and the pairs in their order. Nil and a message where there
-- are too many.
function M.parse_query(text)
    text = checked(text, 1, "parse_query")
    local fields, pairs_in_order, n = {}, {}, 0
    for part in gmatch(text, "[^&]+") do
        count(2)
        n = n + 1
        if n > MAX_PAIRS then return nil, format("more than %d fields", MAX_PAIRS) end
        local name, value = match(part, "^([^=]*)=(.*)$")
        name, value = decode(name or part), decode(value or "")
        pairs_in_order[n] = { name, value }
        add(fields, name, value)
    end
    return fields, pairs_in_order
end

local function put(parts, name, value)
    count(1)
    if type(value) == "number" or type(value) == "boolean" then value = tostring(value) end
    if type(value) ~= "string" then
        blame("bad argument #1 to 'query' (the value of '%s' is a %s, expected a string, number, boolean or a list of these)",
            tostring(name), type(value))
    end
    parts[#parts + 1] = form_encoded(name) .. "=" .. form_encoded(value)
end

-- The query string of a table: names are sorted, and one with a list comes several times; or of a list of pairs, {name,
-- value}, in its order.
function M.query(fields)
    if type(fields) ~= "table" then blame("bad argument #1 to 'query' (table expected, got %s)", type(fields)) end
    local parts, names = {}, {}
    for _, pair in lua.ipairs(fields) do
        if type(pair) ~= "table" or type(pair[1]) ~= "string" then
            blame("bad argument #1 to 'query' (found a %s in the list, expected {name, value})", type(pair))
        end
        put(parts, pair[1], pair[2])
    end
    for name in next, fields do
        if type(name) == "string" then names[#names + 1] = name end
    end
    for _, name in lua.ipairs(sorted(names)) do
        local value = fields[name]
        if type(value) == "table" then
            for _, item in lua.ipairs(value) do put(parts, name, item) end
        else
            put(parts, name, value)
        end
    end
    return concat(parts, "&")
end

-- URLs

-- Its parts; nil and a message where it is no URL. A part that is not there is nil; `path` is "" then.
local function split(text)
    if find(text, CONTROL) then return nil, "a control character in it" end
    if find(text, "[ <>\"{}|\\^`]") then return nil, "a character in it that must be escaped" end
    if find(gsub(text, "%%%x%x", ""), "%", 1, true) then return nil, "a '%' without two hexadecimal digits" end
    local parts, rest = {}, text
    local before, fragment = match(rest, "^([^#]*)#(.*)$")
    if before then rest, parts.fragment = before, fragment end
    local query
    before, query = match(rest, "^([^?]*)%?(.*)$")
    if before then rest, parts.query = before, query end
    local scheme, after = match(rest, "^(%a[%w+.%-]*):(.*)$")
    if scheme then
        rest, parts.scheme = after, lower(scheme)
    elseif find(match(rest, "^[^/]*"), ":", 1, true) then
        return nil, "a scheme that is none"
    end
    local authority, path = match(rest, "^//([^/]*)(.*)$")
    if authority then
        rest = path
        local userinfo, place = match(authority, "^(.*)@(.*)$")
        if userinfo then
            if find(userinfo, "@", 1, true) then return nil, "an '@' too many" end
            parts.userinfo, authority = userinfo, place
        end
        local host, port = match(authority, "^(%[[%x:.]+%])(.*)$")
        if not host then
            host, port = match(authority, "^([^:%[%]]*)(.*)$")
        end
        if not find(port, "^:%d*$") and port ~= "" then return nil, "a host or port that is none" end
        port = sub(port, 2)
        if host == "" and PORTS[parts.scheme] then return nil, "no host" end
        parts.host = lower(host)
        if port ~= "" then
            parts.port = tonumber(port)
            if #port > 5 or parts.port > 65535 then return nil, "a port above 65535" end
        end
    end
    parts.path = rest
    return parts
end

-- The parts of a URL: scheme, userinfo, host, port, path, query, fragment; nil and a message where it is none.
function M.parse(text) return split(checked(text, 1, "parse")) end

local function joined(parts)
    local text = parts.scheme and parts.scheme .. ":" or ""
    if parts.host then
        text = text .. "//" .. (parts.userinfo and parts.userinfo .. "@" or "") .. parts.host
            .. (parts.port and format(":%d", parts.port) or "")
    end
    local path = parts.path or ""
    -- Else its beginning would be a host.
    if not parts.host and sub(path, 1, 2) == "//" then path = "/." .. path end
    text = text .. path
    if parts.query then text = text .. "?" .. parts.query end
    if parts.fragment then text = text .. "#" .. parts.fragment end
    return text
end

-- What may stand in each part as it is; the rest is escaped, but for what has been.
local function cleaned(text)
    text = gsub(text, "%%(%x?%x?)", function(digits)
        count(1)
        return #digits < 2 and "%25" .. digits or nil
    end)
    return (gsub(text, "[^%w%-._~!$&'()*+,;=:@/?%%]", hex))
end

-- A URL of parts as `parse` gives them; `query` may be a table.
function M.build(parts)
    if type(parts) ~= "table" then blame("bad argument #1 to 'build' (table expected, got %s)", type(parts)) end
    local copy = {}
    for name, value in next, parts do
        if name == "port" and (type(value) ~= "number" or value % 1 ~= 0 or value < 0 or value > 65535) then
            blame("bad field 'port' of argument #1 to 'build' (found %s, expected a port)", tostring(value))
        elseif name == "query" and type(value) == "table" then
            value = M.query(value)
        elseif name ~= "port" and type(value) ~= "string" then
            blame("bad field '%s' of argument #1 to 'build' (string expected, got %s)", tostring(name), type(value))
        end
        copy[name] = value
    end
    if copy.scheme and not find(copy.scheme, "^%a[%w+.%-]*$") then
        blame("bad field 'scheme' of argument #1 to 'build' (found '%s')", sub(copy.scheme, 1, 40))
    end
    local host = copy.host
    if host and not find(host, "^%[[%x:.]+%]$") then
        if find(host, "^[%x:.]+$") and find(host, ":", 1, true) then
            copy.host = "[" .. host .. "]"
        elseif find(host, "[^%w%-._~!$&'()*+,;=%%\128-\255]") then
            blame("bad field 'host' of argument #1 to 'build' (found '%s')", sub(host, 1, 40))
        else
            copy.host = cleaned(host)
        end
    end
    if copy.userinfo then copy.userinfo = gsub(cleaned(copy.userinfo), "[@/?]", hex) end
    local path = gsub(cleaned(copy.path or ""), "%?", hex)
    if host and path ~= "" and sub(path, 1, 1) ~= "/" then path = "/" .. path end
    -- Else its beginning would be a scheme.
    if not host and not copy.scheme and find(path, "^[^/]*:") then path = "./" .. path end
    copy.path = path
    if copy.query then copy.query = cleaned(copy.query) end
    if copy.fragment then copy.fragment = cleaned(copy.fragment) end
    return joined(copy)
end

-- Without "." and ".." (RFC 3986, section 5.2.4).
local function without_dots(path)
    local parts, n, is_absolute = {}, 0, sub(path, 1, 1) == "/"
    local is_folder = false
    for part in gmatch(is_absolute and sub(path, 2) .. "/" or path .. "/", "([^/]*)/") do
        count(1)
        is_folder = part == "." or part == ".."
        if part == ".." then
            if n > 0 then
                parts[n] = nil
                n = n - 1
            end
        elseif part ~= "." then
            n = n + 1
            parts[n] = part
        end
    end
    if is_folder then
        n = n + 1
        parts[n] = ""
    end
    return (is_absolute and "/" or "") .. concat(parts, "/", 1, n)
end

-- Where a link on the page `base` leads to (RFC 3986, section 5.2). Nil and a message where either is no URL.
function M.join(base, link)
    base, link = checked(base, 1, "join"), checked(link, 2, "join")
    local from, problem = split(base)
    if not from then return nil, problem end
    local to
    to, problem = split(link)
    if not to then return nil, problem end
    if to.scheme then
        to.path = without_dots(to.path)
        return joined(to)
    end
    to.scheme = from.scheme
    if to.host then
        to.path = without_dots(to.path)
        return joined(to)
    end
    to.host, to.userinfo, to.port = from.host, from.userinfo, from.port
    if to.path == "" then
        to.path = from.path
        if not to.query then to.query = from.query end
    elseif sub(to.path, 1, 1) == "/" then
        to.path = without_dots(to.path)
    elseif from.host and from.path == "" then
        to.path = without_dots("/" .. to.path)
    else
        to.path = without_dots((match(from.path, "^(.*/)") or "") .. to.path)
    end
    return joined(to)
end

-- The same URL in one spelling: small letters, no port that is the usual one, no dots, no needless escapes. Nil and a message
-- where it is none.
function M.normalise(text)
    local parts, problem = split(checked(text, 1, "normalise"))
    if not parts then return nil, problem end
    if parts.port and PORTS[parts.scheme] == parts.port then parts.port = nil end

    local function spelled(value)
        return value and (gsub(value, "%%%x%x", function(escape)
            local c = unescape(escape)
            return find(c, "[%w%-._~]") and c or hex(c)
        end))
    end

    parts.userinfo, parts.query, parts.fragment = spelled(parts.userinfo), spelled(parts.query), spelled(parts.fragment)
    parts.path = spelled(parts.path)
    if parts.scheme or sub(parts.path, 1, 1) == "/" then parts.path = without_dots(parts.path) end
    if parts.host and parts.path == "" then parts.path = "/" end
    return joined(parts)
end
M.normalize = M.normalise

-- Whether a text is a path on this site, where one may be redirected to whatever the client has sent: browsers take "//host"
-- and "/\host" for other sites.
function M.is_local(text)
    return type(text) == "string" and find(text, "^/") ~= nil and not find(text, "^/[/\\]") and not find(text, CONTROL)
        and not find(text, "\\", 1, true)
end

return M
