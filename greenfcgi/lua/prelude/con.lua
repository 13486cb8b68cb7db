-- The connection object that a handler gets: what it writes is collected here, and made into a response.
--
-- One request at a time runs in a state, so the response under way is held in upvalues. `con` itself is new
-- for each request: one that a script has kept is refused later instead of writing into a stranger's page.
--
-- arguments: host: log(level, text), send(status, head, data), read(n), sleep(seconds)
--            settings: http_status, content_type, headers (array), buffering, config (table)
--            later(name, ...): a part that is compiled now; errors(): the functions of errors.lua
--
-- What few scripts use of it is in seldom.lua.

local host, settings, later, errors = ...

local pairs, select, setmetatable, tonumber, tostring, type = pairs, select, setmetatable, tonumber, tostring, type
local find, format, gmatch, lower, match, sub =
    string.find, string.format, string.gmatch, string.lower, string.match, string.sub
local concat = table.concat

-- Past this, buffered output leaves in parts, so that a long page is not bounded by the memory of the state.
local MOST_BUFFERED = 1048576
-- So many pieces are joined into a block: a page of single characters would need 16 times its size in places for them.
local MOST_PIECES = 4096
-- Values that one call writes.
local MOST_VALUES = 8
-- Names of headers that are kept.
local MOST_KNOWN = 64

-- Headers that a response has once: setting one again replaces it. Any other name can come several times.
local ONCE = { ["content-type"] = true, ["content-length"] = true, location = true, ["last-modified"] = true,
    etag = true, ["x-accel-redirect"] = true, ["x-sendfile"] = true }

local default_code = tonumber(sub(settings.http_status, 1, 3))
-- Bytes that wait at most: none where each piece leaves at once.
local most_buffered = settings.buffering and MOST_BUFFERED or -1

local NOBODY = {}
local current = NOBODY                 -- the con of the request under way
local out, count, size                 -- the output that waits, its pieces, its bytes
local asides, aside_size               -- what finalizers have written beside it; nil: nothing
local blocks, filled                   -- the output before those pieces, where there are many; how many blocks
local code, status                     -- 404, "404 Not Found"; nil: not set by the script
local lines, places                    -- the header lines, and where those of ONCE are; nil: the defaults
local head_sent, bodiless              -- the header block has left; the response has no body
local refuses                          -- without a status of the script's, the response is 403
local declared, sent, cut              -- Content-Length, bytes of the body that have left, whether some were cut off

local seldom

local function check(self, name)
    if self ~= current then seldom().refuse(self, name) end
end

local function wrong(...) seldom().wrong(...) end

-- Headers

-- Status stands last, where HAProxy needs it: it takes a Location behind it for a redirect of its own, with 302.
local default_lines, default_places = { "Content-Type: " .. settings.content_type .. "\r\n" }, { ["content-type"] = 1 }
local default_head

local function add(key, name, value)
    local place = ONCE[key] and places[key] or #lines + 1
    if ONCE[key] then places[key] = place end
    lines[place] = name .. ": " .. value .. "\r\n"
end

-- What the numbers of statuses mean, once that is asked.
local reasons

local function set_status(number, reason)
    code = number
    if not reason then
        reasons = reasons or later("reasons")
        reason = reasons[number] or "Status"
    end
    status = format("%d %s", number, reason)
end

-- What ends a header. Lua 5.1 and LuaJIT end a pattern at a zero byte, and have a class for it.
local BREAKS = _VERSION == "Lua 5.1" and "[\r\n%z]" or "[\r\n\0]"

-- Names that have been checked, in small letters; as many as a script uses that does not make them up.
local keys, known = {}, 0

local function key_of(name)
    local key = keys[name]
    if key then return key end
    if not find(name, "^[%w!#$%%&'*+.^_`|~-]+$") then
        seldom().wrong_name(name)
    end
    key = lower(name)
    if known < MOST_KNOWN then keys[name], known = key, known + 1 end
    return key
