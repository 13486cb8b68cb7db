-- LuaSQL's interface on greenfcgi.sql: require "luasql.sqlite3", require "luasql.postgres". Functions, messages and results
-- are those of LuaSQL 2.6, see https://lunarmodules.github.io/luasql/manual.html.
--
-- A connection stays until it is closed, or nobody has it any more. One that is lost is made anew for the next statement.
--
-- arguments: lua, server: see boot.lua; no functions of its own; name: as it was required

local lua, server, _, name = ...

local next, setmetatable, tostring, type, unpack = lua.next, lua.setmetatable, lua.tostring, lua.type, lua.unpack
local format, gsub = lua.format, lua.gsub

-- It leaves what is needed here behind.
if not lua.rawget(server, "sql") then server.opening("greenfcgi.sql") end
local sql = server.sql
local functions, answer, keep = sql.functions, sql.answer, sql.keep

local is_postgres = name == "luasql.postgres"
local NAMES = is_postgres and { "PostgreSQL", "postgres" } or { "SQLite3", "sqlite3" }
local FAILED = is_postgres and "LuaSQL: error executing statement. PostgreSQL: ERROR:  " or "LuaSQL: "
local NOT_CONNECTED = is_postgres and "LuaSQL: error connecting to database. PostgreSQL: " or "LuaSQL: "
-- After so many connections, those that nobody has any more are looked for: they weigh little in Lua, and much outside.
local COLLECT, opened = 8, 0
local FORBIDDEN = "LuaSQL: you're not allowed to get this metatable"

-- What is behind an object: environments, connections and cursors.
local own = setmetatable({}, { __mode = "k" })

local function blame(position, method, detail)
    server.errors.blame(format("bad argument #%d to '%s' (%s)", position, method, detail))
end

-- The object's own, if it is of this kind and open; a method's first argument counts as C's functions count it.
local function checked(object, kind, method)
    local found = own[object]
    if not found or found.kind ~= kind then
        local got = object == nil and "no value" or type(object)
        blame(1, method, NAMES[1] .. " " .. kind .. " expected, got " .. got)
    end
    if found.is_closed then blame(1, method, "LuaSQL: " .. kind .. " is closed") end
    return found
end

local function text_argument(value, position, method)
    if type(value) == "number" then return tostring(value) end
    if type(value) ~= "string" then
        blame(position, method, "string expected, got " .. (value == nil and "no value" or type(value)))
    end
    return value
end

local last = 0

-- `number`: of what is closed at the server when nobody has the object any more.
local function made(kind, methods, fields, number)
    last = last + 1
    local shown = format("%s %s (0x%08x)", NAMES[1], kind, last)
    local object = sql.watched(number, {
        __index = methods, __metatable = FORBIDDEN,
        __tostring = function(each)
            local found = own[each]
            return found and found.is_closed and NAMES[1] .. " " .. kind .. " (closed)" or shown
        end,
    })
    fields.kind = kind
    own[object] = fields
    return object
end

local cursor_methods, connection_methods, environment_methods = {}, {}, {}

-- Cursors

local function ended(cursor)
    cursor.is_closed, cursor.values = true, nil
    if cursor.number > 0 then functions.finish(cursor.number) end
    cursor.number = 0
end

-- The values of the next row, and where these begin; nil at the end, or with the problem.
local function next_row(cursor)
    if cursor.at >= cursor.count then
        if cursor.number == 0 then return nil end
        local number, problem, count = keep(cursor, answer(functions.more(cursor.number, 0)))
        if not number then return nil, cursor.problem or problem end
        cursor.number, cursor.count, cursor.at = number, count, 0
        if count == 0 then return nil end
    end
    if cursor.count < cursor.shape.width then
        local values, count, number = sql.whole(cursor, cursor.shape, cursor.count, cursor.number, 0)
        if not values then return nil, cursor.problem end
        cursor.values, cursor.count, cursor.number = values, count, number
    end
    server.count(1)
    local at = cursor.at
    cursor.at = at + cursor.shape.width
    return cursor.values, at
end

function cursor_methods.fetch(object, into, mode)
    local cursor = checked(object, "cursor", "fetch")
    local shape = cursor.shape
    local values, at = next_row(cursor)
    if not values then
        ended(cursor)
        if at then return nil, FAILED .. at end
        return nil
    end
    if type(into) ~= "table" then return unpack(values, at + 1, at + shape.width) end
    mode = mode == nil and "n" or text_argument(mode, 3, "fetch")
    local names = shape.names
    local by_number, by_name = lua.find(mode, "n", 1, true), lua.find(mode, "a", 1, true)
    for i = 1, shape.width do
        local value = values[at + i]
        if by_number then into[i] = value end
        if by_name then into[names[i]] = value end
    end
    return into
end

function cursor_methods.close(object)
    local cursor = own[object]
    if cursor and cursor.kind == "cursor" and cursor.is_closed then return false end
    ended(checked(object, "cursor", "close"))
    return true
