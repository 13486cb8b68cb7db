-- The module that scripts get by require "mime.core": the filters that LuaSocket's mime.lua is built upon. Each takes a
-- part of the text and what is left of the one before, and returns what it makes of it and what is left now.
--
-- arguments: lua, server: see boot.lua
--            functions of the server: encode(text), decode(text): base64

local lua, server, functions = ...

local byte, find, format, gsub, match, rep, sub = lua.byte, lua.find, lua.format, lua.gsub, lua.match, string.rep, lua.sub
local char, concat, floor, gmatch, tonumber, type = lua.char, lua.concat, lua.floor, lua.gmatch, lua.tonumber, lua.type
local count = server.count

-- Bytes that are worked on at once: a multiple of 3 and of 4.
local PART = 49152
local CRLF, SOFT_BREAK = "\r\n", "=\r\n"

local function text(value, position, name)
    if type(value) == "number" then return value .. "" end
    if type(value) ~= "string" then
        server.errors.blame(format("bad argument #%d to '%s' (string expected, got %s)", position, name,
            value == nil and "no value" or type(value)))
    end
    return value
end

local function number(value, position, name, default)
    if value == nil and default then return default end
    local found = tonumber(value)
    if not found then
        server.errors.blame(format("bad argument #%d to '%s' (number expected, got %s)", position, name,
            value == nil and "no value" or type(value)))
    end
    return floor(found)
end

local function or_nil(result) return result ~= "" and result or nil end

local M = { _VERSION = "MIME 1.0.3" }

-- base64

