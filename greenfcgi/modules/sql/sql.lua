-- Databases: require "greenfcgi.sql".
--
-- arguments: lua: functions of Lua as they were before any script; server: what modules share (see boot.lua)
--            functions of the server, which return nil, the problem and its code where they fail; a number: log where the
--            script is, and go on with wait(number); nil, text and 0: the client has gone (see sql.py):
--            open(url, has_integers, max, idle, prepares): "", its number
--            execute(number, hold, timeout, blobs, names, statement, ...): "", 0, 0, affected, last_id
--            query(number, hold, timeout, is_long, blobs, names, statement, ...): "", rows, shape, count, values...: the
--            number of the rows to come (0: there are none), that of their columns, and the values of the first of them
--            more(rows, timeout): the same; finish(rows)
--            columns(shape): "LENGTH:NAMELENGTH:TYPE" of each
--            begin, commit, rollback(number, hold, timeout, depth); release(hold): begin returns "", the hold
--            is_exhausted(number, hold): "" where rows that this state has are in the way; close(number)
-- server gets: sql: what luasql.lua needs of it

local lua, server, functions = ...

local error, next, pcall, select, setmetatable, tostring, type =
    lua.error, lua.next, lua.pcall, lua.select, lua.setmetatable, lua.tostring, lua.type
local concat, find, format, sub, tonumber, unpack = lua.concat, lua.find, lua.format, lua.sub, lua.tonumber, lua.unpack
local newproxy, metatable_of, xpcall = lua.newproxy, lua.metatable_of, lua.xpcall
local count, is_final = server.count, server.is_final
local execute, query, more = functions.execute, functions.query, functions.more

local HAS_INTEGERS = lua.math_type ~= nil
-- Columns of rows that are made by a function of their own.
local MAX_COMPILED, MAX_SHAPES = 100, 200
local DEFAULT_MAX, DEFAULT_IDLE = 16, 60
-- A code of the server's own, see sql.py.
local ENDED = "ended"
local MEMORY = "sqlite::memory:"
-- After so many of these, those that nobody has any more are looked for: they weigh little in Lua, and much outside.
local COLLECT, opened = 8, 0

local function fixed(_, key) error("'" .. tostring(key) .. "' cannot be set here", 2) end

local NULL = setmetatable({}, { __tostring = function() return "NULL" end, __newindex = fixed, __metatable = false })

-- What a script holds, and what is behind it.
local handles, blobs = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })

local function blame(...) server.errors.blame(format(...)) end

-- The answer of a function of the server that may wait.
local function answer(result, ...)
    if type(result) == "number" then
        server.call("slow", server.errors.way(3))
        return answer(functions.wait(result))
    end
    if result == nil then
        local problem, code = ...
        if code == 0 then server.raise_disconnected() end
        return nil, problem, code ~= "" and code or nil
    end
    return result, ...
end

-- What is garbage. A finalizer notes its number only, since it may be called at any time.
local dropped, number_dropped = {}, 0

local function note(number)
    dropped[number_dropped + 1] = number
    number_dropped = number_dropped + 1
end

-- An object; when nobody has it any more, what has this number at the server is closed.
-- It has the fields of `meta` in its metatable.
local function watched(number, meta)
    local object = newproxy and newproxy(true)
    local own = object and metatable_of(object) or {}
    for name, value in next, meta or {} do own[name] = value end
    if number > 0 then own.__gc = function() pcall(note, number) end end
    return object or setmetatable({}, own)
end

local function close_dropped()
    while number_dropped > 0 do
        local number = dropped[number_dropped]
        number_dropped = number_dropped - 1
        functions.close(number)
    end
end

-- Rows that are under way; those that were left early may count, too.
local under_way = 0

-- Before a statement that needs a connection: loops that were left early may have them all.
local function make_way(handle)
    if number_dropped > 0 then close_dropped() end
    if under_way > 0 and functions.is_exhausted(handle.number, handle.hold) then
        lua.collectgarbage()
        close_dropped()
    end
end

-- Shapes: what columns a row has, and how to make a table of it.

local shapes, number_of_shapes = {}, 0

local function part(text, at)
    local colon = find(text, ":", at, true)
    local last = colon + tonumber(sub(text, at, colon - 1))
    return sub(text, colon + 1, last), last + 1
