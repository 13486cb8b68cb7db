-- require, dofile, loadfile, io and os as a script sees them: relative names are found beside the script, although
-- the process never changes its directory; the server learns which Lua files a script is made of; and files have a limit.
--
-- arguments: host.source(path, fresh): the text of a Lua file, or nil and the reason
--            host.check(path, opens, writes): the script is about to open this file, or to rename or remove it; with
--            `writes` it is data from then on. Returns nil, or the number of the problem
--            host.native(path): nil, or why this native module cannot be loaded
--            host.grant(n): so many files more may be open. Returns whether they may
--            directory: where the script lies; path, cpath: what require searches (templates joined by ";")
--            faithful(native, name), blame(problem): as in limits.lua; load(text, name, mode, ...): as in load.lua
--            library: the debug library, whole; streams(...): the functions of streams.lua, given what it takes
-- returns: compile(source, name, ...): as load; settle(): counts the files that are open, when a run is over

local host, directory, path, cpath, faithful, blame, load, library, streams = ...

local collectgarbage, error, ipairs, next, select, setmetatable, tostring, type =
    collectgarbage, error, ipairs, next, select, setmetatable, tostring, type
local byte, find, gmatch, gsub, match, sub, concat =
    string.byte, string.find, string.gmatch, string.gsub, string.match, string.sub, table.concat

-- Files that a state may have open, and how many of them it asks for at a time.
local MAX_FILES, GRANT = 256, 16
-- Files that may have been left to the garbage collector at the end of a run before it is called for them.
local MAX_LEFT = 16
local SLASH, AT = 47, 64

local function is_name(value) return type(value) == "string" or type(value) == "number" end

local function absolute(name)
    name = name .. ""
    -- C's strings end at a zero byte.
    local zero = find(name, "\0", 1, true)
    if zero then name = sub(name, 1, zero - 1) end
    -- No name is that of the folder, and what leads to it keeps a dot at its end: neither can be renamed or removed.
    if name == "" or byte(name) == SLASH then return name end
    while true do
        local rest = match(name, "^%./+([^/].*)$")
        if not rest then return directory .. "/" .. name end
        name = rest
    end
end

-- Compile the text of a file, with the mode and the environment that load takes. A first line that begins with "#"
-- (for a shell) and a byte order mark are passed over.
local function compile(source, name, ...)
    if sub(source, 1, 3) == "\239\187\191" then source = sub(source, 4) end
    if sub(source, 1, 1) == "#" then source = gsub(source, "^[^\n]*", "", 1) end
    return load(source, "@" .. name, ...)
end

-- Open files

-- Those that are open, as far as is known: files, and what io.lines has returned.
local open_files = setmetatable({}, { __mode = "k" })
-- How many these are, how many the server has granted, and how many were open when the last run was over.
local held, granted, kept = 0, 0, 0
local is_file = io.type

local function recount()
    held = 0
    for file in next, open_files do
        if type(file) == "function" or is_file(file) == "file" then
            held = held + 1
        else
            open_files[file] = nil
        end
    end
end

local function grant()
    local number = held < MAX_FILES and (granted + GRANT > MAX_FILES and MAX_FILES - granted or GRANT) or 0
    if number > 0 and host.grant(number) then granted = granted + number end
    return held < granted
end

-- Room for one more file.
local function reserve()
    if held < granted then return true end
    recount()
    if held < granted or grant() then return true end
    collectgarbage()
    recount()
    return held < granted or grant()
end

local function note(file, ...)
    if file then
        held = held + 1
        open_files[file] = true
    end
    return file, ...
end

local function settle()
    recount()
    if held > kept + MAX_LEFT then
        collectgarbage()
        recount()
    end
    kept, granted = held, held
    return held
end

local PROBLEMS = { [13] = "Permission denied", [22] = "Not a regular file", [24] = "Too many open files" }

-- Nil when the file may be opened; else the problem and its number.
local function refused(name, writes)
    local number = host.check(name, true, writes) or not reserve() and 24
    if number then return name .. ": " .. PROBLEMS[number], number end
end

local native_open, native_lines, native_tmpfile = faithful(io.open, "open"), faithful(io.lines, "lines"), io.tmpfile

function io.open(...)
    local name, mode = ...
    if not is_name(name) then return native_open(...) end
    name = absolute(name)
    local problem, number = refused(name, type(mode) == "string" and find(mode, "[wa+]") ~= nil)
    if problem then return nil, problem, number end
    return note(native_open(name, select(2, ...)))
end

-- From 5.4 on, io.lines returns the file, too.
local function note_lines(iterator, a, b, file)
    note(file or iterator)
    if file then return iterator, a, b, file end
    return iterator
end

function io.lines(...)
    local name = ...
    if not is_name(name) then return native_lines(...) end
    name = absolute(name)
    local problem = refused(name, false)
    if problem then blame(problem) end
    return note_lines(native_lines(name, select(2, ...)))
end

for _, way in ipairs { "input", "output" } do
    local native = faithful(io[way], way)
    io[way] = function(...)
        local name = ...
        if not is_name(name) then return native(...) end
        name = absolute(name)
        local problem = refused(name, way == "output")
        if problem then blame(problem) end
        return note(native(name))
    end
end

function io.tmpfile()
    if not reserve() then return nil, "Too many open files", 24 end
    return note(native_tmpfile())
end

-- The standard streams, and files without an end. What is behind them is there when it is used.

local native_output, native_write, native_close = io.output, io.write, io.close
local stream_meta = { __name = "FILE*", __metatable = { __name = "FILE*" } }

