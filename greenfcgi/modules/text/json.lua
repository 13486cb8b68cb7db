-- The module that scripts get by require "greenfcgi.json": RFC 8259, strictly.
--
-- arguments: lua, server: see boot.lua
--            functions of the server: content_type(): that of the request; nil where it has none
-- server gets: json: what con:json has in common with it, however often a script requires it anew

local lua, server, functions = ...

-- LuaJIT compiles all of it: others have their turn by `count` alone.
server.hot()

local count = server.count
local error, next, rawget, setmetatable, tonumber, type =
    lua.error, lua.next, lua.rawget, lua.setmetatable, lua.tonumber, lua.type
local byte, char, find, format, gsub, match, sub = lua.byte, lua.char, lua.find, lua.format, lua.gsub, lua.match, lua.sub
local concat, floor, huge, math_type, metatable_of = lua.concat, lua.floor, lua.huge, lua.math_type, lua.metatable_of

if lua.native_sub then
    -- As in luajit.lua, but compiled with what calls it.
    local native_sub, rawequal = lua.native_sub, lua.rawequal
    function sub(text, first, last)
        rawequal(text, first)
        return native_sub(text, first, last)
    end
end

-- Arrays and objects in each other.
local MAX_DEPTH = 512
local MAX_DEPTH_OPTION = 1000
-- Bytes of what an error message repeats.
local MAX_SHOWN = 20
-- Pieces of text that are joined into one.
local MAX_PIECES = 1024
-- Names that are remembered as they are written.
local MAX_NAMES = 500
-- Names that are sorted at once.
local MANY = 1000
-- Bytes that are looked at as one step.
local PART = 4096
-- Where patterns look, so many bytes of a text longer than that.
local LONG, SHORT_PART = 65536, 256

-- What stands for null, which no field of a table can be; and what tells arrays, also empty ones, from objects. dkjson knows
-- these by the same field.
local own = lua.rawget(server, "json")
if not own then
    own = {
        null = setmetatable({}, {
            __tostring = function() return "null" end, __metatable = false,
            __newindex = function() error("json.null has no fields", 2) end,
        }),
        array = { __name = "json array", __jsontype = "array" },
        object = { __name = "json object", __jsontype = "object" },
    }
    server.json = own
end
local null, array_meta, object_meta = own.null, own.array, own.object

local function name_of(value) return value == nil and "no value" or type(value) end

local function expect(function_name, position, kind, value)
    if type(value) == kind then return end
    server.errors.blame(format("bad argument #%d to '%s' (%s expected, got %s)", position, function_name, kind, name_of(value)))
end

local function kind_of(t)
    local meta = metatable_of(t)
    return type(meta) == "table" and rawget(meta, "__jsontype") or nil
end

local function marked(function_name, t, meta)
    if t == nil then t = {} end
    expect(function_name, 1, "table", t)
    local found = metatable_of(t)
    if t == null or found ~= nil and found ~= array_meta and found ~= object_meta then
        server.errors.blame("bad argument #1 to '" .. function_name .. "' (found a table that has a metatable)")
    end
    return setmetatable(t, meta)
end

local function depth_option(function_name, options)
    local depth = rawget(options, "depth")
    if depth == nil then return MAX_DEPTH end
    if type(depth) == "number" and depth >= 1 and depth <= MAX_DEPTH_OPTION and depth % 1 == 0 then return depth end
    server.errors.blame(format("bad argument #2 to '%s' (depth: found %s, expected a whole number from 1 to %d)",
        function_name, lua.tostring(depth), MAX_DEPTH_OPTION))
end

-- What is wrong with a text or a value is raised as a table of this kind, and made nil and a message, or an error.
local problem_meta = {}

local function guarded(f, ...)
    local ok, value = server.pcall(f, ...)
    if ok then return true, value end
    if type(value) == "table" and metatable_of(value) == problem_meta then return false, value end
    error(value, 0)
end

-- UTF-8 (RFC 3629: no surrogates, nothing beyond U+10FFFF, no longer forms than need be)

