-- What stands in for functions of Lua that few scripts call. The parts that have these functions are compiled when the
-- first of them is called.
--
-- arguments: lua, server: see boot.lua
-- lua gets: file_meta, stream_meta: the metatables of files, and of the standard streams; flush(file)

local lua, server = ...

local settings, set_metatable = server.settings, server.debug.setmetatable

-- What scripts get of the metatable of files is a copy of it, with the same methods, and without what finalizes them.
local file_meta = lua.metatable_of(io.stdout)
lua.file_meta = file_meta
local methods = file_meta.__index
if methods == file_meta then
    methods = {}
    for name, value in lua.next, file_meta do
        -- 95 is "_".
        if lua.byte(name) ~= 95 then methods[name] = value end
    end
end
file_meta.__index = methods
lua.flush = methods.flush
file_meta.__metatable = { __index = methods, __name = file_meta.__name, __tostring = file_meta.__tostring }

-- Names one by one: each is a text that there is already, and many at once would be one more for the table of texts, which
-- doubles when it is full.
local function stand_in(part, home, ...)
    for _, name in lua.ipairs { ... } do
        if home[name] then
            home[name] = function(...) return server[part][name](...) end
        end
    end
end

stand_in("calls", _G, "xpcall")
stand_in("calls", coroutine, "create", "resume", "wrap", "close")

-- The standard streams, and files without an end.

local stream_meta = { __name = "FILE*", __metatable = { __name = "FILE*" } }
lua.stream_meta = stream_meta

function stream_meta.__index(_, name) return server.streams.methods[name] end
function stream_meta.__tostring(file) return server.streams.address(file) end
stream_meta.__metatable.__index = stream_meta.__index
set_metatable(io.stdout, stream_meta)
set_metatable(io.stderr, stream_meta)
lua.io.stdout, lua.io.stderr = io.stdout, io.stderr

stand_in("streams", io, "output", "write", "close")
-- `output` of streams.lua goes on to that of files.lua.
stand_in("files", io, "open", "lines", "input", "tmpfile", "type")
stand_in("files", os, "remove", "rename")
stand_in("files", _G, "warn")

if not server.allowed.debug then
    lua.setmetatable(debug, {
        __index = function(library, name) return server.debugging.fill(library, name) end, __metatable = false,
    })
end
if not server.allowed.bytecode then stand_in("debugging", string, "dump") end

stand_in("loading", _G, "load", "loadstring")
-- load takes text, as from 5.2 on.
server.takes_strings = lua.pcall(lua.load, "")
if server.takes_strings and loadstring then loadstring = load end

stand_in("modules", _G, "loadfile", "dofile")
stand_in("modules", package, "searchpath", "loadlib")
package.path, package.cpath = settings.path, settings.cpath
local searchers = package.searchers or package.loaders
searchers[2] = function(name) return server.modules.search(name) end
for i = 3, 4 do
    local searcher = searchers[i]
    searchers[i] = settings.cpath ~= "" and function(name) return server.modules.confined(searcher, name, i == 4) end or nil
end