end

local function compiled_maker(names, width)
    local first, values, fields = {}, {}, {}
    for i = 1, width do
        first[i] = format("if v%d == nil then v%d = NULL end", i, i)
        values[i] = format("t[at+%d]", i)
        fields[i] = format("[%q]=v%d", names[i], i)
    end
    local locals = {}
    for i = 1, width do locals[i] = "v" .. i end
    return server.compile_own(
        "local NULL = ... return function(t, at) local " .. concat(locals, ",") .. " = " .. concat(values, ",") .. " "
        .. concat(first, " ") .. " return {" .. concat(fields, ",") .. "} end"
    )(NULL)
end

local function shape_of(number)
    local shape = shapes[number]
    if shape then return shape end
    local text = functions.columns(number)
    local names, types, width, at = {}, {}, 0, 1
    while at <= #text do
        width = width + 1
        names[width], at = part(text, at)
        types[width], at = part(text, at)
    end
    shape = { names = names, types = types, width = width }
    if width <= MAX_COMPILED then
        shape.make = compiled_maker(names, width)
    else
        function shape.make(t, first)
            local row = {}
            for i = 1, width do
                local value = t[first + i]
                if value == nil then value = NULL end
                row[names[i]] = value
            end
            return row
        end
    end
    if number_of_shapes >= MAX_SHAPES then shapes, number_of_shapes = {}, 0 end
    shapes[number], number_of_shapes = shape, number_of_shapes + 1
    return shape
end

local function names_of(shape)
    local names = {}
    for i = 1, shape.width do names[i] = shape.names[i] end
    return names
end

-- Arguments

local function handle_of(db, name)
    local handle = handles[db]
    if not handle then blame("db.%s called with a dot, or on what is no database: write db:%s(...)", name, name) end
    return handle
end

local PLAIN = { string = true, number = true, boolean = true }

local function wrong_value(position, name, value)
    local hint = value == nil and "; sql.NULL is NULL" or ""
    blame(
        "bad argument #%d to '%s' (found %s, expected a string, number, boolean, sql.NULL or sql.blob(bytes)%s)",
        position, name, type(value), hint
    )
end

local function named(name, values)
    local names, list, positions, number = {}, {}, "", 0
    for key, value in next, values do
        if type(key) ~= "string" or not find(key, "^[%a_][%w_]*$") then
            blame("bad argument #2 to '%s' (found the key '%s', expected names of parameters)", name, tostring(key))
        end
        number = number + 1
        names[number] = key
        if value == NULL then
            list[number] = nil
        elseif blobs[value] then
            list[number] = blobs[value]
            positions = positions .. number .. ","
        elseif PLAIN[type(value)] then
            list[number] = value
        else
            wrong_value(2, name, value)
        end
    end
    return positions, concat(names, "\n"), list, number
end