local function adopt(file) library.setmetatable(file, stream_meta) end

local stdout, stderr = io.stdout, io.stderr

local function behind()
    return streams(host.log, host.entropy, blame, native_open, native_output, native_write, native_close, adopt,
        stdout, stderr)
end

local addresses = { [stdout] = tostring(stdout), [stderr] = tostring(stderr) }
function stream_meta.__index(_, name) return behind().methods[name] end
function stream_meta.__tostring(file) return addresses[file] or behind().address(file) end
stream_meta.__metatable.__index = stream_meta.__index
adopt(stdout)
adopt(stderr)

for _, name in ipairs { "output", "write", "close" } do
    io[name] = function(...) return behind()[name](...) end
end

function io.type(value)
    if library.getmetatable(value) == stream_meta then return behind().type(value) end
    return is_file(value)
end

local open_file = io.open
function io.open(...)
    local name = ...
    if name == "/dev/urandom" or name == "/dev/random" then return behind().open_random(name) end
    return open_file(...)
end

-- From 5.4 on, there are warnings, which are off at first.
if warn then
    local is_on = false
    function warn(...)
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
            host.log("warning", "Lua warning: " .. text)
        end
    end
end

-- Names of files

local native_remove, native_rename = faithful(os.remove, "remove"), faithful(os.rename, "rename")

function os.remove(...)
    local name = ...
    if not is_name(name) then return native_remove(...) end
    name = absolute(name)
    local number = host.check(name, false, true)
    if number then return nil, name .. ": " .. PROBLEMS[number], number end
    return native_remove(name)
end

function os.rename(...)
    local from, to = ...
    if not is_name(from) or not is_name(to) then return native_rename(...) end
    from, to = absolute(from), absolute(to)
    local number = host.check(from, false, true) or host.check(to, false, true)
    if number then return nil, from .. ": " .. PROBLEMS[number], number end
    return native_rename(from, to)
end

-- Lua files

local function name_of(value, what)
    if is_name(value) then return absolute(value) end
    error("bad argument #1 to '" .. what .. "' (string expected, got " .. type(value) .. ")", 3)
end

function loadfile(name, mode, ...)
    name = name_of(name, "loadfile")
    local source, reason = host.source(name, true)
    if not source then return nil, "cannot open " .. name .. ": " .. reason end
    return compile(source, name, mode, ...)
end
local loadfile = loadfile

function dofile(name)
    name = name_of(name, "dofile")
    local chunk, reason = loadfile(name)
    if not chunk then error(reason, 0) end
    return chunk()
end

-- What stands before each place that a module was looked for: require itself puts it there from 5.4 on.
local lead = _VERSION >= "Lua 5.4" and "" or "\n\t"

local jit = jit

local function search(name)
    local file = gsub(name, "%.", "/")
    local tried = {}
    for template in gmatch(package.path, "[^;]+") do
        local candidate = absolute((gsub(template, "%?", function() return file end)))
        local source, reason = host.source(candidate, false)
        if source then
            local chunk, problem = compile(source, candidate)
            if chunk then return chunk, candidate end
            error("error loading module '" .. name .. "' from file '" .. candidate .. "':\n\t" .. problem, 0)
        end
        tried[#tried + 1] = candidate .. ": " .. reason
    end
    if jit and (name == "ffi" or name == "string.buffer") then
        tried[#tried + 1] = "lua.allow does not have \"" .. name .. "\""
    elseif cpath == "" then
        tried[#tried + 1] = "lua.cpath, for modules written in C: no folder"
    end
    return lead .. concat(tried, "\n\t")
end

package.path, package.cpath = path, cpath

local searchers = package.searchers or package.loaders
local native = {}
for i, searcher in ipairs(searchers) do native[i] = searcher end

-- Native modules come from the operator's lua.cpath alone, whatever a script writes into package.cpath; those built for
-- another Lua are told of where that would crash.
local function confined(searcher)
    return function(name)
        package.cpath = cpath
        if _VERSION >= "Lua 5.4" then
            for template in gmatch(cpath, "[^;]+") do
                -- It, or the one that holds it among others.
                for _, file in ipairs { (gsub(name, "%.", "/")), match(name, "^[^.]*") } do
                    local problem = host.native((gsub(template, "%?", function() return file end)))
                    if problem then error(problem, 0) end
                end
            end
        end
        return searcher(name)
    end
end

searchers[2] = search
if cpath ~= "" then
    searchers[3], searchers[4] = confined(native[3]), confined(native[4])
else
    searchers[3], searchers[4] = nil, nil
end

if package.searchpath then
    local native_searchpath = faithful(package.searchpath, "searchpath")
    function package.searchpath(name, templates, separator, replacement)
        if not is_name(name) or not is_name(templates) then return native_searchpath(name, templates) end
        separator, replacement = separator or ".", replacement or "/"
        local file = name .. ""
        if separator ~= "" then file = gsub(file, (gsub(separator, "%p", "%%%0")), (gsub(replacement, "%%", "%%%%"))) end
        local tried = {}
        for template in gmatch(templates, "[^;]+") do
            local candidate = absolute((gsub(template, "%?", function() return file end)))
            local found = not host.check(candidate, true, false) and native_open(candidate, "r")
            if found then
                found:close()
                return candidate
            end
            tried[#tried + 1] = "no file '" .. candidate .. "'"
        end
        return nil, lead .. concat(tried, "\n\t")
    end
end

return compile, settle
