-- A response that is more than a body with the headers of the settings: header, status, flush, reset and finish of con; one
-- that is larger than what waits at once; one without a body; and what finalizers write. Compiled for the first of these in
-- a state.
--
-- What con.lua has collected lies there until it is taken; it is the end of what waits.
--
-- returns: a table: those five methods
--          begin(head_only, is_authorizer), finish_up(guarded_call), abandon(): as in con.lua, for each request from then on
--          access(watcher, bytes): for response_access.lua, see there
--          relieve(is_too_much): there are many pieces, or many bytes, that wait
--          swap(...): see below

local lua, server = ...

local tostring, type = lua.tostring, lua.type
local concat, find, format, gmatch, match, sub = lua.concat, lua.find, lua.format, lua.gmatch, lua.match, lua.sub
local check, settings, swap_pieces = server.check, server.settings, server.swap

-- Names of headers that are kept.
local MAX_KNOWN <const> = 64

local blocks, filled                   -- the output before those pieces, where there are many; how many blocks
local asides, aside_size               -- what finalizers have written beside it; nil: nothing
local code, status                     -- 404, "404 Not Found"; nil: not set by the script
local lines, places                    -- the header lines, and where those are that come once; nil: those of the settings
local head_sent, bodiless              -- the header block has left; the response has no body
local refuses                          -- without a status of the script's, the response is 403
local answered                         -- the con whose reply has been sent before the script has ended; nil: not so
local watcher                          -- of response_access.lua; nil: nobody watches
local declared, sent, cut              -- Content-Length, bytes of the body that have left, whether some were cut off

local function begin(head_only, is_authorizer)
    blocks, filled, asides, aside_size = nil, 0, nil, 0
    code, status, lines, places = nil, nil, nil, nil
    head_sent, bodiless, refuses = false, head_only, is_authorizer
    declared, sent, cut, answered, watcher = nil, 0, false, nil, nil
end

begin(false, false)

-- Headers

local function comes_once(key) return find(settings.once, " " .. key .. " ", 1, true) end

local function set_status(number, reason)
    code = number
    status = format("%d %s", number, reason or server.reasons[number] or "Status")
end

-- Names that have been checked, in small letters; as many as a script uses that does not make them up.
local keys, known = {}, 0

local function key_of(name)
    local key = keys[name]
    if key then return key end
    if not find(name, "^[%w!#$%%&'*+.^_`|~-]+$") then server.refusals.wrong_name(name) end
    key = lua.lower(name)
    if known < MAX_KNOWN then keys[name], known = key, known + 1 end
    return key
end

