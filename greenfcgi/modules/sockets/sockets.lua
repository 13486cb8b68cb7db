-- Sockets as LuaSocket has them, over functions of the server that wait without holding up others. What socket.core,
-- socket.unix and ssl share.
--
-- arguments: lua, server: see boot.lua
--            functions of the server: see sockets.py
-- returns: a table: functions: those that wait, made so that they do; create(class, family, kind): a new socket;
--          wrap(record, class): another object for a socket that exists; record(object): what is known of a socket, or nil;
--          of_class(classes, object, name): the same of one of these classes, or an error; define(class, methods);
--          methods: by families of classes; settle(is_end)

local lua, server, native = ...

local setmetatable, tonumber, tostring, type = lua.setmetatable, lua.tonumber, lua.tostring, lua.type
local find, format, gsub, match, sub = lua.find, lua.format, lua.gsub, lua.match, lua.sub
local concat, floor, newproxy, next, gmatch = lua.concat, lua.floor, lua.newproxy, lua.next, lua.gmatch
local call, waits, set_metatable = server.call, server.waiting.waits, server.debug.setmetatable

-- What is asked for at once: for a line, and for a number of bytes.
local LINE_PART, PART = 8192, 65536
-- The longest datagram.
local DATAGRAM = 8192
local MAX_DATAGRAM = 65536

local functions = {}
for name, f in next, native do functions[name] = f end
for name in gmatch("bind connect accept receive send send_to receive_from select resolve handshake", "[^ ]+") do
    functions[name] = waits(native[name])
end

local function blame(problem) server.errors.blame(problem) end

local function wrong(position, name, detail) blame(format("bad argument #%d to '%s' (%s)", position, name, detail)) end

-- Objects. What is known of each is a record: class, number (of the server's), buffer and at (what has been received and not
-- read begins there), each and total (of settimeout; below zero: none), received, sent, since.

local records = setmetatable({}, { __mode = "k" })
local by_number = {}
-- How many are open, how many the server has granted; some have been dropped; some have been opened, or used, since the
-- last run ended.
local held, granted, any_dropped, any_new, any_used = 0, 0, false, false, false

local metatables = {}
local methods = { tcp = {}, udp = {} }

-- All methods are there in each class, as LuaSocket's; those that do not fit say so.
local function define(class, family)
    local index = { class = class }
    for name, f in next, methods[family] do index[name] = f end
    local meta = { __index = index }
    function meta.__tostring(object)
        local record = records[object]
        return class .. ": " .. (record and match(tostring(record), "0x%x+") or "closed")
    end
    -- It allocates nothing, and the socket is closed when the run is over.
    function meta.__gc(object)
        local record = records[object]
        if record then record.is_dropped, any_dropped = true, true end
    end
    meta.__metatable = { __index = index, __tostring = meta.__tostring, [class] = true }
    metatables[class] = newproxy and newproxy(true) or meta
    if newproxy then
        local shared = lua.metatable_of(metatables[class])
        for name, value in next, meta do shared[name] = value end
    end
end

local function object_of(record)
    local meta = metatables[record.class]
    local object
    if newproxy then
        object = newproxy(meta)
    else
        object = setmetatable({}, meta)
    end
    records[object] = record
    return object
end

local function set_class(object, class)
    records[object].class = class
    local meta = metatables[class]
    if newproxy then meta = lua.metatable_of(meta) end
    set_metatable(object, meta)
end

local function close_record(record)
    local number = record.number
    if number then
        record.number, by_number[number] = nil, nil
        held = held - 1
        functions.close(number)
    end
    record.buffer, record.at = "", 1
end

-- A socket becomes another object's: the old one is closed for the script.
local function take_over(record, new)
    by_number[record.number] = new
    record.number, record.buffer, record.at = nil, "", 1
end

local function sweep()
    if not any_dropped then return end
    any_dropped = false
    for _, record in next, by_number do
        if record.is_dropped then close_record(record) end
    end
