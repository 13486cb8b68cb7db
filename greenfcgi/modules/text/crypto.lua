-- Random bytes, hashes, passwords, base64, UUIDs: require "greenfcgi.crypto".
--
-- arguments: lua, server: see boot.lua
--            functions of the server (see crypto.py); those that may wait return a number, then wait(number) goes on; and nil,
--            the problem and 1 where they fail, or nil, text and 0 when the client has gone:
--            digest(name, text, form), hmac(name, key, text, form), hash_password(text)
--            verify_password(text, hash): "y" or "n"
--            encode(text, form), decode(text, form): in hex, base64 or base64url; nil where it is none
--            equal(a, b), is_outdated(hash): 1 or 0; now(): seconds since 1970

local lua, server, functions = ...

local type = lua.type
local byte, format, floor, sub = lua.byte, lua.format, lua.floor, lua.sub
local ask = server.ask

local MAX_RANDOM = 1048576
local FORMS = { hex = true, raw = true, base64 = true, base64url = true }

local M = {}

local function blame(...) server.errors.blame(format(...)) end

local function checked(value, position, name)
    if type(value) == "string" then return value end
    if type(value) == "number" then return lua.tostring(value) end
    blame("bad argument #%d to '%s' (string expected, got %s)", position, name, type(value))
end

local function checked_form(value, position, name)
    if value == nil then return "hex" end
    if type(value) == "string" and FORMS[value] then return value end
    blame('bad argument #%d to \'%s\' (found %s, expected "hex", "raw", "base64" or "base64url")', position, name,
        type(value) == "string" and '"' .. sub(value, 1, 40) .. '"' or type(value))
end

-- The answer of a function that may wait.
local function answer(result, problem, kind)
    while type(result) == "number" do
        server.call("slow", server.errors.way(3))
        result, problem, kind = functions.wait(result)
    end
    if result == nil and kind == 0 then server.raise_disconnected() end
    if result == nil then return nil, problem end
    return result
end

-- So many random bytes, that nobody can guess.
function M.random(n)
    if type(n) ~= "number" or n % 1 ~= 0 or n < 0 or n > MAX_RANDOM then
        blame("bad argument #1 to 'random' (found %s, expected a whole number of bytes from 0 to %d)",
            type(n) == "number" and lua.tostring(n) or type(n), MAX_RANDOM)
    end
    return ask("entropy", floor(n))
end

for _, name in lua.ipairs { "md5", "sha1", "sha256", "sha384", "sha512" } do
    M[name] = function(text, form)
        text, form = checked(text, 1, name), checked_form(form, 2, name)
        return answer(functions.digest(name, text, form))
    end

    local hmac = "hmac_" .. name
    M[hmac] = function(key, text, form)
        key, text, form = checked(key, 1, hmac), checked(text, 2, hmac), checked_form(form, 3, hmac)
        return answer(functions.hmac(name, key, text, form))
    end
end

-- Whether two texts are the same; how long it takes does not say where they differ.
function M.equal(a, b) return functions.equal(checked(a, 1, "equal"), checked(b, 2, "equal")) == 1 end

function M.hash_password(password)
    return answer(functions.hash_password(checked(password, 1, "hash_password")))
end

-- Without a hash false, after as long as with one, so that nobody learns which users there are.
function M.verify_password(password, hash)
    password = checked(password, 1, "verify_password")
    if hash ~= nil then hash = checked(hash, 2, "verify_password") end
    local result, problem = answer(functions.verify_password(password, hash))
    if result == nil then return nil, problem end
    return result == "y"
end

function M.needs_rehash(hash) return functions.is_outdated(checked(hash, 1, "needs_rehash")) == 1 end

for _, form in lua.ipairs { "hex", "base64", "base64url" } do
    M[form] = function(data) return functions.encode(checked(data, 1, form), form) end

    local from = "from_" .. form
    M[from] = function(text)
        local data = functions.decode(checked(text, 1, from), form)
        if data == nil then return nil, "not " .. form end
        return data
    end
end

-- UUIDs (RFC 9562): version 4 is random, version 7 begins with the time, so that they sort by it.
function M.uuid(version)
    if version ~= nil and version ~= 4 and version ~= 7 then
        blame("bad argument #1 to 'uuid' (found %s, expected 4 or 7)", lua.tostring(version))
    end
    local bytes = ask("entropy", 16)
    local hex = functions.encode(bytes, "hex")
    if version == 7 then
        local milliseconds = floor(functions.now() * 1000)
        hex = format("%06x%06x", floor(milliseconds / 16777216), milliseconds % 16777216) .. sub(hex, 13)
    end
    local variant = format("%x", 8 + byte(bytes, 9) % 4)
    return format("%s-%s-%d%s-%s%s-%s", sub(hex, 1, 8), sub(hex, 9, 12), version or 4, sub(hex, 14, 16), variant,
        sub(hex, 18, 20), sub(hex, 21, 32))
end

return M