-- Returns which of the values are blobs, their names, and the values in a table and their number where they are not just
-- those that were given.
local function checked(name, statement, ...)
    if type(statement) ~= "string" then
        blame("bad argument #1 to '%s' (string expected, got %s)", name, type(statement))
    end
    local number = select("#", ...)
    local is_plain = true
    for i = 1, number do
        local value = select(i, ...)
        if not PLAIN[type(value)] then
            is_plain = false
            break
        end
    end
    if is_plain then return "", "" end
    local values = { ... }
    local first = values[1]
    if number == 1 and type(first) == "table" and first ~= NULL and not blobs[first] then return named(name, first) end
    local positions = {}
    for i = 1, number do
        local value = values[i]
        if value == NULL then
            values[i] = nil
        elseif value ~= nil and blobs[value] then
            values[i] = blobs[value]
            positions[#positions + 1] = i
        elseif not PLAIN[type(value)] then
            wrong_value(i + 1, name, value)
        end
    end
    return concat(positions, ","), "", values, number
end

-- The transaction has ended with the run that began it, in a coroutine that nobody has resumed.
local function look_at_hold(handle, code)
    if code ~= ENDED then return code end
    handle.hold, handle.depth = 0, 0
end

local function failed(handle, problem, code)
    code = look_at_hold(handle, code)
    if handle.raises then server.errors.blame(problem) end
    return nil, problem, code
end

local function ran(handle, result, ...)
    if not result then return failed(handle, ...) end
    local _, _, affected, last_id = ...
    return affected, last_id
end

-- Rows. `into` takes the values of an answer, since they are as many as they are.

local function keep(into, result, number, shape, values, ...)
    if not result then
        into.problem, into.code = number, shape
        return nil
    end
    into.values = { ... }
    return number, shape, values
end

local function start_query(into, handle, name, is_long, statement, ...)
    make_way(handle)
    local positions, names, values, number = checked(name, statement, ...)
    if values then
        return keep(into, answer(query(
            handle.number, handle.hold, handle.timeout, is_long, positions, names, statement, unpack(values, 1, number)
        )))
    end
    return keep(into, answer(query(
        handle.number, handle.hold, handle.timeout, is_long, positions, names, statement, ...
    )))
end

-- A row may come in several parts. Returns the values of whole rows, and how many values these are.
local function whole(into, shape, values, number, timeout)
    local held, filled = into.values, values
    while filled < shape.width do
        local _, added
        number, _, added = keep(into, answer(more(number, timeout)))
        if not number then return nil end
        for i = 1, added do held[filled + i] = into.values[i] end
        filled = filled + added
    end
    return held, filled, number
end

-- Of several databases
local methods = {}

function methods.query(db, statement, ...)
    local handle = handle_of(db, "query")
    local into = {}
    local number, shape_number, values = start_query(into, handle, "query", false, statement, ...)
    if not number then return failed(handle, into.problem, into.code) end
    local rows = {}
    if shape_number == 0 then return rows, {} end
    local shape = shape_of(shape_number)
    local make, width, filled, _ = shape.make, shape.width, 0, nil
    while true do
        local t = into.values
        if values > 0 and values < width then
            t, values, number = whole(into, shape, values, number, handle.timeout)
            if not t then break end
        end
        for at = 0, values - width, width do
            filled = filled + 1
            rows[filled] = make(t, at)
        end
        if number == 0 then return rows, names_of(shape) end
        count(values / width)
        number, _, values = keep(into, answer(more(number, handle.timeout)))
        if not number then break end
    end
    return failed(handle, into.problem, into.code)
end

function methods.each(db, statement, ...)
    local handle = handle_of(db, "each")
    local into = {}
    local number, shape_number, values = start_query(into, handle, "each", true, statement, ...)
    if not number then
        look_at_hold(handle, into.code)
        server.errors.blame(into.problem)
    end
    if shape_number == 0 then return function() return nil end end
    local shape = shape_of(shape_number)
    local make, width, t, at, _ = shape.make, shape.width, into.values, 0, nil
    local guard = nil
    if number > 0 then
        guard = watched(number)
        under_way = under_way + 1
    end

    local function ended()
        if guard then
            guard = nil
            under_way = under_way - 1
        end
        number, values, at = 0, 0, 0
    end

    local function row()
        if at >= values then
            if number == 0 then
                ended()
                return nil
            end
            local going = number
            number, _, values = keep(into, answer(more(number, handle.timeout)))
            if not number then
                ended()
                functions.finish(going)
                server.errors.blame(into.problem)
            end
            t, at = into.values, 0
            if values == 0 then
                ended()
                return nil
            end
        end
        if values < width then
            t, values, number = whole(into, shape, values, number, handle.timeout)
            if not t then
                ended()
                server.errors.blame(into.problem)
            end
        end
        count(1)
        at = at + width
        return make(t, at - width)
    end

    local function close()
        if number > 0 then functions.finish(number) end
        ended()
    end

    -- Lua 5.4 calls it when the loop is left.
    return row, nil, nil, lua.thread_close and setmetatable({}, { __close = close, __metatable = false }) or nil
end

function methods.execute(db, statement, ...)
    local handle = handle_of(db, "execute")
    make_way(handle)
    local positions, names, values, number = checked("execute", statement, ...)
    if values then
        return ran(handle, answer(execute(
            handle.number, handle.hold, handle.timeout, positions, names, statement, unpack(values, 1, number)
        )))
    end
    return ran(handle, answer(execute(
        handle.number, handle.hold, handle.timeout, positions, names, statement, ...
    )))
end

local function describe(problem)
    if not is_final(problem) then problem = server.corrected(problem, nil, 2) end
    return problem
end

local function end_transaction(handle, depth, ok, ...)
    local hold = handle.hold
    handle.depth = depth
    if depth == 0 then handle.hold = 0 end
    local act = ok and functions.commit or functions.rollback
    local done, problem, code = true, nil, nil
    if ok or not is_final((...)) then
        done, problem, code = answer(act(handle.number, hold, handle.timeout, depth))
        if not done and ok and depth > 0 then answer(functions.rollback(handle.number, hold, handle.timeout, depth)) end
    end
    if depth == 0 then functions.release(hold) end
    if not ok then error((...), 0) end
    if not done then return failed(handle, problem, code) end
    if select("#", ...) == 0 then return true end
    return ...
end

function methods.transaction(db, f, ...)
    local handle = handle_of(db, "transaction")
    if type(f) ~= "function" then
        blame("bad argument #1 to 'transaction' (function expected, got %s)", type(f))
    end
    make_way(handle)
    local depth = handle.depth
    local done, hold, code = answer(functions.begin(handle.number, handle.hold, handle.timeout, depth))
    if not done then return failed(handle, hold, code) end
    if depth == 0 then handle.hold = hold end
    handle.depth = depth + 1
    local arguments, number = { ... }, select("#", ...)
    return end_transaction(handle, depth, xpcall(function() return f(unpack(arguments, 1, number)) end, describe))
end

function methods.close(db)
    local handle = handle_of(db, "close")
    if handle.hold ~= 0 then functions.release(handle.hold) end
    if handle.guard then functions.close(handle.number) end
    handle.number, handle.hold, handle.depth, handle.guard = 0, 0, 0, nil
    return true
end

local db_meta = {
    __index = methods, __newindex = fixed, __tostring = function() return "database" end, __metatable = false,
}

-- Options

local function whole_number(value) return type(value) == "number" and value >= 1 and value % 1 == 0 and value <= 10000 end
local function seconds(value) return type(value) == "number" and value > 0 and value < 1e9 end

local OPTIONS = {
    errors = { function(v) return v == "return" or v == "raise" end, '"return" or "raise"' },
    max = { whole_number, "a whole number from 1 to 10000" },
    idle = { seconds, "seconds above 0" },
    timeout = { seconds, "seconds above 0" },
    prepare = { function(v) return type(v) == "boolean" end, "true or false" },
}

local function checked_options(options)
    if options == nil then return {} end
    if type(options) ~= "table" then
        blame("bad argument #2 to 'connect' (table expected, got %s)", type(options))
    end
    local found = {}
    for name, value in next, options do
        local rule = OPTIONS[name]
        if not rule then
            blame("unknown option '%s'; known are errors, idle, max, prepare, timeout", tostring(name))
        elseif not rule[1](value) then
            blame("bad option '%s' (found %s, expected %s)", name, tostring(value), rule[2])
        end
        found[name] = value
    end
    return found
end

local function connect(url, options)
    if type(url) ~= "string" then blame("bad argument #1 to 'connect' (string expected, got %s)", type(url)) end
    local found = checked_options(options)
    if url == MEMORY then
        opened = opened + 1
        if opened % COLLECT == 0 then lua.collectgarbage() end
    end
    if number_dropped > 0 then close_dropped() end
    local done, number, code = answer(functions.open(
        url, HAS_INTEGERS, found.max or DEFAULT_MAX, found.idle or DEFAULT_IDLE, found.prepare ~= false
    ))
    local handle = {
        number = number, hold = 0, depth = 0, timeout = found.timeout or 0, raises = found.errors == "raise",
    }
    if not done then return failed(handle, number, code) end
    if url == MEMORY then handle.guard = watched(number) end
    local db = setmetatable({}, db_meta)
    handles[db] = handle
    return db
end

local function blob(data)
    if type(data) ~= "string" then blame("bad argument #1 to 'blob' (string expected, got %s)", type(data)) end
    local object = setmetatable({}, { __tostring = function() return data end, __newindex = fixed, __metatable = false })
    blobs[object] = data
    return object
end

server.sql = {
    functions = functions, answer = answer, watched = watched, close_dropped = close_dropped, shape_of = shape_of, keep = keep,
    whole = whole,
}
return { connect = connect, blob = blob, NULL = NULL }
