-- Forms, and the files that are uploaded with them: require "greenfcgi.form".
--
-- arguments: lua: functions of Lua as they were before any script; server: what modules share (see boot.lua)
--            functions of the server, which return nil, what is wrong, and a status of 4xx, or one of the codes below (see
--            form.py):
--            begin(content_type, max_fields, max_field_size, max_fields_size, max_files, max_file_size): "", of multipart
--            next(): "more": others may have a turn; "field", name, value; "file", name, its own name, type, size, path,
--            number; "end"
--            move(number, path): "more": again, without a path; ""
--            is_utf8(text): 1 or 0

local lua, server, functions = ...

local error, next, setmetatable, tostring, type = lua.error, lua.next, lua.setmetatable, lua.tostring, lua.type
local find, format, lower, match, sub = lua.find, lua.format, lua.lower, lua.match, lua.sub
local count, decode = server.count, server.opening("fields").decode

-- Codes of problems that are no status.
local GONE, MISSING = 0, 2
-- Bytes of a body that are read at a time.
local PART = 65536

local DEFAULTS = {
    max_fields = 1000, max_field_size = 1048576, max_fields_size = 2097152, max_files = 20, max_file_size = lua.huge,
    brackets = true, utf8 = false,
}

local function blame(...) server.errors.blame(format(...)) end

local function refuse(status, ...) server.bad_requests.refuse(status, format(...)) end

-- Arguments

local function limits_of(options, position, name)
    if options == nil then return DEFAULTS end
    if type(options) ~= "table" then
        blame("bad argument #%d to '%s' (table expected, got %s)", position, name, type(options))
    end
    local limits = {}
    for option, value in next, options do
        if DEFAULTS[option] == nil then blame("form.%s: unknown option '%s'", name, tostring(option)) end
        if type(DEFAULTS[option]) == "boolean" then
            if type(value) ~= "boolean" then
                blame("form.%s: %s: found %s, expected true or false", name, option, tostring(value))
            end
        elseif type(value) ~= "number" or value ~= value or value < 0 then
            blame("form.%s: %s: found %s, expected a number from 0 up", name, option, tostring(value))
        end
        limits[option] = value
    end
    return setmetatable(limits, { __index = DEFAULTS })
end

local function variable_of(env, variable, name)
    if type(env) ~= "table" then blame("bad argument #1 to '%s' (table expected, got %s)", name, type(env)) end
    local value = env[variable]
    return type(value) == "string" and value or ""
end

-- Fields. A name that comes twice has a list of its values, and so has one that ends in "[]", however often it comes,
-- unless brackets are as other characters.

local function collection() return {}, {} end

