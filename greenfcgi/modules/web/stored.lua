-- Values of a session as text, and back. Not JSON: numbers, bytes and keys come back as they were. Not Lua either, since what
-- is kept elsewhere may have been changed there.
--
--     true, false       t, f              integer    i42;            table    {KEY VALUE KEY VALUE...}
--     string            s3:abc            number     d0.5;
--
-- returns: encode(values): the text of a table of tables, always the same for the same values; raises at the script's line
--          what cannot be kept, with its name in the second
--          decode(text): the value; nil where it is none

local lua, server = ...

local count, sorted = server.count, server.opening("sorting")
local byte, concat, find, format, huge, math_type, metatable_of, next, sub, tonumber, type =
    lua.byte, lua.concat, lua.find, lua.format, lua.huge, lua.math_type, lua.metatable_of, lua.next, lua.sub,
    lua.tonumber, lua.type

local MAX_DEPTH = 32

local function blame(...) server.errors.blame(format(...)) end

local function scalar(value)
    count(1)
    local kind = type(value)
    if kind == "string" then return format("s%d:", #value) .. value end
    if kind == "boolean" then return value and "t" or "f" end
    if kind ~= "number" or value ~= value or value == huge or value == -huge then return nil end
    if math_type and math_type(value) == "integer" then return format("i%d;", value) end
    -- 5.1 to 5.2 and LuaJIT have one kind of numbers.
    if not math_type and value % 1 == 0 and value > -2 ^ 53 and value < 2 ^ 53 then return format("i%.0f;", value) end
    return format("d%.17g;", value)
end

local function encode(value, name, depth)
    local text = scalar(value)
    if text then return text end
    if type(value) ~= "table" then
        blame("session: '%s' has a %s, expected a string, number, boolean or a table of these", name,
            type(value) == "number" and "number that is none" or type(value))
    end
    local meta = metatable_of(value)
    if type(meta) == "table" and (meta.__tostring or meta.__index) then
        blame("session: '%s' has an object, which cannot be kept", name)
    end
    if depth == MAX_DEPTH then blame("session: '%s' has more than %d tables in each other, or itself", name, MAX_DEPTH) end
    local keys, values = {}, {}
    for key, item in next, value do
        local key_text = scalar(key)
        if not key_text then
            blame("session: '%s' has a %s as a key, expected strings, numbers or booleans", name, type(key))
        end
        keys[#keys + 1] = key_text
        values[key_text] = encode(item, depth <= 1 and lua.tostring(key) or name, depth + 1)
    end
    keys = sorted(keys)
    local parts = { "{" }
    for i = 1, #keys do
        count(1)
        local key = keys[i]
        parts[#parts + 1] = key
        parts[#parts + 1] = values[key]
    end
    parts[#parts + 1] = "}"
    return concat(parts)
end

-- Returns the value, and where the next begins; no place where the text is none.
local function decode(text, at, depth)
    count(1)
    local kind = sub(text, at, at)
    if kind == "t" or kind == "f" then return kind == "t", at + 1 end
    if kind == "s" then
        local colon, last, digits = find(text, "^(%d+):", at + 1)
        if not colon or #digits > 12 then return nil end
        local ending = last + tonumber(digits)
        if ending > #text then return nil end
        return sub(text, last + 1, ending), ending + 1
    end
    if kind == "i" or kind == "d" then
        local _, last, digits = find(text, "^([-+%w.]+);", at + 1)
        local value = last and #digits < 40 and tonumber(digits)
        if not value or value ~= value or value == huge or value == -huge then return nil end
        if kind == "i" then
            -- What is no integer here is the nearest number.
            return value, last + 1
        end
        return value + 0.0, last + 1
    end
    if kind ~= "{" or depth == MAX_DEPTH then return nil end
    local found = {}
    at = at + 1
    while byte(text, at) ~= 125 do
        local key, item
        key, at = decode(text, at, depth + 1)
        if not at or type(key) == "table" then return nil end
        item, at = decode(text, at, depth + 1)
        if not at then return nil end
        found[key] = item
    end
    return found, at + 1
end

return function(values) return encode(values, "", 0) end, function(text)
    local value, at = decode(text, 1, 0)
    if at ~= #text + 1 then return nil end
    return value
end
