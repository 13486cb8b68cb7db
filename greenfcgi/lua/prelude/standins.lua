-- What stands in for functions of Lua that few scripts call. The parts that have these functions are compiled when the
-- first of them is called.
--
-- arguments: lua: functions of Lua by their names (see boot.lua); later(name, ...): a part that is compiled now
--            errors(): the functions of errors.lua; library: the debug library, whole
--            load_text, compile, takes_strings: as in load.lua
--            directory: where the script lies; path, cpath: what require searches (templates joined by ";")
--            as_function(f), with_room(f): make functions of Lua of those of the server: source, check, native, grant, as
--            they came
--            log(level, text); entropy(n): so many bytes that nobody can guess
-- returns: settle(is_end): see files.lua
--          end_lines(): logs what is left of unfinished lines, when a run is over

local lua, later, errors, library, load_text, compile, takes_strings, directory, path, cpath,
    as_function, with_room, source, check, native, grant, log, entropy = ...

local byte, find, gmatch, match, sub = lua.byte, lua.find, lua.gmatch, lua.match, lua.sub
local package, jit, pcall = package, jit, pcall

local SLASH, UNDERSCORE = 47, 95

-- What the functions are in Lua itself, by their names.
local natives = {
    stdout = io.stdout, stderr = io.stderr, file_meta = library.getmetatable(io.stdout), getupvalue = library.getupvalue,
}

-- What scripts get of the metatable of files is a copy of it, with the same methods, and without what finalizes them.
local file_meta = natives.file_meta
local methods = file_meta.__index
if methods == file_meta then
    methods = {}
    for name, value in lua.next, file_meta do
        if byte(name) ~= UNDERSCORE then methods[name] = value end
    end
end
file_meta.__index = methods
file_meta.__metatable = { __index = methods, __name = file_meta.__name, __tostring = file_meta.__tostring }

local function stand_in(part, home, names)
    for name in gmatch(names, "%a+") do
        if home[name] then
            natives[name] = home[name]
            home[name] = function(...) return part()[name](...) end
        end
    end
end

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

-- The standard streams, and files without an end.

local stream_meta = { __name = "FILE*", __metatable = { __name = "FILE*" } }
natives.stream_meta = stream_meta

local files, streams

local function file_functions()
    if not files then
        files = later("files", natives, errors, as_function(check), as_function(grant), log, absolute, streams)
    end
    return files
end

local made_streams

function streams()
    if not made_streams then
        made_streams = later("streams", natives, errors, log, entropy, library.setmetatable, file_functions)
    end
    return made_streams
end

function stream_meta.__index(_, name) return streams().methods[name] end
function stream_meta.__tostring(file) return streams().address(file) end
stream_meta.__metatable.__index = stream_meta.__index
library.setmetatable(io.stdout, stream_meta)
library.setmetatable(io.stderr, stream_meta)

stand_in(streams, io, "output write close")
-- `output` of streams.lua goes on to that of files.lua.
stand_in(file_functions, io, "open lines input tmpfile type")
stand_in(file_functions, os, "remove rename")
stand_in(file_functions, _G, "warn")

local loading
stand_in(function()
    if not loading then loading = later("loading", natives, errors, pcall, load_text, takes_strings) end
    return loading
end, _G, "load loadstring")
if takes_strings and loadstring then loadstring = load end

local modules

local function module_functions()
    if not modules then
        modules = later("modules", natives, errors, with_room(source), as_function(check), with_room(native), package, jit,
            cpath, absolute, compile)
    end
    return modules
end

stand_in(module_functions, _G, "loadfile dofile")
stand_in(module_functions, package, "searchpath")
package.path, package.cpath = path, cpath
local searchers = package.searchers or package.loaders
searchers[2] = function(name) return module_functions().search(name) end
for i = 3, 4 do
    local searcher = searchers[i]
    searchers[i] = cpath ~= "" and function(name) return module_functions().confined(searcher, name) end or nil
end

return function(is_end)
    if files then return files.settle(is_end) end
    return 0, 0
end, function()
    if made_streams then made_streams.settle() end
end
