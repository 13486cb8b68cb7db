-- What scripts have of the debug library, and string.dump, where lua.allow does not open more. Compiled when the first of
-- these is looked up.
--
-- They answer for functions of the script alone: those in Lua whose source is none of the server's. All others, in C or of
-- the server's, have no upvalues here and cannot be dumped, as functions in C cannot: an upvalue of the server's would be
-- the way to Python. What a function of the script can reach, the script can.
--
-- returns: a table: dump: as string.dump; fill(library, name): puts the others into the script's debug, and returns the one
--          of that name

local lua, server = ...

local getinfo, gsub, type = lua.getinfo, lua.gsub, lua.type
local call, is_own = server.errors.call, server.errors.is_own

-- LuaJIT has some functions of tables in Lua, which begin before the first line.
local function is_scripts(f)
    if type(f) ~= "function" then return false end
    local info = getinfo(f, "S")
    return info.what ~= "C" and info.linedefined >= 0 and not is_own(info)
end

-- One that is none at all: Lua says so.
local function is_foreign(f) return type(f) == "function" and not is_scripts(f) end

local function dump(...)
    local f = ...
    if is_foreign(f) then server.errors.blame("unable to dump given function") end
    local code = call("dump", lua.dump, ...)
    server.call("remember_dump", code)
    return code
end

local M = {}

-- Of a frame further up, it would be one of the server's own.
function M.getinfo(first, second, third)
    local is_thread = type(first) == "thread"
    local what = gsub(is_thread and third or second or "nSluf", "[L>]", "")
    local info
    if is_thread then
        info = getinfo(first, second, what)
    else
        -- Not a tail call: on LuaJIT that would take this frame, which is counted, away.
        info = getinfo(type(first) == "number" and first + 1 or first, what)
    end
    if info and info.func ~= first and not is_scripts(info.func) then info.func = nil end
    return info
end

function M.getupvalue(f, n)
    if is_foreign(f) then return nil end
    return call("getupvalue", lua.getupvalue, f, n)
end

function M.setupvalue(f, n, ...)
    if is_foreign(f) then return nil end
    return call("setupvalue", lua.setupvalue, f, n, ...)
end

if lua.upvaluejoin then
    function M.upvalueid(f, n)
        if not is_foreign(f) then return call("upvalueid", lua.upvalueid, f, n) end
        if lua.version >= "Lua 5.4" then return nil end
        server.errors.blame("bad argument #2 to 'upvalueid' (invalid upvalue index)")
    end

    function M.upvaluejoin(f, n, other, m)
        if is_foreign(f) or is_foreign(other) then
            server.errors.blame("bad argument #" .. (is_foreign(f) and 1 or 3) .. " to 'upvaluejoin' (Lua function expected)")
        end
        call("upvaluejoin", lua.upvaluejoin, f, n, other, m)
    end
end

-- One that is locked stays so.
function M.getmetatable(value)
    local meta = lua.metatable_of(value)
    if meta == nil then return nil end
    local lock = lua.rawget(meta, "__metatable")
    if lock == nil then return meta end
    return type(lock) == "table" and lock or nil
end

-- Those of tables, as setmetatable does, and that of all texts, which scripts can change anyway.
function M.setmetatable(value, meta)
    if type(value) == "table" then return call("setmetatable", server.debug.set_of_table or lua.setmetatable, value, meta) end
    if type(value) ~= "string" then
        server.errors.blame('debug.setmetatable is for tables and strings: lua.allow does not have "debug"')
    end
    call("setmetatable", server.debug.setmetatable, value, meta)
    return lua.version == "Lua 5.1" or value
end

-- What Lua says of a hook that is not a function of its own.
function M.gethook() return "external hook" end

local function fill(library, name)
    for key, f in lua.next, M do
        if lua.rawget(library, key) == nil then lua.rawset(library, key, f) end
    end
    server.debug.setmetatable(library, nil)
    return M[name]
end

return { dump = dump, fill = fill }
