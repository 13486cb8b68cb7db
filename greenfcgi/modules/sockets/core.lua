-- The module that scripts get by require "socket.core": what LuaSocket's own Lua files are built upon.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local sockets = lua.rawget(server, "sockets") or server.opening("sockets")

local select_arguments, setmetatable, type, error = lua.select, lua.setmetatable, lua.type, lua.error
local concat, format, gmatch, tonumber = lua.concat, lua.format, lua.gmatch, lua.tonumber
local functions, create, records, text, number, wrong =
    sockets.functions, sockets.create, sockets.records, sockets.text, sockets.number, sockets.wrong

local MAX_SELECTED = 1024

local M = { _VERSION = "LuaSocket 3.0.0", _SETSIZE = MAX_SELECTED, _SOCKETINVALID = -1, _DATAGRAMSIZE = 8192 }

function M.tcp() return create("tcp{master}", "", "tcp") end
function M.tcp4() return create("tcp{master}", "inet", "tcp") end
function M.tcp6() return create("tcp{master}", "inet6", "tcp") end
function M.udp() return create("udp{unconnected}", "", "udp") end
function M.udp4() return create("udp{unconnected}", "inet", "udp") end
function M.udp6() return create("udp{unconnected}", "inet6", "udp") end

-- connect(host, port[, local host, local port[, family]])
function M.connect(host, port, local_host, local_port, family)
    family = family == nil and "" or text(family, 5, "connect")
    if family == "unspec" then family = "" end
    if family ~= "" and family ~= "inet" and family ~= "inet6" then
        wrong(5, "connect", "invalid option '" .. family .. "'")
    end
    local socket, problem = create("tcp{master}", family, "tcp")
    if not socket then return nil, problem end
    if local_host ~= nil then
        local ok
        ok, problem = socket:bind(local_host, local_port == nil and 0 or local_port)
        if not ok then
            socket:close()
            return nil, problem
        end
    end
    local ok
    ok, problem = socket:connect(host, port)
    if not ok then
        socket:close()
        return nil, problem
    end
    return socket
end

function M.gettime() return functions.time() end

function M.sleep(seconds)
    seconds = number(seconds, 1, "sleep")
    if seconds > 0 then server.waiting.sleep(nil, seconds < 1e8 and seconds or 1e8) end
end

function M.skip(count, ...)
    count = number(count, 1, "skip")
    if count < 0 or count > 1e6 then wrong(1, "skip", "found " .. count .. ", expected a number of results from 0") end
    return select_arguments(lua.floor(count) + 1, ...)
end

-- Errors that protect turns into results

local raised = { __tostring = function(problem) return lua.tostring(problem[1]) end, __metatable = false }

function M.newtry(finalizer)
    return function(...)
        if ... then return ... end
        if type(finalizer) == "function" then server.pcall(finalizer) end
        error(setmetatable({ (select_arguments(2, ...)) }, raised), 0)
    end
end

local function protected(ok, ...)
    if ok then return ... end
    local problem = ...
    if type(problem) == "table" and lua.metatable_of(problem) == raised then return nil, problem[1] end
    error(problem, 0)
end

function M.protect(f)
    return function(...) return protected(server.pcall(f, ...)) end
end

-- select

-- Numbers of sockets as text, those of them that have bytes in their buffer, and which socket has which number.
local function collected(list, position)
    if list == nil then return "", {}, {} end
    if type(list) ~= "table" then wrong(position, "select", "table expected, got " .. type(list)) end
    local numbers, dirty, by_number = {}, {}, {}
    for i = 1, #list do
        if i > MAX_SELECTED then wrong(position, "select", "more than " .. MAX_SELECTED .. " sockets") end
        local object = list[i]
        local record = records[object]
        -- What other libraries wrap a socket in has one by its descriptor, and may know more.
        local is_dirty
        if record then
            is_dirty = sockets.is_dirty(record)
        elseif type(object) == "table" and type(object.getfd) == "function" then
            record = sockets.of_descriptor(object:getfd())
            is_dirty = type(object.dirty) == "function" and object:dirty()
        end
        if record and record.number then
            numbers[#numbers + 1] = format("%d", record.number)
            by_number[record.number] = object
            if is_dirty then dirty[#dirty + 1] = object end
        end
    end
    return concat(numbers, " "), dirty, by_number
end

local function listed(result, found, by_number)
    for word in gmatch(found, "%d+") do
        local object = by_number[tonumber(word)]
        if result[object] == nil then
            result[#result + 1] = object
            result[object] = #result
        end
    end
end

function M.select(reads, writes, seconds)
    local read_numbers, dirty, readers = collected(reads, 1)
    local write_numbers, _, writers = collected(writes, 2)
    seconds = seconds == nil and -1 or number(seconds, 3, "select")
    local readable, writable = {}, {}
    for i = 1, #dirty do
        readable[i] = dirty[i]
        readable[dirty[i]] = i
    end
    local found, problem = functions.select(read_numbers, write_numbers, #dirty > 0 and 0 or seconds)
    if found then
        listed(readable, found, readers)
        listed(writable, problem, writers)
    end
    if #readable == 0 and #writable == 0 then return readable, writable, "timeout" end
    return readable, writable
end

-- Names

local dns = {}
M.dns = dns

function dns.gethostname() return (functions.host_name()) end

local function host_entry(what, name)
    local found = functions.resolve(what, name)
    if not found then return nil, "host not found" end
    local entry = { alias = {}, ip = {} }
    local list
    for line in gmatch(found .. "\n", "([^\n]*)\n") do
        if not entry.name then
            entry.name, list = line, entry.alias
        elseif line == "" then
            list = entry.ip
        else
            list[#list + 1] = line
        end
    end
    return entry
end

function dns.toip(name)
    local entry, problem = host_entry("by_name", text(name, 1, "toip"))
    if not entry then return nil, problem end
    return entry.ip[1], entry
end

function dns.tohostname(address)
    local entry, problem = host_entry("by_address", text(address, 1, "tohostname"))
    if not entry then return nil, problem end
    return entry.name, entry
end

function dns.getaddrinfo(name)
    local found, problem = functions.resolve("addresses", text(name, 1, "getaddrinfo"))
    if not found then return nil, problem end
    local list = {}
    for family, address in gmatch(found, "(%S+) (%S+)") do list[#list + 1] = { family = family, addr = address } end
    return list
end

function dns.getnameinfo(name, service)
    if service ~= nil then service = text(service, 2, "getnameinfo") end
    if name == nil and service == nil then wrong(1, "getnameinfo", "host and service cannot both be nil") end
    local found, problem = functions.resolve("names", name == nil and "" or text(name, 1, "getnameinfo"), service)
    if not found then return nil, problem end
    local list, port = {}, nil
    for host, each in gmatch(found, "(%S+) (%S+)") do list[#list + 1], port = host, each end
    return list, service and port
end

function M.__unload() return 1 end

return M