end

local function listed(t, width)
    local found = {}
    for i = 1, width do found[i] = t[i] end
    return found
end

function cursor_methods.getcolnames(object)
    local shape = checked(object, "cursor", "getcolnames").shape
    return listed(shape.names, shape.width)
end

function cursor_methods.getcoltypes(object)
    local cursor = checked(object, "cursor", "getcoltypes")
    local shape, types = cursor.shape, cursor.shape.types
    if not is_postgres then
        local connection = cursor.connection
        local done, number = answer(functions.declared(connection.pool, connection.hold, cursor.statement))
        if done and number > 0 then types = sql.shape_of(number).types end
    end
    return listed(types, shape.width)
end

if is_postgres then
    function cursor_methods.numrows(object) return checked(object, "cursor", "numrows").rows end
end

-- Connections

local function begun(connection)
    if connection.is_manual then return answer(functions.start(connection.pool, connection.hold)) end
    return true
end

function connection_methods.execute(object, statement)
    local connection = checked(object, "connection", "execute")
    statement = text_argument(statement, 2, "execute")
    sql.close_dropped()
    local ready, why = begun(connection)
    if not ready then return nil, FAILED .. why end
    local cursor = {}
    local number, shape, count = keep(cursor, answer(functions.query(
        connection.pool, connection.hold, 0, false, "", "", statement
    )))
    if not number then return nil, FAILED .. cursor.problem end
    if shape == 0 then
        connection.last_id = cursor.values[1] or connection.last_id
        return count
    end
    cursor.number, cursor.count, cursor.at, cursor.shape = number, count, 0, sql.shape_of(shape)
    cursor.connection, cursor.statement = connection, statement
    if is_postgres then cursor.rows = number > 0 and functions.size(number) or count / cursor.shape.width end
    local made_cursor = made("cursor", cursor_methods, cursor, number)
    connection.cursors[made_cursor] = true
    return made_cursor
end

local function ends_transaction(act, method)
    return function(object)
        local connection = checked(object, "connection", method)
        local done, problem = answer(functions[act](connection.pool, connection.hold, 0, 0))
        if not done and connection.is_manual then return false, FAILED .. problem end
        return true
    end
end

connection_methods.commit = ends_transaction("commit", "commit")
connection_methods.rollback = ends_transaction("rollback", "rollback")

function connection_methods.setautocommit(object, is_automatic)
    local connection = checked(object, "connection", "setautocommit")
    -- The next statement begins a transaction, unless it is automatic; what was begun is committed by that.
    if is_automatic and connection.is_manual then
        answer(functions[is_postgres and "rollback" or "commit"](connection.pool, connection.hold, 0, 0))
    end
    connection.is_manual = not is_automatic
    return true
end

function connection_methods.escape(object, text)
    checked(object, "connection", "escape")
    return (gsub(text_argument(text, 2, "escape"), "'", "''"))
end

if not is_postgres then
    function connection_methods.getlastautoid(object)
        return checked(object, "connection", "getlastautoid").last_id or 0
    end

    function connection_methods.setbusytimeout(object)
        checked(object, "connection", "setbusytimeout")
        return true
    end
end

function connection_methods.close(object)
    local connection = own[object]
    if connection and connection.kind == "connection" and connection.is_closed then return false end
    connection = checked(object, "connection", "close")
    for cursor in next, connection.cursors do
        if not own[cursor].is_closed then return false, "LuaSQL: there are open cursors" end
    end
    connection.is_closed = true
    functions.release(connection.hold)
    return true
end

-- Environments

function environment_methods.connect(object, source, user, password, host, port)
    checked(object, "environment", "connect")
    source = text_argument(source, 2, "connect")
    local given = {}
    if is_postgres then
        given = { user or "", password or "", host or "", port or "" }
        for i = 1, 4 do given[i] = text_argument(given[i], i + 2, "connect") end
    end
    opened = opened + 1
    if opened % COLLECT == 0 then lua.collectgarbage() end
    sql.close_dropped()
    local done, pool = answer(functions.open_luasql(
        NAMES[2], lua.math_type ~= nil, source, given[1] or "", given[2] or "", given[3] or "", given[4] or ""
    ))
    if not done then return nil, NOT_CONNECTED .. pool end
    local connected, hold = answer(functions.connect(pool))
    if not connected then return nil, NOT_CONNECTED .. hold end
    return made("connection", connection_methods, {
        pool = pool, hold = hold, cursors = setmetatable({}, { __mode = "k" }),
    }, hold)
end

function environment_methods.close(object)
    local environment = own[object]
    if environment and environment.kind == "environment" and environment.is_closed then return false end
    checked(object, "environment", "close").is_closed = true
    return true
end

return {
    [NAMES[2]] = function() return made("environment", environment_methods, {}, 0) end,
    _VERSION = "LuaSQL 2.6.0 (greenfcgi)", _DESCRIPTION = "LuaSQL is a simple interface from Lua to a DBMS",
}