local function in_parts(f, data)
    if #data <= PART then return data == "" and "" or (f(data)) end
    local parts = {}
    for at = 1, #data, PART do
        count(10)
        parts[#parts + 1] = f(sub(data, at, at + PART - 1))
    end
    return concat(parts)
end

function M.b64(data, more)
    if data == nil then return nil, nil end
    data = text(data, 1, "b64")
    if more == nil then return or_nil(in_parts(functions.encode, data)), nil end
    data = data .. text(more, 2, "b64")
    local whole = #data - #data % 3
    return in_parts(functions.encode, sub(data, 1, whole)), sub(data, whole + 1)
end

-- Nothing follows a padded group but another text.
local function decoded(data)
    if not find(data, "=[^=]") then return in_parts(functions.decode, data) end
    local parts = {}
    for each in gmatch(data, "[^=]*=*") do
        count(1)
        parts[#parts + 1] = in_parts(functions.decode, sub(each, 1, #each - #each % 4))
    end
    return concat(parts)
end

function M.unb64(data, more)
    if data == nil then return nil, nil end
    data = text(data, 1, "unb64")
    if more ~= nil then data = data .. text(more, 2, "unb64") end
    data = gsub(data, "[^%w+/=]", "")
    local whole = #data - #data % 4
    local result = decoded(sub(data, 1, whole))
    if more == nil then return or_nil(result), nil end
    return result, sub(data, whole + 1)
end

-- Quoted printable

local function quoted(c)
    count(1)
    return format("=%02X", byte(c))
end

local function quoted_line(line)
    return (gsub(gsub(line, "[^!-<>-~ \t]", quoted), "[ \t]$", quoted))
end

-- Lines of CRLF, of which the last may have none.
local function quoted_lines(data, marker)
    local parts, at = {}, 1
    while true do
        count(1)
        local last = find(data, CRLF, at, true)
        if not last then break end
        parts[#parts + 1] = quoted_line(sub(data, at, last - 1))
        parts[#parts + 1] = marker
        at = last + 2
    end
    parts[#parts + 1] = gsub(sub(data, at), "[^!-<>-~ \t]", quoted)
    return concat(parts)
end

function M.qp(data, more, marker)
    if data == nil then return nil, nil end
    data = text(data, 1, "qp")
    marker = marker == nil and CRLF or text(marker, 3, "qp")
    if more ~= nil then data = data .. text(more, 2, "qp") end
    -- What follows decides about these.
    local left = match(data, "[ \t].$") or match(data, "[ \t\r]$") or ""
    local result = quoted_lines(sub(data, 1, #data - #left), marker)
    if more ~= nil then return result, left end
    if left ~= "" then result = result .. gsub(left, "[^!-<>-~]", quoted) .. SOFT_BREAK end
    return or_nil(result), nil
end

function M.unqp(data, more)
    if data == nil then return nil, nil end
    data = text(data, 1, "unqp")
    if more ~= nil then data = data .. text(more, 2, "unqp") end
    local parts, at, left = {}, 1, ""
    while left == "" do
        count(1)
        local found = find(data, "[=\r]", at)
        parts[#parts + 1] = gsub(sub(data, at, (found or 0) - 1), "[^\t -~]", "")
        if not found then break end
        local size = byte(data, found) == 61 and 3 or 2
        local each = sub(data, found, found + size - 1)
        at = found + size
        if #each < size then
            left = each
        elseif size == 2 then
            -- A line break, or a byte that means nothing.
            parts[#parts + 1] = each == CRLF and CRLF or ""
        elseif each ~= SOFT_BREAK then
            local digits = match(each, "^=(%x%x)$")
            parts[#parts + 1] = digits and char(tonumber(digits, 16)) or each
        end
    end
    local result = concat(parts)
    if more ~= nil then return result, left end
    return or_nil(result), nil
end

-- Lines of a length. `left` is how many bytes still fit on the line under way.

local function wrapped(name, left, data, length, step)
    left, length = number(left, 1, name), number(length, 3, name, 76)
    if data == nil then
        if left < length then return step.final, length end
        return nil, length
    end
    local parts, n = {}, 0
    for line, is_end in gmatch(gsub(text(data, 2, name), "\r", ""), "([^\n]*)(\n?)") do
        count(1)
        n, left = step.line(parts, n, line, left, length)
        if is_end ~= "" then
            n = n + 1
            parts[n] = CRLF
            left = length
        end
    end
    return concat(parts), left
end

local function break_anywhere(parts, n, line, left, length)
    local at = 1
    while at <= #line do
        count(1)
        if left <= 0 then
            n, left = n + 1, length
            parts[n] = CRLF
        end
        local part = sub(line, at, at + left - 1)
        n, at, left = n + 1, at + #part, left - #part
        parts[n] = part
    end
    return n, left
end

-- "=XX" stays on one line, and the "=" of a soft break needs a byte.
local function break_softly(parts, n, line, left, length)
    for part in gmatch(line, "=?[^=]?") do
        local is_quoted = byte(part) == 61
        count(0.3)
        for c in gmatch(part, ".") do
            if left <= (is_quoted and c == "=" and 3 or 1) then
                n, left = n + 1, length
                parts[n] = SOFT_BREAK
            end
            n, left = n + 1, left - 1
            parts[n] = c
        end
    end
    return n, left
end

local plain_step = { line = break_anywhere, final = CRLF }
local soft_step = { line = break_softly, final = SOFT_BREAK }

function M.wrp(left, data, length) return wrapped("wrp", left, data, length, plain_step) end

function M.qpwrp(left, data, length) return wrapped("qpwrp", left, data, length, soft_step) end

-- Ends of lines. The context is 0, or the byte of an end that may be the first of two.
function M.eol(context, data, marker)
    context = number(context, 1, "eol")
    if data == nil then return nil, 0 end
    data = text(data, 2, "eol")
    marker = marker == nil and CRLF or text(marker, 3, "eol")
    local start, first = "", byte(data)
    if context ~= 0 and (first == 10 or first == 13) then
        if first == context then start = marker end
        data = sub(data, 2)
        context = 0
    elseif first then
        context = 0
    end
    local result = gsub(data, "[\r\n][\r\n]?", function(ends)
        count(1)
        if #ends == 2 and byte(ends) == byte(ends, 2) then return rep(marker, 2) end
        return marker
    end)
    local trailing = match(data, "[\r\n]+$")
    if trailing then
        -- Pairs are taken from the left.
        context = 0
        local at = 1
        while at <= #trailing do
            if at == #trailing then context = byte(trailing, at) end
            at = at + 2
        end
    end
    return start .. result, context
end

-- SMTP's dots. The context is 2 at the start of a line, 1 behind a "\r".
function M.dot(context, data)
    context = number(context, 1, "dot")
    if data == nil then return nil, 2 end
    data = text(data, 2, "dot")
    local result = gsub(data, "\r\n%.", "\r\n..")
    if context == 2 and byte(data) == 46 then
        result = "." .. result
    elseif context == 1 and find(data, "^\n%.") then
        result = "\n." .. sub(result, 2)
    end
    if data == "" then return result, context end
    if find(data, "\r\n$") or data == "\n" and context == 1 then return result, 2 end
    return result, byte(data, -1) == 13 and 1 or 0
end

return M
