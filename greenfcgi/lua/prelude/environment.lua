-- The environment of a request: the name-value pairs of a PARAMS stream (FastCGI 1.0, section 3.4), whose lengths
-- have been checked. What RFC 3875 says is always there is "" where a web server leaves it out. HTTP_PROXY is dropped,
-- since it is set by the client and taken for a setting by HTTP libraries (CVE-2016-5385).
--
-- arguments: lua, server: see boot.lua
-- returns: environment(data): a table

local lua, server = ...

-- No script runs meanwhile, and there are no more bytes than a request's parameters may have.
server.hot()
local byte, sub = lua.byte, lua.sub

if lua.native_sub then
    -- As in luajit.lua, but compiled with what calls it.
    local native_sub, rawequal = lua.native_sub, rawequal
    function sub(text, first, last)
        rawequal(text, first)
        return native_sub(text, first, last)
    end
end

return function(data)
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
        -- 72 is the H of HTTP_.
        if first == 72 and env[name] then value = server.repeated(name, env[name], value) end
        env[name] = value
        at = middle + value_length
    end
    env.HTTP_PROXY = nil
    return env
end