-- The header lines of the settings, each behind its name in small letters. Status stands last in a response, where HAProxy
-- needs it: it takes a Location behind it for a redirect of its own, with 302. So it is left out here.
local defaults = {}
for name, value in gmatch(settings.head, "([^:\r\n]+): ([^\r\n]*)\r\n") do
    if name ~= "Status" then
        defaults[#defaults + 1] = lua.lower(name)
        defaults[#defaults + 1] = name .. ": " .. value .. "\r\n"
    end
end

local function copy_defaults()
    lines, places = {}, {}
    for at = 1, #defaults, 2 do
        local place = #lines + 1
        lines[place], places[defaults[at]] = defaults[at + 1], place
    end
end

-- A header that is more than a line. Returns false where it is not to be sent.
local function is_sent(key, value)
    if key == "transfer-encoding" then
        server.call("log", "warning", "header Transfer-Encoding dropped: the web server chooses it")
        return false
    elseif key == "status" then
        local number, reason = match(value .. " ", "^([2-9]%d%d)%s+(.-)%s*$")
        if not number then server.refusals.wrong_status(value) end
        set_status(lua.tonumber(number), reason ~= "" and reason or nil)
        return false
    elseif key == "content-length" then
        if not find(value, "^%d+$") or #value > 15 then server.refusals.wrong_length(value) end
        declared = lua.tonumber(value)
    end
    return true
end

local function open_head()
    if watcher then watcher() end
    local head = settings.head
    if lines or code or refuses then
        if not lines then copy_defaults() end
        if not code and places.location then
            set_status(302)
        elseif not code and refuses then
            set_status(403)
        end
        head = concat(lines) .. "Status: " .. (status or settings.http_status) .. "\r\n\r\n"
    end
    local number = code or settings.code
    if number == 204 or number == 205 or number == 304 then bodiless = true end
    return number, head
end

local function access(new_watcher, bytes)
    if not lines then copy_defaults() end
    watcher, sent = new_watcher or watcher, sent + (bytes or 0)
    return lines, places, head_sent, bodiless, refuses, answered, watcher
end

-- What ends a header. Lua 5.1 and LuaJIT end a pattern at a zero byte, and have a class for it.
local breaks = lua.version == "Lua 5.1" and "[\r\n%z]" or "[\r\n\0]"

local function header(self, name, value)
    check(self, "header")
    if type(name) ~= "string" then server.refusals.wrong("header", 1, "string", name) end
    if value == nil then
        local line = name
        name, value = match(line, "^([^:]*):[ \t]*(.*)$")
        if not name then server.refusals.no_colon(line) end
    elseif type(value) == "number" then
        value = value % 1 == 0 and value < 2 ^ 53 and format("%d", value) or tostring(value)
    elseif type(value) ~= "string" then
        server.refusals.wrong("header", 2, "string", value)
    end
    local key = key_of(name)
    if find(value, breaks) then server.refusals.broken(name) end
    if head_sent then
        server.call("log", "warning", format("header '%s' ignored: the headers have been sent already", name))
    elseif is_sent(key, value) then
        if not lines then copy_defaults() end
        local place = comes_once(key) and places[key] or #lines + 1
        places[key] = place
        lines[place] = name .. ": " .. value .. "\r\n"
    end
end

local function set_status_of(self, number, reason)
    check(self, "status")
    if type(number) ~= "number" then server.refusals.wrong("status", 1, "number", number) end
    if number % 1 ~= 0 or number < 200 or number > 999 then server.refusals.no_status(number) end
    if reason ~= nil then
        if type(reason) ~= "string" then server.refusals.wrong("status", 2, "string", reason) end
        if find(reason, breaks) then server.refusals.broken_reason() end
    end
    if head_sent then
        server.call("log", "warning", format("status %d ignored: the headers have been sent already", number))
    else
        set_status(lua.floor(number), reason)
    end
end

-- Output. A finalizer may run between any two steps, and send.

local function join()
    local fresh, more = {}, blocks or {}
    local pieces, number = swap_pieces(fresh, 0)
    local text = concat(pieces, "", 1, number)
    if not blocks then blocks, filled = more, 0 end
    blocks[filled + 1] = text
    filled = filled + 1
end

local function take()
    local fresh = {}
    local pieces, number, bytes = swap_pieces(fresh, 0, 0)
    local parts, last, is_nothing = blocks, filled, bodiless or bytes == 0
    blocks = nil
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
                server.call("log", "warning", format("Content-Length says %d, but the script wrote more: cut off", declared))
            end
            text = sub(text, 1, room)
        else
            sent = sent + #text
        end
    end
    return text
end

local function send()
    local number, head = 0, ""
    if not head_sent then number, head = open_head() end
    local text = take()
    if head_sent then number, head = 0, "" end
    if head == "" and text == "" then return end
    -- Not before: what goes before it may fail for want of memory.
    head_sent = true
    server.waiting.wait("send", number, head, text)
end

local function relieve(is_too_much)
    if is_too_much then send() else join() end
end

-- What waits is put aside, for what a finalizer writes in the midst of what is here; `text` is what one has written.
local function swap(pieces, number, bytes, parts, last, text)
    if text then
        if not asides then asides, aside_size = {}, 0 end
        asides[#asides + 1] = text
        aside_size = aside_size + #text
        return
    end
    local a, b, c = swap_pieces(pieces, number, bytes)
    local d, e = blocks, filled
    blocks, filled = parts, last
    return a, b, c, d, e
end

local function flush(self)
    check(self, "flush")
    send()
end

local function reset(self)
    check(self, "reset")
    swap_pieces({}, 0, 0)
    blocks = nil
end

local function waiting()
    local pieces, number, size = swap_pieces(nil, 0)
    swap_pieces(pieces, number)
    return pieces, number, size
end

-- The response is over: status, header block and what is left of the body. Status 0: the headers have gone before. Or
-- "short", a message and what is left of the body: it is not as long as the headers that have gone say. Without guarded_call,
-- the script goes on.
local function finish(guarded_call)
    if watcher and guarded_call then
        local kind, message, trace = watcher(guarded_call)
        watcher = nil
        if kind then return kind, message, trace end
    end
    if head_sent then
        local text = take()
        if declared and not bodiless and sent < declared then
            return "short", format("Content-Length says %d, but the script wrote %d bytes", declared, sent), text
        end
        return 0, "", text
    end
    if code == 204 or code == 205 or code == 304 then bodiless = true end
    if declared and not bodiless then
        local _, _, size = waiting()
        if declared > size + aside_size then
            server.call("log", "warning", format("Content-Length says %d, but the script wrote %d bytes: header dropped",
                declared, size + aside_size))
            lines[places["content-length"]], declared = "", nil
        end
    end
    local number, head = open_head()
    return number, head, take()
end

local function finish_early(self)
    check(self, "finish")
    local number, head, text = finish()
    head_sent, declared, bodiless = true, nil, true
    if number == "short" then
        server.call("finish", 0, "", text, head)
    else
        server.call("finish", number, head, text)
    end
    answered = self
end

local function abandon()
    blocks, asides = nil, nil
end

return {
    header = header, status = set_status_of, flush = flush, reset = reset, finish = finish_early, begin = begin,
    finish_up = finish, access = access, abandon = abandon, relieve = relieve, swap = swap,
}
