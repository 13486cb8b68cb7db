-- An HTTP client: require "greenfcgi.http".
--
-- arguments: lua, server: see boot.lua
--            functions of the server: see http.py. Those that wait return nil, why and 0 where they fail

local lua, server, functions = ...

local next, setmetatable, tonumber, type = lua.next, lua.setmetatable, lua.tonumber, lua.type
local concat, find, format, gmatch, gsub, lower, match, sub =
    lua.concat, lua.find, lua.format, lua.gmatch, lua.gsub, lua.lower, lua.match, lua.sub
local check, close = functions.check, functions.close
local waits = server.waiting.waits
local start, send, answer, read = waits(functions.start), waits(functions.send), waits(functions.answer), waits(functions.read)

local SECONDS, REDIRECTS = 30, 10
local OPTIONS = {
    url = true, method = true, headers = true, body = true, timeout = true, redirects = true, verify = true, stream = true,
}
local TOKEN = "^[%w!#$%%&'*+%-.^_`|~]+$"

local last = 0

local function wrong(name, detail, ...) server.errors.blame("greenfcgi.http: " .. name .. ": " .. format(detail, ...)) end

local function kind(value) return value == nil and "nothing" or "a " .. type(value) end

-- What is sent: text, or a number.
local function text(value, name)
    if type(value) == "number" then return value .. "" end
    if type(value) ~= "string" then wrong(name, "found %s, expected text", kind(value)) end
    return value
end

local function upper(name)
    return (gsub(name, "%l", function(letter) return lua.char(lua.byte(letter) - 32) end))
end

-- Arguments

