-- os.execute and io.popen, where lua.allow names them: as Lua's own, but other requests go on while they wait.
--
-- A program's output or input is a file object as io.popen returns it, of the same type, with the same methods and
-- answers as in this Lua. It also works as io.input and io.output.
--
-- arguments: lua: functions of Lua by their names; server: what modules share (see boot.lua)
--            functions of the server, which return (nil, problem, errno) where they fail:
--            start(command, mode): the program's number
--            read(number): its next output, "" at the end
--            write(number, text): ""
--            finish(number): "" and the status that waitpid returns

local _, server, functions = ...

local library = server.debug
local execute, popen = server.allowed["os.execute"], server.allowed["io.popen"]
local start, read, write, finish = functions.start, functions.read, functions.write, functions.finish
local error, math_type, pcall, select, setmetatable, tonumber, tostring, type =
    error, math.type, pcall, select, setmetatable, tonumber, tostring, type
local find, format, match, sub = string.find, string.format, string.match, string.sub
local concat, floor, unpack = table.concat, math.floor, unpack or table.unpack
local native_close, native_input, native_lines, native_open, native_output, native_read, native_type, native_write =
    io.close, io.input, io.lines, io.open, io.output, io.read, io.type, io.write

-- What LuaJIT does only when it is built that way.
local AS_IN_5_2 = _VERSION ~= "Lua 5.1" or table.pack ~= nil

local waits = server.waiting.waits
read, write, finish = waits(read), waits(write), waits(finish)

local function argument_error(position, name, detail, level)
    error(format("bad argument #%d to '%s' (%s)", position, name, detail), level or 3)
end

-- Whoever has called a method that went on to the function which raises an error.
local CALLER = _VERSION == "Lua 5.1" and not jit and 4 or 3

local function is_text(value) return type(value) == "string" or type(value) == "number" end

-- What 5.2 and later return when a program has ended.
local function ending(status)
    local signal = status % 128
    if signal > 0 then return nil, "signal", signal end
    local code = floor(status / 256)
    if code == 0 then return true, "exit", code end
    return nil, "exit", code
end

if execute then
    function os.execute(command)
        if command == nil then return AS_IN_5_2 or 1 end
        if not is_text(command) then
            argument_error(1, "execute", "string expected, got " .. type(command))
        end
        local number, problem, errno = start(command .. "", "")
        if not number then
            if AS_IN_5_2 then return nil, problem, errno end
            return -1
        end
        local _, status = finish(number)
        if AS_IN_5_2 then return ending(status) end
        return status
    end
end

if not popen then return end

-- File objects. Each is a file of Lua's own that has been closed, with another metatable; what belongs to it is here.
local files = setmetatable({}, { __mode = "k" })
local methods = {}
-- What scripts get of it has no finalizer to put in.
local meta = { __index = methods, __name = math_type and "FILE*", __metatable = { __index = methods } }

local function checked(file, name)
    local own = files[file]
    if not own then argument_error(1, name, "FILE* expected, got " .. (file == nil and "no value" or type(file)), 4) end
    if own.closed then error("attempt to use a closed file", 3) end
    return own
end

-- More of the output into the buffer. False at its end; nil, the problem and its number when it cannot be read.
local function fill(own)
    if own.mode ~= "r" then return nil, "Bad file descriptor", 9 end
    local part, problem, errno = read(own.number)
    if not part then return nil, problem, errno end
    own.buffer, own.at = sub(own.buffer, own.at) .. part, 1
    return part ~= ""
end

-- Text until `stop` finds where it ends, which sees each part in turn; or all there is.
local function gather(own, stop)
    local parts, n = {}, 0
    while true do
        if own.at <= #own.buffer then
            local last, after = stop(own)
            n = n + 1
            parts[n] = sub(own.buffer, own.at, last)
            own.at = after or #own.buffer + 1
            if after then return concat(parts) end
        end
        local more, problem, errno = fill(own)
        if more == nil then return nil, problem, errno end
        if not more then return n > 0 and concat(parts) or false end
    end