end

local function copy_defaults()
    lines, places = {}, {}
    for i = 1, #default_lines do lines[i] = default_lines[i] end
    for key, place in pairs(default_places) do places[key] = place end
end

-- The headers that are more than a line.
local SPECIAL = { status = true, ["transfer-encoding"] = true, ["content-length"] = true }

local function set_header(key, name, value)
    if SPECIAL[key] then
        local length = seldom().special(key, value)
        if not length then return end
        declared = length
    end
    if not lines then copy_defaults() end
    add(key, name, value)
end

local function build_head()
    if not lines and not code and not refuses then return default_code, default_head end
    if not lines then copy_defaults() end
    if not code and places.location then
        set_status(302)
    elseif not code and refuses then
        set_status(403)
    end
    return code or default_code, concat(lines) .. "Status: " .. (status or settings.http_status) .. "\r\n\r\n"
end

lines, places = default_lines, default_places
for _, line in ipairs(settings.headers) do
    local name, value = match(line, "^([^:]+):%s*(.*)$")
    add(lower(name), name, value)
end
default_head = concat(default_lines) .. "Status: " .. settings.http_status .. "\r\n\r\n"

-- Output. A finalizer may run between any two steps, and send.

local function join()
    local fresh, more = {}, blocks or {}
    local pieces, number = out, count
    out, count = fresh, 0
    local text = concat(pieces, "", 1, number)
    if not blocks then blocks, filled = more, 0 end
    blocks[filled + 1] = text
    filled = filled + 1
end

local function take()
    local fresh = {}
    local pieces, number, parts, last, is_nothing = out, count, blocks, filled, bodiless or size == 0
    out, count, size, blocks = fresh, 0, 0, nil
    local text
    if is_nothing then
        text = ""
    elseif parts then
        parts[last + 1] = concat(pieces, "", 1, number)
        text = concat(parts, "", 1, last + 1)
    elseif number == 1 then
        text = pieces[1]
    else
        text = concat(pieces, "", 1, number)
    end
    if asides and not bodiless then
        local texts = asides
        asides, aside_size = nil, 0
        text = text .. concat(texts)
    end
    if declared and not bodiless then
        local room = declared - sent
        if #text > room then
            sent = declared
            if not cut then
                cut = true
                host.log("warning", format("Content-Length says %d, but the script wrote more: cut off", declared))
            end
            text = sub(text, 1, room)
        else
            sent = sent + #text
        end
    end
    return text
end

local function open_head()
    local number, head = build_head()
    if number == 204 or number == 205 or number == 304 then bodiless = true end
    return number, head
end