end

local function reserve()
    if held < granted then return true end
    sweep()
    if held < granted then return true end
    if not call("grant", 1) then
        -- What has been dropped, and nobody has noticed.
        lua.collectgarbage()
        sweep()
        if held < granted then return true end
        if not functions.drop_kept() or not call("grant", 1) then return false end
    end
    granted = granted + 1
    return true
end

local function add(class, number)
    local record = {
        class = class, number = number, buffer = "", at = 1, each = -1, total = -1, received = 0, sent = 0,
        since = functions.time(), is_dropped = false, is_used = true,
    }
    by_number[number] = record
    held, any_new, any_used = held + 1, true, true
    return record
end

local function create(class, family, kind)
    if not reserve() then return nil, "Too many open files" end
    local ok, number = functions.create(family, kind)
    if not ok then return nil, number end
    return object_of(add(class, number))
end

-- A run is over: sockets that nobody holds are closed; all of them, when the state goes. Returns how many are open.
local function settle(is_end)
    if is_end then
        for _, record in next, by_number do close_record(record) end
    elseif any_used then
        -- Of what was used for a client that has gone, an answer may be under way that the next run would take for its own.
        local was_gone = functions.was_gone()
        for _, record in next, by_number do
            if record.is_used and was_gone then close_record(record) end
            record.is_used = false
        end
        if any_new and held > 0 then
            lua.collectgarbage()
            sweep()
        end
    end
    any_new, any_used, granted = false, false, held
    return held
end

-- Of an object of another library that wraps a socket.
local function of_descriptor(descriptor)
    if type(descriptor) ~= "number" or descriptor < 0 then return nil end
    for own, record in next, by_number do
        if functions.descriptor(own) == descriptor then return record end
    end
end

local function of_class(classes, object, name)
    local record = records[object]
    if record and find(classes, record.class, 1, true) then return record end
    local expected = match(classes, "^[^ ]+")
    if record or type(object) == "userdata" or type(object) == "table" then
        blame(format("calling '%s' on bad self (%s expected)", name, expected))
    end
    wrong(1, name, expected .. " expected, got " .. (object == nil and "no value" or type(object)))
end

local function text(value, position, name)
    if type(value) == "number" then return value .. "" end
    if type(value) ~= "string" then
        wrong(position, name, "string expected, got " .. (value == nil and "no value" or type(value)))
    end
    return value
end

local function number(value, position, name, default)
    if value == nil and default then return default end
    local found = tonumber(value)
    if found ~= found then wrong(position, name, "number expected, got nan") end
    if not found or type(value) ~= "number" and type(value) ~= "string" then
        wrong(position, name, "number expected, got " .. (value == nil and "no value" or type(value)))
    end
    return found
end

-- Methods of every socket

local STREAMS = "tcp{client} unixstream{client} SSL:Connection"
local ANY_TCP = "tcp{any} tcp{master} tcp{client} tcp{server} unixstream{master} unixstream{client} "
    .. "unixstream{server} SSL:Connection"
local ANY_UDP = "udp{any} udp{unconnected} udp{connected} unixdgram{unconnected} unixdgram{connected}"
local ANY = ANY_TCP .. " " .. ANY_UDP

local every = {}

function every.close(self)
    close_record(of_class(ANY, self, "close"))
    return 1
end

-- Something can be read at once.
local function is_dirty(record)
    return record.at <= #record.buffer or record.number ~= nil and record.is_ready == true
        and functions.pending(record.number) ~= nil
end

function every.dirty(self) return is_dirty(of_class(ANY, self, "dirty")) end

function every.getfd(self)
    local record = of_class(ANY, self, "getfd")
    return record.number and functions.descriptor(record.number) or -1
end

function every.setfd(self, descriptor)
    local record = of_class(ANY, self, "setfd")
    if number(descriptor, 2, "setfd") >= 0 then wrong(2, "setfd", "only -1: descriptors are the server's") end
    close_record(record)
