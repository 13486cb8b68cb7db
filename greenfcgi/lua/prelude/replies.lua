-- Whole replies: redirect, json and file of con. Compiled when the first of them is used.
--
-- returns: a table: those methods

local lua, server = ...

local byte, find, format, gsub, type = lua.byte, lua.find, lua.format, lua.gsub, lua.type
local blame = server.errors.blame

local MAX_URL = 8192
local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }
-- Lua 5.1 and LuaJIT end a pattern at a zero byte, and have a class for it.
local CONTROL = lua.version == "Lua 5.1" and "[%c%z\127]" or "[%c\0\127]"

local M = {}

local function hex(c) return format("%%%02X", byte(c)) end

-- 302 by default: browsers go on with GET. 303 says so, 307 and 308 keep the method, 301 and 308 are remembered.
function M.redirect(self, url, status)
    server.check(self, "redirect")
    if type(url) ~= "string" then server.refusals.wrong("redirect", 1, "string", url) end
    if status == nil then status = 302 end
    if not REDIRECTS[status] then
        blame(format("bad argument #2 to 'redirect' (found %s, expected 301, 302, 303, 307 or 308)", lua.tostring(status)))
    end
    if url == "" or #url > MAX_URL then
        blame(format("bad argument #1 to 'redirect' (found %d bytes, expected 1 to %d)", #url, MAX_URL))
    end
    if find(url, CONTROL) then blame("bad argument #1 to 'redirect' (found a control character in the URL)") end
    server.response.reset(self)
    server.response.status(self, status)
    server.response.header(self, "Location", (gsub(url, "[^!#-;=?-Z_a-z~%[%]]", hex)))
end

local encode

function M.json(self, value, status)
    server.check(self, "json")
    encode = encode or server.opening("greenfcgi.json").encode
    local text = encode(value)
    if status ~= nil then server.response.status(self, status) end
    server.response.header(self, "Content-Type", "application/json")
    self:puts(text)
end

-- See sending.lua.
local send

function M.file(self, path, options)
    server.check(self, "file")
    send = send or server.opening("sending")
    return send(self, path, options)
end

return M