local function add(values, lists, name, value, has_brackets)
    if has_brackets and sub(name, -2) == "[]" and #name > 2 then
        name = sub(name, 1, -3)
        if not lists[name] then
            lists[name], values[name] = true, { values[name] }
        end
    end
    local known = values[name]
    if lists[name] then
        known[#known + 1] = value
    elseif known == nil then
        values[name] = value
    else
        lists[name], values[name] = true, { known, value }
    end
end

-- A field is refused that is not UTF-8, where the script asks for it.
local function check_utf8(limits, name, value)
    if not limits.utf8 then return end
    local text = name .. value
    if find(text, "[\128-\255]") and functions.is_utf8(text) ~= 1 then refuse(400, "a field of the form is not UTF-8") end
end

-- Returns a function that takes a pair, encoded.
local function taker(values, limits)
    local lists, number, size = {}, 0, 0
    return function(pair)
        count(1 + #pair * 0.003)
        if pair == "" then return end
        local equals = find(pair, "=", 1, true)
        local name = decode(equals and sub(pair, 1, equals - 1) or pair)
        local value = equals and decode(sub(pair, equals + 1)) or ""
        number, size = number + 1, size + #name + #value
        if number > limits.max_fields then refuse(413, "the form has more than %.0f fields", limits.max_fields) end
        if #name + #value > limits.max_field_size then
            refuse(413, "a field of the form has more than %.0f bytes", limits.max_field_size)
        end
        if size > limits.max_fields_size then
            refuse(413, "the fields of the form have more than %.0f bytes", limits.max_fields_size)
        end
        check_utf8(limits, name, value)
        add(values, lists, name, value, limits.brackets)
    end
end

-- Takes all pairs that end in the text, and returns what is left of it.
local function take_pairs(take, text)
    local at = 1
    while true do
        local last = find(text, "&", at, true)
        if not last then return sub(text, at) end
        take(sub(text, at, last - 1))
        -- What is between several of them is no field, and need not be looked at.
        at = find(text, "[^&]", last + 1) or #text + 1
    end
end

local function read_urlencoded(limits)
    local fields, rest = {}, ""
    local take = taker(fields, limits)
    while true do
        local data, problem = server.ask("read", PART)
        if not data then return nil, problem end
        if problem then refuse(400, "%s", problem) end
        if data == "" then
            take(rest)
            return fields, {}
        end
        rest = take_pairs(take, rest .. data)
        -- A byte may be written as three.
        if #rest > 3 * limits.max_field_size + 1 then
            refuse(413, "a field of the form has more than %.0f bytes", limits.max_field_size)
        end
        server.look_at_clock()
    end
end

-- Files

-- The numbers of files that are temporary ones.
local numbers = setmetatable({}, { __mode = "k" })

local function move(file, path)
    local number = type(file) == "table" and numbers[file]
    if not number then blame("file.move called with a dot, or on what is no file: write file:move(path)") end
    if type(path) ~= "string" then blame("bad argument #1 to 'move' (string expected, got %s)", type(path)) end
    path = server.paths(path)
    local result, problem, code = functions.move(number, path)
    while result == "more" do
        server.look_at_clock()
        result, problem, code = functions.move(number)
    end
    if not result then
        if code == GONE then server.raise_disconnected() end
        return nil, path .. ": " .. problem, code
    end
    file.path = path
    return true
end

local function read_multipart(content_type, limits)
    local fields, field_lists = collection()
    local files, file_lists = collection()
    local kind, a, b, c, d, e, f = functions.begin(
        content_type, limits.max_fields, limits.max_field_size, limits.max_fields_size, limits.max_files, limits.max_file_size
    )
    while kind and kind ~= "end" do
        if kind == "field" then
            check_utf8(limits, a, b)
            add(fields, field_lists, a, b, limits.brackets)
            count(5)
        elseif kind == "file" then
            local file = { name = b, type = c, size = d, path = e, move = move }
            numbers[file] = f
            add(files, file_lists, a, file, limits.brackets)
            count(5)
        else
            server.look_at_clock()
        end
        kind, a, b, c, d, e, f = functions.next()
    end
    if kind then return fields, files end
    if b == GONE then server.raise_disconnected() end
    if not b or b == MISSING then blame("%s", a) end
    if b >= 400 then refuse(b, "%s", a) end
    return nil, a
end

-- What has been read of the body of each con, which can be read once.
local known = setmetatable({}, { __mode = "k" })
-- That whose body is being read.
local reading

local function read_body(env, limits)
    local content_type = variable_of(env, "CONTENT_TYPE", "read")
    local kind = lower(match(content_type, "^%s*([^;%s]*)"))
    if kind == "application/x-www-form-urlencoded" then return read_urlencoded(limits) end
    if kind == "multipart/form-data" then return read_multipart(content_type, limits) end
    return {}, {}
end

local function keep(con, ok, ...)
    reading = nil
    known[con] = { ok, ... }
    if not ok then error((...), 0) end
    return ...
end

local M = {}

-- The fields and the files of the form in the request's body; nil and what is wrong where a file cannot be kept.
function M.read(env, con, options)
    local limits = limits_of(options, 3, "read")
    variable_of(env, "CONTENT_TYPE", "read")
    if type(con) ~= "table" then blame("bad argument #2 to 'read' (con expected, got %s)", type(con)) end
    server.check(con, "form.read")
    local found = known[con]
    if found then
        if not found[1] then error(found[2], 0) end
        return found[2], found[3]
    end
    -- A finalizer may come in between.
    if reading == con then blame("form.read: the form is being read") end
    reading = con
    return keep(con, server.pcall(read_body, env, limits))
end

-- The fields of the query string.
function M.query(env, options)
    local limits = limits_of(options, 2, "query")
    local fields = {}
    local take = taker(fields, limits)
    take(take_pairs(take, variable_of(env, "QUERY_STRING", "query")))
    return fields
end

-- The first value of a name, and all of them, whether it is in a list or not. A file is one value.
local function is_list(value) return type(value) == "table" and numbers[value] == nil end

function M.first(value)
    if is_list(value) then return value[1] end
    return value
end

function M.list(value)
    if is_list(value) then return value end
    return { value }
end

return M
