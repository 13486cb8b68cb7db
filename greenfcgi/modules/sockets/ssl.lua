-- The module that scripts get by require "ssl": what LuaSec's module of that name has, for sockets of socket.core.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local sockets = lua.rawget(server, "sockets") or server.opening("sockets")

local type, setmetatable, tostring = lua.type, lua.setmetatable, lua.tostring
local concat, find, gmatch, match = lua.concat, lua.find, lua.gmatch, lua.match
local functions, records, of_class, text, wrong =
    sockets.functions, sockets.records, sockets.of_class, sockets.text, sockets.wrong

local CLASS = "SSL:Connection"

-- Contexts. What is known of one is text that the server reads.

local contexts = setmetatable({}, { __mode = "k" })
local context_meta = { __metatable = false, __tostring = function() return "SSL context" end }

-- What is a string or a list of strings.
local function list_text(value, name)
    if type(value) == "string" then return value end
    if type(value) ~= "table" then return nil, "invalid " .. name end
    local parts = {}
    for i = 1, #value do
        if type(value[i]) ~= "string" or find(value[i], ",", 1, true) then return nil, "invalid " .. name end
        parts[i] = value[i]
    end
    return concat(parts, ",")
end

local FILES = { certificate = true, key = true, cafile = true, capath = true }

local function newcontext(parameters)
    if type(parameters) ~= "table" then wrong(1, "newcontext", "table expected, got " .. type(parameters)) end
    local lines = {}
    for name in gmatch("mode protocol verify options ciphers certificate key password cafile capath alpn", "%a+") do
        local value = parameters[name]
        if value ~= nil and type(value) ~= "function" then
            local problem
            value, problem = list_text(value, name)
            if not value then return nil, problem end
            if find(value, "[%z\n]") then return nil, "invalid " .. name end
            if FILES[name] then
                value = server.paths(value)
                if server.call("check", value, true, false) then
                    return nil, "error loading " .. name .. " (Permission denied)"
                end
            end
            lines[#lines + 1] = name .. " " .. value
        end
    end
    local described = concat(lines, "\n")
    local ok, problem = functions.check_context(described)
    if not ok then return nil, problem end
    local context = setmetatable({}, context_meta)
    contexts[context] = described
    return context
end

-- Certificates

local certificate_methods = {}
local certificate_meta = {
    __index = certificate_methods, __metatable = false, __tostring = function() return "X509 certificate" end,
}
local pems = setmetatable({}, { __mode = "k" })

local function certificate(pem)
    local object = setmetatable({}, certificate_meta)
    pems[object] = pem
    return object
end

local function pem_of(object, name)
    return pems[object] or wrong(1, name, "certificate expected, got " .. type(object))
end

function certificate_methods.pem(self) return pem_of(self, "pem") end

function certificate_methods.getsignaturename(self)
    return (functions.certificate_signature(pem_of(self, "getsignaturename")))
end

function certificate_methods.digest(self, algorithm)
    algorithm = algorithm == nil and "sha1" or text(algorithm, 2, "digest")
    local found = functions.certificate_digest(pem_of(self, "digest"), algorithm)
    if not found then return nil, "digest algorithm not supported (" .. algorithm .. ")" end
    return found
end

local function loadcertificate(pem)
    if not functions.certificate_signature(text(pem, 1, "loadcertificate")) then return nil, "invalid certificate" end
    return certificate(pem)
end

-- Connections

-- Where the original says what it waits for.
local function wanted(record, ok, problem, ...)
    if not ok and problem == "timeout" and record.number then problem = "want" .. functions.wants(record.number) end
    return ok, problem, ...
end

local methods = {}
for name in gmatch("close dirty getfd setfd settimeout gettimeout getstats setstats getreusedtimes getpeername "
    .. "getsockname setoption getoption", "%a+") do
    methods[name] = sockets.methods.tcp[name]
end

function methods.receive(self, pattern, prefix)
    local record = of_class(CLASS, self, "receive")
    if not record.is_ready then return nil, "closed", prefix or "" end
    return wanted(record, sockets.methods.tcp.receive(self, pattern, prefix))
end

function methods.send(self, data, i, j)
    local record = of_class(CLASS, self, "send")
    -- It would not be encrypted.
    if not record.is_ready then return nil, "closed", 0 end
    return wanted(record, sockets.methods.tcp.send(self, data, i, j))
end

function methods.setkeepalive(self, milliseconds, size)
    local record = of_class(CLASS, self, "setkeepalive")
    if not record.is_ready then return nil, "closed" end
    return sockets.methods.tcp.setkeepalive(self, milliseconds, size)
end

function methods.sni(self, name)
    local record = of_class(CLASS, self, "sni")
    if type(name) == "table" then return end
    record.server_name = text(name, 2, "sni")
end

function methods.dohandshake(self)
    local record = of_class(CLASS, self, "dohandshake")
    if not record.number then return false, "closed" end
    if record.has_agreed then return true end
    local ok, problem = functions.handshake(record.number, record.context, record.server_name, record.each, record.total)
    ok, problem = wanted(record, ok, problem)
    if not ok then return false, problem end
    record.is_ready, record.has_agreed = true, true
    return true
end

function methods.dirty(self) return sockets.is_dirty(of_class(CLASS, self, "dirty")) end

function methods.want(self)
    local record = of_class(CLASS, self, "want")
    return record.number and functions.wants(record.number) or "nothing"
end

function methods.getpeercertificate(self)
    local record = of_class(CLASS, self, "getpeercertificate")
    local pem = record.number and functions.certificate(record.number)
    if not pem then return nil end
    return certificate(pem)
end

function methods.getalpn(self)
    local record = of_class(CLASS, self, "getalpn")
    local facts = record.number and functions.tls_facts(record.number)
    local found = facts and match(facts, "\n([^\n]*)$")
    return found ~= "" and found or nil
end

function methods.info(self, field)
    local record = of_class(CLASS, self, "info")
    local facts = record.number and functions.tls_facts(record.number)
    if not facts then return nil end
    local protocol, cipher, bits = match(facts, "^([^\n]*)\n([^\n]*)\n(%d+)\n")
    local info = { protocol = protocol, cipher = cipher, bits = lua.tonumber(bits), compression = false }
    if field ~= nil then return info[field] end
    return info
end

sockets.methods.tls = methods
sockets.define(CLASS, "tls")

local function wrap(socket, parameters)
    local record = records[socket]
    if not record or not find("tcp{client} unixstream{client}", record.class, 1, true) then
        wrong(1, "wrap", "a connected socket of socket.core expected, got " .. tostring(socket))
    end
    local context = parameters
    if not contexts[context] then
        local problem
        context, problem = newcontext(parameters)
        if not context then return nil, problem end
    end
    if not record.number then return nil, "closed" end
    local new = {}
    for name, value in lua.next, record do new[name] = value end
    new.class, new.context = CLASS, contexts[context]
    -- One that was kept has had its handshake; dohandshake looks whether it was for the same name.
    new.is_ready, new.has_agreed = functions.is_encrypted(record.number, new.context) ~= nil, false
    sockets.take_over(record, new)
    return sockets.object_of(new)
end

return {
    _VERSION = "1.2.0", _COPYRIGHT = "greenfcgi", newcontext = newcontext, wrap = wrap, loadcertificate = loadcertificate,
    config = { capabilities = { alpn = true }, protocols = { any = true, tlsv1_2 = true, tlsv1_3 = true } },
}
