-- Which globals the requests in a state have written, and which they have missed: what one state has, another has not. For
-- developers only. Compiled when a script has been loaded.
--
-- returns: a table: watch(globals): from now on, globals and the tables in them are watched, where they have no metatable
--          created(name, value): a request has created a global
--          missed(name): one was read that is not there
--          begin(): a request begins
--          report(): it is over. Returns lines: "w NAME" for what requests in this state have written and is there still, "m
--          NAME" for what this one has missed, "c NAME" for a number that it has counted up by one. A field of a global table
--          is NAME[KEY]. Caches that are filled when something is missing do not miss it at the end of the request, and what
--          holds a function is no data

local lua, server = ...

local gsub, next, pcall, rawget, rawset, setmetatable, sub, tostring, type = lua.gsub, lua.next, lua.pcall, lua.rawget,
    lua.rawset, lua.setmetatable, lua.sub, lua.tostring, lua.type

local MAX_ENTRIES, MAX_FIELDS, MAX_TEXT = 200, 100, 60
-- A number that is larger counts nothing: it is a time, perhaps.
local MAX_COUNT = 1e6

local globals
local is_request = false

-- Of globals by their names, and of fields by tables with the names of these.
local written, misses, number_written, number_missed = {}, {}, 0, 0
-- The global tables that are watched, by their names, and what has been written into them, and missed.
local tables = {}
-- Numbers as they were last, by what they are called.
local numbers = {}

local function shown(name) return sub(gsub(tostring(name), "[%c]", "?"), 1, MAX_TEXT) end

local function is_key(key) return type(key) == "string" or type(key) == "number" end

local function watch_table(name, value)
    if lua.metatable_of(value) ~= nil or tables[name] then return end
    for _, loaded in next, server.loaded do
        if loaded == value then return end
    end
    local own = { value = value, written = {}, missed = {} }
    tables[name] = own
    setmetatable(value, {
        __index = function(_, key)
            if is_request and is_key(key) and number_missed < MAX_ENTRIES and not own.missed[key] then
                own.missed[key], number_missed = true, number_missed + 1
            end
        end,
        __newindex = function(t, key, new)
            rawset(t, key, new)
            if is_request and is_key(key) and type(new) ~= "function" and number_written < MAX_ENTRIES
                and not own.written[key] then
                own.written[key], number_written = true, number_written + 1
            end
        end,
    })
end

local function created(name, value)
    if not is_request or type(name) ~= "string" or type(value) == "function" then return end
    if number_written < MAX_ENTRIES and not written[name] then
        written[name], number_written = true, number_written + 1
    end
    if type(value) == "table" then watch_table(name, value) end
end

local function missed(name)
    if is_request and type(name) == "string" and number_missed < MAX_ENTRIES and not misses[name] then
        misses[name], number_missed = true, number_missed + 1
    end
end

local function each_number(found)
    for name, value in next, globals do
        if type(name) == "string" and type(value) == "number" then found(shown(name), value) end
    end
    for name, own in next, tables do
        local fields = 0
        for key, value in next, own.value do
            fields = fields + 1
            if fields > MAX_FIELDS then break end
            if is_key(key) and type(value) == "number" then found(shown(name) .. "[" .. shown(key) .. "]", value) end
        end
    end
end

local function watch(table_of_globals)
    globals = table_of_globals
    for name, value in next, globals do
        if type(name) == "string" and type(value) == "table" and value ~= globals then watch_table(name, value) end
    end
    each_number(function(name, value) numbers[name] = value end)
end

local function begin()
    is_request, misses, number_missed = true, {}, 0
    for _, own in next, tables do own.missed = {} end
end

local function collect(lines)
    local function add(kind, name) lines[#lines + 1] = kind .. " " .. name end
    for name in next, written do
        if rawget(globals, name) ~= nil then add("w", shown(name)) end
    end
    for name in next, misses do
        if rawget(globals, name) == nil then add("m", shown(name)) end
    end
    for name, own in next, tables do
        if rawget(globals, name) == own.value then
            for key in next, own.written do
                if rawget(own.value, key) ~= nil then add("w", shown(name) .. "[" .. shown(key) .. "]") end
            end
            for key in next, own.missed do
                if rawget(own.value, key) == nil then add("m", shown(name) .. "[" .. shown(key) .. "]") end
            end
        else
            tables[name] = nil
        end
    end
    each_number(function(name, value)
        local before = numbers[name]
        if before and value == before + 1 and value < MAX_COUNT then add("c", name) end
        numbers[name] = value
    end)
end

local function report()
    if not is_request or not globals then return "" end
    is_request = false
    local lines = {}
    return pcall(collect, lines) and lua.concat(lines, "\n") or ""
end

return { watch = watch, created = created, missed = missed, begin = begin, report = report }
