-- A module that users have written in Python: a table of its functions. What they take and return goes to the server and
-- comes back as text, see values.py.
--
-- arguments: lua: functions of Lua by their names; server: what modules share (see boot.lua)
--            functions: by their names; each takes text, and returns text, or nil and why it has failed; nil, text and a
--            number when the client has gone. A number: log where the script is, and go on waiting with " wait"(number).
--            name: that of the module

local lua, server, functions, module_name = ...

local error, next, rawget, select, tonumber, type = lua.error, lua.next, lua.rawget, lua.select, lua.tonumber, lua.type
local byte, find, format, sub = lua.byte, lua.find, lua.format, lua.sub
local concat, huge, math_type, unpack = lua.concat, lua.huge, lua.math_type, lua.unpack

local MAX_DEPTH, MAX_VALUES = 32, 10000
local EXACT = 2 ^ 53
local N, T, F, I, D, S, A = byte("ntfidsa", 1, 7)

-- All of it may be called in the midst of itself, by a finalizer.

local function put(out, text)
    out.n = out.n + 1
    out[out.n] = text
end

local function number_as_text(value)
    if math_type and math_type(value) == "integer" then return format("i%d;", value) end
    if not math_type and value % 1 == 0 and value > -EXACT and value < EXACT then return format("i%d;", value) end
    return format("d%.17g;", value)
end

-- Returns nil, or why the value cannot cross.
local encode

local function encode_table(out, t, depth)
    if depth > MAX_DEPTH then return format("tables nested more than %d deep, or in themselves", MAX_DEPTH) end
    local count, last, names = 0, 0, 0
    for key in next, t do
        local kind = type(key)
        if kind == "string" then
            names = names + 1
        elseif kind == "number" and key >= 1 and key % 1 == 0 and key < EXACT then
            count = count + 1
            if key > last then last = key end
        else
            return "found a table with a key of type " .. kind .. ", expected strings, or 1 to n"
        end
    end
    if count > 0 and names > 0 then return "found a table with strings and numbers as keys, expected one or the other" end
    if last ~= count then
        return format("found an array of %d values that ends at %.14g, expected one without holes", count, last)
    end
    if count > 0 then
        put(out, format("a%d:", count))
        for i = 1, count do
            local problem = encode(out, rawget(t, i), depth)
            if problem then return problem end
        end
        return nil
    end
    put(out, format("m%d:", names))
    for key, value in next, t do
        local problem = encode(out, key, depth) or encode(out, value, depth)
        if problem then return problem end
    end
end

function encode(out, value, depth)
    local kind = type(value)
    out.values = out.values + 1
    if out.values > MAX_VALUES then return format("more than %d values", MAX_VALUES) end
    if kind == "string" then
        put(out, format("s%d:", #value))
        put(out, value)
    elseif kind == "nil" then
        put(out, "n")
    elseif kind == "boolean" then
        put(out, value and "t" or "f")
    elseif kind == "number" then
        put(out, number_as_text(value))
    elseif kind == "table" then
        return encode_table(out, value, depth + 1)
    else
        return "found " .. kind .. ", expected nil, boolean, number, string, or a table of these"
    end
end

local NO_DIGITS = { inf = huge, ["-inf"] = -huge, nan = 0 / 0 }

-- Returns the value, and where the next one begins.
local function decode(text, at)
    local kind = byte(text, at)
    if kind == N then return nil, at + 1 end
    if kind == T then return true, at + 1 end
    if kind == F then return false, at + 1 end
    if kind == I or kind == D then
        local last = find(text, ";", at, true)
        local digits = sub(text, at + 1, last - 1)
        return NO_DIGITS[digits] or tonumber(digits), last + 1
    end
    local last = find(text, ":", at, true)
    local count = tonumber(sub(text, at + 1, last - 1))
    at = last + 1
    if kind == S then return sub(text, at, at + count - 1), at + count end
    local t = {}
    for i = 1, count do
        local key, value = i
        if kind ~= A then key, at = decode(text, at) end
        value, at = decode(text, at)
        t[key] = value
    end
    return t, at, count
end

-- Returns the results in a table and how many they are; or nil and why there are none.
local function call(f, ...)
    local count = select("#", ...)
    local out = { n = 0, values = 0 }
    put(out, format("a%d:", count))
    for i = 1, count do
        local problem = encode(out, (select(i, ...)), 0)
        if problem then return nil, format("argument %d: %s", i, problem) end
    end
    local text, problem, gone = f(concat(out, "", 1, out.n))
    while type(text) == "number" do
        server.call("slow", server.errors.way(3))
        text, problem, gone = functions[" wait"](text)
    end
    if gone then server.raise_disconnected() end
    if not text then return nil, problem end
    local results, _, number = decode(text, 1)
    return results, number
end

local M = {}
for name, f in next, functions do
    if name ~= " wait" then
        local full = module_name .. "." .. name
        M[name] = function(...)
            local results, number = call(f, ...)
            if not results then error(full .. ": " .. number, 2) end
            return unpack(results, 1, number)
        end
    end
end
return M
