-- io, os.remove and os.rename as a script sees them: relative names are found beside the script, although the process
-- never changes its directory, and files have a limit. Compiled when the first of them is called.
--
-- The server is asked: check(path, opens, writes): the script is about to open this file, or to rename or remove it; with
-- `writes` it is data from then on. Returns nil, or the number of the problem
-- grant(n): so many files more may be open. Returns whether they may. Below zero: while the state ends, so many have been
-- closed
--
-- returns: a table of those functions by their names; closed(file): it has been closed, and will be no file any more;
--          settle(is_end, keeps_streams): a run is over: what has been written is flushed, what the script has left open and
--          cannot reach any more is closed. Returns how many files are open, and how many of these can be closed by nobody
--          any more; at the state's end, no more are opened. After a run, io.input and io.output are what they were before,
--          unless with keeps_streams: the script was loaded

local lua, server = ...

local collectgarbage, next, select, setmetatable, type =
    lua.collectgarbage, lua.next, lua.select, lua.setmetatable, lua.type
local byte, find, metatable_of = lua.byte, lua.find, lua.metatable_of
local blame, faithful = server.errors.blame, server.errors.faithful
local natives, call, absolute = lua.io, server.call, server.paths

-- Files that a state may have open, and how many of them it asks for at a time.
local MAX_FILES, GRANT = 256, 16
local AT = 64

local function is_name(value) return type(value) == "string" or type(value) == "number" end

-- Open files

-- Those that are open, as far as is known, each with a number of its own; and by these numbers the run that has opened
-- it, below zero where it is written. Where finalizers fail, at the limits of memory and of C calls, Lua forgets a file
-- that stays open: its number is left, and counts. A request may end between any two steps here: to enter a file twice,
-- or to take it out twice, changes nothing, as it would with a plain count.
local open_files = setmetatable({}, { __mode = "k" })
local opened_by = {}
local runs, last = 1, 0
-- How many the server has granted.
local granted = 0
local is_file, is_ending = natives.type, false

local function closed(file)
    local number = open_files[file]
    if number then opened_by[number] = nil end
    open_files[file] = nil
end

local finalizer = lua.file_meta.__gc
lua.file_meta.__gc = function(file)
    finalizer(file)
    if open_files[file] then
        closed(file)
        if is_ending then call("grant", -1) end
    end
end

local function count()
    local number = 0
    for _ in next, opened_by do number = number + 1 end
    return number
end

-- Returns how many there are that can still be closed.
local function recount()
    local reached = 0
    for file, number in next, open_files do
        if is_file(file) == "file" then
            reached = reached + 1
            opened_by[number] = opened_by[number] or runs
        else
            closed(file)
        end
    end
    return reached
end

local function grant()
    local number = granted < MAX_FILES and (granted + GRANT > MAX_FILES and MAX_FILES - granted or GRANT) or 0
    if number > 0 and call("grant", number) then granted = granted + number end
    return count() < granted
end

-- Room for one more file.
local function reserve()
    if count() < granted then return true end
    recount()
    if count() < granted or grant() then return true end
    collectgarbage()
    recount()
    return count() < granted or grant()
end

local function note(writes, file, ...)
    if file then
        -- In this order: there may be no memory for it.
        last = last + 1
        open_files[file] = last
        opened_by[last] = writes and -runs or runs
    end
    return file, ...
end

-- Flush what is written. Returns whether this run has opened a file that is open still.
local function flush_all()
    local has_new = false
    for file, number in next, open_files do
        if is_file(file) == "file" then
            local run = opened_by[number] or runs
            has_new = has_new or run == runs or run == -runs
            if run < 0 then
                local ok, done, problem = lua.pcall(lua.flush, file)
                if ok and not done then call("log", "warning", "a file cannot be written: " .. lua.tostring(problem)) end
            end
        end
    end
    return has_new
end

-- What io.input was before the run under way has set it.
local before