local function header_line(lines, name, value)
    local shown = "headers[\"" .. gsub(name, "[%c\128-\255]", "?") .. "\"]"
    value = match(text(value, shown), "^[ \t]*(.-)[ \t]*$")
    if find(value, "[%z\1-\8\10-\31\127]") then wrong(shown, "found a line break or another control character") end
    lines[#lines + 1] = name .. ": " .. value
end

local function header_lines(headers, has_body)
    if headers == nil then return "" end
    if type(headers) ~= "table" then wrong("headers", "found %s, expected a table", kind(headers)) end
    local lines = {}
    for name, value in next, headers do
        server.count(1)
        if type(name) ~= "string" or not find(name, TOKEN) then
            wrong("headers", "found %s, expected names of headers", type(name) == "string" and "a name with other characters"
                or kind(name))
        end
        local known = lower(name)
        if known == "transfer-encoding" then wrong("headers", "found %s, which is not for scripts to set", name) end
        if known == "content-length" and has_body then
            -- It is what it is.
            value = nil
        elseif known == "content-length" and not find(text(value, "headers[\"" .. name .. "\"]"), "^%d+$") then
            wrong("headers[\"" .. name .. "\"]", "found %s, expected a number", value)
        end
        if type(value) == "table" then
            for i = 1, #value do header_line(lines, name, value[i]) end
        elseif value ~= nil then
            header_line(lines, name, value)
        end
    end
    return concat(lines, "\n")
end

local function amount(value, name, default, least, most)
    if value == nil then return default end
    if type(value) ~= "number" or not (value >= least and value <= most) then
        wrong(name, "found %s, expected a number from %s to %d", type(value) == "number" and value or kind(value), least, most)
    end
    return value
end

-- Responses

-- Names are there in lower case; any spelling finds them.
local by_name = {
    __index = function(headers, name)
        if type(name) == "string" then return lua.rawget(headers, lower(name)) end
    end,
    __metatable = false,
}

local function response_of(head)
    local status, url, rest = match(head, "^(%d+)\n([^\n]*)\n?(.*)$")
    local headers = {}
    for name, value in gmatch(rest, "([^\n:]+): ([^\n]*)") do
        local before = headers[name]
        if name == "set-cookie" then
            before = before or {}
            before[#before + 1] = value
            headers[name] = before
        else
            headers[name] = before and before .. ", " .. value or value
        end
    end
    return { status = tonumber(status), url = url, headers = setmetatable(headers, by_name) }
end

-- All parts of a body. Returns nil and why it cannot be had.
local function whole(number, part, more)
    if more == 0 then return part end
    local parts, n = { part }, 1
    while more == 1 do
        server.count(1)
        part, more = read(number)
        if not part then return nil, more end
        n = n + 1
        parts[n] = part
    end
    return concat(parts)
end

-- What is known of a response that is read bit by bit: number, more (1, or 0 at the end), buffer and at (what is there
-- begins there), problem.
local readers = setmetatable({}, { __mode = "k" })

local function reader_of(response, name)
    local reader = readers[response]
    if not reader then wrong(name, "call it as response:%s()", name) end
    return reader
end

-- More into the buffer. Returns whether there is any.
local function fill(reader)
    while reader.more == 1 and not reader.problem do
        local part, more = read(reader.number)
        if not part then
            reader.problem = more
            return false
        end
        reader.more = more
        if part ~= "" then
            reader.buffer, reader.at = sub(reader.buffer, reader.at) .. part, 1
            return true
        end
    end
    return false
end

-- So many bytes; fewer at the end, and nil where there are none; nil and why where they cannot be had.
local function read_bytes(reader, size)
    local parts, n, missing = {}, 0, size
    while missing > 0 do
        server.count(1)
        if reader.at > #reader.buffer and not fill(reader) then break end
        n = n + 1
        local last_byte = reader.at + missing - 1
        if last_byte > #reader.buffer then last_byte = #reader.buffer end
        parts[n] = sub(reader.buffer, reader.at, last_byte)
        missing, reader.at = missing - #parts[n], last_byte + 1
    end
    if reader.problem and missing > 0 then return nil, reader.problem end
    if n == 0 and size > 0 then return nil end
    return concat(parts)
end

local function read_line(reader)
    local parts, n = {}, 0
    while true do
        server.count(1)
        local at = find(reader.buffer, "\n", reader.at, true)
        n = n + 1
        parts[n] = sub(reader.buffer, reader.at, at and at - 1 or -1)
        if at then
            reader.at = at + 1
            break
        end
        reader.buffer, reader.at = "", 1
        if not fill(reader) then
            if reader.problem then return nil, reader.problem end
            break
        end
    end
    local line = concat(parts)
    if line == "" and reader.more == 0 and reader.at == 1 and reader.buffer == "" then return nil end
    return (gsub(line, "\r$", ""))
end

local methods = {}

function methods.read(self, size)
    local reader = reader_of(self, "read")
    if reader.closed then return nil, "closed" end
    if size == nil then
        -- What comes next.
        if reader.at > #reader.buffer and not fill(reader) then return nil, reader.problem end
        size = #reader.buffer - reader.at + 1
    elseif size == "a" or size == "*a" then
        local rest, problem = read_bytes(reader, lua.huge)
        if not rest and not problem then return "" end
        return rest, problem
    elseif type(size) ~= "number" or size < 0 or size % 1 ~= 0 then
        wrong("read", "found %s, expected a number of bytes, or \"a\"", type(size) == "number" and size or kind(size))
    end
    return read_bytes(reader, size)
end

function methods.lines(self)
    local reader = reader_of(self, "lines")
    return function()
        if reader.closed then return nil end
        local line, problem = read_line(reader)
        if problem then server.errors.blame(problem) end
        return line
    end
end

function methods.close(self)
    local reader = reader_of(self, "close")
    if not reader.closed then
        reader.closed, reader.buffer, reader.at = true, "", 1
        close(reader.number)
    end
    return true
end

local of_readers = { __index = methods, __metatable = false }

-- Requests

-- Send what a function gives. Returns nil and why that fails.
local function send_parts(number, body)
    while true do
        server.count(1)
        local part = body()
        if type(part) == "number" then part = part .. "" end
        if part ~= nil and type(part) ~= "string" then
            close(number)
            wrong("body", "found a function that returned %s, expected text or nil", kind(part))
        end
        if part ~= "" then
            local ok, problem = send(number, part or "")
            if not ok then return nil, problem end
            if part == nil or ok == "refused" then return true end
        end
    end
end

local function request(options)
    if type(options) == "string" then options = { url = options } end
    if type(options) ~= "table" then wrong("request", "found %s, expected a URL or a table", kind(options)) end
    for name in next, options do
        if not OPTIONS[name] then wrong("request", "found '%s', which is no option", lua.tostring(name)) end
    end
    local url, method, body, verify = text(options.url, "url"), options.method, options.body, options.verify
    method = method == nil and (body ~= nil and "POST" or "GET") or upper(text(method, "method"))
    if not find(method, TOKEN) or method == "CONNECT" then
        wrong("method", "found %s, expected a method such as GET", method == "CONNECT" and method or "other characters")
    end
    if body ~= nil and type(body) ~= "function" then body = text(body, "body") end
    if verify == nil then verify = true end
    if type(verify) ~= "boolean" then verify = text(verify, "verify") end
    local ok, problem = check(url, verify)
    if not ok then server.errors.blame("greenfcgi.http: " .. problem) end
    local is_function, is_stream = type(body) == "function", options.stream and true or false
    local lines = header_lines(options.headers, not is_function)
    local seconds = amount(options.timeout, "timeout", SECONDS, 0.001, 1e6)
    local redirects = amount(options.redirects, "redirects", REDIRECTS, 0, 100)
    last = last + 1
    local number = last
    local head, part, more
    if is_function then
        head, part, more = start(number, method, url, lines, nil, seconds, redirects, verify, is_stream)
        if head then
            head, part = send_parts(number, body)
            if head then head, part, more = answer(number) end
        end
    else
        head, part, more = start(number, method, url, lines, body or "", seconds, redirects, verify, is_stream)
    end
    if not head then return nil, part end
    local response = response_of(head)
    if is_stream then
        readers[response] = { number = number, more = more, buffer = part, at = 1 }
        return setmetatable(response, of_readers)
    end
    response.body, problem = whole(number, part, more)
    if problem then return nil, problem end
    return response
end

-- With options beside what is said by their place.
local function with(options, url, method, body)
    local all = {}
    if options ~= nil and type(options) ~= "table" then wrong("options", "found %s, expected a table", kind(options)) end
    for name, value in next, options or {} do all[name] = value end
    all.url, all.method, all.body = url, method, body
    return request(all)
end

return {
    request = request,
    get = function(url, options) return with(options, url, "GET") end,
    post = function(url, body, options) return with(options, url, "POST", body) end,
}