end

local function whole() return -1 end

local function line_end(own)
    local at = find(own.buffer, "\n", own.at, true)
    if at then return at - 1, at + 1 end
    return -1
end

local function line_end_kept(own)
    local at = find(own.buffer, "\n", own.at, true)
    if at then return at, at + 1 end
    return -1
end

local function read_bytes(own, most)
    if most == 0 then
        while own.at > #own.buffer do
            local more, problem, errno = fill(own)
            if not more then return more, problem, errno end
        end
        return ""
    end
    local missing = most
    return gather(own, function()
        local there = #own.buffer - own.at + 1
        if there < missing then
            missing = missing - there
            return -1
        end
        return own.at + missing - 1, own.at + missing
    end)
end

-- The longest text that can be the beginning of a number is read, as 5.3 and later do.
local function read_number(own)
    local text = ""
    local failed, problem, errno
    local function peek()
        while own.at > #own.buffer do
            local more
            more, problem, errno = fill(own)
            if not more then
                failed = more == nil
                return ""
            end
        end
        return sub(own.buffer, own.at, own.at)
    end
    local function take(set)
        if #text >= 200 then return false end
        local c = peek()
        if c == "" or not find(c, set) then return false end
        text = text .. c
        own.at = own.at + 1
        return true
    end
    while find(peek(), "^%s") do own.at = own.at + 1 end
    take "[+-]"
    local digits, exponent, some = "%d", "[eE]", false
    if take "0" then
        some = true
        if take "[xX]" then digits, exponent, some = "%x", "[pP]", false end
    end
    while take(digits) do some = true end
    if take "%." then
        while take(digits) do some = true end
    end
    if some and take(exponent) then
        take "[+-]"
        while take "%d" do end
    end
    if failed then return nil, problem, errno end
    return tonumber(text) or false
end

local function read_all(own)
    local text, problem, errno = gather(own, whole)
    if text == false then return "" end
    return text, problem, errno
end

local function read_line(own) return gather(own, line_end) end
local function read_line_kept(own) return gather(own, line_end_kept) end

local readers = { n = read_number, a = read_all, l = read_line, L = read_line_kept }

-- The reader for a format, as this Lua's own files take it; or nil and what is wrong with it.
local known = {}
local function reader_of(what)
    if not known[what] then
        local file = native_open("/dev/null")
        local ok, problem = pcall(file.read, file, what)
        file:close()
        if not ok then return nil, match(problem, "%((.*)%)$") or problem end
        known[what] = readers[match(what, "^%*?(.)")]
    end
    return known[what]
end

-- The results of a read: after the first that fails there are none.
local function read_formats(own, name, formats, count)
    if count == 0 then formats, count = { "*l" }, 1 end
    local results = {}
    for i = 1, count do
        local what = formats[i]
        local value, problem, errno
        if type(what) == "number" then
            if math_type and what ~= floor(what) then argument_error(i, name, "number has no integer representation", CALLER) end
            value, problem, errno = read_bytes(own, what < 0 and 1 / 0 or floor(what))
        elseif type(what) == "string" then
            local reader, detail = reader_of(what)
            if not reader then argument_error(i, name, detail, CALLER) end
            value, problem, errno = reader(own)
        else
            argument_error(i, name, math_type and "string expected, got " .. type(what) or "invalid option", CALLER)
        end
        if problem then return nil, problem, errno end
        if not value then
            results[i] = nil
            return unpack(results, 1, i)
        end
        results[i] = value
    end
    return unpack(results, 1, count)
end

local function shown(value)
    -- These write a float without ".0".
    if math_type and _VERSION ~= "Lua 5.5" and math_type(value) == "float" then return format("%.14g", value) end
    return value .. ""
end

local function write_values(file, own, name, ...)
    for i = 1, select("#", ...) do
        local value = select(i, ...)
        if not is_text(value) then argument_error(i, name, "string expected, got " .. type(value), CALLER) end
        if own.mode ~= "w" then return nil, "Bad file descriptor", 9 end
        local done, problem, errno = write(own.number, shown(value))
        if not done then return nil, problem, errno end
    end
    if AS_IN_5_2 then return file end
    return true