-- Where the characters beyond ASCII that begin at this place end, and where in them something is wrong.
local function skip_utf8(text, at)
    local from = at
    while true do
        local a = byte(text, at)
        if not a or a < 0x80 then break end
        local b, c, d = byte(text, at + 1, at + 3)
        if not b or b < 0x80 or b > 0xBF then return at, at end
        if a < 0xE0 then
            if a < 0xC2 then return at, at end
            at = at + 2
        elseif not c or c < 0x80 or c > 0xBF then
            return at, at
        elseif a < 0xF0 then
            if a == 0xE0 and b < 0xA0 or a == 0xED and b > 0x9F then return at, at end
            at = at + 3
        else
            if a > 0xF4 or a == 0xF0 and b < 0x90 or a == 0xF4 and b > 0x8F or not d or d < 0x80 or d > 0xBF then
                return at, at
            end
            at = at + 4
        end
        if at - from > PART then break end
    end
    return at
end

local function utf8_of(code)
    if code < 0x80 then return char(code) end
    if code < 0x800 then return char(0xC0 + floor(code / 0x40), 0x80 + code % 0x40) end
    if code < 0x10000 then
        return char(0xE0 + floor(code / 0x1000), 0x80 + floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
    end
    return char(0xF0 + floor(code / 0x40000), 0x80 + floor(code / 0x1000) % 0x40, 0x80 + floor(code / 0x40) % 0x40,
        0x80 + code % 0x40)
end

-- Reading

local ESCAPES = {
    [34] = '"', [92] = "\\", [47] = "/", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t",
}

local function place_of(text, at)
    local line, last = 1, 0
    while true do
        count(0.2)
        local found = find(text, "\n", last + 1, true)
        if not found or found >= at then return line, at - last end
        line, last = line + 1, found
    end
end

local function shown(text, at)
    if at > #text then return "the end" end
    local part = gsub(sub(text, at, at + MAX_SHOWN - 1), "[^ -~]", function(c) return format("\\%d", byte(c)) end)
    return "'" .. part .. "'"
end

local function fail(text, at, expected)
    local line, column = place_of(text, at)
    error(setmetatable({
        message = format("line %d, column %d: found %s, expected %s", line, column, shown(text, at), expected),
    }, problem_meta), 0)
end

local skip, plain_end

if lua.jit then
    -- Where white space ends, and the byte that is there; nil at the end.
    function skip(text, at)
        local c, stop = byte(text, at), at + PART
        while c == 32 or c == 10 or c == 13 or c == 9 do
            at = at + 1
            if at == stop then
                count(5)
                stop = at + PART
            end
            c = byte(text, at)
        end
        return at, c
    end

    -- The first byte of a string that does not simply stand for itself; or one that has not been looked at yet.
    function plain_end(text, at)
        local last = #text
        if last > at + PART then last = at + PART end
        for i = at, last do
            local c = byte(text, i)
            if c < 35 and (c < 32 or c == 34) or c == 92 or c > 126 then return i end
        end
        return last + 1
    end
else
    function skip(text, at)
        local c = byte(text, at)
        if c ~= 32 and c ~= 10 and c ~= 13 and c ~= 9 then return at, c end
        if #text > LONG then
            local part = sub(text, at, at + SHORT_PART)
            while not find(part, "[^ \n\r\t]") and part ~= "" do
                count(1)
                at = at + #part
                part = sub(text, at, at + SHORT_PART)
            end
        end
        at = find(text, "[^ \n\r\t]", at) or #text + 1
        return at, byte(text, at)
    end

    function plain_end(text, at)
        if #text <= LONG then return find(text, "[^]-~ !#-[]", at) or #text + 1 end
        local part = sub(text, at, at + SHORT_PART)
        return at + (find(part, "[^]-~ !#-[]") or #part + 1) - 1
    end
end

local function four_digits(text, at)
    local digits = match(text, "^%x%x%x%x", at)
    if not digits then fail(text, at, "four hexadecimal digits behind \\u") end
    return tonumber(digits, 16)
end

-- The escape at this place; returns the text, and where it goes on.
local function escaped(text, at)
    local c = byte(text, at + 1)
    if ESCAPES[c] then return ESCAPES[c], at + 2 end
    if c ~= 117 then fail(text, at, "an escape such as \\n or \\u0041") end
    local code = four_digits(text, at + 2)
    if code < 0xD800 or code > 0xDFFF then return utf8_of(code), at + 6 end
    if code > 0xDBFF or sub(text, at + 6, at + 7) ~= "\\u" then fail(text, at, "a pair of surrogates") end
    local low = four_digits(text, at + 8)
    if low < 0xDC00 or low > 0xDFFF then fail(text, at, "a pair of surrogates") end
    return utf8_of(0x10000 + (code - 0xD800) * 0x400 + low - 0xDC00), at + 12
end

-- A string whose first byte is at `start`; at `at` the first one that does not stand for itself, and is no quote.
local function long_string(text, start, at)
    local parts, n, blocks = {}, 0, nil
    while true do
        count(1)
        local c = byte(text, at)
        if n >= MAX_PIECES then
            blocks = blocks or {}
            blocks[#blocks + 1] = concat(parts, "", 1, n)
            n = 0
        end
        if c == 34 then
            n = n + 1
            parts[n] = sub(text, start, at - 1)
            local last = concat(parts, "", 1, n)
            return blocks and concat(blocks) .. last or last, at + 1
        elseif c == 92 then
            n = n + 2
            parts[n - 1] = sub(text, start, at - 1)
            parts[n], at = escaped(text, at)
            start = at
        elseif not c then
            fail(text, at, 'the end of a string, "')
        elseif c > 127 then
            local wrong
            at, wrong = skip_utf8(text, at)
            if wrong then fail(text, wrong, "text in UTF-8") end
        elseif c == 127 then
            at = at + 1
        elseif c < 32 then
            fail(text, at, "an escape in the place of a control character")
        else
            count(4)
        end
        at = plain_end(text, at)
    end
end

local function read_string(text, at)
    local stop = plain_end(text, at)
    if stop - at > SHORT_PART then count((stop - at) * 0.003) end
    if byte(text, stop) == 34 then return sub(text, at, stop - 1), stop + 1 end
    return long_string(text, at, stop)
end

-- A name and its colon. Returns the name, and the place behind them.
local function read_name(text, at, expected)
    local name, c
    at, c = skip(text, at)
    if c ~= 34 then fail(text, at, expected) end
    name, at = read_string(text, at + 1)
    c = byte(text, at)
    if c ~= 58 then
        at, c = skip(text, at)
        if c ~= 58 then fail(text, at, '":" behind a name') end
    end
    return name, at + 1
end

local MINUS_ZERO = tonumber("-0.0")

local function read_number(text, at)
    local _, last = find(text, "^-?%d+", at)
    if not last then fail(text, at, "a value") end
    local first = byte(text, at)
    local digits = first == 45 and at + 1 or at
    if byte(text, digits) == 48 and last > digits then fail(text, digits, "a number without a leading zero") end
    local c = byte(text, last + 1)
    if c == 46 then
        _, last = find(text, "^%d+", last + 2)
        if not last then fail(text, at, "digits behind the point of a number") end
        c = byte(text, last + 1)
    end
    if c == 101 or c == 69 then
        local start = last + 1
        _, last = find(text, "^[eE][+-]?%d+", start)
        if not last then fail(text, start, "digits in an exponent") end
    end
    local value = tonumber(sub(text, at, last))
    if value == huge or value == -huge then fail(text, at, "a number below 1.8e308") end
    if value == 0 and first == 45 then value = MINUS_ZERO end
    return value, last + 1
end

local null_value, max_depth = null, MAX_DEPTH
local WORDS = { [116] = "true", [102] = "false", [110] = "null" }

local function read_word(text, at, c)
    local word = WORDS[c]
    if sub(text, at, at + #word - 1) ~= word then fail(text, at, "a value") end
    at = at + #word
    if c == 116 then return true, at elseif c == 102 then return false, at end
    return null_value, at
end

-- The value that a text is. `t` is the table that is being filled: an array where n, the number of its values, is a number,
-- else an object with the name of the value to come. Those around it are in the lists.
local function read(text)
    local tables, numbers, names = {}, {}, {}
    local t, n, name, value, depth = nil, nil, nil, nil, 0
    local at, c = skip(text, 1)
    local steps = 0
    while true do
        steps = steps + 1
        if steps == 50 then
            steps = 0
            count(50)
        end
        local is_whole = true
        if c == 34 then
            value, at = read_string(text, at + 1)
        elseif c == 123 or c == 91 then
            if depth == max_depth then fail(text, at, format("at most %d arrays and objects in each other", max_depth)) end
            depth = depth + 1
            tables[depth], numbers[depth], names[depth] = t or false, n or false, name or false
            local start = at
            at, c = skip(text, at + 1)
            if byte(text, start) == 91 then
                t, n, name = setmetatable({}, array_meta), 0, nil
                is_whole = c == 93
            else
                t, n, name = {}, nil, nil
                is_whole = c == 125
                if not is_whole then
                    name, at = read_name(text, at, 'a name in quotes, or "}"')
                    at, c = skip(text, at)
                end
            end
            if is_whole then
                if not n then setmetatable(t, object_meta) end
                value, at = t, at + 1
                t, n, name = tables[depth], numbers[depth], names[depth]
                depth = depth - 1
            end
        elseif WORDS[c] then
            value, at = read_word(text, at, c)
        else
            value, at = read_number(text, at)
        end
        while is_whole do
            if depth == 0 then
                at, c = skip(text, at)
                if c then fail(text, at, "nothing behind the value") end
                return value
            end
            if n then
                n = n + 1
                t[n] = value
            else
                t[name] = value
            end
            c = byte(text, at)
            if c ~= 44 and c ~= 93 and c ~= 125 then at, c = skip(text, at) end
            if c == 44 then
                is_whole = false
                if not n then name, at = read_name(text, at + 1, "a name in quotes") else at = at + 1 end
                at, c = skip(text, at)
            elseif c == (n and 93 or 125) then
                value, at = t, at + 1
                t, n, name = tables[depth], numbers[depth], names[depth]
                depth = depth - 1
            else
                fail(text, at, n and '"," or "]"' or '"," or "}"')
            end
        end
    end
end

local M = { null = null }

-- The value that a text is; or nil, and what is wrong with the text, with its place.
local function decode(text, null_option, depth)
    local outer_null, outer_depth = null_value, max_depth
    null_value, max_depth = null_option, depth
    local ok, value = guarded(read, text)
    -- A finalizer may have decoded something meanwhile.
    null_value, max_depth = outer_null, outer_depth
    if ok then return value end
    return nil, value.message
end

local function null_of(options)
    local value = rawget(options, "null")
    if value == nil then return null end
    return value
end

function M.decode(text, options)
    expect("decode", 1, "string", text)
    if options == nil then return decode(text, null, MAX_DEPTH) end
    expect("decode", 2, "table", options)
    return decode(text, null_of(options), depth_option("decode", options))
end

function M.array(t) return marked("array", t, array_meta) end

function M.object(t) return marked("object", t, object_meta) end

-- Whether a table has been marked as one, as those are that decode makes of arrays.
function M.is_array(t) return type(t) == "table" and kind_of(t) == "array" end

-- Writing

local SHORT = {
    ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
    ["\127"] = "\127",
}

local function quoted_byte(c)
    count(0.2)
    return SHORT[c] or format("\\u%04x", byte(c))
end

-- Of the value under way: its text in pieces, and their number; tables around each other; names as they are written.
local out, size, inside, known_names, known_number
local indent, is_sorted, in_html, in_ascii, empty_is_array, nan_text

-- Where in the value this is: "friends[2].name".
local function place(depth, value)
    inside[depth + 1] = value
    local text = ""
    for level = 1, depth do
        local child, key = inside[level + 1], nil
        for k, v in next, inside[level] do
            count(0.2)
            if v == child or v ~= v and child ~= child then
                key = k
                break
            end
        end
        if type(key) == "number" then
            text = text .. "[" .. key .. "]"
        else
            text = text .. (text ~= "" and "." or "") .. lua.tostring(key)
        end
        if #text > 100 then return sub(text, 1, 100) .. "...: " end
    end
    return text ~= "" and text .. ": " or ""
end

local function refuse(problem, depth, value)
    error(setmetatable({ message = place(depth, value) .. problem }, problem_meta), 0)
end

local function put(text)
    size = size + 1
    out[size] = text
    if size == MAX_PIECES then
        -- Text of texts.
        local blocks = out.blocks
        if not blocks then
            blocks = {}
            out.blocks = blocks
        end
        blocks[#blocks + 1] = concat(out, "", 1, size)
        size = 0
        count(100)
    end
end

local function first_wrong_utf8(text)
    local at = find(text, "[\128-\255]")
    while at do
        count(0.5)
        local wrong
        at, wrong = skip_utf8(text, at)
        if wrong then return wrong end
        at = find(text, "[\128-\255]", at)
    end
end

local function in_hexadecimal(c)
    count(0.5)
    local a, b, d, e = byte(c, 1, 4)
    local code = a
    if e then
        code = ((a - 0xF0) * 0x40 + b - 0x80) * 0x1000 + (d - 0x80) * 0x40 + e - 0x80 - 0x10000
        return format("\\u%04x\\u%04x", 0xD800 + floor(code / 0x400), 0xDC00 + code % 0x400)
    elseif d then
        code = (a - 0xE0) * 0x1000 + (b - 0x80) * 0x40 + d - 0x80
    elseif b then
        code = (a - 0xC0) * 0x40 + b - 0x80
    end
    return format("\\u%04x", code)
end

-- A part of a string that begins behind so many bytes of it.
local function quoted_part(part, before, text, depth)
    count(1 + #part * 0.003)
    local wrong = first_wrong_utf8(part)
    if wrong then refuse(format("found text that is not UTF-8, at its byte %d", before + wrong), depth, text) end
    part = gsub(part, '[%c"\\]', quoted_byte)
    if in_html then part = gsub(gsub(part, "[<>&]", in_hexadecimal), "\226\128[\168\169]", in_hexadecimal) end
    if in_ascii then part = gsub(part, "[\194-\244][\128-\191]+", in_hexadecimal) end
    return part
end

local function quoted(text, depth)
    if #text > SHORT_PART then count(#text * 0.003) end
    if plain_end(text, 1) > #text and not in_html then return '"' .. text .. '"' end
    if #text <= PART then return '"' .. quoted_part(text, 0, text, depth) .. '"' end
    local parts, n, at = { '"' }, 1, 1
    while at <= #text do
        local last = at + PART - 1
        -- Not within a character.
        for _ = 1, 3 do
            local c = byte(text, last + 1)
            if c and c >= 0x80 and c < 0xC0 then last = last - 1 end
        end
        n = n + 1
        parts[n] = quoted_part(sub(text, at, last), at - 1, text, depth)
        at = last + 1
    end
    parts[n + 1] = '"'
    return concat(parts, "", 1, n + 1)
end

local function number_text(value, depth)
    if math_type and math_type(value) == "integer" then return value end
    if value ~= value or value == huge or value == -huge then
        if nan_text then return nan_text end
        refuse("found " .. (value ~= value and "not a number (NaN)" or value > 0 and "infinity" or "-infinity")
            .. ", which JSON does not have", depth, value)
    end
    -- Whole numbers up to there are themselves in text.
    if value % 1 == 0 and value > -1e14 and value < 1e14 and (value ~= 0 or 1 / value > 0) then
        return math_type and format("%.1f", value) or value
    end
    local short = format("%.14g", value)
    if tonumber(short) ~= value then
        short = format("%.16g", value)
        if tonumber(short) ~= value then short = format("%.17g", value) end
    end
    if math_type and not find(short, "[.e]") then short = short .. ".0" end
    return short
end

local function new_line(depth)
    put("\n")
    for _ = 1, depth do put(indent) end
end

local write

local function write_array(t, length, depth)
    if length == 0 then return put("[]") end
    put("[")
    for i = 1, length do
        if i > 1 then put(",") end
        if indent then new_line(depth) end
        write(rawget(t, i), depth)
    end
    if indent then new_line(depth - 1) end
    put("]")
end

local function write_name(name, depth)
    local text = known_names[name]
    if not text then
        local key = name
        if type(name) == "number" then
            key = number_text(name, depth) .. ""
        elseif type(name) ~= "string" then
            refuse("found a key of type " .. type(name) .. ", expected strings, or 1 to n", depth - 1, inside[depth])
        end
        text = quoted(key, depth) .. (indent and ": " or ":")
        if known_number < MAX_NAMES then
            known_number = known_number + 1
            known_names[name] = text
        end
    end
    put(text)
end

local function comes_first(a, b)
    count(0.3)
    return a < b
end

local function write_sorted(t, depth)
    local names, n, texts = {}, 0, {}
    for name in next, t do
        count(1)
        n = n + 1
        names[n] = name
        if type(name) == "number" then
            names[n] = number_text(name, depth) .. ""
            texts[names[n]] = name
        elseif type(name) ~= "string" then
            refuse("found a key of type " .. type(name) .. ", expected strings, or 1 to n", depth - 1, t)
        end
    end
    lua.sort(names, n > MANY and comes_first or nil)
    for i = 1, n do
        if i > 1 then put(",") end
        if indent then new_line(depth) end
        local name = names[i]
        write_name(name, depth)
        local key = texts[name]
        if key == nil then key = name end
        write(rawget(t, key), depth)
    end
end

local function write_object(t, depth)
    if next(t) == nil then return put("{}") end
    put("{")
    if is_sorted then
        write_sorted(t, depth)
    else
        local is_first = true
        for name, value in next, t do
            if is_first then is_first = false else put(",") end
            if indent then new_line(depth) end
            write_name(name, depth)
            write(value, depth)
        end
    end
    if indent then new_line(depth - 1) end
    put("}")
end

-- How many elements it has as an array; nil where it is none.
local function length_of(t, depth)
    local kind = kind_of(t)
    if kind == "object" then return nil end
    local first = next(t)
    if first == nil then return (kind == "array" or empty_is_array) and 0 or nil end
    if kind ~= "array" and type(first) ~= "number" and rawget(t, 1) == nil then return nil end
    local entries, last = 0, 0
    for key in next, t do
        count(0.2)
        if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then
            refuse("found a table with " .. (type(key) == "number" and "the key " .. key or "a key of type " .. type(key))
                .. " beside elements: json.object(t) makes names of all keys", depth - 1, t)
        end
        entries = entries + 1
        if key > last then last = key end
    end
    if last ~= entries then
        refuse(format("found an array with holes (%d values, the last one at %.14g): json.null can fill them", entries, last),
            depth - 1, t)
    end
    return entries
end

local function too_deep(value, depth)
    local problem = format("found tables nested more than %d deep", max_depth)
    for level = 1, depth do
        if inside[level] == value then problem = "found a table that contains itself" end
    end
    error(setmetatable({ message = problem }, problem_meta), 0)
end

function write(value, depth)
    local kind = type(value)
    if kind == "string" then
        put(quoted(value, depth))
    elseif kind == "number" then
        put(number_text(value, depth))
    elseif kind == "boolean" then
        put(value and "true" or "false")
    elseif kind == "nil" or value == null then
        put("null")
    elseif kind == "table" then
        count(1)
        if depth == max_depth then too_deep(value, depth) end
        depth = depth + 1
        inside[depth] = value
        local length = length_of(value, depth)
        if length then write_array(value, length, depth) else write_object(value, depth) end
    else
        refuse("found a " .. kind .. ", expected nil, boolean, number, string, or a table of these", depth, value)
    end
end

local function write_all(value)
    out, size, inside, known_names, known_number = {}, 0, {}, {}, 0
    write(value, 0)
    local blocks = out.blocks
    if not blocks then return concat(out, "", 1, size) end
    blocks[#blocks + 1] = concat(out, "", 1, size)
    return concat(blocks)
end

local NO_OPTIONS = {}

local function set_options(options)
    local pretty = rawget(options, "indent")
    if pretty == nil then pretty = rawget(options, "pretty") end
    if type(pretty) == "number" and pretty >= 0 and pretty <= 16 then
        pretty = sub("                ", 1, floor(pretty))
    elseif pretty == true then
        pretty = "  "
    elseif pretty and not (type(pretty) == "string" and find(pretty, "^[ \t]*$")) then
        server.errors.blame("bad argument #2 to 'encode' (indent: expected true, a number of spaces, or white space)")
    end
    local depth = depth_option("encode", options)
    indent, max_depth = pretty or nil, depth
    is_sorted = rawget(options, "sort")
    in_html, in_ascii = rawget(options, "html"), rawget(options, "ascii")
    empty_is_array = rawget(options, "empty") == "array"
    nan_text = rawget(options, "nan") == "null" and "null" or nil
end

-- A value as text. Raises an error for what JSON does not have.
function M.encode(value, options)
    if options ~= nil then expect("encode", 2, "table", options) end
    -- A finalizer may encode something while another value is under way.
    local a, b, c, d, e = out, size, inside, known_names, known_number
    local f, g, h, i, j, k, l = indent, is_sorted, in_html, in_ascii, empty_is_array, nan_text, max_depth
    set_options(options or NO_OPTIONS)
    local ok, text = guarded(write_all, value)
    out, size, inside, known_names, known_number = a, b, c, d, e
    indent, is_sorted, in_html, in_ascii, empty_is_array, nan_text, max_depth = f, g, h, i, j, k, l
    if ok then return text end
    server.errors.blame("json.encode: " .. text.message)
end

-- The body of a request

local function is_json(kind)
    kind = lua.lower(match(kind, "^%s*([^;%s]*)"))
    return kind == "application/json" or kind == "text/json" or find(kind, "^[^/]+/[^/]+%+json$") ~= nil
end

local function read_body(con, limit)
    local gets = server.services.gets
    if not limit then return gets(con) end
    local parts, n, length = {}, 0, 0
    local part, problem = gets(con, limit + 1)
    while part do
        n, length = n + 1, length + #part
        parts[n] = part
        if problem or length > limit then break end
        part, problem = gets(con, limit + 1 - length)
    end
    return concat(parts, "", 1, n), problem, length > limit
end

-- The value that the request's body is. What is wrong with it is the client's fault.
function M.read(con, options)
    expect("read", 1, "table", con)
    local limit
    if options ~= nil then
        expect("read", 2, "table", options)
        limit = rawget(options, "limit")
        if limit ~= nil and not (type(limit) == "number" and limit >= 1 and limit % 1 == 0) then
            server.errors.blame("bad argument #2 to 'read' (limit: expected a number of bytes)")
        end
    end
    options = options or NO_OPTIONS
    local depth = depth_option("read", options)
    local refuse_request = server.bad_requests.refuse
    local kind = functions.content_type()
    if kind and not is_json(kind) then refuse_request(415, "expected a body of type application/json") end
    local body, problem, is_too_long = read_body(con, limit)
    if is_too_long then refuse_request(413, "the body is longer than " .. format("%d", limit) .. " bytes") end
    if problem then refuse_request(400, problem) end
    if not find(body, "%S") then refuse_request(400, "the body is empty, expected JSON") end
    local value
    value, problem = decode(body, null_of(options), depth)
    if problem then refuse_request(400, "the body is not JSON: " .. problem) end
    return value
end

return M
