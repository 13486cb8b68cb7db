-- What scripts write to the standard streams goes to the error log, as by print; and /dev/urandom and /dev/random, files
-- without an end. Read when the first of it is used, which most scripts do never.
--
-- arguments: lua, server: see boot.lua
-- returns: a table: methods; output, write, close of io; open_random(name); address(file) for tostring; type(file) as io.type;
--          settle(): the run is over, so what is left of an unfinished line is logged
--          restore(keeps): io.output is what it was before the run; with keeps, that is what it is now

local lua, server = ...

local pcall, select, setmetatable = lua.pcall, lua.select, lua.setmetatable
local tostring, type, unpack = lua.tostring, lua.type, lua.unpack
local match, concat = lua.match, lua.concat
local natives, set_metatable = lua.io, server.debug.setmetatable
local native_write, native_close = natives.write, natives.close

local function native_output(...) return server.files.output(...) end

local function blame(problem) server.errors.blame(problem) end

-- Bytes of a line that are kept for its end to come; bytes of one read.
local MAX_LINE, MAX_READ = 8192, 1048576
-- What write returns.
local WRITES_RETURN_FILES = lua.version ~= "Lua 5.1"

-- What belongs to each of them. For the log: its level, and what has been written of a line.
local streams = setmetatable({}, { __mode = "k" })
-- Something has been written of a line.
local is_unfinished = false

local function own_of(file, name)
    local own = streams[file]
    if not own then
        blame("bad argument #1 to '" .. name .. "' (FILE* expected, got " .. (file == nil and "no value" or type(file)) .. ")")
    end
    if own.closed then blame("attempt to use a closed file") end
    return own
end

local function flush(own)
    if own.line ~= "" then
        local text = own.line
        own.line = ""
        server.call("log", own.level, text)
    end
end

-- Whole lines are logged at once, those of one call together.
local function write(file, own, ...)
    local parts = { ... }
    for i = 1, select("#", ...) do
        local part = parts[i]
        if type(part) ~= "string" and type(part) ~= "number" then
            blame("bad argument #" .. i .. " to 'write' (string expected, got " .. type(part) .. ")")
        end
        parts[i] = part .. ""
    end
    if not own.level then return nil, "Bad file descriptor", 9 end
    local text = concat(parts)
    local lines, rest = match(text, "^(.*)\n(.-)$")
    if lines then
        own.line = own.line .. lines
        flush(own)
        text = rest
    end
    own.line = own.line .. text
    if #own.line > MAX_LINE then flush(own) end
    is_unfinished = is_unfinished or own.line ~= ""
    return WRITES_RETURN_FILES and file or true
end

local function read(own, ...)
    if own.level then return nil, "Bad file descriptor", 9 end
    local results, count = { ... }, select("#", ...)
    for i = 1, count > 0 and count or 1 do
        local n = results[i]
        if type(n) ~= "number" or n < 0 or n > MAX_READ then
            blame(own.name .. " has no end: read a number of bytes, " .. MAX_READ .. " at most")
        end
        results[i] = server.ask("entropy", n - n % 1)
    end
    return unpack(results, 1, count)
end

local methods = {}

function methods.write(file, ...) return write(file, own_of(file, "write"), ...) end

function methods.read(file, ...) return read(own_of(file, "read"), ...) end

function methods.lines(file)
    blame((own_of(file, "lines").name or "the output") .. " has no lines to read")
end

function methods.flush(file)
    flush(own_of(file, "flush"))
    return WRITES_RETURN_FILES and file or true
end

function methods.setvbuf(file)
    own_of(file, "setvbuf")
    return true
end

function methods.seek(file)
    own_of(file, "seek")
    return nil, "Illegal seek", 29
end

function methods.close(file)
    local own = own_of(file, "close")
    if own.level then return nil, "cannot close standard file" end
    own.closed = true
    return true
end

local function standard(file, level)
    set_metatable(file, lua.file_meta)
    local own = { level = level, line = "", address = tostring(file) }
    set_metatable(file, lua.stream_meta)
    streams[file] = own
    return own
end

local stdout, stderr = standard(natives.stdout, "info"), standard(natives.stderr, "warning")

local function open_random(name)
    -- It counts until it has been closed.
    local file, problem, number = server.files.open("/dev/null")
    if not file then return nil, problem, number end
    streams[file] = { name = name, address = tostring(file) }
    native_close(file)
    server.files.closed(file)
    set_metatable(file, lua.stream_meta)
    return file
end

-- The functions of io that take a file, or use the one that has been set.

local set

local function current() return set or native_output() end

-- What it was before the run under way has set it.
local before

local function restore(keeps)
    local file = before
    before = nil
    if keeps or not file then return end
    set = streams[file] and file or nil
    -- What has been set there stays open. Lua takes nothing but files.
    if set then set_metatable(file, lua.file_meta) end
    -- It may have been closed.
    if not pcall(natives.output, file) then set = natives.stdout end
    if streams[file] then set_metatable(file, lua.stream_meta) end
end

local function output(...)
    local file = ...
    if file == nil then return current() end
    before = before or current()
    if streams[file] then
        set = file
        return file
    end
    file = native_output(...)
    set = nil
    return file
end

local function write_to_output(...)
    local file = current()
    local own = streams[file]
    if own then return write(file, own, ...) end
    return native_write(...)
end

local function close(...)
    local file = ...
    if select("#", ...) == 0 then file = current() end
    if streams[file] then return methods.close(file) end
    return native_close(...)
end

local function type_of(file)
    local own = streams[file]
    return own and (own.closed and "closed file" or "file")
end

local function settle()
    if not is_unfinished then return end
    is_unfinished = false
    flush(stdout)
    flush(stderr)
end

return {
    methods = methods, output = output, write = write_to_output, close = close, open_random = open_random,
    type = type_of, settle = settle, restore = restore,
    address = function(file) return streams[file].closed and "file (closed)" or streams[file].address end,
}