end

function every.settimeout(self, seconds, mode)
    local record = of_class(ANY, self, "settimeout")
    seconds = seconds == nil and -1 or number(seconds, 2, "settimeout")
    mode = mode == nil and "b" or text(mode, 3, "settimeout")
    local kind = sub(mode, 1, 1)
    if kind == "b" then
        record.each = seconds
    elseif kind == "t" or kind == "r" then
        record.total = seconds
    else
        wrong(3, "settimeout", "invalid timeout mode")
    end
    return 1
end

function every.gettimeout(self)
    local record = of_class(ANY, self, "gettimeout")
    return record.each, record.total
end

local function address(self, name, is_peer)
    local record = of_class(ANY, self, name)
    if not record.number then return nil, "closed" end
    local found, problem = functions.address(record.number, is_peer)
    if not found then return nil, problem end
    local host, port, family = match(found, "^(.*) (%d+) (%a+%d*)$")
    if not host then return (match(found, "^(.*) unix$")) end
    return host, port, family
end

function every.getpeername(self) return address(self, "getpeername", true) end
function every.getsockname(self) return address(self, "getsockname", false) end

function every.getfamily(self)
    local record = of_class(ANY, self, "getfamily")
    local found = record.number and functions.address(record.number, false)
    return found and find(found, " inet6$") and "inet6" or "inet4"
end

function every.setoption(self, name, value)
    local record = of_class(ANY, self, "setoption")
    name = text(name, 2, "setoption")
    local kind = functions.option_kind(name)
    if not kind then wrong(2, "setoption", "unsupported option `" .. name .. "'") end
    local first, second = value, nil
    if kind == "flag" then
        if type(value) ~= "boolean" then
            wrong(3, "setoption", "boolean expected, got " .. (value == nil and "no value" or type(value)))
        end
        first = value and 1 or 0
    elseif kind == "number" then
        first = floor(number(value, 3, "setoption"))
    elseif type(value) == "table" then
        if kind == "linger" then
            first, second = value.on and 1 or 0, floor(number(value.timeout, 3, "setoption", 0))
        else
            first, second = text(value.multiaddr, 3, "setoption"), value.interface
            if second ~= nil and type(second) ~= "number" then second = text(second, 3, "setoption") end
        end
    elseif kind == "address" then
        first = text(value, 3, "setoption")
    else
        wrong(3, "setoption", "table expected, got " .. type(value))
    end
    if not record.number then return nil, "closed" end
    local ok, problem = functions.set_option(record.number, name, first, second)
    if not ok then return nil, problem end
    return 1
end

function every.getoption(self, name)
    local record = of_class(ANY, self, "getoption")
    name = text(name, 2, "getoption")
    local kind = functions.option_kind(name)
    if not kind then wrong(2, "getoption", "unsupported option `" .. name .. "'") end
    if not record.number then return nil, "closed" end
    local found, value = functions.get_option(record.number, name)
    if not found then return nil, value end
    if kind == "linger" then return { on = found == "on" and 1 or 0, timeout = value } end
    if kind == "error" then return value ~= 0 and found or nil end
    if kind == "flag" then return value ~= 0 end
    return value
end

-- Methods of streams

local tcp = methods.tcp

-- Seconds that are left of `total` for an operation which has begun at a time that is known.
local function left(record, since)
    if record.total < 0 then return -1 end
    local rest = since + record.total - functions.clock()
    return rest > 0 and rest or 0
end

local function port_text(value, position, name)
    if type(value) == "number" and value % 1 == 0 then return format("%.0f", value) end
    return text(value, position, name)
end

function tcp.bind(self, host, port)
    local record = of_class("tcp{master}", self, "bind")
    host, port = text(host, 2, "bind"), port_text(port, 3, "bind")
    local ok, problem = functions.bind(record.number or 0, host, port)
    if not ok then return nil, problem end
    return 1
