-- The module that scripts get by require "greenfcgi.html": text and elements for pages.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local markup = lua.rawget(server, "markup") or server.opening("markup")
local count = server.count
local concat, find, format, next, select, type = lua.concat, lua.find, lua.format, lua.next, lua.select, lua.type
local rawget, sort = lua.rawget, lua.sort
local escape, is_raw, raw = markup.escape, markup.is_raw, markup.raw

-- Elements that have no content, and no end.
local VOID = {
    area = true, base = true, br = true, col = true, embed = true, hr = true, img = true, input = true, link = true,
    meta = true, source = true, track = true, wbr = true,
}
-- Lists of content within each other.
local MAX_DEPTH = 100

local M = {}

local function wrong(name, position, expected, value)
    server.errors.blame(format("bad argument #%d to '%s' (%s expected, got %s)", position, name, expected,
        value == nil and "no value" or type(value)))
end

-- Text that shows as itself in a page, whatever is in it.
function M.escape(value) return escape(value) end

-- A value that is HTML already: what writes text into pages does not escape it.
function M.raw(text)
    if is_raw(text) then return text end
    if type(text) == "number" then text = text .. "" end
    if type(text) ~= "string" then wrong("raw", 1, "string", text) end
    return raw(text)
end

function M.is_raw(value) return is_raw(value) end

local function attribute(name, value)
    if type(value) == "table" and not is_raw(value) and rawget(value, 1) ~= nil then
        local parts = {}
        for i = 1, #value do
            count(1)
            if rawget(value, i) then parts[#parts + 1] = escape(rawget(value, i)) end
        end
        value = raw(concat(parts, " "))
    end
    return name .. '="' .. escape(value) .. '"'
end

local function attributes(function_name, position, list)
    local names = {}
    for name, value in next, list do
        count(1)
        if type(name) ~= "string" or find(name, "[%s%c\"'<>/=]") or name == "" then
            server.errors.blame(format("bad argument #%d to '%s' (no name of an attribute: %s)", position, function_name,
                type(name) == "string" and '"' .. name .. '"' or "a " .. type(name)))
        end
        if value ~= nil and value ~= false then names[#names + 1] = name end
    end
    sort(names)
    for i, name in lua.ipairs(names) do
        local value = rawget(list, name)
        names[i] = value == true and name or attribute(name, value)
    end
    return concat(names, " ")
end

-- { href = "/", hidden = true, title = nil } as HTML: href="/" hidden. In the order of their names.
function M.attributes(list)
    if type(list) ~= "table" then wrong("attributes", 1, "table", list) end
    return raw(attributes("attributes", 1, list))
end

local function add(parts, value, depth)
    count(1)
    if value == nil or value == false then return end
    if type(value) == "table" and lua.metatable_of(value) == nil then
        if depth == MAX_DEPTH then
            server.errors.blame(format("'tag': lists of content more than %d deep, or in themselves", MAX_DEPTH))
        end
        for i = 1, #value do add(parts, rawget(value, i), depth + 1) end
        return
    end
    parts[#parts + 1] = escape(value)
end

-- An element: its name, its attributes if it has any, and its content: text, which is escaped; HTML; lists of these.
function M.tag(name, list, ...)
    if type(name) ~= "string" or not find(name, "^%a[%w:_%-]*$") then
        if type(name) ~= "string" then wrong("tag", 1, "string", name) end
        server.errors.blame('bad argument #1 to \'tag\' (no name of an element: "' .. name .. '")')
    end
    local text
    if list ~= nil and type(list) ~= "table" or is_raw(list) then wrong("tag", 2, "table of attributes, or nil", list) end
    text = list and attributes("tag", 2, list) or ""
    local parts = { "<" .. name .. (text ~= "" and " " or "") .. text .. ">" }
    local number, content = select("#", ...), { ... }
    for i = 1, number do add(parts, content[i], 0) end
    if not VOID[lua.lower(name)] then
        parts[#parts + 1] = "</" .. name .. ">"
    elseif #parts > 1 then
        server.errors.blame("bad argument #3 to 'tag' (" .. name .. " has no content)")
    end
    return raw(concat(parts))
end

return M
