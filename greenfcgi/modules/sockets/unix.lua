-- The module that scripts get by require "socket.unix": sockets of the file system.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local sockets = lua.rawget(server, "sockets") or server.opening("sockets")
local functions, create, of_class, text, set_class =
    sockets.functions, sockets.create, sockets.of_class, sockets.text, sockets.set_class

-- Of a name of a unix socket.
local MAX_PATH = 107

-- The absolute path; one that begins with a zero byte is in the abstract namespace.
local function path_of(path, name)
    path = text(path, 2, name)
    -- The system would take what is before it.
    if lua.byte(path) ~= 0 and lua.find(path, "\0", 1, true) then sockets.wrong(2, name, "string contains zeros") end
    if lua.byte(path) ~= 0 then path = server.paths(path) end
    if #path > MAX_PATH then return nil, "path too long" end
    return path
end

local function bound(classes, name)
    return function(self, path)
        local record = of_class(classes, self, name)
        local problem
        path, problem = path_of(path, name)
        if not path then return nil, problem end
        if lua.byte(path) ~= 0 and server.call("check", path, false, true) then return nil, "permission denied" end
        local ok
        ok, problem = functions.bind(record.number or 0, path, "")
        if not ok then return nil, problem end
        return 1
    end
end

local function connected(classes, class, name)
    return function(self, path, options)
        local record = of_class(classes, self, name)
        local problem
        path, problem = path_of(path, name)
        if not path then return nil, problem end
        if not record.number then return nil, "closed" end
        local pool = lua.type(options) == "table" and options.pool or nil
        if pool ~= nil then pool = text(pool, 3, name) end
        local ok
        ok, problem = functions.connect(record.number, path, "", record.each, record.total, pool)
        if not ok then return nil, problem end
        record.reused = problem
        set_class(self, class)
        return 1
    end
end

local stream, datagram = {}, {}
for name, f in lua.next, sockets.methods.tcp do stream[name] = f end
for name, f in lua.next, sockets.methods.udp do datagram[name] = f end
sockets.methods.stream, sockets.methods.datagram = stream, datagram
stream.bind = bound("unixstream{master}", "bind")
stream.connect = connected("unixstream{master} unixstream{client}", "unixstream{client}", "connect")
stream.setpeername, stream.setsockname = stream.connect, stream.bind
datagram.bind = bound("unixdgram{unconnected}", "bind")
datagram.connect = connected("unixdgram{unconnected} unixdgram{connected}", "unixdgram{connected}", "connect")
datagram.setpeername, datagram.setsockname = datagram.connect, datagram.bind

function datagram.sendto(self, data, path)
    local record = of_class("unixdgram{unconnected}", self, "sendto")
    data = text(data, 2, "sendto")
    local problem
    path, problem = path_of(path, "sendto")
    if not path then return nil, problem end
    if not record.number then return nil, "closed" end
    local ok, sent = functions.send_to(record.number, data, path, "")
    if not ok then return nil, sent end
    return sent
end

for class in lua.gmatch("unixstream{master} unixstream{client} unixstream{server}", "[^ ]+") do
    sockets.define(class, "stream")
end
for class in lua.gmatch("unixdgram{unconnected} unixdgram{connected}", "[^ ]+") do sockets.define(class, "datagram") end

local M = {}

function M.stream() return create("unixstream{master}", "unix", "tcp") end
function M.dgram() return create("unixdgram{unconnected}", "unix", "udp") end
M.tcp, M.udp = M.stream, M.dgram
function M.__call() return M.stream() end

-- Before version 3, the module was the function.
return lua.setmetatable(M, M)