-- What waits is put aside, for what a finalizer writes in the midst of what is here; `text` is what one has written.
local function swap(pieces, number, bytes, parts, last, text)
    if text then
        if not asides then asides, aside_size = {}, 0 end
        asides[#asides + 1] = text
        aside_size = aside_size + #text
        return
    end
    local a, b, c, d, e = out, count, size, blocks, filled
    out, count, size, blocks, filled = pieces, number, bytes, parts, last
    return a, b, c, d, e
end

local function send()
    local number, head = 0, ""
    if not head_sent then number, head = open_head() end
    local text = take()
    if head_sent then number, head = 0, "" end
    if head == "" and text == "" then return end
    -- Not before: what goes before it may fail for want of memory.
    head_sent = true
    host.send(number, head, text)
end

local methods = {}

-- Several values as one text.
local function joined(...)
    local parts, n = { ... }, MOST_VALUES + 1
    while parts[n] == nil do n = n - 1 end
    if n > MOST_VALUES then seldom().too_many(MOST_VALUES) end
    for i = 1, n do
        local part = parts[i]
        if type(part) == "number" then
            parts[i] = tostring(part)
        elseif type(part) ~= "string" then
            wrong("puts", i, "string", part)
        end
    end
    return concat(parts, "", 1, n)
end

-- Not `...`, which would cost each call a fifth more.
function methods.puts(self, text, second, third, fourth, fifth, sixth, seventh, eighth, ninth)
    if self ~= current then check(self, "puts") end
    if second ~= nil or third ~= nil then
        text = joined(text, second, third, fourth, fifth, sixth, seventh, eighth, ninth)
    end
    if type(text) ~= "string" then
        if type(text) ~= "number" then wrong("puts", 1, "string", text) end
        text = tostring(text)
    end
    local place, bytes = count + 1, size + #text
    out[place] = text
    count, size = place, bytes
    if place == MOST_PIECES then join() end
    if bytes > most_buffered then send() end
end

function methods.flush(self)
    check(self, "flush")
    send()
end

function methods.reset(self)
    check(self, "reset")
    out, count, size, blocks = {}, 0, 0, nil
end

function methods.header(self, name, value)
    check(self, "header")
    if type(name) ~= "string" then wrong("header", 1, "string", name) end
    if value == nil then
        local line = name
        name, value = match(line, "^([^:]*):[ \t]*(.*)$")
        if not name then seldom().no_colon(line) end
    elseif type(value) == "number" then
        value = value % 1 == 0 and value < 2 ^ 53 and format("%d", value) or tostring(value)
    elseif type(value) ~= "string" then
        wrong("header", 2, "string", value)
    end
    local key = key_of(name)
    if find(value, BREAKS) then
        seldom().broken(name)
    end
    if head_sent then
        host.log("warning", format("header '%s' ignored: the headers have been sent already", name))
    else
        set_header(key, name, value)
    end
end

-- What is seldom used

local seldom_functions

function seldom()
    if not seldom_functions then
        seldom_functions = later("seldom", errors, host, settings, check, set_status, BREAKS, function() return head_sent end)
    end
    return seldom_functions
end

for name in gmatch("status gets config log sleep", "%a+") do
    methods[name] = function(...) return seldom()[name](...) end
end

-- Finalizers call it while the state is closed, when nothing may be compiled any more.
function print(...)
    local n = select("#", ...)
    local parts = { ... }
    for i = 1, n do parts[i] = tostring(parts[i]) end
    host.log("info", concat(parts, "\t", 1, n))
end

-- The life of a response

local meta = { __index = methods }

local function begin(head_only, is_authorizer)
    current = setmetatable({}, meta)
    out, count, size, blocks, asides, aside_size = {}, 0, 0, nil, nil, 0
    code, status, lines, places = nil, nil, nil, nil
    head_sent, bodiless, refuses = false, head_only, is_authorizer
    declared, sent, cut = nil, 0, false
    return current
end

-- The response is over: status, header block and what is left of the body. Status 0: the headers have gone before. Or
-- "short", a message and what is left of the body: it is not as long as the headers that have gone say.
local function finish()
    current = NOBODY
    if head_sent then
        local text = take()
        if declared and not bodiless and sent < declared then
            return "short", format("Content-Length says %d, but the script wrote %d bytes", declared, sent), text
        end
        return 0, "", text
    end
    if code == 204 or code == 205 or code == 304 then bodiless = true end
    if declared and not bodiless and declared > size + aside_size then
        host.log("warning", format("Content-Length says %d, but the script wrote %d bytes: header dropped", declared,
            size + aside_size))
        lines[places["content-length"]], declared = "", nil
    end
    local number, head = open_head()
    return number, head, take()
end

local function abandon()
    current, out, blocks, asides = NOBODY, nil, nil, nil
end

-- What has been written and not sent, for developers.
local function written()
    if not out then return "" end
    return concat(blocks or {}, "", 1, blocks and filled or 0) .. concat(out, "", 1, count)
end

return begin, finish, abandon, written, swap, { config = methods.config, log = methods.log, sleep = methods.sleep }