end

local function close(own)
    own.closed = true
    local _, status, errno = finish(own.number)
    own.buffer = ""
    if errno then return nil, status, errno end
    if AS_IN_5_2 then return ending(status) end
    return true
end

local function lines_of(own, name, ...)
    local formats, count = { ... }, select("#", ...)
    if not AS_IN_5_2 and not jit then count = 0 end
    return function()
        if own.closed then error(jit and "attempt to use a closed file" or "file is already closed", 2) end
        local results = { read_formats(own, name, formats, count) }
        if results[1] == nil and results[2] then error(results[2], 2) end
        return unpack(results, 1, count > 0 and count or 1)
    end
end

function methods.read(file, ...)
    return read_formats(checked(file, "read"), "read", { ... }, select("#", ...))
end

function methods.lines(file, ...) return lines_of(checked(file, "lines"), "lines", ...) end

function methods.write(file, ...) return write_values(file, checked(file, "write"), "write", ...) end

function methods.close(file) return close(checked(file, "close")) end

-- Nothing is held back, so there is nothing to flush.
function methods.flush(file)
    checked(file, "flush")
    return true
end

function methods.setvbuf(file, mode)
    checked(file, "setvbuf")
    if mode ~= "no" and mode ~= "full" and mode ~= "line" then
        argument_error(1, "setvbuf", type(mode) == "string" and format("invalid option '%s'", mode)
            or "string expected, got " .. (mode == nil and "no value" or type(mode)))
    end
    return true
end

function methods.seek(file)
    checked(file, "seek")
    return nil, "Illegal seek", 29
end

function meta.__tostring(file)
    local own = files[file]
    return own.closed and "file (closed)" or own.name
end

if _VERSION >= "Lua 5.4" then
    function meta.__close(file)
        if not files[file].closed then close(files[file]) end
    end
end

function io.popen(command, mode)
    if not is_text(command) then
        argument_error(1, "popen", "string expected, got " .. (command == nil and "no value" or type(command)))
    end
    command, mode = command .. "", mode == nil and "r" or mode
    if mode ~= "r" and mode ~= "w" then
        if _VERSION ~= "Lua 5.1" then argument_error(2, "popen", "invalid mode") end
        return nil, command .. ": Invalid argument", 22
    end
    local file = native_open("/dev/null")
    if not file then return nil, command .. ": Too many open files", 24 end
    local name = tostring(file)
    file:close()
    local number, problem, errno = start(command, mode)
    if not number then return nil, command .. ": " .. problem, errno end
    library.setmetatable(file, meta)
    files[file] = { number = number, mode = mode, name = name, buffer = "", at = 1, closed = false }
    return file
end

-- The functions of io that take a file, or use the one that has been set.

local input, output

function io.type(value)
    local own = files[value]
    if own then return own.closed and "closed file" or "file" end
    return native_type(value)
end

function io.input(file)
    if file == nil then return input or native_input() end
    if files[file] then
        input = file
        return file
    end
    local result = native_input(file)
    input = nil
    return result
end

function io.output(file)
    if file == nil then return output or native_output() end
    if files[file] then
        output = file
        return file
    end
    local result = native_output(file)
    output = nil
    return result
end

function io.read(...)
    if input then return read_formats(checked(input, "read"), "read", { ... }, select("#", ...)) end
    return native_read(...)
end

function io.lines(...)
    if input and (...) == nil then return lines_of(checked(input, "lines"), "lines", select(2, ...)) end
    return native_lines(...)
end

function io.write(...)
    if output then return write_values(output, checked(output, "write"), "write", ...) end
    return native_write(...)
end

function io.close(...)
    local file = ...
    if select("#", ...) == 0 then file = output end
    if file ~= nil and files[file] then return close(checked(file, "close")) end
    return native_close(...)
end