end

function tcp.listen(self, backlog)
    local record = of_class("tcp{master} unixstream{master}", self, "listen")
    local ok, problem = functions.listen(record.number or 0, number(backlog, 2, "listen", 32))
    if not ok then return nil, problem end
    set_class(self, find(record.class, "^tcp") and "tcp{server}" or "unixstream{server}")
    return 1
end

function tcp.accept(self)
    local record = of_class("tcp{server} unixstream{server}", self, "accept")
    if not record.number then return nil, "closed" end
    if not reserve() then return nil, "Too many open files" end
    local ok, accepted = functions.accept(record.number, record.each, record.total)
    if not ok then return nil, accepted end
    return object_of(add(find(record.class, "^tcp") and "tcp{client}" or "unixstream{client}", accepted))
end

function tcp.connect(self, host, port, options)
    local record = of_class("tcp{master} tcp{client}", self, "connect")
    host, port = text(host, 2, "connect"), port_text(port, 3, "connect")
    local pool = type(options) == "table" and options.pool or nil
    if pool ~= nil then pool = text(pool, 4, "connect") end
    if not record.number then return nil, "closed" end
    local ok, reused = functions.connect(record.number, host, port, record.each, record.total, pool)
    if not ok then return nil, reused end
    record.reused = reused
    if record.class ~= "tcp{client}" then set_class(self, "tcp{client}") end
    return 1
end

tcp.setpeername, tcp.setsockname = tcp.connect, tcp.bind

local function shutdown(self, direction)
    local record = of_class("tcp{client} unixstream{client}", self, "shutdown")
    direction = direction == nil and "both" or text(direction, 2, "shutdown")
    if direction ~= "both" and direction ~= "send" and direction ~= "receive" then
        wrong(2, "shutdown", "invalid option '" .. direction .. "'")
    end
    if not record.number then return nil, "closed" end
    functions.shutdown(record.number, direction)
    return 1
end
tcp.shutdown = shutdown

function tcp.send(self, data, i, j)
    local record = of_class(STREAMS, self, "send")
    data = text(data, 2, "send")
    local size = #data
    i, j = floor(number(i, 3, "send", 1)), floor(number(j, 4, "send", -1))
    if i < 0 then i = size + i + 1 end
    if j < 0 then j = size + j + 1 end
    if i < 1 then i = 1 end
    if j > size then j = size end
    if not record.number then return nil, "closed", i - 1 end
    if i > j then return i - 1, nil, nil end
    record.is_used, any_used = true, true
    local ok, problem, done = functions.send(record.number, data, i - 1, j, record.each, record.total)
    if not ok then
        done = done or 0
        record.sent = record.sent + done
        return nil, problem, i - 1 + done
    end
    record.sent = record.sent + problem
    return i - 1 + problem, nil, nil
end

-- The next bytes into the buffer, of which nothing is left. Returns nil and why there are none.
local function fill(record, most, since)
    if not record.number then return nil, "closed" end
    record.is_used, any_used = true, true
    local total = since and left(record, since) or record.total
    local data, problem = functions.receive(record.number, most, record.each, total)
    if not data then return nil, problem end
    record.buffer, record.at, record.received = data, 1, record.received + #data
    return data
end

local function without_returns(line) return (gsub(line, "\r", "")) end

local function receive_line(record, prefix)
    local since = record.total >= 0 and functions.clock()
    local parts, n = { prefix }, 1
    while true do
        local buffer, at = record.buffer, record.at
        local last = find(buffer, "\n", at, true)
        if last then
            record.at = last + 1
            local line = without_returns(sub(buffer, at, last - 1))
            if n == 1 then return prefix .. line end
            parts[n + 1] = line
            return concat(parts)
        end
        if at <= #buffer then
            n = n + 1
            parts[n] = without_returns(sub(buffer, at))
            record.buffer, record.at = "", 1
        end
        local more, problem = fill(record, LINE_PART, since)
        if not more then return nil, problem, concat(parts) end
    end
