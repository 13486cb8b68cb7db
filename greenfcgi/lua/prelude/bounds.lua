-- Functions of Lua written in C, which nothing can interrupt: those that numbers alone would keep busy for ever are
-- bounded, and after those that take long for long texts, the clock is checked. Not after find, match and format: their
-- stand-ins would cost a usual page of short texts a tenth more.
--
-- arguments: server: see boot.lua

local server = ...

local error, ipairs, select, tonumber, type = error, ipairs, select, tonumber, type
local IS_5_1 = _VERSION == "Lua 5.1"

-- Bytes of text, or items of a table, after which the clock is checked.
local LONG <const> = 32768
local MANY <const> = 4096
-- Items that are moved at once: no state has the memory for as many.
local MAX_MOVED <const> = 10000000

if IS_5_1 and not jit then
    -- Lua 5.1 counts in a C int, which overflows; it has 8000 places for results.
    local native_unpack = unpack
    function unpack(list, first, last)
        if type(list) == "table" then
            local from, to = tonumber(first) or 1, tonumber(last) or #list
            if from > to then return end
            if not (to - from < 8000 and from > -2 ^ 31 and to < 2 ^ 31) then
                error("too many results to unpack", 2)
            end
        end
        return native_unpack(list, first, last)
    end
end

-- Patterns. Lua 5.1 goes one call deeper into C for each item of a pattern that can be left out.
local LONGEST <const> = 8192
local native_gsub = string.gsub

local function check(pattern)
    if type(pattern) == "string" and #pattern > LONGEST then error("pattern too complex", 3) end
end

if IS_5_1 and not jit then
    local native_find, native_match, native_gmatch = string.find, string.match, string.gmatch
    function string.find(text, pattern, first, plain)
        if not plain then check(pattern) end
        return native_find(text, pattern, first, plain)
    end
    function string.match(text, pattern, first)
        check(pattern)
        return native_match(text, pattern, first)
    end
    function string.gmatch(text, pattern)
        check(pattern)
        return native_gmatch(text, pattern)
    end
end

if not jit then
    function string.gsub(text, pattern, replacement, most)
        if IS_5_1 then check(pattern) end
        local result, count = native_gsub(text, pattern, replacement, most)
        if #result > LONG or count > LONG then server.look_at_clock() end
        return result, count
    end
end

if not jit or jit.version_num < 20100 then
    for _, name in ipairs { "lower", "upper", "reverse" } do
        local native = string[name]
        string[name] = function(text)
            local result = native(text)
            if #result > LONG then server.look_at_clock() end
            return result
        end
    end
end

local native_rep, joins = string.rep, not IS_5_1
function string.rep(text, count, separator)
    -- A text of no length is repeated one by one.
    if text == "" and not jit and (separator == nil or separator == "" or not joins) and tonumber(count) then
        return ""
    end
    local result = native_rep(text, count, separator)
    if #result > LONG then server.look_at_clock() end
    return result
end

-- Tables

local native_concat = table.concat
function table.concat(list, separator, first, last)
    local result = native_concat(list, separator, first, last)
    if #result > LONG then server.look_at_clock() end
    return result
end

local native_sort = table.sort
function table.sort(list, comes_first)
    native_sort(list, comes_first)
    if #list > MANY then server.look_at_clock() end
end

local native_insert, native_move, native_remove = table.insert, table.move, table.remove

local function too_many() error("too many items to move", 3) end

if IS_5_1 then
    function table.insert(...)
        local _, place = ...
        -- What is no C int becomes a negative one.
        if type(place) == "number" and not (place >= -MAX_MOVED and place < 2 ^ 31) and select("#", ...) > 2 then
            too_many()
        end
        return native_insert(...)
    end
else
    -- What __len says, has no bound.
    function table.insert(...)
        local list, place = ...
        if type(place) == "number" and select("#", ...) > 2 and type(list) == "table" and #list - place > MAX_MOVED then
            too_many()
        end
        return native_insert(...)
    end
    function table.remove(list, place)
        if place == nil then return native_remove(list) end
        if type(list) == "table" and type(place) == "number" and #list - place > MAX_MOVED then too_many() end
        return native_remove(list, place)
    end
end

if native_move then
    function table.move(list, first, last, place, other)
        local from, to = tonumber(first), tonumber(last)
        if from and to and to - from > MAX_MOVED then too_many() end
        if other == nil then return native_move(list, first, last, place) end
        return native_move(list, first, last, place, other)
    end
end