local function settle(is_end, keeps_streams)
    local streams = lua.rawget(server, "streams")
    if streams then streams.restore(keeps_streams) end
    -- It may have been closed.
    if before and not keeps_streams then lua.pcall(natives.input, before) end
    before = nil
    -- What the script has left open is garbage, unless it keeps it on purpose.
    if flush_all() and not is_end then collectgarbage() end
    local reached = recount()
    local held = count()
    runs, granted, is_ending = runs + 1, held, is_end
    -- What a finalizer opens while the state ends would stay open.
    if is_end then granted = 0 end
    return held, held - reached
end

local PROBLEMS = { [13] = "Permission denied", [22] = "Not a regular file", [24] = "Too many open files" }

-- Nil when the file may be opened; else the problem and its number.
local function refused(name, writes)
    local number = call("check", name, true, writes) or not reserve() and 24
    if number then return name .. ": " .. PROBLEMS[number], number end
end

local native_open, native_lines = faithful(natives.open, "open"), faithful(natives.lines, "lines")
local native_tmpfile = natives.tmpfile

local function open(...)
    local name, mode = ...
    if name == "/dev/urandom" or name == "/dev/random" then return server.streams.open_random(name) end
    if not is_name(name) then return native_open(...) end
    name = absolute(name)
    local writes = type(mode) == "string" and find(mode, "[wa+]") ~= nil
    local problem, number = refused(name, writes)
    if problem then return nil, problem, number end
    return note(writes, native_open(name, select(2, ...)))
end

-- From 5.4 on, io.lines returns the file, too. Before, what it returns holds it.
local function note_lines(iterator, a, b, file)
    if file then
        note(false, file)
        return iterator, a, b, file
    end
    local _, held_file = lua.getupvalue(iterator, 1)
    note(false, held_file)
    return iterator
end

local function lines(...)
    local name = ...
    if not is_name(name) then return native_lines(...) end
    name = absolute(name)
    local problem = refused(name, false)
    if problem then blame(problem) end
    return note_lines(native_lines(name, select(2, ...)))
end

local function chosen(way)
    local native = faithful(natives[way], way)
    return function(...)
        local name = ...
        if way == "input" and name ~= nil then before = before or natives.input() end
        if not is_name(name) then return native(...) end
        name = absolute(name)
        local problem = refused(name, way == "output")
        if problem then blame(problem) end
        return note(way == "output", native(name))
    end
end

local function tmpfile()
    if not reserve() then return nil, "Too many open files", 24 end
    return note(true, native_tmpfile())
end

local function type_of(value)
    if metatable_of(value) == lua.stream_meta then return server.streams.type(value) end
    return is_file(value)
end

-- From 5.4 on, there are warnings, which are off at first.
local is_on = false

local function warn(...)
    local text = ""
    for i = 1, select("#", ...) do
        local part = select(i, ...)
        if not is_name(part) then
            blame("bad argument #" .. i .. " to 'warn' (string expected, got " .. type(part) .. ")")
        end
        text = text .. part
    end
    if select("#", ...) == 1 and byte(text) == AT then
        if text == "@on" or text == "@off" then is_on = text == "@on" end
    elseif is_on then
        call("log", "warning", "Lua warning: " .. text)
    end
end

-- Names of files

local native_remove, native_rename = faithful(lua.remove, "remove"), faithful(lua.rename, "rename")

local function remove(...)
    local name = ...
    if not is_name(name) then return native_remove(...) end
    name = absolute(name)
    local number = call("check", name, false, true)
    if number then return nil, name .. ": " .. PROBLEMS[number], number end
    return native_remove(name)
end

local function rename(...)
    local from, to = ...
    if not is_name(from) or not is_name(to) then return native_rename(...) end
    from, to = absolute(from), absolute(to)
    local number = call("check", from, false, true) or call("check", to, false, true)
    if number then return nil, from .. ": " .. PROBLEMS[number], number end
    return native_rename(from, to)
end

return {
    open = open, lines = lines, input = chosen "input", output = chosen "output", tmpfile = tmpfile, type = type_of,
    warn = warn, remove = remove, rename = rename, settle = settle, closed = closed,
}