end

local function receive_bytes(record, count, prefix)
    local missing = count - #prefix
    if missing <= 0 then
        -- Without waiting for more, as some ask for nothing; those of a socket that they have closed are told.
        if #prefix == 0 and not record.number then return nil, "closed", "" end
        return prefix
    end
    local at = record.at
    if #record.buffer - at + 1 >= missing then
        record.at = at + missing
        return prefix .. sub(record.buffer, at, at + missing - 1)
    end
    local since = record.total >= 0 and functions.clock()
    local parts, n = { prefix }, 1
    while true do
        -- The number may be larger than `sub` takes.
        local there = #record.buffer - record.at + 1
        if there > 0 then
            if there > missing then there = missing end
            n = n + 1
            parts[n] = sub(record.buffer, record.at, record.at + there - 1)
            record.at = record.at + there
            missing = missing - there
        end
        if missing == 0 then return concat(parts) end
        local more, problem = fill(record, missing < LINE_PART and LINE_PART or missing < PART and missing or PART, since)
        if not more then return nil, problem, concat(parts) end
    end
end

local function receive_all(record, prefix)
    local since = record.total >= 0 and functions.clock()
    local parts, n = { prefix }, 1
    while true do
        if record.at <= #record.buffer then
            n = n + 1
            parts[n] = sub(record.buffer, record.at)
            record.buffer, record.at = "", 1
        end
        local more, problem = fill(record, PART, since)
        if not more then
            local all = concat(parts)
            if problem == "closed" and n > 1 then return all end
            return nil, problem, all
        end
    end
end

local function receive(self, pattern, prefix)
    local record = of_class(STREAMS, self, "receive")
    prefix = prefix == nil and "" or text(prefix, 3, "receive")
    if type(pattern) == "number" then
        if pattern < 0 or pattern % 1 ~= 0 then wrong(2, "receive", "invalid receive pattern") end
        return receive_bytes(record, floor(pattern), prefix)
    end
    pattern = pattern == nil and "l" or gsub(text(pattern, 2, "receive"), "^%*", "")
    local kind = sub(pattern, 1, 1)
    if kind == "l" then return receive_line(record, prefix) end
    if kind == "a" then return receive_all(record, prefix) end
    wrong(2, "receive", "invalid receive pattern")
end

-- As the original, with three results.
local function three(first, second, third) return first, second, third end

function tcp.receive(self, pattern, prefix) return three(receive(self, pattern, prefix)) end

function tcp.getstats(self)
    local record = of_class(ANY_TCP, self, "getstats")
    return record.received, record.sent, functions.time() - record.since
end

function tcp.setstats(self, received, sent, age)
    local record = of_class(ANY_TCP, self, "setstats")
    record.received = number(received, 2, "setstats", record.received)
    record.sent = number(sent, 3, "setstats", record.sent)
    if age ~= nil then record.since = functions.time() - number(age, 4, "setstats") end
    return 1
end

function tcp.setkeepalive(self, milliseconds, size)
    local record = of_class(STREAMS, self, "setkeepalive")
    milliseconds, size = number(milliseconds, 2, "setkeepalive", 60000), number(size, 3, "setkeepalive", 30)
    if milliseconds < 0 then wrong(2, "setkeepalive", "found a number below zero, expected milliseconds") end
    if size < 1 then wrong(3, "setkeepalive", "found " .. size .. ", expected a number of connections from 1") end
    if not record.number then return nil, "closed" end
    if record.at <= #record.buffer then return nil, "unread data in buffer" end
    local kept = record.number
    record.number, by_number[kept] = nil, nil
    held = held - 1
    local ok, problem = functions.keep(kept, milliseconds / 1000, size)
    if not ok then return nil, problem end
    return 1
end

function tcp.getreusedtimes(self)
    local record = of_class(STREAMS, self, "getreusedtimes")
    if not record.number then return nil, "closed" end
    return record.reused or 0
end

-- Methods of datagrams

local udp = methods.udp

local function datagram_size(size, name)
    size = number(size, 2, name, DATAGRAM)
    if size < 0 then wrong(2, name, "found a number below zero, expected bytes") end
    return size
end

local function next_datagram(record, size)
    if not record.number then return nil, "closed" end
    if size > MAX_DATAGRAM then size = MAX_DATAGRAM end
    record.is_used, any_used = true, true
    local data, sender = functions.receive_from(record.number, size, record.each, record.total)
    if data then record.received = record.received + #data end
    return data, sender
end

function udp.receive(self, size)
    local record = of_class(ANY_UDP, self, "receive")
    local data, problem = next_datagram(record, datagram_size(size, "receive"))
    if not data then return nil, problem end
    return data
end

function udp.receivefrom(self, size)
    local record = of_class("udp{unconnected} unixdgram{unconnected}", self, "receivefrom")
    local data, sender = next_datagram(record, datagram_size(size, "receivefrom"))
    if not data then return nil, sender end
    local host, port = match(sender, "^(.*) (%d+)$")
    if not host then return data, sender end
    return data, host, tonumber(port)
end

function udp.send(self, data)
    local record = of_class("udp{connected} unixdgram{connected}", self, "send")
    data = text(data, 2, "send")
    if not record.number then return nil, "closed" end
    local ok, sent = functions.send(record.number, data, 0, #data, record.each, record.total)
    if not ok then return nil, sent end
    return 1
end

function udp.sendto(self, data, host, port)
    local record = of_class("udp{unconnected}", self, "sendto")
    data, host, port = text(data, 2, "sendto"), text(host, 3, "sendto"), port_text(port, 4, "sendto")
    if not record.number then return nil, "closed" end
    local ok, sent = functions.send_to(record.number, data, host, port)
    if not ok then return nil, sent end
    return sent
end

function udp.setsockname(self, host, port)
    local record = of_class("udp{unconnected}", self, "setsockname")
    local ok, problem = functions.bind(record.number or 0, text(host, 2, "setsockname"), port_text(port, 3, "setsockname"))
    if not ok then return nil, problem end
    return 1
end

function udp.setpeername(self, host, port)
    local record = of_class("udp{unconnected} udp{connected}", self, "setpeername")
    host = text(host, 2, "setpeername")
    if not record.number then return nil, "closed" end
    if host == "*" then
        if record.class == "udp{connected}" then
            local ok, problem = functions.disconnect(record.number)
            if not ok then return nil, problem end
            set_class(self, "udp{unconnected}")
        end
        return 1
    end
    port = port_text(port, 3, "setpeername")
    local ok, problem = functions.connect(record.number, host, port, record.each, record.total)
    if not ok then return nil, problem end
    set_class(self, "udp{connected}")
    return 1
end

local function udp_getpeername(self)
    of_class("udp{connected} unixdgram{connected}", self, "getpeername")
    return every.getpeername(self)
end

for name, f in next, every do
    tcp[name] = f
    if name ~= "getpeername" then udp[name] = f end
end
udp.getpeername = udp_getpeername

for class in gmatch("tcp{master} tcp{client} tcp{server}", "[^ ]+") do define(class, "tcp") end
for class in gmatch("udp{unconnected} udp{connected}", "[^ ]+") do define(class, "udp") end

local sockets = {
    functions = functions, create = create, records = records, of_class = of_class, of_descriptor = of_descriptor,
    define = define, methods = methods, settle = settle, text = text, number = number, wrong = wrong, is_dirty = is_dirty,
    set_class = set_class, object_of = object_of, take_over = take_over,
}
server.sockets = sockets
return sockets
